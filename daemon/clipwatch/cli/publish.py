"""`clipwatch publish`: a run's results to a tracker, from the log."""

from __future__ import annotations

import os
from pathlib import Path

import click

from clipwatch.cli import completing
from clipwatch.cli.options import (
    CONFIGS,
    chosen_state_dir,
    config_option,
    examples,
    here,
    in_hand,
    state_dir_option,
)


@click.command(
    epilog=examples(
        "clipwatch publish --to tensorboard",
        "clipwatch publish my-lora --to wandb --since 1000",
        "clipwatch publish --to tensorboard --fresh",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@click.option(
    "--to",
    "tracker",
    metavar="TRACKER",
    required=True,
    shell_complete=completing.trackers,
    help="To which it goes, as report_to names it.",
)
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="STEP",
    help="Only what was scored of this step and later ones.  [default: all]",
)
@click.option(
    "--fresh", is_flag=True, help="Take away there what is of this run first, and write it anew."
)
@config_option
@state_dir_option
def publish(
    run: str,
    tracker: str,
    since: int | None,
    fresh: bool,
    config: Path | None,
    state_dir: Path | None,
) -> None:
    """Bring a run's results to a tracker.

    RUN may be left out where the config tells it, or one is known; the beginning of its name is
    enough. No GPU is used and no model loaded. What the tracker has already is not sent again, so
    it may be stopped and called again. Images go along as far as they are kept.

    Project, run and options are the config's; where there is none, those with which the run was
    watched last, without keys. A daemon that watches the run must be stopped first: it publishes
    by itself to all that report_to names.

    Ends with 1 if not all could be brought; with 2 when the call or the config is wrong.
    """
    from clipwatch.loop.console import Console
    from clipwatch.tasks.publish import Wanted, settings_of
    from clipwatch.tasks.publish import publish as bring

    found = config or next((Path(it) for it in CONFIGS if Path(it).exists()), None)
    flags = {"evaluation_type": "clip", "report_to": "none"}
    if state_dir or not found:
        flags["state_dir"] = str(here() / chosen_state_dir(state_dir))
    with in_hand("settings", "reading them"):
        settings, name = settings_of(found, run, flags, os.environ, here())
    console = Console()
    try:
        lines = bring(settings, name, Wanted(tracker, since, fresh), console)
    finally:
        console.close()
    for line in lines:
        click.echo(line)
