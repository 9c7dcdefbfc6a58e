"""The whole of `clipwatch status`, and the live view of `start`, line by line. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from clipwatch.domain.delivered import received
from clipwatch.domain.state import Run, State
from clipwatch.domain.strengths import ascending, label, told
from clipwatch.kit.cells import cut, wrapped
from clipwatch.kit.textfiles import printable
from clipwatch.pace import line
from clipwatch.pace.words import duration
from clipwatch.results.progress import Progress, Watcher, progress
from clipwatch.results.table import WIDTH, table
from clipwatch.results.view import (
    IN_QUEUE,
    WORDS,
    Row,
    RowState,
    advice,
    beyond,
    problems,
    rows,
    summary,
)

REASONS = 3
"""Reasons of a state that are told; `--json` has each checkpoint's."""

NAMES = 3
"""Checkpoints that are named with a reason."""

LONGEST = 32
"""Cells of a name amid a sentence."""

FEWEST = 3
"""Rows of a table that are shown however few lines there are."""

SOON = timedelta(hours=18)
"""An hour alone tells what is so near."""


def listing(
    state: State,
    now: datetime,
    watched: Mapping[str, Watcher] = MappingProxyType({}),
    width: int = WIDTH,
    height: int | None = None,
) -> list[str]:
    """Return every run's table, how far it is, what stands in its way, and where its curve is.

    Args:
        state: All runs.
        now: In UTC.
        watched: Who watches which run.
        width: No line has more cells, unless for a path or an address in it.
        height: The most lines: tables lose their first rows, what is below its last lines. None
            for all.
    """
    most = None
    if height is not None:
        around = [line for run in state.values() for line in _run(run, now, watched, width, 0)]
        most = max(FEWEST, (height - len(around)) // max(1, len(state)))
    lines = [it for run in state.values() for it in _run(run, now, watched, width, most)]
    return lines[:height]


def brief(run: Run, now: datetime, watcher: Watcher, width: int, height: int) -> list[str]:
    """Return what stands below the lines of a daemon: its table, and how far the queue is.

    Args:
        run: That it watches.
        now: In UTC.
        watcher: The daemon.
        width: No line has more cells.
        height: The most lines.
    """
    listed = rows(run)
    if not listed:
        return []
    queue = list(_queue(progress(run, now, watcher), now))
    around = table(run, width, now, 0, listed).count("\n") + 1 + len(queue)
    most = max(FEWEST, height - around)
    drawn = table(run, width, now, most, listed).splitlines()
    return [*drawn, *(cut(it, width) for it in queue)][:height]


def _run(
    run: Run, now: datetime, watched: Mapping[str, Watcher], width: int, most: int | None
) -> Iterator[str]:
    listed = rows(run)
    yield cut(printable(f"{run.name}  {run.output_dir}"), width)
    told_ = [f"{run.settings.get('weights', '')} weights, {_protocols(run)}"]
    yield from _wrapped(told_, width)
    yield from table(run, width, now, most, listed).splitlines()
    how = progress(run, now, watched.get(run.name))
    below = [*_now(how), *_queue(how, now)]
    if how.pace and how.pace.seconds:
        below.append(line(replace(how.pace, waiting=0)))  # which the queue tells
    if any(not it.is_base for it in listed):
        below.append(summary(run))
    below += _answers(run, listed)
    still = how.hand is None  # of what is evaluated now it tells already
    yield from _wrapped(
        [*below, *_unscored(listed, still=still), *problems(run), *beyond(run)], width
    )
    yield from map(printable, _places(run))  # to be copied, and so in one piece
    yield from _wrapped(list(_advice(run)), width)


def _wrapped(lines: Sequence[str], width: int) -> Iterator[str]:
    for it in lines:
        yield from wrapped(printable(it), width)


def _now(how: Progress) -> Iterator[str]:
    if how.watcher and how.watcher.doing:
        yield f"now: {how.watcher.doing}"
    for hand in how.hands:
        fast = f", {hand.per_second:.2g} images/s" if hand.per_second else ""
        left = "" if hand.left is None else f", about {duration(hand.left)} left"
        yield f"now: {cut(hand.title, LONGEST)}, {hand.done} of {hand.images} images{fast}{left}"


def _queue(how: Progress, now: datetime) -> Iterator[str]:
    if not (how.hands or how.waiting):
        return
    more = " more" * bool(how.hands)
    waiting = f"{how.waiting}{more} to be evaluated" if how.waiting else "nothing more waits"
    if how.watcher is None:
        yield f"queue: {waiting}; no clipwatch watches this run now, clipwatch start goes on"
        return
    at = how.done_at(now)
    if at is None or how.left is None:
        yield f"queue: {waiting}"
        return
    when = f"{at.astimezone():{'%H:%M' if at - now < SOON else '%d %b %H:%M'}}"
    yield f"queue: {waiting}, all done in about {duration(how.left)}, at {when}"


def _answers(run: Run, listed: Sequence[Row]) -> Iterator[str]:
    """Tell of the newest checkpoint that was asked about how well skills do, the weakest first."""
    row = next((it for it in reversed(listed) if it.answered), None)
    for scorer, found in row.answered.items() if row else ():
        ordered = sorted(found.skills.items(), key=lambda it: it[1].mean)
        told_ = ", ".join(f"{skill} {it.mean:.2f}" for skill, it in ordered)
        by = f" by {scorer}" if scorer else ""
        if row and told_:
            at = "" if row.strength is None else f", {label(row.strength)}"
            yield f"right answers{by} at {run.unit} {row.step}{at}: {told_}"


def _unscored(listed: Sequence[Row], *, still: bool) -> Iterator[str]:
    """Tell why there is no score: of each state the reasons that most have, with some names.

    With `still` also of what was begun, as nobody goes on with it now.
    """
    states: tuple[RowState, ...] = ("failed", "discarded", "waiting", "evaluating")
    for state in states if still else states[:-1]:
        word = WORDS.get(state, state)
        found: dict[str, list[str]] = {}
        for row in listed:
            if row.state == state and row.reason and row.reason != IN_QUEUE:
                at = "" if row.strength is None else f" at {label(row.strength)}"
                name = f"{cut(printable(row.name), LONGEST)}{at}"
                found.setdefault(row.reason.removeprefix(f"{row.name}: "), []).append(name)
        common = sorted(found.items(), key=lambda it: -len(it[1]))
        for reason, names in common[:REASONS]:
            more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
            yield f"{word}: {', '.join(names[:NAMES])}{more}: {reason}"
        if rest := sum(len(names) for _, names in common[REASONS:]):
            yield f"{word}: {rest} more for other reasons: clipwatch status --json has each"


def _protocols(run: Run) -> str:
    """Return the digests of the present protocols, each with its strength where there are more."""
    if not run.beside:
        return f"protocol {run.protocol}"
    present = ascending(run, run.present)
    return f"protocols {', '.join(f'{it} ({told(run, it)})' for it in present)}"


def _places(run: Run) -> Iterator[str]:
    """Tell where each tracker shows the present curves; of one that shows none its last place."""
    for name in run.tracker_names:
        known = received(run, "tracker", name)
        present = ascending(run, run.present)
        shown = [(it, known.places[it]) for it in present if it in known.places]
        for protocol, where in shown or [(run.protocol, known.where)]:
            at = told(run, protocol) if shown else ""
            if where:
                yield f"{', '.join(filter(None, (name, at)))}: {where}"


def _advice(run: Run) -> Iterator[str]:
    for it in advice(run):
        at = told(run, run.evaluations[it.evaluation].protocol)
        place = ", ".join(filter(None, (f"{it.unit} {it.step}", at)))
        yield f"advice at {place}: {it.kind}: {it.text}"
