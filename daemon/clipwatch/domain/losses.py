"""Losses on images that are always the same: which images, from what noise, and what they come to.

A part of the log's vocabulary, see `events`. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Final

import msgspec

from clipwatch.domain.protocol import image_seed

LOSS_VERSION = 1
"""Raised whenever the code would give another loss for the same weights, images and noise."""

LOSS: Final = "loss"
"""Stands for the held-out loss where a further scorer could be named; none may be called so."""

TIMES = (84, 248, 416, 584, 752, 916)
"""Thousandths of the way from an image to noise at which its loss is measured: two in each third.

Multiples of four, which bf16 holds as they are.
"""

THIRDS = ("low", "mid", "high")
"""How much noise there is in each third of the way."""

Rows = tuple[tuple[float, ...], ...]
"""A row for each image, in it a loss for each time."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """An image's absolute path, and the caption that it is trained with."""

    path: str
    caption: str


@dataclass(frozen=True, slots=True)
class LossSets:
    """Images whose loss is measured: those that are held out, and some that are trained on."""

    held: tuple[Captioned, ...]
    trained: tuple[Captioned, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """An image as it was read: the digest of its file, and its caption."""

    image: str
    caption: str


@dataclass(frozen=True, slots=True)
class LossProtocol:
    """All that two losses must share, beside an evaluation's protocol, to be compared.

    Attributes:
        held, trained: The images, in an order that depends on nothing but them.
        seed: The configured one.
        width, height: Pixels to which images are scaled and cut.
        times: In thousandths of the way to noise, rising.
        version: See LOSS_VERSION.
    """

    held: tuple[Example, ...]
    trained: tuple[Example, ...]
    seed: int
    width: int
    height: int
    times: tuple[int, ...] = TIMES
    version: int = LOSS_VERSION

    @property
    def digest(self) -> str:
        """Sixteen hex digits; equal digests mean the same images and the same noise."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]

    def seeds(self, example: Example) -> tuple[int, ...]:
        """Return the seed of the noise at each time: the same for every checkpoint."""
        return tuple(image_seed(self.seed, example.image, time) for time in self.times)


@dataclass(frozen=True, slots=True)
class LossMeasured:
    """The denoiser's losses on fixed images were measured, before the evaluation's own images.

    `held` and `trained` have a row for each image of the protocol, and a loss for each time.
    """

    evaluation: str
    protocol: LossProtocol
    held: Rows
    trained: Rows = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LossNotMeasured:
    """An evaluation was asked for losses and has none; `reason` is what a user can act on."""

    evaluation: str
    reason: str


@dataclass(frozen=True, slots=True)
class Losses:
    """What the losses of an evaluation come to.

    Attributes:
        by: Digest of the LossProtocol, "" where they were not measured.
        means: "heldout", "heldout_low_noise", ..., "trained", "gap": the first less the last one.
        problem: Why there are none, "" else.
    """

    by: str
    means: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    def tags(self, first: str) -> dict[str, float]:
        """Return tag → value; of other images than the `first` of a curve in a group of their own.

        So no curve is made of losses that cannot be compared.
        """
        group = "loss" if self.by == first else f"loss_{self.by[:8]}"
        return {f"{group}/{name}": value for name, value in self.means.items()}


def losses_of(event: LossMeasured | LossNotMeasured) -> Losses:
    """Return what an event's losses come to."""
    if isinstance(event, LossNotMeasured):
        return Losses("", problem=event.reason)
    means: dict[str, float] = {"heldout": mean(event.held)}
    times = len(event.protocol.times)
    for place, name in enumerate(THIRDS):
        cut = slice(place * times // len(THIRDS), (place + 1) * times // len(THIRDS))
        means[f"heldout_{name}_noise"] = mean([row[cut] for row in event.held])
    if event.trained:
        means["trained"] = mean(event.trained)
        means["gap"] = means["heldout"] - means["trained"]
    return Losses(event.protocol.digest, means)


def mean(rows: Sequence[Sequence[float]]) -> float:
    """Return the mean of all losses; every image has as many."""
    return fsum(fsum(row) / len(row) for row in rows) / len(rows)


def with_losses(before: Losses | None, event: LossMeasured | LossNotMeasured) -> Losses:
    """Return an evaluation's losses after an event: what was measured is not lost by a failure."""
    failed = isinstance(event, LossNotMeasured)
    return before if failed and before is not None and before.by else losses_of(event)
