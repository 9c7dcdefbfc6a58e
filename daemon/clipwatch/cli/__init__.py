"""The commands: parse, call, print. torch is imported by none of them, only by their children."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

from clipwatch import __version__
from clipwatch.cli.adopt import adopt
from clipwatch.cli.backup import backup
from clipwatch.cli.best import best
from clipwatch.cli.blend import blend
from clipwatch.cli.compact import compact
from clipwatch.cli.compare import compare
from clipwatch.cli.demo import demo
from clipwatch.cli.doctor import doctor
from clipwatch.cli.export import export
from clipwatch.cli.fetch import fetch
from clipwatch.cli.health import health
from clipwatch.cli.ignored import ignored
from clipwatch.cli.import_ import import_
from clipwatch.cli.log import log
from clipwatch.cli.notify import notify
from clipwatch.cli.options import examples
from clipwatch.cli.prompts import prompts
from clipwatch.cli.publish import publish
from clipwatch.cli.rank import rank
from clipwatch.cli.report import report
from clipwatch.cli.rescore import rescore
from clipwatch.cli.retry import retry
from clipwatch.cli.score import score
from clipwatch.cli.serve import serve
from clipwatch.cli.start import start
from clipwatch.cli.status import status
from clipwatch.cli.systemd import systemd
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.textfiles import printable

_OF_WRITES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})

LONGEST = 200
"""Signs of a path that are printed."""

SECTIONS = {
    "Begin": (demo, doctor, start),
    "Look at the scores": (status, best, compare, ignored, report, serve, export, log),
    "One thing at a time": (
        *(rank, score, rescore, retry, publish, import_, adopt, prompts, fetch),
        blend,
    ),
    "As a service": (systemd, health, notify, backup, compact),
}
"""The commands in the order in which people need them."""


class Commands(click.Group):
    """A group in sections, whose commands end with one line and the error's exit code."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the names in the order of the sections."""
        return [str(command.name) for section in SECTIONS.values() for command in section]

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list for each section."""
        width = max(len(str(command.name)) for section in SECTIONS.values() for command in section)
        for title, section in SECTIONS.items():
            with formatter.section(title):
                rows = [
                    (str(it.name).ljust(width), it.get_short_help_str(formatter.width - width))
                    for it in section
                ]
                formatter.write_dl(rows)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run what is asked for; an error of the system is one line, too."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # a full disk behind stdout, say; of a pipe's end click knows
            # what could not be written is not tried once more at the end
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(printable(f"Error: {told(error)}"), err=True)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if isinstance(sys.stdout, io.TextIOWrapper):  # a prompt may not fit the terminal's charset
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except ClipwatchError as error:
            click.echo(printable(f"Error: {error}"), err=True)
            ctx.exit(error.exit_code)


def told(error: OSError) -> str:
    """Return an error of the system in a line; a write without a file is of what is printed."""
    writing = error.errno in _OF_WRITES
    where = str(error.filename or ("what is printed here" if writing else "the system says"))
    short = where if len(where) <= LONGEST else f"{where[:LONGEST]}..."
    return f"{short}: {error.strerror or error}"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "clipwatch demo",
        "clipwatch doctor --config config.json",
        "clipwatch start --config config.json",
        "clipwatch rank loras/ --base-model models/sd15",
        "clipwatch status",
        "clipwatch compare 1000 2000",
    ),
)
@click.version_option(__version__, prog_name="clipwatch")
def main() -> None:
    """Score the checkpoints of a text-to-image training with CLIP, beside the training.

    clipwatch watches the trainer's output directory, generates images from each complete
    checkpoint, scores them with CLIP and publishes clip/mean, clip/min, clip/max and clip/std to
    TensorBoard and W&B. It never touches the training.

    Every command ends with 0 when all is well, with 1 when something failed, and with 2 when the
    call or a setting is wrong; its own --help has examples.
    """


for command in (command for section in SECTIONS.values() for command in section):
    main.add_command(command)
