"""`clipwatch demo`: the main job on a tiny training."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from clipwatch.cli.options import examples


@click.command(epilog=examples("clipwatch demo", "clipwatch demo --lora --directory /tmp/shapes"))
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-run"),
    show_default=True,
    help="Where the run is made; an earlier demo there is replaced.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=50),
    metavar="STEPS",
    help="So many steps of the training, 50 or more.  [default: 500, fewer where they would take"
    " more than three minutes]",
)
@click.option("--lora", is_flag=True, help="Train a LoRA instead of the whole model.")
def demo(directory: Path, steps: int | None, lora: bool) -> None:
    """Train a tiny model on the CPU and watch it with the real daemon."""
    from clipwatch.demo.show import show

    sys.exit(show(directory, steps=steps, lora=lora))
