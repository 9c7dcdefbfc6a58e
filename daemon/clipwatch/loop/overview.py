"""All runs of a daemon in a line, and in as many lines as there are. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from clipwatch.results.figures import plural


def together(statuses: Mapping[str, str], evaluating: int, waiting: int) -> str:
    """Return a line on all runs: of one its status, of several how many do what.

    Args:
        statuses: Of each run, for a person.
        evaluating: Runs of which a checkpoint is evaluated.
        waiting: Runs that wait for a slot.
    """
    if len(statuses) == 1:
        return next(iter(statuses.values()))
    rest = len(statuses) - evaluating - waiting
    counts = {"evaluating": evaluating, "waiting": waiting, "watched": rest}
    told = ", ".join(f"{number} {what}" for what, number in counts.items() if number > 0)
    return f"{plural(len(statuses), 'run')}{': ' if told else ''}{told}"


def overview(statuses: Mapping[str, str], width: int, height: int) -> list[str]:
    """Return a line for each run, those that are evaluated first; what does not fit is counted.

    Args:
        statuses: Of each run, for a person.
        width: Cells of a line.
        height: Lines there are, at least 1.
    """
    order = sorted(statuses, key=lambda it: "evaluating" not in statuses[it])
    shown = order if len(order) <= height else order[: max(0, height - 1)]
    longest = max(map(len, shown), default=0)
    lines = [f"{name:<{longest}}  {statuses[name]}"[:width] for name in shown]
    left = len(order) - len(shown)
    return [*lines, f"{left} more runs"] if left else lines
