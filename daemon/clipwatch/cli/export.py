"""`clipwatch export`: every image's scores as a table for other programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option

if TYPE_CHECKING:
    from clipwatch.results.rows import ImageRow

FORMATS = ("jsonl", "csv", "parquet")

EVERY = 1000
"""Rows between two words on how many there are."""


@click.command(
    epilog=examples(
        "clipwatch export > scores.jsonl",
        "clipwatch export --format csv -o scores.csv",
        "clipwatch export my-lora -o scores.parquet",
    )
)
@click.argument("run", nargs=-1, shell_complete=completing.runs)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="[default: what the file's name ends in, else jsonl]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The table's file; an earlier one is replaced.  [default: print it]",
)
@state_dir_option
def export(
    run: tuple[str, ...], form: str | None, output: Path | None, state_dir: Path | None
) -> None:
    """Write the scores of all images as a table, a row for each.

    RUN may be left out, for all runs; the beginning of a name is enough.

    The columns are run, protocol, strength, step, unit, checkpoint, evaluation, prompt_id, prompt,
    category, index, seed, scorer, score and image, the file where it is kept. It works beside a
    running daemon and holds only a part at once. Parquet needs clipwatch[parquet], and a file.

    Ends with 1 when nothing is scored yet; with 2 when the format or the file cannot be.
    """
    from clipwatch.journal import log_file
    from clipwatch.kit.errors import ClipwatchError
    from clipwatch.loop.console import Console
    from clipwatch.results.named import run_named
    from clipwatch.results.results import open_results
    from clipwatch.results.rows import image_rows
    from clipwatch.tasks.export import check, replacing, write

    suffix = output.suffix.removeprefix(".").lower() if output else ""
    form = form or (suffix if suffix in FORMATS else FORMATS[0])
    check(form, output)
    console = Console()
    try:
        console.working("export", "reading the log")
        with open_results(log_file(chosen_state_dir(state_dir))) as results:
            named = [run_named(results.state, it) for it in run] or [*results.state.values()]
            runs = {it.name: it for it in named}
            if not any(ids for it in runs.values() for ids in it.scored.values()):
                raise ClipwatchError("nothing is scored yet", fix="clipwatch status shows why")
            if output is None and sys.stdout.isatty():  # nothing moves amid the rows
                console.close()
            rows = _Counted(
                image_rows(results, runs.values()),
                lambda count: console.working("export", f"{count} rows"),
            )
            with replacing(output) if output else nullcontext(sys.stdout.buffer) as file:
                write(rows, form, file)
    finally:
        console.close()
    if output:
        click.echo(f"{output}: {rows.count} rows")


class _Counted:
    """Rows, of which somebody hears how many there are so far."""

    def __init__(self, rows: Iterable[ImageRow], told: Callable[[int], None]) -> None:
        self.count = 0
        self._rows, self._told = rows, told

    def __iter__(self) -> Iterator[ImageRow]:
        for row in self._rows:
            if self.count % EVERY == 0:
                self._told(self.count)
            self.count += 1
            yield row
