"""What is told when nothing is in hand: that all is done, and what is waited for."""

from __future__ import annotations

from collections.abc import Sequence

from clipwatch.domain.delivered import parked
from clipwatch.domain.state import BASE_NAME, Run
from clipwatch.results.view import states, summary
from clipwatch.settings import Settings


def rest(run: Run, lacking: Sequence[str], settings: Settings, lying: str = "") -> str:
    """Return a line for who looks on, "" while anything that was told of is still to come.

    Args:
        run: Nothing of it is in hand.
        lacking: The trackers that do not show everything.
        settings: Of the run.
        lying: What its directory holds that is passed over, "" for nothing.
    """
    again = f"looked for every {settings.watching.rescan_seconds:g} s at least"
    listed = [it for it in states(run) if it[0] != BASE_NAME]
    if not (listed or run.problem):
        there = f", but {lying}" if lying else ""
        return f"no checkpoint there yet{there} (docs/layouts.md has what is known as one); {again}"
    tried_again = [name for name in lacking if not parked(run, name)]
    if run.problem or run.lacking or run.unfinished or tried_again:
        return ""
    where = f"waiting for the next one in {run.output_dir}, {again}"
    if any(state not in ("scored", "published") for _, state in listed):
        return f"{summary(run)}; {where}"
    named = ", ".join(name for name in run.tracker_names if name not in lacking)
    done = f"scored, and published to {named}" if named else "scored"
    refused = f", but not published to {', '.join(lacking)}, which waits for a restart"
    refused = refused if lacking else ""
    number = len({name for name, _ in listed})  # each has a row at each of its strengths
    them = "the only checkpoint is" if number == 1 else f"all {number} checkpoints are"
    return f"{them} {done}{refused}; {where}"
