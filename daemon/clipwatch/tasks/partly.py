"""Some of the images of a protocol, made with weights that are no checkpoint of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    ImagesScored,
    ProtocolDefined,
    WeightFile,
)
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.retries import batch_sizes
from clipwatch.domain.state import Run
from clipwatch.executors import named
from clipwatch.executors.base import EvaluatorHandle, Refusal, Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored, Working
from clipwatch.kit.errors import CheckpointError
from clipwatch.loop.console import Console
from clipwatch.settings import load
from clipwatch.tasks.partfile import named as name_of_part
from clipwatch.tasks.parts import Writing

TICK_SECONDS: Final = 1.0
"""Pause between two looks at an evaluator that says nothing."""

_REMEMBERED: Final = (
    *("device", "executor", "ray_address", "share_gpu", "gpu_memory_gib", "batch_size"),
    *("attention", "stall_seconds"),
)
"""Of a run's settings in the log, what says where and how it is computed."""


class Partly:
    """An evaluator for what is asked one after the other; started when it is first needed.

    Args:
        run: Under whose settings.
        protocol: One of the run's.
        state_dir: Of the log.
        flags: Settings that go before the run's.
        console: Hears what is done.
    """

    def __init__(
        self,
        run: Run,
        protocol: EvaluationProtocol,
        state_dir: Path,
        flags: Mapping[str, str],
        console: Console,
    ) -> None:
        self._run, self._protocol, self._console = run, protocol, console
        known = {key: run.settings[key] for key in _REMEMBERED if run.settings.get(key)}
        given = {
            **known,
            **flags,
            "evaluation_type": "clip",
            "output_dir": run.output_dir,
            "state_dir": str(state_dir),
            "pretrained_model_name_or_path": protocol.base_model,
            "validation_resolution": f"{protocol.width}x{protocol.height}",
        }
        self._settings = load(None, flags=given, environ={}, cwd=state_dir)
        self._cache = str(state_dir / "embeddings")
        self._replies: SimpleQueue[Reply] = SimpleQueue()
        self._started: tuple[EvaluatorHandle, Slot] | None = None

    def close(self) -> None:
        """End the evaluator."""
        if self._started:
            self._started[0].kill()

    def score(
        self,
        what: CheckpointCompleted,
        files: tuple[WeightFile, ...],
        wanted: Collection[tuple[str, int]],
        part: Writing,
        title: str,
    ) -> None:
        """Have images made and scored, and kept in a part.

        Args:
            what: The weights.
            files: In the folder `what.path`.
            wanted: The images, by prompt and index.
            part: Takes the scores.
            title: Of the weights, for a person.

        Raises:
            CheckpointError: They cannot be scored, or it was stopped; what came before is kept.
        """
        how, compute = self._protocol, self._settings.compute
        id_ = name_of_part(what, ProtocolDefined(how.digest, how))
        size, limit = batch_sizes(self._run, None, compute.batch_size)
        child, slot = self._evaluator()
        child.evaluate(
            Evaluate(
                path=what.path,
                kind=what.kind,
                component=what.component,
                files=files,
                protocol=how,
                done=tuple(
                    (it.id, index) for it, index, _ in how.images() if (it.id, index) not in wanted
                ),
                images_dir=None,
                device=slot.device,
                batch_size=size,
                batch_limit=limit,
                attention=compute.attention,
                gpu=slot.gpu,
                memory_gib=compute.gpu_memory_gib,
                share=compute.share_gpu,
                cache_dir=self._cache,
            )
        )
        done, total = 0, len(wanted)
        with self._console.during(title, "starting"):
            while True:
                match self._reply(child):
                    case Working(doing):
                        self._console.working(title, doing)
                    case Loaded(environment):
                        begun = (id_, what.name, what.step, what.digest, how.digest)
                        part.keep(EvaluationStarted(*begun, environment))
                    case Scored(images):
                        part.keep(ImagesScored(id_, images))
                        child.kept()
                        done += len(images)
                        self._console.working(title, f"{done} of {total} images", done, total)
                    case Failed(_, reason):
                        raise CheckpointError(f"{title}: {reason}")
                    case Finished():
                        return

    def _evaluator(self) -> tuple[EvaluatorHandle, Slot]:
        """Return the evaluator, and where it is.

        Raises:
            CheckpointError: None can be had.
        """
        if self._started is None:
            executor = named.load(self._settings)
            slots = executor.slots()
            if isinstance(slots, Refusal):
                raise CheckpointError(slots.problem, fix=slots.fix)
            self._started = executor.start(slots[0], self._replies.put), slots[0]
        return self._started

    def _reply(self, child: EvaluatorHandle) -> Reply:
        limit = self._settings.evaluating.stall_seconds
        while True:
            try:
                return self._replies.get(timeout=TICK_SECONDS)
            except Empty:
                if child.silent_seconds > limit:
                    reason = f"the evaluator showed no sign of life for {limit:g} s and was ended"
                    raise CheckpointError(reason, fix="call it again to go on") from None
