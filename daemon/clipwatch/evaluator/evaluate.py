"""One checkpoint in, replies out: models stay loaded from one evaluation to the next."""

from __future__ import annotations

import logging
import math
import platform
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from clipwatch.evaluator.batching import Gauge, Search
from clipwatch.evaluator.device import bound_memory, find_device
from clipwatch.evaluator.embeddings_store import Store
from clipwatch.evaluator.failures import EvaluationError, cause, failing_as, failure_of
from clipwatch.evaluator.images import image_name, save_image
from clipwatch.evaluator.looks import looks
from clipwatch.evaluator.messages import (
    Evaluate,
    Failed,
    Finished,
    Kept,
    Loaded,
    Message,
    Scored,
    Working,
)
from clipwatch.evaluator.phases import Phases
from clipwatch.evaluator.pipeline import Generator, free_memory
from clipwatch.evaluator.quiet import quiet
from clipwatch.evaluator.scorer import Scorer
from clipwatch.evaluator.weights import verify
from clipwatch.events import ImageScore
from clipwatch.prompts import stratified

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from clipwatch.protocol import Prompt

_log = logging.getLogger(__name__)

_PACKAGES: Final = ("torch", "diffusers", "transformers", "peft")
_WORKING_SECONDS: Final = 1.0

Task = tuple["Prompt", int, int]
Scorers = dict[str, Scorer]
"""By name; the one that decides is called ""."""


class _Over(Exception):  # noqa: N818 - it is no error
    """Raised in the midst of a generation whose images nobody needs any more."""


class Evaluator:
    """Evaluates checkpoints one after the other: generates them in the calling thread.

    What is generated is scored and saved in a second thread, which lives as long as an evaluation.
    """

    def __init__(self) -> None:
        quiet()
        self._device = ("", "")  # as asked for, as found
        self._store = Store(None)
        self._bound_gib: float | None = None
        self._scorers: dict[tuple[str, str, str], Scorer] = {}  # by identity
        self._generator: Generator | None = None
        self._searches: dict[str, Search] = {}  # by the protocol's digest
        self._search = Search(1, 1)
        self._searching = False
        self._behind: Future[bool] | None = None  # what the second thread has in hand
        self._send: Callable[[Message], Kept | None] = lambda _: None
        self._said_working = 0.0

    def evaluate(self, request: Evaluate, send: Callable[[Message], Kept | None]) -> None:
        """Evaluate one checkpoint: `send` gets Loaded, Scored..., and Finished or Failed.

        In between it gets Working, as long as the models compute. Nothing is raised but what `send`
        raises. `send` is called with Scored from another thread; it returns once that is kept.
        """
        started = time.monotonic()
        self._send, self._said_working = send, started
        phases = Phases()
        digest = request.protocol.digest
        try:
            with phases.phase("load"):
                scorers, generator = self._load(request)
            send(Loaded(self._environment(request, scorers, generator)))
            self._search = self._search_of(request, digest)
            # the same pixels for the same noise, in full float32: TF32 would decide the third digit
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ):
                self._make(request, scorers, generator, phases)
            _verify_unless_gone(request)
            truncated = scorers[""].truncated(prompt.text for prompt in request.protocol.prompts)
        except BrokenPipeError:  # nobody listens
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon has to hear of it
            failed = self._with_bound(failure_of(error))
            if failed.kind == "internal":
                _log.exception("evaluation of %s failed", request.path)
            if failed.kind == "memory" and (known := self._searches.get(digest)):
                # a size that was generated but could not be scored is no good
                self._searches[digest] = known.halved(known.best or known.size)
        else:
            found = self._search.size if self._searching and self._search.settled else 0
            send(Finished(truncated, time.monotonic() - started, phases.seconds, found))
            return
        free_memory()  # only here, where the error and what its frames hold is let go
        send(failed)

    def _load(self, request: Evaluate) -> tuple[Scorers, Generator]:
        """Have all models and the checkpoint in memory; what is there already stays."""
        protocol = request.protocol
        folder = Path(request.cache_dir) if request.cache_dir else None
        if self._device[0] != request.device or self._store.folder != folder:
            self._store = Store(folder)
            self._scorers, self._generator = {}, None
            self._searches = {}
            found = find_device(request.device)
            self._bound_gib = bound_memory(found, request.memory_gib, share=request.share)
            self._device = (request.device, found)
        device = self._device[1]
        wanted = {it.name: (it.model, it.revision, device) for it in protocol.all_scorers}
        if self._scorers.keys() - wanted.values():
            kept = {key: it for key, it in self._scorers.items() if key in wanted.values()}
            self._scorers = kept
            free_memory()
        for identity in wanted.values():
            if identity not in self._scorers:
                self._scorers[identity] = Scorer(*identity, self._store)
        if self._generator is None or not self._generator.serves(protocol, device):
            self._generator = None
            free_memory()
            self._generator = Generator(protocol, device, self._working, self._store)
        self._generator.load(request)
        return {name: self._scorers[it] for name, it in wanted.items()}, self._generator

    def _search_of(self, request: Evaluate, digest: str) -> Search:
        """Return where the search for the batch size stands; a settled one if none is wanted."""
        size, limit = request.batch_size, request.batch_limit
        self._searching = limit > 0
        if not self._searching:
            return Search(max(size, 1), max(size, 1), settled=True)
        images = len(request.protocol.prompts) * request.protocol.images_per_prompt
        limit = min(limit, images)  # of more no batch would ever be full
        known = Search(size, limit, settled=True) if size else Search(1, limit)
        return self._searches.get(digest, known).capped(limit)

    def _make(
        self, request: Evaluate, scorers: Scorers, generator: Generator, phases: Phases
    ) -> None:
        """Generate all images; while a batch is made, the one before is scored, saved and sent.

        None is handed on before the one before is kept. If no more are needed or scoring failed,
        the batch in the making is dropped there and then.
        """
        tasks = _tasks(request)
        judge = Judge(request, scorers, self._device[1], phases)
        with ThreadPoolExecutor(1, "scoring") as thread:
            try:
                with suppress(_Over):
                    while tasks:
                        batch, images = self._generate(tasks, request, generator, phases)
                        if self._behind is not None and self._behind.result():
                            break
                        self._behind = thread.submit(self._report, judge.begin(batch, images))
                        del images  # or they would be kept while the next ones are made
                        tasks = tasks[len(batch) :]
                if self._behind is not None:
                    self._behind.result()
            finally:
                self._behind = None

    def _report(self, work: Callable[[], tuple[ImageScore, ...]]) -> bool:
        """Finish a batch and report it, in the second thread; whether no more are needed."""
        kept = self._send(Scored(work()))
        return kept is not None and kept.enough

    def _generate(
        self, tasks: list[Task], request: Evaluate, generator: Generator, phases: Phases
    ) -> tuple[list[Task], torch.Tensor]:
        """Return the next batch, as large as memory allows, and its images."""
        while True:
            batch = _of_one_strength(tasks[: self._search.size])
            strength = batch[0][0].strength
            before = phases.seconds["generate"]
            looking = not self._search.settled and len(batch) == self._search.size
            gauge = Gauge(self._device[1], self._bound_gib) if looking else None
            try:
                with phases.phase("generate"):
                    images = generator.generate(
                        [prompt.text for prompt, _, _ in batch],
                        [seed for _, _, seed in batch],
                        request.protocol,
                        request.protocol.adapter_strength if strength is None else strength,
                    )
            except Exception as error:
                if isinstance(error, _Over) or cause(error) != "memory":
                    raise
                if self._behind is not None:  # its memory is free afterwards
                    wait([self._behind])
                if not generator.relieve(len(batch)):
                    if not self._searching or len(batch) == 1:
                        raise
                    self._go_on(request, self._search.halved(len(batch)))
            else:
                if gauge is not None:
                    seconds = (phases.seconds["generate"] - before) / len(batch)
                    fits = gauge.fits(len(batch), self._search.wider)
                    self._go_on(request, self._search.after(seconds, fits=fits))
                return batch, images
            free_memory()  # only here, where the error and what its frames hold is let go

    def _go_on(self, request: Evaluate, search: Search) -> None:
        self._search = self._searches[request.protocol.digest] = search

    def _with_bound(self, failed: Failed) -> Failed:
        """Say in a failure for lack of a GPU's memory that it is our own bound that was met."""
        if self._bound_gib is None or "out of memory" not in failed.reason.lower():
            return failed
        bound = f"clipwatch may take {self._bound_gib:.1f} GiB of this GPU (gpu_memory_gib)"
        return Failed(failed.kind, f"{failed.reason}; {bound}")

    def _working(self) -> None:
        behind = self._behind
        if behind is not None and behind.done() and (behind.exception() or behind.result()):
            raise _Over
        now = time.monotonic()
        if now - self._said_working >= _WORKING_SECONDS:
            self._said_working = now
            self._send(Working())

    def _environment(
        self, request: Evaluate, scorers: Scorers, generator: Generator
    ) -> dict[str, str]:
        """Say what else makes the numbers: versions, device, the Hub's commits."""
        device = self._device[1]
        name = (
            torch.cuda.get_device_name(device)
            if device.startswith("cuda")
            else platform.processor() or platform.machine()
        )
        if request.gpu:  # it is the only one in sight: its number says nothing
            device = device.partition(":")[0]
        found = {package: version(package) for package in _PACKAGES} | {
            "device": f"{device} ({name})",
            "gpu": request.gpu,
            "dtype": request.protocol.dtype,
            "attention": request.attention or "native",
            "base_commit": generator.commit,
            "scorer_commit": scorers[""].commit,
            **{f"scorer.{name}": scorer.commit for name, scorer in scorers.items() if name},
        }
        return {key: text for key, text in found.items() if text}


class Judge:
    """Scores and saves the images of a request, in part beside the generation of the next ones.

    On a GPU both are done there, on a stream of their own. Elsewhere only saving is: two threads of
    torch take twice the cores that we were given, or fight for them.
    """

    def __init__(self, request: Evaluate, scorers: Scorers, device: str, phases: Phases) -> None:
        self._folder = None if request.images_dir is None else Path(request.images_dir)
        self._scorers = scorers
        self._device = device
        self._phases = phases
        self._stream: torch.cuda.Stream | None = None
        if device.startswith("cuda"):
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(
        self, batch: list[Task], images: torch.Tensor
    ) -> Callable[[], tuple[ImageScore, ...]]:
        """Return what is left to do for a batch that was just generated, in another thread."""
        if self._stream is None:
            found = self._measure(batch, images)
            return lambda: self._keep(batch, *found)
        made = torch.cuda.current_stream(self._device).record_event()

        def rest(stream: torch.cuda.Stream = self._stream) -> tuple[ImageScore, ...]:
            with torch.cuda.stream(stream):
                stream.wait_event(made)
                images.record_stream(stream)  # their memory is not given away before
                found = self._measure(batch, images)
            return self._keep(batch, *found)

        return rest

    def _measure(
        self, batch: list[Task], images: torch.Tensor
    ) -> tuple[dict[str, list[float]], list[str], torch.Tensor]:
        """Return the scores by scorer, the looks, and the pixels in host memory."""
        prompts = [prompt.text for prompt, _, _ in batch]
        with self._phases.phase("score"):
            scores = {name: it.score(images, prompts) for name, it in self._scorers.items()}
            return scores, looks(images), images.cpu()

    def _keep(
        self,
        batch: list[Task],
        scores: dict[str, list[float]],
        seen: list[str],
        pixels: torch.Tensor,
    ) -> tuple[ImageScore, ...]:
        """Save the images that were scored, each of which has a number from every scorer."""
        found = []
        for place, (prompt, index, seed) in enumerate(batch):
            others = {name: _finite(its[place], name, prompt) for name, its in scores.items()}
            score = others.pop("")
            image = self._save(pixels[place], image_name(prompt.id, index))
            found.append(ImageScore(prompt.id, index, seed, score, image, others, seen[place]))
        return tuple(found)

    def _save(self, pixels: torch.Tensor, name: str) -> str | None:
        if self._folder is None:
            return None
        what = f"cannot save images in {self._folder}"
        with self._phases.phase("save"), failing_as("internal", what):
            save_image(pixels, self._folder / name)
        return name


def _finite(score: float, scorer: str, prompt: Prompt) -> float:
    """Return the score.

    Raises:
        EvaluationError: It is NaN or infinite ("scores").
    """
    if not math.isfinite(score):
        whose = f"scorer {scorer!r}" if scorer else "the scorer"
        raise EvaluationError(
            "scores", f"the score of prompt {prompt.id!r} is {score}; check the weights of {whose}"
        )
    return score


def _tasks(request: Evaluate) -> list[Task]:
    """Return what is to be generated, in order; all images of a prompt stand together."""
    protocol = request.protocol
    if request.stratified:
        protocol = replace(protocol, prompts=tuple(stratified(protocol.prompts)))
    done = set(request.done)
    return [task for task in protocol.images() if (task[0].id, task[1]) not in done]


def _of_one_strength(tasks: list[Task]) -> list[Task]:
    """Return those at the beginning whose prompts want an adapter at the same strength."""
    first = tasks[0][0].strength
    return list(takewhile(lambda task: task[0].strength == first, tasks))


def _verify_unless_gone(request: Evaluate) -> None:
    """Refuse a checkpoint that was written again meanwhile; one rotated away was read in full."""
    try:
        verify(Path(request.path), request.files)
    except EvaluationError as error:
        if error.kind != "vanished":
            raise
