"""One checkpoint in, replies out: models stay loaded from one evaluation to the next."""

from __future__ import annotations

import logging
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

from clipwatch.domain.events import ImageScore
from clipwatch.evaluator.batching import Gauge, Search
from clipwatch.evaluator.bringing import bring
from clipwatch.evaluator.device import bound_memory, find_device
from clipwatch.evaluator.failures import EvaluationError, cause, failure_of
from clipwatch.evaluator.generation.noise import Noise, Task, full_size, tasks_of
from clipwatch.evaluator.generation.pipeline import Generator, free_memory
from clipwatch.evaluator.generation.weights import verify
from clipwatch.evaluator.phases import Phases
from clipwatch.evaluator.quiet import quiet
from clipwatch.evaluator.scorers.dual_encoder import Scorer
from clipwatch.evaluator.scoring import Scorers, Scoring
from clipwatch.evaluator.store import Store
from clipwatch.executors.messages import (
    Evaluate,
    Failed,
    Finished,
    Kept,
    Loaded,
    Reply,
    Scored,
    Working,
)
from clipwatch.models.dual_encoders import scale_key
from clipwatch.models.identity import Identities, ModelError, scorer_part
from clipwatch.prompts import stratified

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from clipwatch.domain.protocol import EvaluationProtocol, Input

_log = logging.getLogger(__name__)

_PACKAGES: Final = ("torch", "diffusers", "transformers", "peft")
_WORKING_SECONDS: Final = 1.0


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
        self._identities = Identities()
        self._scorers: dict[tuple[str, str, str, str], Scorer] = {}  # by identity
        self._generator: Generator | None = None
        self._searches: dict[str, Search] = {}  # by the protocol's digest
        self._search = Search(1, 1)
        self._searching = False
        self._behind: Future[bool] | None = None  # what the second thread has in hand
        self._send: Callable[[Reply], Kept | None] = lambda _: None
        self._said_working = 0.0

    def evaluate(self, request: Evaluate, send: Callable[[Reply], Kept | None]) -> None:
        """Evaluate one checkpoint: `send` gets Loaded, Scored..., and Finished or Failed.

        In between it gets Working, as things begin and while the models compute. Nothing is raised
        but what `send` raises. `send` is called with Scored from another thread; it returns once
        that is kept.
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
            made = {"vae": generator.decoding}
            send(Finished(truncated, time.monotonic() - started, phases.seconds, found, made))
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
        self._tell("reading the models' files")
        inputs = self._inputs(protocol)
        digests = {it.part: it.digest for it in inputs}
        wanted = {
            it.name: (it.model, it.revision, device, digests.get(scorer_part(it), ""))
            for it in protocol.all_scorers
        }
        if self._scorers.keys() - wanted.values():
            kept = {key: it for key, it in self._scorers.items() if key in wanted.values()}
            self._scorers = kept
            free_memory()
        for identity in wanted.values():
            if identity not in self._scorers:
                name, revision, place, digest = identity
                self._tell(f"loading scorer {name}")
                self._scorers[identity] = Scorer(name, revision, place, self._store, digest)
        if self._generator is None or not self._generator.serves(protocol, inputs, device):
            self._generator = None
            free_memory()
            self._generator = Generator(protocol, inputs, device, self._working, self._store)
            self._tell(f"loading base model {protocol.base_model}")
        else:
            self._tell("loading its weights")
        self._generator.load(request)
        if (
            inputs and self._inputs(protocol) != inputs
        ):  # of files that changed nobody knows what was read
            self._scorers, self._generator = {}, None
            raise EvaluationError("model", "files of the models changed while they were loaded")
        return {name: self._scorers[it] for name, it in wanted.items()}, self._generator

    def _inputs(self, protocol: EvaluationProtocol) -> tuple[Input, ...]:
        """Return what identifies the models' files; what lacks in the Hub's cache is fetched.

        Raises:
            EvaluationError: They are not those that the protocol speaks of ("model").
        """
        found: tuple[Input, ...] = ()  # of what cannot be read: loading says better what is wrong
        try:
            found = self._identities.inputs(protocol)
        except ModelError as error:
            if error.remote:
                self._tell("downloading models that are gone from the Hub's cache")
                bring(protocol)
                with suppress(ModelError):
                    found = self._identities.inputs(protocol)
        if protocol.inputs and found != protocol.inputs:
            before = {it.part: it.digest for it in protocol.inputs}
            other = [it.part for it in found if before.get(it.part) != it.digest]
            named = ", ".join(other) or "models"
            raise EvaluationError("model", f"{named}: other files lie there than before")
        return found

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
        noise = Noise(request.protocol)
        scoring = Scoring(request, scorers, self._device[1], phases)
        with ThreadPoolExecutor(1, "scoring") as thread:
            try:
                with suppress(_Over):
                    while tasks:
                        batch, images = self._generate(tasks, noise, request, generator, phases)
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
        self,
        tasks: list[Task],
        noise: Noise,
        request: Evaluate,
        generator: Generator,
        phases: Phases,
    ) -> tuple[list[Task], torch.Tensor]:
        """Return the next batch, as large as memory allows, and its images."""
        while True:
            full = full_size(self._search.size, request.protocol)
            batch = _of_one_strength(tasks[:full])
            strength = batch[0][0].strength
            generators = noise.of(batch)
            before = phases.seconds["generate"]
            looking = not self._search.settled and len(batch) == full
            gauge = Gauge(self._device[1], self._bound_gib) if looking else None
            try:
                with phases.phase("generate"):
                    images = generator.generate(
                        [prompt.text for prompt, _, _ in batch],
                        generators,
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
                noise.made(generators)
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
            **{scale_key(name): scorer.scale for name, scorer in scorers.items()},
        }
        return {key: text for key, text in found.items() if text}


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
