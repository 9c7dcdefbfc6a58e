"""`clipwatch best`: the best checkpoint of a run, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.results.figures import aligned, not_alike
from clipwatch.results.sentences import about_best, at_strengths, best_ends, ranked, strength_of

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation
    from clipwatch.results.ranking import Ranking


@click.command(
    epilog=examples(
        "clipwatch best",
        "clipwatch best my-lora",
        "clipwatch best --scorer siglip --json",
        "clipwatch best --strength 0.8",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@click.option("--scorer", metavar="NAME", help="Rank by this further scorer, not by the first.")
@click.option(
    "--strength",
    type=float,
    metavar="NUMBER",
    help="Rank at this one of several strengths alone.  [default: all]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@state_dir_option
def best(
    run: str, scorer: str | None, strength: float | None, as_json: bool, state_dir: Path | None
) -> None:
    """Name the best checkpoint of RUN, and those that cannot be told from it.

    RUN may be left out where one run is known, and the beginning of its name is enough.

    All scored checkpoints of the run's present settings are looked at, each at every strength
    that the settings name, on the prompts that all have. The intervals of the best one's mean and
    of the differences to it are corrected for having looked at so many.

    Ends with 1 when nothing is scored yet.
    """
    from clipwatch.journal import log_file
    from clipwatch.results.differences import circumstances
    from clipwatch.results.named import present, run_named
    from clipwatch.results.ranking import rank
    from clipwatch.results.results import open_results

    with open_results(log_file(chosen_state_dir(state_dir))) as results:
        known = run_named(results.state, run)
        ranking = rank(results, known, present(known, strength), scorer)
    unlike = circumstances([evaluation for evaluation, _ in ranking.all])
    if as_json:
        click.echo(json.dumps(as_object(ranking, unlike), indent=2))
        return
    for line in as_lines(ranking, unlike):
        click.echo(line)


def as_object(ranking: Ranking, unlike: Sequence[str]) -> dict[str, object]:
    """Return a ranking as one JSON object; `unlike` says what was not made alike."""
    return _object(ranking) | {"circumstances": list(unlike)}


def as_lines(ranking: Ranking, unlike: Sequence[str]) -> list[str]:
    """Return a ranking as a table and sentences; `unlike` says what was not made alike."""
    several = at_strengths(ranking)
    table = aligned(ranked(ranking), left=(5 + several, 6 + several))
    return [*table, "", *about_best(ranking), *not_alike(unlike)]


def _object(ranking: Ranking) -> dict[str, object]:
    ends = best_ends(ranking)
    first = _named(ranking, ranking.best)
    return {
        "run": ranking.run.name,
        "unit": ranking.run.unit,
        "best": {**first, "mean": ranking.mean[0], "ci": ends and list(ends)},
        "tied": [_named(ranking, it) for it in ranking.tied],
        "n_prompts": ranking.n_prompts,
        "n_checkpoints": len(ranking.all),
    }


def _named(ranking: Ranking, evaluation: Evaluation) -> dict[str, object]:
    at = strength_of(ranking.run, evaluation)
    told = {"step": evaluation.step, "checkpoint": evaluation.checkpoint}
    return told if at is None else told | {"strength": at}
