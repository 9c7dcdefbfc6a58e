"""`clipwatch notify`: a trainer's hook says that a checkpoint is there."""

from __future__ import annotations

import os
from pathlib import Path

import click

from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option


@click.command(epilog=examples("clipwatch notify output/checkpoint-500 --step 500"))
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--step",
    type=click.IntRange(min=0),
    metavar="STEP",
    help="The checkpoint's training step, for the line that is printed.",
)
@state_dir_option
def notify(path: Path, step: int | None, state_dir: Path | None) -> None:
    """Have a checkpoint looked at now.

    It lies at PATH, and would otherwise be seen at the next look.

    For a trainer's hook; clipwatch finds every checkpoint without it too. It never waits, and ends
    with 0 also when nobody is there to be woken: that is no matter of the training's.
    """
    from clipwatch.service.heartbeat import heartbeats
    from clipwatch.service.wake import ring

    folder = chosen_state_dir(state_dir)
    what = path.name if step is None else f"step {step}"
    above = list(map(str, Path(os.path.realpath(path)).parents))
    listening = [it.heartbeat for it in heartbeats(folder) if not it.problem]
    try:
        ring(folder)
    except OSError as error:
        click.echo(f"{what}: nobody to tell in {folder}: {error.strerror}", err=True)
        return
    watching = [heart.run for heart in listening if os.path.realpath(heart.output_dir) in above]
    if watching:
        click.echo(f"{what}: told {', '.join(watching)}")
    else:
        known = ", ".join(heart.output_dir for heart in listening) or "nothing"
        click.echo(f"{what}: {folder} is told, where {known} is watched", err=True)
