"""`clipwatch rescore`: kept images, scored by one more scorer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, here, state_dir_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clipwatch.tasks.rescore import Outcome


@click.command(
    epilog=examples(
        "clipwatch rescore my-lora --scorer pickscore=yuvalkirstain/PickScore_v1",
        "clipwatch rescore my-lora --scorer siglip=models/siglip2 --device cuda:1",
    )
)
@click.argument("run", shell_complete=completing.runs)
@click.option(
    "--scorer",
    "scorers",
    multiple=True,
    required=True,
    metavar="NAME=SPEC",
    help="A scorer, written as in the setting scorers, and its name; may be given again.",
)
@click.option(
    "--device",
    help="auto, cpu, cuda:N, cuda, the UUID of a GPU, or mps.  [default: the run's]",
)
@click.option(
    "--stall-seconds",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="End an evaluator that shows no sign of life for so long.  [default: the run's]",
)
@state_dir_option
def rescore(
    run: str,
    scorers: tuple[str, ...],
    device: str | None,
    stall_seconds: float | None,
    state_dir: Path | None,
) -> None:
    """Score the kept images of RUN by further scorers, generating nothing.

    RUN is the name of a run, or its beginning. Of its present settings all checkpoints are scored
    whose images are all kept, and the base. Their numbers stand beside those that they have: best
    and compare --scorer NAME, the report and trackers show them. A daemon may watch the run
    meanwhile; else the next start publishes them.

    What is scored stays so: a call that was ended is gone on with, and one that is repeated takes
    up what has come since.

    Ends with 1 when no checkpoint could be scored.
    """
    from clipwatch.kit.errors import SettingsError
    from clipwatch.kit.processes import give_way
    from clipwatch.loop.console import Console
    from clipwatch.settings import KEYS
    from clipwatch.settings.scorers import named
    from clipwatch.tasks.rescore import rescore as score_again

    flags = {}
    if device is not None:
        try:
            flags["device"] = str(KEYS["device"].read(device))
        except ValueError as error:
            raise SettingsError(f"--device: {error}") from error
    if stall_seconds is not None:
        flags["stall_seconds"] = f"{stall_seconds:g}"
    specs = [named(text, here()) for text in scorers]
    if len({it.name for it in specs}) < len(specs):
        raise SettingsError("two scorers have one name", fix="give each its own")
    give_way()
    console = Console()
    try:
        found = score_again(chosen_state_dir(state_dir).absolute(), run, specs, flags, console)
    finally:
        console.close()
    for outcome in found:
        for line in _lines(outcome):
            click.echo(line)
    sys.exit(int(any(not it.new + it.had for it in found)))


def _lines(outcome: Outcome) -> Iterator[str]:
    """Yield what is said of a scorer: how many have its scores, and why others have none."""
    all_ = outcome.new + outcome.had + len(outcome.lacking)
    new = f", {outcome.new} of them new" if outcome.had and outcome.new else ""
    nothing = ", as before" if outcome.had and not outcome.new else ""
    scored = outcome.new + outcome.had
    yield f"{outcome.scorer}: {scored} of {all_} checkpoints have scores{new}{nothing}"
    for line in outcome.lacking:
        yield f"{outcome.scorer}: {line}"
