"""What a shell offers at the tab key: runs, steps, files. It reads the log, imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import chosen_state_dir
from clipwatch.kit.errors import ClipwatchError

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation, Run, State


def runs(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Offer the runs of the log."""
    from clipwatch.journal import log_file
    from clipwatch.journal.projection import run_names

    with suppress(ClipwatchError):
        log = log_file(chosen_state_dir(ctx.params.get("state_dir")))
        return [name for name in run_names(log) if name.startswith(begun)]
    return []


def scored(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Offer what `compare` takes: the steps with scores of the only run, else the runs; and files.

    Bare steps, as bash takes "@" for the end of a word. Files that have no step are offered by
    their names.
    """
    state = _state(ctx)
    found: list[str] = [] if len(state) == 1 else list(state)
    for run in state.values():
        of = sorted({(it.step, it.checkpoint) for it in _with_scores(run)})
        if run.unit == "file":
            found += [name for _, name in of]
        elif len(state) == 1:
            found += [str(step) for step in dict.fromkeys(step for step, _ in of)]
    return [it for it in dict.fromkeys(found) if it.startswith(begun)]


def _with_scores(run: Run) -> Iterator[Evaluation]:
    return (run.evaluations[it] for ids in run.scored.values() for it in ids)


def failed(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Offer the steps that `retry` is for."""
    from clipwatch.results.view import rows

    listed = (row for run in _state(ctx).values() for row in rows(run))
    found = {row.step for row in listed if row.state == "failed" or row.skipped}
    return [str(step) for step in sorted(found) if str(step).startswith(begun)]


def trackers(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Offer the trackers that are installed."""
    from clipwatch.kit import plugins

    return [name for name in plugins.names(plugins.TRACKERS) if name.startswith(begun)]


def _state(ctx: click.Context) -> State:
    from clipwatch.journal import log_file
    from clipwatch.journal.projection import read_state

    with suppress(ClipwatchError):  # nobody wants to read of it amid a line that is typed
        return read_state(log_file(chosen_state_dir(ctx.params.get("state_dir"))))
    return {}
