"""`clipwatch import`: another log's results taken over into this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, here, state_dir_option
from clipwatch.kit.textfiles import printable

if TYPE_CHECKING:
    from clipwatch.tasks.importing import Outcome

ALIKE = 5e-5
"""A difference of means that nobody sees who reads four decimals."""


@click.command(
    "import",
    epilog=examples(
        "clipwatch import /shared/other --dry-run",
        "clipwatch import backup/clipwatch.db",
        "clipwatch import scores.jsonl --into my-lora",
    ),
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", nargs=-1)
@click.option(
    "--into",
    metavar="RUN",
    default="",
    shell_complete=completing.runs,
    help="Of this log, the run that gets them.  [default: the one that it is]",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be taken over.")
@state_dir_option
def import_(
    source: Path, run: tuple[str, ...], into: str, dry_run: bool, state_dir: Path | None
) -> None:
    """Take over the results of another machine's log.

    SOURCE is its state directory, its log (clipwatch.db, or a copy of it), or a file of clipwatch
    export; it is only read. RUN, of its runs, may be left out, for all; the beginning of a name is
    enough.

    What this log has already stays as it is, so that nothing is doubled however often it is called.
    A run is known by its weights; one that this log does not know becomes a run of its own. Images
    come along from a state directory. A table names its protocols only: its results are taken over
    where this log knows them.

    It works beside a running daemon, which publishes what came. It may be stopped at any time, and
    called again.

    Ends with 1 when nothing is scored there, or it cannot be read; with 2 when it is none of these.
    """
    from clipwatch.loop.console import Console
    from clipwatch.tasks.importing import Asked, take_over

    console = Console()
    asked = Asked(source, run, into, dry_run)
    try:
        found = take_over(here() / chosen_state_dir(state_dir), asked, console)
    finally:
        console.close()
    for outcome in found:
        for line in told(outcome, dry=dry_run):
            click.echo(printable(line))
    if any(it.taken for it in found) and not dry_run:
        click.echo(
            "a clipwatch that watches brings them to its trackers, else clipwatch publish --to "
            "TRACKER does"
        )


def told(outcome: Outcome, *, dry: bool) -> Iterator[str]:
    """Yield what became of a run, for a person."""
    from clipwatch.results.figures import plural

    it = outcome
    which = "a run that this log did not know" if it.new else "the same run"
    other = f" is {it.run} here," if it.run != it.theirs else ","
    would = "would be " if dry else ""
    parts = [f"{plural(it.taken, 'result')} {would}imported" if it.taken else "nothing to import"]
    if it.had:
        parts.append(f"{it.had} {'was' if it.had == 1 else 'were'} here already")
    if it.later:
        parts.append(f"{plural(it.later, 'result')} got later scores")
    if it.votes:
        parts.append(plural(it.votes, "vote"))
    if it.images:
        parts.append(plural(it.images, "image"))
    yield f"{it.theirs}{other} {which}: {', '.join(parts)}"
    if it.apart > ALIKE:
        yield (
            f"{it.run}: some were scored in both, with means up to {it.apart:.4f} apart; those that"
            " were here stay"
        )
    for line in it.notes:
        yield f"{it.run}: {line}"
