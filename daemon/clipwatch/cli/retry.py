"""`clipwatch retry`: what failed is tried again, and what was left out is had back."""

from __future__ import annotations

from pathlib import Path

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option


@click.command(epilog=examples("clipwatch retry 500", "clipwatch retry 500 --run my-lora-1a2b3c"))
@click.argument("step", type=click.IntRange(min=0), shell_complete=completing.failed)
@click.option(
    "--run",
    "name",
    metavar="RUN",
    shell_complete=completing.runs,
    help="Of this run.  [default: the only one in the log]",
)
@state_dir_option
def retry(step: int, name: str | None, state_dir: Path | None) -> None:
    """Try the failed checkpoint of a STEP again.

    One that was left out, as newer ones came (when_behind), is in the queue again, and stays there.

    A running daemon takes it up within seconds, else the next start does.

    Ends with 1 when nothing of that step had failed or was left out so.
    """
    from clipwatch.journal import log_file
    from clipwatch.tasks.reopen import reopen

    for title in reopen(log_file(chosen_state_dir(state_dir)), step, name):
        click.echo(f"{title}: will be tried again")
