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
from threading import Event
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.textfiles import printable

if TYPE_CHECKING:
    from types import FrameType

    from clipwatch.domain.state import Run, State
    from clipwatch.results.progress import Watcher

LOOK_SECONDS = 1.0
"""Pause between two looks at the log."""


@click.command(
    epilog=examples(
        "clipwatch status",
        "clipwatch status my-lora",
        "clipwatch status --watch",
        "clipwatch status --json",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Show it live, in a terminal, until Ctrl-C.")
def status(run: str, state_dir: Path | None, as_json: bool, watch: bool) -> None:
    """Show every run and the state of its checkpoints.

    With RUN only those whose names begin so; the others are not even read.

    Scores are cosines of CLIP's embeddings; ± is half the 95 % interval of the mean. Below the
    table stands what is evaluated now, when the queue will be done, what has no score and why, and
    where each tracker shows the curve. A wide terminal shows more columns.

    Ends with 0, also when there is nothing yet; with 1 when there is no such RUN.
    """
    from clipwatch.journal import log_file
    from clipwatch.journal.projection import read_state, run_names
    from clipwatch.results.reading import page_of
    from clipwatch.results.told import as_json as told

    path = log_file(chosen_state_dir(state_dir))
    if watch:
        if as_json or not sys.stdout.isatty():
            raise click.UsageError("--watch is for a terminal; programs call status --json again")
        _watch(path, run)
        return
    state = read_state(path, run)
    if run and not state:
        known = ", ".join(run_names(path)) or "none"
        raise ClipwatchError(f"no run has a name that begins with {run!r}; known: {known}")
    pages = {name: page_of(path.parent.absolute(), name) for name in state}
    if as_json:
        found = told(state, datetime.now(UTC), _watched(path.parent))
        for entry, known_run in zip(found["runs"], state.values(), strict=True):
            page = pages[known_run.name]
            entry["not_understood"] = _unread(known_run) or None
            entry["page"] = str(page) if page.is_file() else None
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


def _watch(path: Path, run: str) -> None:
    """Show it until somebody stops it; the log is read again only when something was written."""
    from rich.console import Console, Group
    from rich.live import Live

    from clipwatch.journal.projection import Following
    from clipwatch.kit.errors import LogLocked
    from clipwatch.loop.drawing import View
    from clipwatch.results.painting import painted

    log, console = Following(path), Console(highlight=False, emoji=False)

    def seen(width: int, height: int) -> list[str]:
        state = {name: it for name, it in log.state.items() if name.startswith(run)}
        nothing = [f"nothing yet in {printable(str(path.parent))}"]
        return _lines(path, state, width, height) if state else nothing

    view = View(seen)
    drawn: list[str] = []
    over = Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()  # what is raised amid a finalizer is lost
        signal.default_int_handler(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while not over.is_set():
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
