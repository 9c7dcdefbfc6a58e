"""`clipwatch compact`: the same log in less room."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import chosen_state_dir, examples, now_and_then, state_dir_option
from clipwatch.kit.errors import ClipwatchError

if TYPE_CHECKING:
    from clipwatch.journal.compacting import Compacted


@click.command(epilog=examples("clipwatch compact --dry-run", "clipwatch compact"))
@click.option("--dry-run", is_flag=True, help="Tell what it would do, and write nothing.")
@click.option("--no-backup", is_flag=True, help="Do not keep the log as it was.")
@state_dir_option
def compact(dry_run: bool, no_backup: bool, state_dir: Path | None) -> None:
    """Write the log anew in less room; nothing is left out.

    The batches of images of each finished evaluation are joined and written in columns. Every
    score, seed and time of an event stays, and every command prints what it did. The new log is
    compared with the old one, and then takes its place; the old one stays beside it until you
    delete it.

    Stop clipwatch start first, and whatever else has the log open. It takes as much space again.

    Ends with 1 when the log is in use, damaged, or not there.
    """
    from clipwatch.journal import compacting, log_file
    from clipwatch.service.heartbeat import heartbeats

    path = log_file(chosen_state_dir(state_dir))
    if not path.exists():
        fix = "name the folder with --state-dir"
        raise ClipwatchError(f"there is no log in {path.parent}", fix=fix)
    say = now_and_then()
    if dry_run:
        _show(compacting.estimate(path, say), "would be")
        return
    if watched := [it.heartbeat.run for it in heartbeats(path.parent) if not it.problem]:
        raise ClipwatchError(f"{', '.join(watched)}: is watched just now", fix="stop that first")
    kept = path.with_name(f"{path.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    found = compacting.compact(path, None if no_backup else kept, say)
    _show(found, "are now")
    if found.backup:
        click.echo(f"the log as it was: {found.backup}")


def _show(found: Compacted, verb: str) -> None:
    if not found.changed:
        click.echo("nothing to compact")
        return
    (events, now), (size, less) = found.events, found.size
    told = f"{events:,} events {verb} {now:,}, {size / 1e6:.1f} MB {verb} {less / 1e6:.1f} MB"
    click.echo(f"{told}, {less / size:.0%} of it")
