"""A run's checkpoints as a table, one line each, and its means as sparklines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import fmean

from clipwatch.domain.state import Run
from clipwatch.domain.strengths import label, written
from clipwatch.kit.cells import cut
from clipwatch.kit.textfiles import printable
from clipwatch.models.scorers import scale_of
from clipwatch.results.columns import Column, lay_out
from clipwatch.results.decisions import short
from clipwatch.results.view import WORDS, Row, rows
from clipwatch.statistics import Summary
from clipwatch.statistics.scale import UNKNOWN

WIDTH = 80
"""Cells of a line where nobody knows better: in a pipe, in a file."""

BARS = "▁▂▃▄▅▆▇█"

NAME = 16
"""Cells of a checkpoint's name that are worth more than what else could stand there."""


def table(
    run: Run,
    width: int = WIDTH,
    now: datetime | None = None,
    most: int | None = None,
    listed: Sequence[Row] | None = None,
) -> str:
    """Return a run's checkpoints as lines of aligned columns, and its means as sparklines.

    Args:
        run: Its run.
        width: No line has more cells; where there are few, columns are left out.
        now: Tells how old each state is; None to leave that out.
        most: Of so many rows at most, the last ones; None for all.
        listed: Its rows, where they are known already.
    """
    found = rows(run) if listed is None else listed
    hidden = 0 if most is None else max(0, len(found) - most)
    head, rule, *lines = lay_out(_columns(run, found[hidden:], now), width)
    above = [cut(f"… {hidden} before", width)] if hidden else []
    return "\n".join((head, rule, *above, *lines, *_curves(found, width)))


def _columns(run: Run, shown: Sequence[Row], now: datetime | None) -> list[Column]:
    protocol = run.protocols.get(run.protocol)
    digits = (scale_of(protocol.decides) if protocol else UNKNOWN).digits

    def number(value: float) -> str:
        return f"{value:.{digits}f}"

    def scores(told: Callable[[Summary], str]) -> list[str]:
        return ["" if it.clip is None else told(it.clip) for it in shown]

    def half(it: Summary) -> str:
        return "" if it.low is None or it.high is None else number((it.high - it.low) / 2)

    found = [
        Column(run.unit, [str(it.step) for it in shown]),
        Column("mean", scores(lambda it: number(it.mean))),
        Column("±", scores(half), 4),
        Column("min", scores(lambda it: number(it.min)), 6),
        Column("max", scores(lambda it: number(it.max)), 7),
        Column("std", scores(lambda it: number(it.std)), 8),
        Column("n", scores(lambda it: str(it.n)), 9),
        Column("state", [WORDS.get(it.state, it.state) for it in shown], 1, right=False),
    ]
    if now is not None:
        ages = ["" if it.time is None else ago((now - it.time).total_seconds()) for it in shown]
        found.append(Column("when", ages, 5, right=False))
    found.append(
        Column("checkpoint", [printable(it.name) for it in shown], 2, right=False, least=NAME)
    )
    if any(it.decision for it in shown):
        told = [short(run, it.decision) if it.decision else "" for it in shown]
        found.insert(3, Column("compared", told, 3, right=False))
    for tag in sorted({tag for it in shown for tag in _held(it)}, reverse=True):
        losses = [f"{_held(it)[tag]:.4f}" if tag in _held(it) else "" for it in shown]
        found.insert(3, Column("held out" if tag == "loss/heldout" else tag, losses, 3))
    if any(it.strength is not None for it in shown):
        at = ["" if it.strength is None else written(it.strength) for it in shown]
        found.insert(1, Column("strength", at))
    return found


def _curves(found: Sequence[Row], width: int) -> list[str]:
    several = any(it.strength is not None for it in found)
    curves: dict[float | None, list[float]] = {}
    for row in found:
        if row.clip and not (several and row.is_base):
            curves.setdefault(row.strength, []).append(row.clip.mean)
    named: dict[str, list[float]] = {}
    for strength, means in sorted(curves.items(), key=lambda it: it[0] or 0.0):
        named["clip/mean" + ("" if strength is None else f", {label(strength)}")] = means
    for row in () if several else found:
        for tag, loss in _held(row).items():
            named.setdefault(tag, []).append(loss)
    cuts = [(cut(name, width // 2), values) for name, values in named.items()]
    return [f"{name} {sparkline(values, width - len(name) - 1)}" for name, values in cuts]


def _held(row: Row) -> dict[str, float]:
    """Return the loss on held-out images by its tag: that of other images has another one."""
    return {tag: loss for tag, loss in (row.losses or {}).items() if tag.endswith("/heldout")}


def sparkline(values: Sequence[float], most: int = WIDTH) -> str:
    """Draw values as bars between their own minimum and maximum; one value is a middle bar.

    Of more than `most` values each bar is the mean of some that follow each other.
    """
    if not values:
        return ""
    count = min(len(values), max(1, most))
    ends = pairwise(round(place * len(values) / count) for place in range(count + 1))
    values = [fmean(values[begin:end]) for begin, end in ends]
    low, high = min(values), max(values)
    if high == low:
        return BARS[3] * len(values)
    return "".join(BARS[round((value - low) / (high - low) * 7)] for value in values)


def ago(seconds: float) -> str:
    """Return an age for a person, in whole numbers: 12 s ago, 3 min ago, 5 h ago, 9 days ago."""
    for size, unit, most in ((1, "s", 90), (60, "min", 90), (3600, "h", 48)):
        if seconds < most * size:
            return f"{max(0.0, seconds) // size:.0f} {unit} ago"
    return f"{seconds // 86400:.0f} days ago"
