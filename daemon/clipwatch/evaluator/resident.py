"""What stays loaded from one evaluation to the next: scorers and pipelines, those used last."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipwatch.evaluator.batching import SHARE, free_bytes
from clipwatch.evaluator.failures import EvaluationError, cause
from clipwatch.evaluator.generation.pipeline import Generator, free_memory, made_of
from clipwatch.evaluator.losses import Latents
from clipwatch.evaluator.missing import fetch_missing
from clipwatch.evaluator.room import to_go
from clipwatch.evaluator.scorers import base
from clipwatch.evaluator.store import Store
from clipwatch.evaluator.torch_device import bound_memory, find_device
from clipwatch.models.identity import Identities, ModelError, scorer_digest, scorer_part
from clipwatch.models.memory import PIPELINE, batch_bytes, sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from clipwatch.domain.protocol import EvaluationProtocol, Input, ScorerSpec
    from clipwatch.evaluator.scorers.base import Scorer
    from clipwatch.executors.messages import Evaluate

Loaded = tuple["ScorerSpec", str]
"""A scorer, and the identity of its files."""


@dataclass(frozen=True, slots=True)
class Held:
    """A model in memory.

    Attributes:
        model: A scorer or a Generator, as its key says.
        size: Bytes of the device, estimated; None for what does not stay beside others.
    """

    model: Any
    size: int | None


class Resident:
    """The models in memory, on one device.

    Attributes:
        device: As torch calls it, "" before the first request.
        bound_gib: The most of the GPU's memory that may be taken, None for no bound.
        held: What is there by its key, the one used least recently first.
        latents: Of the images whose loss is measured.
    """

    def __init__(self) -> None:
        self.device = ""
        self.bound_gib: float | None = None
        self.held: dict[Hashable, Held] = {}
        self._wanted: Mapping[Hashable, int | None] = {}  # what is asked for now, and its size
        self.latents = Latents()
        self._letting_go = threading.Lock()
        self._asked = ""
        self._store = Store(None)
        self._identities = Identities()

    def load(
        self, request: Evaluate, tell: Callable[[str], None], working: Callable[[], None]
    ) -> tuple[dict[str, Scorer], Generator]:
        """Have all models and the checkpoint in memory; what is there already stays.

        What was asked for before stays beside them while there is room.

        Args:
            request: The checkpoint and its protocol.
            tell: Is told what begins now.
            working: Called again and again while the pipeline computes, until the next `load`.

        Returns:
            The scorers by their names, in the protocol's order, and the pipeline.

        Raises:
            EvaluationError: A model or the checkpoint cannot be loaded, or changed meanwhile.
        """
        protocol = request.protocol
        self._settle_down(request)
        tell("reading the models' files")
        inputs = self._inputs(protocol, tell)
        self._make_room(request, inputs)
        while True:
            try:
                found = self._load(request, inputs, tell, working)
                break
            except Exception as error:
                if cause(error) != "memory" or not self.let_go():
                    raise
                # of which nobody knows how much is there
                self.held.pop(made_of(protocol, inputs), None)
            free_memory()  # only here, where the error and what its frames hold is let go
        if (
            inputs and self._inputs(protocol, tell) != inputs
        ):  # of files that changed nobody knows what was read
            self._drop(self._wanted)
            raise EvaluationError("model", "files of the models changed while they were loaded")
        return found

    def let_go(self) -> bool:
        """Have only what is asked for now in memory; whether there was anything else.

        Called by who generates and by who scores, maybe at once.
        """
        with self._letting_go:
            others = self.held.keys() - self._wanted.keys()
            self._drop(others)
        return bool(others)

    def _make_room(self, request: Evaluate, inputs: tuple[Input, ...]) -> None:
        """Want the request's models from here on; others go as far as that takes."""
        protocol = request.protocol
        parts: dict[Hashable, str] = {made_of(protocol, inputs): PIPELINE}
        parts |= {loaded: part for part, loaded in _scorers(protocol, inputs)}
        held = {key: it.size for key, it in self.held.items()}
        if held.keys() == parts.keys():  # as nearly always
            self._wanted = held
            return
        known = sizes(protocol) or {}
        if protocol.offload != "none":  # it waits in the machine's memory, of which nobody asks
            known.pop(PIPELINE, None)
        self._wanted = {key: known.get(part) for key, part in parts.items()}
        lacks = [size for key, size in self._wanted.items() if key not in held]
        batch = batch_bytes(protocol, request.batch_size or 1)
        need = math.inf if None in lacks else batch + sum(filter(None, lacks))
        self._drop(to_go(held, parts, need, SHARE * free_bytes(self.device, self.bound_gib)))

    def _load(
        self,
        request: Evaluate,
        inputs: tuple[Input, ...],
        tell: Callable[[str], None],
        working: Callable[[], None],
    ) -> tuple[dict[str, Scorer], Generator]:
        protocol = request.protocol
        scorers: list[Scorer] = []
        for _, loaded in _scorers(protocol, inputs):
            if loaded not in self.held:
                tell(f"loading scorer {loaded[0]}")
            make = partial(base.make, loaded[0], self.device, self._store, loaded[1])
            scorers.append(self._have(loaded, make))
        pipeline = made_of(protocol, inputs)
        what = "its weights" if pipeline in self.held else f"base model {protocol.base_model}"
        generator: Generator = self._have(
            pipeline, partial(Generator, protocol, inputs, self.device, self._store)
        )
        tell(f"loading {what}")
        generator.load(request, working)
        names = (it.name for it in protocol.scorers)
        return dict(zip(names, scorers, strict=True)), generator

    def _drop(self, keys: Iterable[Hashable]) -> None:
        gone = [self.held.pop(key, None) for key in keys]
        if any(gone):
            gone.clear()
            free_memory()

    def _have(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a model that is wanted, made if it is not there, as the one used last."""
        held = self.held.pop(key, None) or Held(make(), self._wanted[key])
        self.held[key] = held
        return held.model

    def _settle_down(self, request: Evaluate) -> None:
        """Begin anew where another device is asked for; keep on disk where this run does."""
        self._store.keep_in(Path(request.cache_dir) if request.cache_dir else None)
        if self._asked != request.device:
            self._drop([*self.held])
            self.device = find_device(request.device)
            self.bound_gib = bound_memory(self.device, request.memory_gib, share=request.share)
            self._asked = request.device

    def _inputs(
        self, protocol: EvaluationProtocol, tell: Callable[[str], None]
    ) -> tuple[Input, ...]:
        """Return what identifies the models' files; what lacks in the Hub's cache is fetched.

        Raises:
            EvaluationError: They are not those that the protocol speaks of ("model").
        """
        found: tuple[Input, ...] = ()  # of what cannot be read: loading says better what is wrong
        gone = ""
        try:
            found = self._identities.inputs(protocol)
        except ModelError as error:
            gone = "" if error.remote else str(error)
            if error.remote:
                tell("downloading models that are gone from the Hub's cache")
                fetch_missing(protocol)
                with suppress(ModelError):
                    found = self._identities.inputs(protocol)
        if protocol.inputs and found != protocol.inputs:
            before = {it.part: it.digest for it in protocol.inputs}
            other = [it.part for it in found if before.get(it.part) != it.digest]
            named = ", ".join(other) or "models"
            raise EvaluationError("model", gone or f"{named}: other files lie there than before")
        return found


def _scorers(protocol: EvaluationProtocol, inputs: tuple[Input, ...]) -> list[tuple[str, Loaded]]:
    """Return the scorers in their order, each with its part's name; two names may be of one."""
    digests = {it.part: it.digest for it in inputs}
    return [
        (scorer_part(it), (replace(it, name=""), scorer_digest(it, digests)))
        for it in protocol.scorers
    ]
