"""Kept images scored by one more scorer: nothing is generated, and nothing is scored twice."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from clipwatch.domain.events import ImageScore
from clipwatch.domain.further import (
    EvaluationRescored,
    FurtherScore,
    ImagesRescored,
    ScorerAdded,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.state import Evaluation, Run
from clipwatch.domain.strengths import base_of, title
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.messages import Failed, Finished, Loaded, Reply, Rescore, Scored, Working
from clipwatch.gpus import Refusal, gpus_beside
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection
from clipwatch.kit.errors import CheckpointError, ClipwatchError, SettingsError
from clipwatch.loop.console import Console
from clipwatch.models.kinds import FILES_KEY, told_key
from clipwatch.models.scorers import lacks
from clipwatch.results.figures import plural
from clipwatch.results.named import run_named
from clipwatch.results.ranking import standing
from clipwatch.results.reading import images_of, read_images, read_rescored
from clipwatch.results.tables import score_table
from clipwatch.service.lock import exclusive
from clipwatch.settings import KEYS, accelerator
from clipwatch.statistics.intervals import describe

TICK_SECONDS: Final = 1.0
"""Pause between two looks at an evaluator that says nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one scorer.

    Attributes:
        scorer: Its name.
        new: Checkpoints that have its scores since just now.
        had: Those that had them before.
        lacking: Of each of the others why it has none, in a line.
    """

    scorer: str
    new: int
    had: int
    lacking: tuple[str, ...]


def rescore(
    state_dir: Path,
    beginning: str,
    specs: Sequence[ScorerSpec],
    flags: Mapping[str, str],
    console: Console,
) -> list[Outcome]:
    """Score the kept images of a run by further scorers; return what came of each.

    What an earlier call has scored stays as it is, also where that was ended amid it. A daemon may
    watch the run meanwhile, and publishes what is new.

    Args:
        state_dir: Of the log and the images, absolute.
        beginning: Of the run's name.
        specs: The scorers, by the names that they are to have.
        flags: Settings that go before those with which the run was watched last.
        console: Hears what is done.

    Raises:
        ClipwatchError: There is no such run, a name is taken, or the evaluator failed.
    """
    log = log_file(state_dir)
    if not log.exists():
        raise ClipwatchError(f"there is no log in {state_dir}", fix="name its folder, --state-dir")
    with Journal(log) as journal:
        projection = Projection(journal)
        run = run_named(projection.state, beginning)
        if not checkpoints(run):
            raise ClipwatchError(f"{run.name} has no scores yet", fix="clipwatch status shows why")
        for spec in specs:
            _refuse_taken(run, spec)
        with exclusive(state_dir, run.name, doing="rescored"):
            asked = {**run.settings, **flags}
            work = _Work(state_dir, run.name, journal, projection, asked, console)
            try:
                return [work.through(spec) for spec in specs]
            except KeyboardInterrupt:
                raise CheckpointError("stopped", fix="call it again to go on") from None
            finally:
                work.close()


def checkpoints(run: Run) -> list[Evaluation]:
    """Return whose images are scored: the base's, and those of what stands for each checkpoint."""
    known = [it for it in run.present if it in run.protocols]
    bases = dict.fromkeys(base_of(run, it) for it in known)
    return [*(run.evaluations[it] for it in bases if it), *standing(run, known)]


def _refuse_taken(run: Run, spec: ScorerSpec) -> None:
    """Let a name stand for one scorer only.

    Raises:
        SettingsError: It stands for another.
    """
    another = "give this one another name"
    known = (run.protocols[it].scorers for it in run.present if it in run.protocols)
    if any(it.name == spec.name for scorers in known for it in scorers):
        raise SettingsError(f"the settings of {run.name} have a scorer {spec.name!r}", fix=another)
    added = run.further.get(spec.name)
    if added is not None and added.spec != spec:
        raise SettingsError(f"{spec.name!r} is {added.spec} in {run.name}", fix=another)


class _Work:
    """One call; the evaluator is started for the first image that is to be scored.

    Args:
        state_dir: Of the log and the images.
        name: The run's.
        journal: Open for writing.
        projection: Of it.
        asked: Settings as text.
        console: Hears what is done.
    """

    def __init__(
        self,
        state_dir: Path,
        name: str,
        journal: Journal,
        projection: Projection,
        asked: Mapping[str, str],
        console: Console,
    ) -> None:
        self._state_dir, self._name, self._journal = state_dir, name, journal
        self._asked, self._console = asked, console
        self._images = images_of(state_dir, name)
        self._projection = projection
        self._replies: SimpleQueue[Reply] = SimpleQueue()
        self._child: EvaluatorProcess | None = None
        self._place = ("", "")  # device and GPU
        self._environment: dict[str, str] = {}

    def close(self) -> None:
        """End the evaluator."""
        if self._child is not None:
            self._child.kill()

    def through(self, spec: ScorerSpec) -> Outcome:
        """Have all checkpoints scored that can be."""
        known = checkpoints(self._run)
        had = [it for it in known if spec.name in it.rescored]
        lacking = tuple(
            f"{title(self._run, it.id)}: {problem}"
            for it in known
            if it not in had and (problem := self._one(spec, it))
        )
        return Outcome(spec.name, len(known) - len(had) - len(lacking), len(had), lacking)

    @property
    def _run(self) -> Run:
        return self._projection.state[self._name]

    def _one(self, spec: ScorerSpec, evaluation: Evaluation) -> str:
        """Score what is left of an evaluation; return why it is not whole, "" if it is."""
        texts = [it.text for it in self._run.protocols[evaluation.protocol].prompts]
        if problem := lacks(spec, texts):
            return problem
        self._projection.catch_up()  # a daemon may have deleted images meanwhile
        images = read_images(self._journal, self._name, evaluation.id, further=False)
        done = read_rescored(self._journal, self._name, evaluation.id, spec.name)
        left = [it for it in images if (it.prompt_id, it.index) not in done]
        there = [it for it in left if self._is_there(it)]
        count = plural(len(images), "image")
        if len(there) < len(left):
            return f"{len(left) - len(there)} of {count} are not kept any more"
        if there:
            self._score(spec, evaluation, there)
            done = read_rescored(self._journal, self._name, evaluation.id, spec.name)
        if changed := len(images) - len(done):
            return f"{changed} of {count} cannot be read, or are not those that were scored"
        scores = (replace(it, scores={spec.name: done[it.prompt_id, it.index]}) for it in images)
        summary = describe(score_table(scores, spec.name))
        self._record(
            evaluation.id,
            EvaluationRescored(evaluation.id, spec.name, summary, self._environment),
        )
        self._console.say(f"{title(self._run, evaluation.id)}: {spec.name}/mean {summary.mean:.4f}")
        return ""

    def _is_there(self, image: ImageScore) -> bool:
        """Whether an image has a file, below the run's folder: a log may name any."""
        if not image.image:
            return False
        path = self._images / image.image
        return path.is_file() and path.resolve().is_relative_to(self._images.resolve())

    def _score(
        self, spec: ScorerSpec, evaluation: Evaluation, images: Sequence[ImageScore]
    ) -> None:
        """Have these images scored and written down, as many of them as can be read.

        Raises:
            CheckpointError: The evaluator failed, or had to be ended.
        """
        child = self._evaluator()
        protocol, what = self._run.protocols[evaluation.protocol], title(self._run, evaluation.id)
        names = {it.prompt_id for it in images}
        child.evaluate(
            Rescore(
                scorer=spec,
                folder=str(self._images),
                images=tuple(images),
                size=(protocol.width, protocol.height),
                texts={it.id: it.text for it in protocol.prompts if it.id in names},
                device=self._place[0],
                gpu=self._place[1],
                memory_gib=self._setting("gpu_memory_gib"),
                share=self._setting("share_gpu"),
                cache_dir=str(self._state_dir / "embeddings"),
            )
        )
        done, total = 0, len(images)
        with self._console.during(what, "starting"):
            while True:
                match self._reply(child):
                    case Working(doing):
                        self._console.working(what, doing)
                    case Loaded(environment):
                        self._identify(spec, environment)
                    case Scored(scored):
                        further = (
                            FurtherScore(it.prompt_id, it.index, it.scores[spec.name])
                            for it in scored
                        )
                        event = ImagesRescored(evaluation.id, spec.name, tuple(further))
                        self._record(evaluation.id, event)
                        child.kept()
                        done += len(scored)
                        doing = f"{done} of {total} images scored by {spec.name}"
                        self._console.working(what, doing, done, total)
                    case Failed(_, reason):
                        raise CheckpointError(f"{what}: {reason}")
                    case Finished():
                        return

    def _reply(self, child: EvaluatorProcess) -> Reply:
        """Wait for what the evaluator says, as long as it shows signs of life."""
        limit = self._setting("stall_seconds")
        while True:
            try:
                return self._replies.get(timeout=TICK_SECONDS)
            except Empty:
                if child.silent_seconds > limit:
                    child.kill()
                    reason = f"the evaluator showed no sign of life for {limit:g} s and was ended"
                    raise CheckpointError(reason, fix="call it again to go on") from None

    def _identify(self, spec: ScorerSpec, environment: dict[str, str]) -> None:
        """Write down whose numbers these are, or make sure that they still are.

        Raises:
            CheckpointError: The scorer's files are others than before.
        """
        self._environment = environment
        digest, told = environment.get(FILES_KEY, ""), environment.get(told_key(spec.name), "")
        known = self._run.further.get(spec.name)
        if known is None:
            added = ScorerAdded(spec, digest, told)
            self._projection.record(self._name, f"run/{self._name}", added)
        elif known.digest != digest:
            raise CheckpointError(
                f"other files lie at {spec} than those that scored as {spec.name!r} before",
                fix="give them another name",
            )

    def _record(self, evaluation: str, event: ImagesRescored | EvaluationRescored) -> None:
        self._projection.record(self._name, evaluation_stream(self._name, evaluation), event)

    def _evaluator(self) -> EvaluatorProcess:
        """Return the evaluator's process; started when it is first asked for.

        Raises:
            CheckpointError: It may not be, or there is no device for it.
        """
        if self._child is not None:
            return self._child
        device = self._setting("device")
        if device == "auto":
            machine = platform.machine()
            device = accelerator.found(os.environ, os.path.exists, sys.platform, machine)
        found = gpus_beside(device, (Path(self._run.output_dir),), share=self._setting("share_gpu"))
        if isinstance(found, Refusal):
            raise CheckpointError(found.problem, fix=found.fix)
        first = device.partition(",")[0]  # of several one is enough
        self._place = ("cuda", found[0].uuid) if found else (first, "")
        try:
            self._child = EvaluatorProcess(self._replies.put)
        except OSError as error:
            raise CheckpointError(f"no evaluator can be started: {error}") from error
        return self._child

    def _setting(self, key: str) -> Any:
        """Return a setting that was told as text; its default where that says nothing."""
        known = KEYS[key]
        try:
            return known.read(self._asked[key]) if self._asked.get(key) else known.default
        except ValueError:
            return known.default
