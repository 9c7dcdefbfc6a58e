"""The commands: parse, call, print. torch is imported by none of them, only by their children."""

from __future__ import annotations

import io
import sys
from typing import Any

import click

from clipwatch import __version__
from clipwatch.cli.best import best
from clipwatch.cli.compare import compare
from clipwatch.cli.demo import demo
from clipwatch.cli.doctor import doctor
from clipwatch.cli.fetch import fetch
from clipwatch.cli.health import health
from clipwatch.cli.log import log
from clipwatch.cli.notify import notify
from clipwatch.cli.prompts import prompts
from clipwatch.cli.retry import retry
from clipwatch.cli.score import score
from clipwatch.cli.start import start
from clipwatch.cli.status import status
from clipwatch.cli.systemd import systemd
from clipwatch.errors import ClipwatchError


class OneLineErrors(click.Group):
    """A group whose commands end with one line and the error's exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if isinstance(sys.stdout, io.TextIOWrapper):  # a prompt may not fit the terminal's charset
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except ClipwatchError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clipwatch")
def main() -> None:
    """Score the checkpoints of a text-to-image training with CLIP, beside the training.

    clipwatch watches the trainer's output directory, generates images from each complete
    checkpoint, scores them with CLIP and publishes clip/mean, clip/min, clip/max and clip/std to
    TensorBoard and W&B. It never touches the training.
    """


for command in (
    *(start, status, compare, best, doctor, health, retry, log, score),
    *(notify, fetch, systemd, prompts, demo),
):
    main.add_command(command)
