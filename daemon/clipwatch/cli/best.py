"""`clipwatch best`: the best checkpoint of a run, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.figures import (
    FEW,
    aligned,
    digits,
    few,
    interval,
    not_alike,
    number,
    plural,
)
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation
    from clipwatch.results.ranking import Ranking


@click.command(
    epilog=examples(
        "clipwatch best",
        "clipwatch best my-lora",
        "clipwatch best --scorer siglip --json",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@click.option(
    "--scorer", metavar="NAME", help="Rank by this further scorer of the settings, not the first."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@state_dir_option
def best(run: str, scorer: str | None, as_json: bool, state_dir: Path | None) -> None:
    """Name the best checkpoint of RUN, and those that cannot be told from it.

    RUN may be left out where one run is known, and the beginning of its name is enough.

    All scored checkpoints of the run's present settings are looked at, on the prompts that all
    have. The intervals of the best one's mean and of the differences to it are corrected for
    having looked at so many.

    Ends with 1 when nothing is scored yet.
    """
    from clipwatch.journal import log_file
    from clipwatch.results.differences import circumstances
    from clipwatch.results.named import run_named
    from clipwatch.results.ranking import rank
    from clipwatch.results.results import open_results

    with open_results(log_file(chosen_state_dir(state_dir))) as results:
        known = run_named(results.state, run)
        ranking = rank(results, known, known.protocol, scorer)
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
    return [*_table(ranking), "", *_sentences(ranking), *not_alike(unlike)]


def _ends(ranking: Ranking) -> tuple[float, float] | None:
    """Return the ends of the best one's interval; none for one prompt, or few that were picked."""
    own = next(summary for it, summary in ranking.all if it is ranking.best)
    if own.low is None or own.high is None or len(ranking.all) == 1:
        return None if own.low is None or own.high is None else (own.low, own.high)
    return None if few(ranking.n_prompts) else ranking.mean[1:]


def _object(ranking: Ranking) -> dict[str, object]:
    ends = _ends(ranking)
    first = {"step": ranking.best.step, "checkpoint": ranking.best.checkpoint}
    return {
        "run": ranking.run.name,
        "unit": ranking.run.unit,
        "best": {**first, "mean": ranking.mean[0], "ci": ends and list(ends)},
        "tied": [{"step": it.step, "checkpoint": it.checkpoint} for it in ranking.tied],
        "n_prompts": ranking.n_prompts,
        "n_checkpoints": len(ranking.all),
    }


def _table(ranking: Ranking) -> Iterator[str]:
    head = ("mean", "95 % interval", "less the best", "95 %, all at once", "", "checkpoint")
    rows, least = [(str(ranking.run.unit), *head)], ranking.scale.digits
    for evaluation, own in ranking.all:
        ends = None if own.low is None or own.high is None else (own.low, own.high)
        ends = _ends(ranking) if evaluation is ranking.best else ends
        apart, together = "", ""
        if evaluation is not ranking.best:
            delta, low, high = ranking.differences[evaluation.id]
            places = digits(low, high, least)
            apart = number(delta, places)
            together = "not known" if few(ranking.n_prompts) else interval(low, high, places)
        mark = "best" if evaluation is ranking.best else "tied" * (evaluation in ranking.tied)
        numbers = (
            str(evaluation.step),
            number(own.mean, least),
            interval(*ends, least) if ends else "",
            apart,
            together,
        )
        rows.append((*numbers, mark, evaluation.checkpoint))
    return iter(aligned(rows, left=(5, 6)))


def _sentences(ranking: Ranking) -> Iterator[str]:
    """Return what the table says in plain words."""
    from clipwatch.results.differences import listed

    ends, least = _ends(ranking), ranking.scale.digits
    count, prompts = len(ranking.all), plural(ranking.n_prompts, "prompt")
    files = ranking.run.unit == "file"
    shared = f"{prompts} that all have" if count > 1 else prompts
    corrected = ", corrected for having picked it" if count > 1 else ""
    told = f" (95 % interval {interval(*ends, least)}{corrected})" if ends else ""
    yield (
        f"{_called(ranking.best, files)} has the highest mean of "
        f"{plural(count, 'file' if files else 'checkpoint')} on "
        f"{shared}: {number(ranking.mean[0], least)}{told}."
    )
    if count == 1:
        yield "It is the only one with scores."
    elif few(ranking.n_prompts):
        yield f"With {prompts} none can be told from another: {FEW}."
    elif not ranking.tied:
        yield f"After correction for having looked at all {count}, every other one is lower."
    else:
        named = listed([_called(it, files) for it in ranking.tied])
        yield (
            f"After correction for having looked at all {count}, {len(ranking.tied)} cannot be "
            f"told from it: {named}."
        )
        if files:
            return
        earliest = min((ranking.best, *ranking.tied), key=lambda it: it.step)
        yield f"Many people take the earliest of these, here @{earliest.step}: a habit, not a rule."


def _called(evaluation: Evaluation, files: bool) -> str:
    """Name a checkpoint by its place on the curve, and one that has none by its name."""
    return evaluation.checkpoint if files else f"@{evaluation.step}"
