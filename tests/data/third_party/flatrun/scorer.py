"""A scorer without a model: how bright a picture is, from 0 to 10."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.models.kinds import ScorerKind
from clipwatch.statistics.scale import Scale

if TYPE_CHECKING:
    import torch

    from clipwatch.evaluator.store import Store


class Brightness:
    """Looks at the picture alone; the option `most` is the score of white."""

    commit = told = ""

    def __init__(self, spec: ScorerSpec, device: str, store: Store, digest: str) -> None:  # noqa: ARG002 - it has no model
        self._most = float(dict(spec.options).get("most", "10"))

    def prepare(self, prompts: Sequence[str]) -> int:  # noqa: ARG002 - it reads none
        """Read no prompt, so none is too long."""
        return 0

    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:  # noqa: ARG002 - as above
        """Return the mean of each picture's bytes, 255 being `most`."""
        means = images.double().mean(dim=(1, 2, 3)) / 255
        return [self._most * mean for mean in means.tolist()]


def scale(spec: ScorerSpec, told: str) -> Scale:  # noqa: ARG001 - the kind's interface
    """Return the scale, which is the same for all."""
    return Scale(0.0, 10.0, tie=1e-6, worth=0.5, digits=2, poor=0.1, saturated=9.9)


KIND = ScorerKind("flatrun.scorer:Brightness", scale)
