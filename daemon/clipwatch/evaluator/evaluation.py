"""One evaluation: the images of a checkpoint are made, and beside that scored and reported."""

from __future__ import annotations

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
from clipwatch.evaluator.failures import EvaluationError, cause
from clipwatch.evaluator.generation.noise import Noise, Task, full_size, tasks_of
from clipwatch.evaluator.generation.pipeline import Generator, free_memory
from clipwatch.evaluator.generation.weights import verify
from clipwatch.evaluator.losses import measure
from clipwatch.evaluator.phases import Phases
from clipwatch.evaluator.scoring import Scorers, Scoring
from clipwatch.executors.messages import Evaluate, Finished, Kept, Loaded, Reply, Scored, Working
from clipwatch.models.kinds import commit_key, told_key
from clipwatch.prompts import stratified

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from clipwatch.domain.events import ImageScore
    from clipwatch.domain.protocol import EvaluationProtocol
    from clipwatch.evaluator.resident import Resident

_PACKAGES: Final = ("torch", "diffusers", "transformers", "peft")
_WORKING_SECONDS: Final = 1.0


class _Over(Exception):  # noqa: N818 - it is no error
    """Raised in the midst of a generation whose images nobody needs any more."""


class Evaluation:
    """A request on its way; made for one call of `run`.

    Args:
        request: What is evaluated.
        send: Takes what is to be said; returns an answer to Scored, for which it may wait.
        models: What is in memory.
        searches: Where the searches for the best batch size stand, by device and protocol, whose
            strength does not matter.
    """

    def __init__(
        self,
        request: Evaluate,
        send: Callable[[Reply], Kept | None],
        models: Resident,
        searches: dict[tuple[str, str], Search],
    ) -> None:
        self._request = request
        self._send = send
        self._models = models
        self._searches = searches
        self._phases = Phases()
        self._searching = request.batch_limit > 0
        self._search = Search(1, 1)
        self._behind: Future[bool] | None = None  # what the second thread has in hand
        self._said_working = time.monotonic()

    def run(self) -> Finished:
        """Make, score and report all images.

        Raises:
            EvaluationError: There is no result; so there is none after any other error.
            BrokenPipeError: Nobody listens.
        """
        started = time.monotonic()
        with self._phases.phase("load"):
            scorers, generator = self._models.load(self._request, self._tell, self._working)
        self._send(Loaded(self._environment(scorers, generator)))
        texts = [prompt.text for prompt in self._request.protocol.prompts]
        truncated = [scorer.prepare(texts) for scorer in scorers.values()]
        self._search = self._search_of()
        # the same pixels for the same noise, in full float32: TF32 would decide the third digit
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            if sets := self._request.losses:
                self._tell("measuring the loss on fixed images")
                with self._phases.phase("loss"):
                    models, how = self._models, self._request.protocol
                    measured = measure(sets, how, generator, models.latents, models.let_go)
                self._send(measured)
            self._make(scorers, generator)
        _verify_unless_gone(self._request)
        found = self._search.size if self._searching and self._search.settled else 0
        made = {"vae": generator.decoding}
        seconds = time.monotonic() - started
        return Finished(truncated[0], seconds, self._phases.seconds, found, made)

    @property
    def _key(self) -> tuple[str, str]:
        return self._models.device, at_any_strength(self._request.protocol)

    def _search_of(self) -> Search:
        """Return where the search for the batch size stands; a settled one if none is wanted."""
        request = self._request
        size, limit = request.batch_size, request.batch_limit
        if not self._searching:
            return Search(max(size, 1), max(size, 1), settled=True)
        images = len(request.protocol.prompts) * request.protocol.images_per_prompt
        limit = min(limit, images)  # of more no batch would ever be full
        known = Search(size, limit, settled=True) if size else Search(1, limit)
        return self._searches.get(self._key, known).capped(limit)

    def _make(self, scorers: Scorers, generator: Generator) -> None:
        """Generate all images; while a batch is made, the one before is scored, saved and sent.

        None is handed on before the one before is kept. If no more are needed or scoring failed,
        the batch in the making is dropped there and then.
        """
        tasks = _tasks(self._request)
        noise = Noise(self._request.protocol)
        models = self._models
        how = models.device, self._phases, models.let_go, self._working
        scoring = Scoring(self._request, scorers, *how)
        with ThreadPoolExecutor(1, "scoring") as thread:
            try:
                with suppress(_Over):
                    while tasks:
                        batch, images = self._generate(tasks, noise, generator)
                        if self._behind is not None and self._behind.result():
                            break
                        self._behind = thread.submit(self._report, scoring.begin(batch, images))
                        del images  # or they would be kept while the next ones are made
                        tasks = tasks[len(batch) :]
                if self._behind is not None:
                    self._behind.result()
            finally:
                self._behind = None

    def _report(self, work: Callable[[], tuple[ImageScore, ...]]) -> bool:
        """Finish a batch and report it, in the second thread; whether no more are needed."""
        scored = work()
        kept = self._send(Scored(scored)) if scored else None
        return kept is not None and kept.enough

    def _generate(
        self, tasks: list[Task], noise: Noise, generator: Generator
    ) -> tuple[list[Task], torch.Tensor]:
        """Return the next batch, as large as memory allows, and its images."""
        protocol = self._request.protocol
        while True:
            full = full_size(self._search.size, protocol)
            batch = _of_one_strength(tasks[:full])
            strength = batch[0][0].strength
            generators = noise.of(batch)
            before, held = self._phases.seconds["generate"], len(self._models.held)
            looking = not self._search.settled and len(batch) == full
            gauge = Gauge(self._models.device, self._models.bound_gib) if looking else None
            try:
                with self._phases.phase("generate"):
                    images = generator.generate(
                        [prompt.text for prompt, _, _ in batch],
                        generators,
                        protocol,
                        protocol.adapter_strength if strength is None else strength,
                    )
            except Exception as error:
                if isinstance(error, _Over) or cause(error) != "memory":
                    raise
                if self._behind is not None:  # its memory is free afterwards
                    wait([self._behind])
                self._models.let_go()  # or who scores has done so
                fewer = len(self._models.held) < held
                if not (fewer or generator.relieve(len(batch))):
                    if not self._searching or len(batch) == 1:
                        raise
                    self._go_on(self._search.halved(len(batch)))
            else:
                if gauge is not None:
                    seconds = (self._phases.seconds["generate"] - before) / len(batch)
                    fits = gauge.fits(len(batch), self._search.wider)
                    if not fits and self._models.let_go():  # what is found now stays
                        fits = gauge.fits(len(batch), self._search.wider)
                    self._go_on(self._search.after(seconds, fits=fits))
                noise.made(generators)
                return batch, images
            free_memory()  # only here, where the error and what its frames hold is let go

    def _go_on(self, search: Search) -> None:
        self._search = self._searches[self._key] = search

    def _tell(self, doing: str) -> None:
        self._send(Working(doing))

    def _working(self) -> None:
        behind = self._behind
        if behind is not None and behind.done() and (behind.exception() or behind.result()):
            raise _Over
        now = time.monotonic()
        if now - self._said_working >= _WORKING_SECONDS:
            self._said_working = now
            self._send(Working())

    def _environment(self, scorers: Scorers, generator: Generator) -> dict[str, str]:
        """Say what else makes the numbers: versions, device, the Hub's commits."""
        request, device = self._request, self._models.device
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
            **{commit_key(name): scorer.commit for name, scorer in scorers.items()},
            **{told_key(name): scorer.told for name, scorer in scorers.items()},
        }
        return {key: text for key, text in found.items() if text}


def at_any_strength(protocol: EvaluationProtocol) -> str:
    """Return the digest of a protocol without regard to the strength of an adapter."""
    return protocol.at(1.0).digest


def _tasks(request: Evaluate) -> list[Task]:
    """Return what is to be generated, in order."""
    protocol = request.protocol
    if request.stratified:
        protocol = replace(protocol, prompts=tuple(stratified(protocol.prompts)))
    return tasks_of(protocol, set(request.done))


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
