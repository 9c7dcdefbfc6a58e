"""The pace of a run in words."""

from __future__ import annotations

import math
from fractions import Fraction

from clipwatch.domain.behind import WAITING
from clipwatch.pace.measure import INTERVAL, LIMIT
from clipwatch.pace.values import ROOM, Pace


def line(pace: Pace) -> str:
    """Return all there is to say in one line."""
    return f"{told(pace)}; {remedy(pace)}" if pace.load > 1 else told(pace)


def told(pace: Pace) -> str:
    """Say what a checkpoint takes, how often one comes, and what becomes of the others."""
    every = f"every {pace.steps} steps" if pace.steps else ""
    often = f"about every {duration(pace.between)}" if pace.between else ""
    saved = f"one is saved {', '.join(filter(None, (every, often)))}" if every or often else ""
    if not pace.seconds:
        return "; ".join(filter(None, ("the first one tells how long a checkpoint takes", saved)))
    images = f"{pace.images} image{'s' * (pace.images != 1)}"
    takes = f"a checkpoint takes about {duration(pace.seconds)} ({images}, measured)"
    if not pace.between:
        if pace.waiting:
            all_ = duration(pace.waiting * pace.seconds)
            return f"{takes}; {pace.waiting} wait{'s' * (pace.waiting == 1)}, about {all_} in all"
        return f"{takes}; {saved}" if saved else takes
    if pace.load <= 1:
        return f"{takes}, {saved}: clipwatch keeps up"
    return f"{takes}, {saved}: {left_out(pace)}"


def left_out(pace: Pace) -> str:
    """Say what becomes of the checkpoints of a training that saves faster than they are scored."""
    if pace.behind == "wait" and pace.limit == 0:
        return "clipwatch falls behind, and scores the rest when the training has ended"
    if pace.behind == "newest":
        rest = "the others are left out (when_behind newest)"
    elif pace.behind == "spread":
        few = f"of the others {WAITING} wait, evenly spread"
        rest = f"{few}, and the rest is left out (when_behind spread)"
    elif pace.limit is None:
        rest = "the others wait, and those that the trainer deletes before their turn get no score"
    else:
        rest = f"the others are deleted by the trainer ({LIMIT} {pace.limit}) before their turn"
    return f"{_of(pace.scored)} will be scored, {rest}"


def remedy(pace: Pace) -> str:
    """Say what would keep up: fewer prompts if enough of them remain, else fewer checkpoints."""
    from clipwatch.prompts import FEW  # whose readers `status` does without

    if pace.fitting >= FEW:
        return f"fewer prompts (--max-prompts {pace.fitting}, a new curve) would keep up"
    if not pace.steps:
        return "fewer checkpoints would keep up"
    wanted = pace.steps * pace.load / ROOM
    digits = 10 ** max(0, math.floor(math.log10(wanted)) - 1)
    return f"a checkpoint every {math.ceil(wanted / digits) * digits} steps ({INTERVAL}) would do"


def duration(seconds: float) -> str:
    """Return a time for a person, to two digits."""
    for size, unit, most in ((1, "s", 90), (60, "min", 90), (3600, "h", 48)):
        if seconds / size < most:
            number = seconds / size
            return f"{number:.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"  # noqa: PLR2004
    return f"{seconds / 86400:.0f} days"


def _of(share: float) -> str:
    near = Fraction(share).limit_denominator(6)
    if near == 1:
        return "most checkpoints"
    if near == 0:
        return f"about 1 checkpoint of {round(1 / share)}"
    return f"about {near.numerator} of {near.denominator} checkpoints"
