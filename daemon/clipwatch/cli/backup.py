"""`clipwatch backup`: a copy of the log that grows with it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from clipwatch.cli.options import chosen_state_dir, examples, in_hand, state_dir_option
from clipwatch.kit.errors import SettingsError


@click.command(
    epilog=examples(
        "clipwatch backup /mnt/backup/clipwatch",
        "clipwatch backup restored --state-dir /mnt/backup/clipwatch",
        "clipwatch backup yesterday --until 2026-11-29T18:00",
    )
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--until",
    metavar="TIME",
    help="Copy what was written up to then, as 2026-11-29T18:00, in your time zone or with +HH:MM "
    "behind it.  [default: all]",
)
@state_dir_option
def backup(folder: Path, until: str | None, state_dir: Path | None) -> None:
    """Bring a copy of the log in FOLDER up to date.

    The first call copies all of it, each further one adds what came since: have it called every
    minute. A daemon may write meanwhile. The copy is a state directory like any other: status,
    export and import read it, and a start with it as --state-dir goes on from there. Images are
    not copied.

    With --until it is the log as it was at that time, for which FOLDER has to be a new one.

    Ends with 1 where FOLDER holds another log, or one from before this one was compacted; with 2
    when the call is wrong.
    """
    from clipwatch.tasks.backup import back_up

    with in_hand("log", "copying it"):
        found = back_up(chosen_state_dir(state_dir), folder, _time(until))
    last = f", the last of {found.last.astimezone():%Y-%m-%d %H:%M:%S}" if found.last else ""
    click.echo(f"{found.path}: {found.events} events, {found.new} of them new{last}")


def _time(until: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(until).astimezone() if until else None
    except ValueError as error:
        fix = "write it as 2026-11-29T18:00, or 2026-11-29T18:00+00:00"
        raise SettingsError(f"--until: {until!r} is no time", fix=fix) from error
