"""What stays loaded from one evaluation to the next: the scorers and the pipeline."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation.pipeline import Generator, free_memory
from clipwatch.evaluator.missing import fetch_missing
from clipwatch.evaluator.scorers import base
from clipwatch.evaluator.store import Store
from clipwatch.evaluator.torch_device import bound_memory, find_device
from clipwatch.models.identity import Identities, ModelError, scorer_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from clipwatch.domain.protocol import EvaluationProtocol, Input, ScorerSpec
    from clipwatch.evaluator.scorers.base import Scorer
    from clipwatch.executors.messages import Evaluate

Loaded = tuple["ScorerSpec", str]
"""A scorer, and the identity of its files."""


class Resident:
    """The models in memory, on one device.

    Attributes:
        device: As torch calls it, "" before the first request.
        bound_gib: The most of the GPU's memory that may be taken, None for no bound.
        scorers: All that are loaded.
        generator: The pipeline, None before it was loaded.
    """

    def __init__(self) -> None:
        self.device = ""
        self.bound_gib: float | None = None
        self.scorers: dict[Loaded, Scorer] = {}
        self.generator: Generator | None = None
        self._asked = ""
        self._store = Store(None)
        self._identities = Identities()

    def load(
        self, request: Evaluate, tell: Callable[[str], None], working: Callable[[], None]
    ) -> tuple[dict[str, Scorer], Generator]:
        """Have all models and the checkpoint in memory; what is there already stays.

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
        wanted = self._wanted(protocol, inputs)
        if self.scorers.keys() - wanted.values():
            self.scorers = {it: self.scorers[it] for it in self.scorers if it in wanted.values()}
            free_memory()
        for loaded in wanted.values():
            if loaded not in self.scorers:
                tell(f"loading scorer {loaded[0]}")
                self.scorers[loaded] = base.make(loaded[0], self.device, self._store, loaded[1])
        if self.generator is None or not self.generator.serves(protocol, inputs, self.device):
            self.generator = None
            free_memory()
            self.generator = Generator(protocol, inputs, self.device, self._store)
            tell(f"loading base model {protocol.base_model}")
        else:
            tell("loading its weights")
        self.generator.load(request, working)
        if (
            inputs and self._inputs(protocol, tell) != inputs
        ):  # of files that changed nobody knows what was read
            self.scorers, self.generator = {}, None
            raise EvaluationError("model", "files of the models changed while they were loaded")
        return {name: self.scorers[it] for name, it in wanted.items()}, self.generator

    def _settle_down(self, request: Evaluate) -> None:
        """Begin anew where another device, or another folder for what is kept, is asked for."""
        folder = Path(request.cache_dir) if request.cache_dir else None
        if self._asked != request.device or self._store.folder != folder:
            self._store = Store(folder)
            self.scorers, self.generator = {}, None
            self.device = find_device(request.device)
            self.bound_gib = bound_memory(self.device, request.memory_gib, share=request.share)
            self._asked = request.device

    def _wanted(self, protocol: EvaluationProtocol, inputs: tuple[Input, ...]) -> dict[str, Loaded]:
        digests = {it.part: it.digest for it in inputs}
        # one that has two names is loaded once
        return {
            it.name: (replace(it, name=""), scorer_digest(it, digests)) for it in protocol.scorers
        }

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
