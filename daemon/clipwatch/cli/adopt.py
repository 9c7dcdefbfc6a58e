"""`clipwatch adopt`: an output directory goes on as a run of the log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from clipwatch.cli import completing
from clipwatch.cli.options import (
    STATE_DIR_HELP,
    chosen_config,
    config_option,
    examples,
    here,
    only_given,
)


@click.command(epilog=examples("clipwatch adopt my-lora-1a2b3c", "clipwatch adopt my-lora"))
@click.argument("run", shell_complete=completing.runs)
@config_option
@click.option(
    "--output-dir",
    metavar="DIRECTORY",
    help="Where the trainer leaves checkpoints.  [default: the config's]",
)
@click.option("--state-dir", metavar="DIRECTORY", help=STATE_DIR_HELP)
def adopt(run: str, config: Path | None, **flags: Any) -> None:
    """Let the config's output directory go on as a RUN of the log.

    For one that was moved or copied in a way that clipwatch does not recognise by itself: it knows
    a renamed, moved, mounted or linked directory by the weights in it. What is scored is not scored
    again, and its curves go on.

    RUN is the name of a run, or its beginning; `clipwatch status` shows those that are known. No
    daemon may watch it meanwhile.
    """
    from clipwatch.settings import load
    from clipwatch.tasks.adopt import adopt as take_over

    environ = dict(os.environ)
    path = chosen_config(config)
    settings = load(path, flags=only_given(flags), environ=environ, cwd=here())
    name = take_over(settings, run)
    click.echo(f"{name} goes on in {settings.paths.named}, from the next start on")
