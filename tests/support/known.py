"""Models that are not there, though all is known of them."""

from __future__ import annotations

from clipwatch.domain.protocol import EvaluationProtocol, Input
from clipwatch.models.identity import Identities


class Known(Identities):
    """Knows models that are not there; `found` may be changed, as if other files lay there."""

    def __init__(self, *found: Input) -> None:
        super().__init__()
        self.found = found
        self._told: tuple[Input, ...] | None = None

    def inputs(self, _: EvaluationProtocol) -> tuple[Input, ...]:
        """Return what is found."""
        self._told = self.found
        return self.found

    def commits(self, _: EvaluationProtocol) -> dict[str, str]:
        """Return none."""
        return {}

    def unchanged(self, _: EvaluationProtocol) -> bool:
        """Whether it is what was told last."""
        return self._told == self.found
