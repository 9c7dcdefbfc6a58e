"""`clipwatch retry`: what failed is tried again."""

from __future__ import annotations

from pathlib import Path

import click

from clipwatch.cli.options import chosen_state_dir, state_dir_option


@click.command()
@click.argument("step", type=click.IntRange(min=0))
@click.option("--run", "name", help="The run, where the log holds several.")
@state_dir_option
def retry(step: int, name: str | None, state_dir: Path | None) -> None:
    """Try the failed checkpoint of a STEP again.

    A running daemon takes it up within seconds, else the next start does.
    """
    from clipwatch.journal import log_file
    from clipwatch.retry import reopen

    for checkpoint in reopen(log_file(chosen_state_dir(state_dir)), step, name):
        click.echo(f"{checkpoint}: will be tried again")
