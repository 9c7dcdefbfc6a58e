"""`clipwatch status`: every run and its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import click

from clipwatch.cli.options import chosen_state_dir, state_dir_option


@click.command()
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show every run and the state of its checkpoints."""
    from clipwatch import view
    from clipwatch.journal import log_file
    from clipwatch.ledger import read_state

    path = log_file(chosen_state_dir(state_dir))
    state = read_state(path)
    if as_json:
        click.echo(json.dumps(view.as_json(state), indent=2))
    elif state:
        click.echo(view.listing(state))
    else:
        click.echo(f"nothing yet in {path.parent}")
