"""`clipwatch log`: everything that happened."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.kit.errors import ClipwatchError

if TYPE_CHECKING:
    from clipwatch.domain.state import State
    from clipwatch.journal import Recorded

LONGEST = 2000
"""Characters of a line, more than any event of ours has."""


@click.command(
    epilog=examples(
        "clipwatch log",
        "clipwatch log --json > log.jsonl",
        "clipwatch log --verify",
    )
)
@state_dir_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print every event whole, one JSON object a line."
)
@click.option("--verify", "check", is_flag=True, help="Check the log: one line for each fault.")
def log(state_dir: Path | None, as_json: bool, check: bool) -> None:
    """Print what happened, in order.

    A line for each event, in plain words, with its number, its time here and its run.

    Of a damaged log everything that is whole is printed, each fault goes to the error output, and
    it ends with 1.
    """
    from clipwatch.journal import log_file
    from clipwatch.journal.logfile import present
    from clipwatch.journal.repair.inspection import Fault, readable, verify

    path = log_file(chosen_state_dir(state_dir))
    if not present(path):
        if check:
            fix = "name the folder with --state-dir"
            raise ClipwatchError(f"there is no log in {path.parent}", fix=fix)
        click.echo(f"nothing yet in {path.parent}", err=True)
        return
    events = faults = 0
    runs: State = {}
    for found in verify(path) if check else readable(path):
        if isinstance(found, Fault):
            faults += 1
            click.echo(str(found), err=not check)
        else:
            events += 1
            if not check:
                runs = runs if as_json else _known(runs, found)
                click.echo(_as_json(found) if as_json else _as_line(found, runs))
    if check:
        click.echo(f"{path}: {events} events are whole, {faults} fault{'s' * (faults != 1)}")
    sys.exit(int(faults > 0))


def _as_json(recorded: Recorded) -> str:
    from clipwatch.domain.written import encode

    type_name, data = encode(recorded.event)
    head = {"seq": recorded.seq, "time": recorded.time.isoformat(), "run": recorded.run}
    return json.dumps({**head, "type": type_name, "data": json.loads(data)})


def _known(runs: State, recorded: Recorded) -> State:
    """Return what is known of the runs' protocols after an event; all else is left out."""
    from clipwatch.domain.events import ProtocolDefined, RunStarted, SettingsChanged
    from clipwatch.domain.fold import evolve

    run, event, time = recorded.run, recorded.event, recorded.time
    begins = isinstance(event, RunStarted)
    if not begins and not (run in runs and isinstance(event, ProtocolDefined | SettingsChanged)):
        return runs
    return evolve(runs, [(run, event, time)])


def _as_line(recorded: Recorded, runs: State) -> str:
    from functools import partial

    from clipwatch.domain.strengths import title
    from clipwatch.kit.textfiles import plain
    from clipwatch.loop.narration import checkpoint, story

    run = runs.get(recorded.run)
    told = story(recorded.event, partial(title, run) if run else checkpoint)
    when = f"{recorded.time.astimezone():%Y-%m-%d %H:%M:%S}"
    return f"{recorded.seq:>6}  {when}  {recorded.run}  {plain(told, LONGEST)}"
