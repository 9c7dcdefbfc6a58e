"""What the daemon and its link to a Ray cluster say to each other: one JSON object a line."""

from __future__ import annotations

import msgspec

from clipwatch.executors.base import Slot
from clipwatch.executors.messages import Evaluate, Failed, Reply


class Look(msgspec.Struct, frozen=True, tag=True):
    """To the link: which slots are there? It answers Seen with the same number.

    Attributes:
        number: Of the question.
        device: "cuda" or "cpu"; "auto" for GPUs, and for processors in a cluster without.
    """

    number: int
    device: str


class Start(msgspec.Struct, frozen=True, tag=True):
    """To the link: have an evaluator in a slot.

    Attributes:
        evaluator: Its number from here on.
        slot: One that was told.
        module: The program that is run there.
        idle_seconds: How long it may stay without a request.
    """

    evaluator: int
    slot: Slot
    module: str
    idle_seconds: float


class Ask(msgspec.Struct, frozen=True, tag=True):
    """To the link: a request to an evaluator, whose replies come as Said."""

    evaluator: int
    request: Evaluate


class Go(msgspec.Struct, frozen=True, tag=True):
    """To the link: Kept, for an evaluator."""

    evaluator: int
    enough: bool


class End(msgspec.Struct, frozen=True, tag=True):
    """To the link: end an evaluator."""

    evaluator: int


class Seen(msgspec.Struct, frozen=True, tag=True):
    """From the link: the slots, or why there are none and what to do."""

    number: int
    slots: tuple[Slot, ...] = ()
    problem: str = ""
    fix: str = ""


class Said(msgspec.Struct, frozen=True, tag=True):
    """From the link: an evaluator's reply. Images that it names are in their folder."""

    evaluator: int
    reply: Reply


class Lives(msgspec.Struct, frozen=True, tag=True):
    """From the link: an evaluator has been silent for so many seconds, where it runs."""

    evaluator: int
    silent_seconds: float


class Over(msgspec.Struct, frozen=True, tag=True):
    """From the link: an evaluator takes no request any more.

    `failed` answers the one that it had in hand.
    """

    evaluator: int
    failed: Failed | None = None


Order = Look | Start | Ask | Go | End
Report = Seen | Said | Lives | Over
