"""`clipwatch best`: the best checkpoint of a run, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
        "clipwatch best --strength 0.8",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@click.option(
    "--scorer", metavar="NAME", help="Rank by this further scorer of the settings, not the first."
)
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
        click.echo(json.dumps(_object(ranking) | {"circumstances": unlike}, indent=2))
        return
    for line in (*_table(ranking), "", *_sentences(ranking), *not_alike(unlike)):
        click.echo(line)


def _ends(ranking: Ranking) -> tuple[float, float] | None:
    """Return the ends of the best one's interval; none for one prompt, or few that were picked."""
    own = next(summary for it, summary in ranking.all if it is ranking.best)
    if own.low is None or own.high is None or len(ranking.all) == 1:
        return None if own.low is None or own.high is None else (own.low, own.high)
    return None if few(ranking.n_prompts) else ranking.mean[1:]


def _object(ranking: Ranking) -> dict[str, object]:
    ends = _ends(ranking)
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
    at = _strength(ranking, evaluation)
    told = {"step": evaluation.step, "checkpoint": evaluation.checkpoint}
    return told if at is None else told | {"strength": at}


def _strength(ranking: Ranking, evaluation: Evaluation) -> float | None:
    """Return the strength at which it was scored, where the run has several."""
    run = ranking.run
    return run.protocols[evaluation.protocol].adapter_strength if run.beside else None


def _short(ranking: Ranking, evaluation: Evaluation) -> str:
    from clipwatch.domain.strengths import written

    at = _strength(ranking, evaluation)
    return f"@{evaluation.step}" + ("" if at is None else f":{written(at)}")


def _table(ranking: Ranking) -> Iterator[str]:
    head = ("mean", "95 % interval", "less the best", "95 %, all at once", "", "checkpoint")
    from clipwatch.domain.strengths import written

    several = bool(ranking.run.beside)
    rows = [(str(ranking.run.unit), *(["strength"] * several), *head)]
    least = ranking.scale.digits
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
        at = _strength(ranking, evaluation)
        numbers = (
            str(evaluation.step),
            *([] if at is None else [written(at)]),
            number(own.mean, least),
            interval(*ends, least) if ends else "",
            apart,
            together,
        )
        rows.append((*numbers, mark, evaluation.checkpoint))
    return iter(aligned(rows, left=(5 + several, 6 + several)))


def _sentences(ranking: Ranking) -> Iterator[str]:
    """Return what the table says in plain words."""
    from clipwatch.results.differences import listed

    ends, least = _ends(ranking), ranking.scale.digits
    count, prompts = len(ranking.all), plural(ranking.n_prompts, "prompt")
    what = "result" if ranking.run.beside else "checkpoint"
    shared = f"{prompts} that all have" if count > 1 else prompts
    corrected = ", corrected for having picked it" if count > 1 else ""
    told = f" (95 % interval {interval(*ends, least)}{corrected})" if ends else ""
    yield (
        f"{_short(ranking, ranking.best)} has the highest mean of {plural(count, what)} on "
        f"{shared}: {number(ranking.mean[0], least)}{told}."
    )
    if count == 1:
        yield "It is the only one with scores."
    elif few(ranking.n_prompts):
        yield f"With {prompts} none can be told from another: {FEW}."
    elif not ranking.tied:
        yield f"After correction for having looked at all {count}, every other one is lower."
    else:
        named = listed([_short(ranking, it) for it in ranking.tied])
        yield (
            f"After correction for having looked at all {count}, {len(ranking.tied)} cannot be "
            f"told from it: {named}."
        )
        earliest = min((ranking.best, *ranking.tied), key=lambda it: it.step)
        here = _short(ranking, earliest)
        yield f"Many people take the earliest of these, here {here}: a habit, not a rule."
