"""`clipwatch report`: one page with the curve, the images and the verdicts."""

from __future__ import annotations

from pathlib import Path

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, now_and_then, state_dir_option


@click.command(
    epilog=examples(
        "clipwatch report",
        "clipwatch report my-lora -o my-lora.html --max-size 20",
        "clipwatch report first-run second-run --assets report-images",
    )
)
@click.argument("run", nargs=-1, shell_complete=completing.runs)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="The page's file; an earlier one is replaced.",
)
@click.option(
    "--assets",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put the images there, instead of into the page.",
)
@click.option(
    "--max-size",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="MB",
    help="The page is no larger: images are made smaller for it, then left out.",
)
@state_dir_option
def report(
    run: tuple[str, ...], output: Path, assets: Path | None, max_size: int, state_dir: Path | None
) -> None:
    """Write a page to look at: the curve, the images, the verdicts.

    RUN may be left out, for all runs that have scores, of more than ten those with the newest; the
    beginning of a name is enough.

    The page is one file that asks no other machine for anything. Open it in a browser; "?" lists
    the keys. The numbers are those of clipwatch best and clipwatch compare.

    Ends with 1 when nothing is scored yet.
    """
    from clipwatch.journal import log_file
    from clipwatch.kit.errors import ClipwatchError
    from clipwatch.report.curves import curves_of, runs_of
    from clipwatch.report.page import MEGABYTE, write_report
    from clipwatch.results.results import open_results

    folder = chosen_state_dir(state_dir)
    with open_results(log_file(folder)) as results:
        runs, told = runs_of(results.state, run)
        curves = [curve for it in runs for curve in curves_of(it)]
        if not curves:
            raise ClipwatchError("nothing is scored yet", fix="clipwatch status shows why")
        left_out = write_report(
            results,
            curves,
            folder,
            output,
            assets=assets,
            largest=max_size * MEGABYTE,
            told=now_and_then(),
        )
    click.echo(f"{output}: {output.stat().st_size / MEGABYTE:.1f} MB")
    for line in filter(None, (told, *left_out)):
        click.echo(line)
