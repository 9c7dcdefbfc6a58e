"""`clipwatch health`: whether a daemon is well, for probes and people."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option


@click.command(epilog=examples("clipwatch health", "clipwatch health --run my-lora-1a2b3c"))
@click.option(
    "--run",
    "name",
    metavar="RUN",
    shell_complete=completing.runs,
    help="Ask for this run only.  [default: all]",
)
@state_dir_option
def health(name: str | None, state_dir: Path | None) -> None:
    """Tell whether a daemon is alive.

    Ends with 0 when one runs with this state directory and each shows signs of life, else with 1.
    """
    from clipwatch.service.heartbeat import heartbeats

    folder = chosen_state_dir(state_dir)
    found = [it for it in heartbeats(folder) if name in (None, it.heartbeat.run)]
    if not found:
        click.echo(f"no clipwatch{f' for {name}' if name else ''} runs with {folder}", err=True)
    for it in found:
        told = it.problem or f"alive; {it.heartbeat.status}"
        click.echo(f"{it.heartbeat.run}: {told}", err=bool(it.problem))
    sys.exit(int(not found or any(it.problem for it in found)))
