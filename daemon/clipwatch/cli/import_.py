"""`clipwatch import`: results from elsewhere taken over into this log."""

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
        "clipwatch import parts/",
    ),
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("more", nargs=-1, metavar="[SOURCE|RUN]...")
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
    source: Path, more: tuple[str, ...], into: str, dry_run: bool, state_dir: Path | None
) -> None:
    """Take over results from elsewhere into this log.

    SOURCE is another machine's state directory, its log (clipwatch.db, or a copy of it), a file of
    clipwatch export, or what clipwatch score --save keeps: the folder, or files of it. There may be
    several; each is only read. RUN, of its runs, may be left out, for all; the beginning of a name
    is enough.

    What this log has already stays as it is, so that nothing is doubled however often it is called.
    A run is known by its weights; one that this log does not know becomes a run of its own. Images
    come along from a state directory. A table names its protocols only: its results are taken over
    where this log knows them.

    Parts of an evaluation are added up, in any order and in as many calls as you like. The one that
    makes it whole completes it; until then a clipwatch that watches goes on with what lacks.

    It works beside a running daemon, which publishes what came. It may be stopped at any time, and
    called again.

    Ends with 1 when nothing is scored there, it cannot be read, or two parts contradict each other;
    with 2 when it is none of these.
    """
    from clipwatch.loop.console import Console
    from clipwatch.tasks.importing import Asked, take_over
    from clipwatch.tasks.sources import grouped

    paths = [it for it in more if "/" in it or Path(it).exists()]
    runs = tuple(it for it in more if it not in paths)
    taken = False
    for sources in grouped([source, *map(Path, paths)]):
        console = Console()
        try:
            asked = Asked(sources, runs, into, dry_run)
            found = take_over(here() / chosen_state_dir(state_dir), asked, console)
        finally:
            console.close()
        for outcome in found:
            for line in told(outcome, dry=dry_run):
                click.echo(printable(line))
        taken = taken or any(it.taken for it in found)
    if taken and not dry_run:
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
    parts = [f"{plural(it.taken, 'result')} {would}imported"] if it.taken else []
    if it.scores:
        parts.append(f"{plural(it.scores, 'score')} of parts")
    parts = parts or ["nothing to import"]
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
