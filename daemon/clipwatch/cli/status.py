"""`clipwatch status`: every run and its checkpoints."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.kit.textfiles import printable

if TYPE_CHECKING:
    from clipwatch.domain.state import Run, State
    from clipwatch.results.progress import Watcher

LOOK_SECONDS = 1.0
"""Pause between two looks at the log."""


@click.command(
    epilog=examples("clipwatch status", "clipwatch status --watch", "clipwatch status --json")
)
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Show it live, in a terminal, until Ctrl-C.")
def status(state_dir: Path | None, as_json: bool, watch: bool) -> None:
    """Show every run and the state of its checkpoints.

    Scores are cosines of CLIP's embeddings; ± is half the 95 % interval of the mean. Below the
    table stands what is evaluated now, when the queue will be done, what has no score and why, and
    where each tracker shows the curve. A wide terminal shows more columns.

    Ends with 0, also when there is nothing yet.
    """
    from clipwatch.journal import log_file
    from clipwatch.journal.projection import read_state
    from clipwatch.results.reading import page_of
    from clipwatch.results.told import as_json as told

    path = log_file(chosen_state_dir(state_dir))
    if watch:
        if as_json or not sys.stdout.isatty():
            raise click.UsageError("--watch is for a terminal; programs call status --json again")
        _watch(path)
        return
    state = read_state(path)
    pages = {name: page_of(path.parent.absolute(), name) for name in state}
    if as_json:
        found = told(state, datetime.now(UTC), _watched(path.parent))
        for entry, run in zip(found["runs"], state.values(), strict=True):
            entry["not_understood"] = _unread(run) or None
            entry["page"] = str(pages[run.name]) if pages[run.name].is_file() else None
        click.echo(json.dumps(found, indent=2))
    elif state:
        width = _width()
        kept = [f"page: {printable(str(it))}" for it in pages.values() if it.is_file()]
        _print([*_lines(path, state, width), *kept, *_not_understood(state, width)])
    else:
        click.echo(f"nothing yet in {path.parent}")


def _width() -> int:
    """Return the cells of a line: the terminal's, $COLUMNS, or 80."""
    from clipwatch.results.table import WIDTH

    return shutil.get_terminal_size((WIDTH, 24)).columns


def _lines(path: Path, state: State, width: int, height: int | None = None) -> list[str]:
    from clipwatch.results.listing import listing

    return listing(state, datetime.now(UTC), _watched(path.parent), width, height)


def _print(lines: list[str]) -> None:
    """Print lines, in a terminal with colours."""
    if not sys.stdout.isatty():
        click.echo("\n".join(lines))
        return
    from rich.console import Console

    from clipwatch.results.painting import painted

    console = Console(highlight=False, emoji=False)
    for line in lines:
        console.print(painted(line), soft_wrap=True)


def _watch(path: Path) -> None:
    """Show it until somebody stops it; the log is read again only when something was written."""
    from rich.console import Console, Group
    from rich.live import Live

    from clipwatch.journal.projection import Following
    from clipwatch.kit.errors import LogLocked
    from clipwatch.loop.drawing import View
    from clipwatch.results.painting import painted

    log, console = Following(path), Console(highlight=False, emoji=False)
    view = View(
        lambda width, height: (
            _lines(path, log.state, width, height)
            if log.state
            else [f"nothing yet in {printable(str(path.parent))}"]
        )
    )
    drawn: list[str] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            with suppress(LogLocked):
                log.look()
            width, height = console.size
            lines = view.lines(width, height - 1)
            if lines != drawn:
                drawn = list(lines)
                live.update(Group(*map(painted, lines)), refresh=True)
            time.sleep(LOOK_SECONDS)


def _watched(state_dir: Path) -> dict[str, Watcher]:
    """Return which runs living daemons watch."""
    from clipwatch.results.progress import Watcher
    from clipwatch.service.heartbeat import heartbeats

    found = [it.heartbeat for it in heartbeats(state_dir) if not it.problem]
    return {it.run: Watcher(datetime.fromtimestamp(it.since, UTC), it.doing) for it in found}


def _not_understood(state: State, width: int) -> list[str]:
    from clipwatch.kit.cells import wrapped

    lines = []
    for run in state.values():
        if there := _unread(run):
            told = f"nothing in {run.output_dir} is understood: {there}"
            lines += wrapped(printable(told), width)
    return lines


def _unread(run: Run) -> str:
    """Return what lies in a run's directory where nothing of it is understood; "" elsewhere."""
    from clipwatch.kit.errors import ClipwatchError
    from clipwatch.layouts.claims import chosen
    from clipwatch.layouts.lying import lying_in
    from clipwatch.results import view
    from clipwatch.settings.values import texts

    if not view.unread(run, "?"):  # its disk is not asked for nothing
        return ""
    there = ""
    with suppress(OSError, ClipwatchError):  # it need not be there any more
        told = (run.settings.get(key, "") for key in ("layout_files", "layout_step"))
        only = texts(run.settings.get("layout_only", ""))
        layouts = chosen(run.settings.get("layout", "") or "auto", *told, only)
        there = lying_in(Path(run.output_dir), layouts)
    return view.unread(run, there)
