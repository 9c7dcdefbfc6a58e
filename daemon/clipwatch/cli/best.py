"""`clipwatch best`: the best checkpoint of a run, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.results.figures import aligned, not_alike
from clipwatch.results.sentences import (
    about_best,
    about_loss,
    at_strengths,
    best_ends,
    item_of,
    ranked,
    strength_of,
)
from clipwatch.results.vote_sentences import about_votes, voted

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation, Run
    from clipwatch.results.ranking import Ranking
    from clipwatch.results.tradeoff import Tradeoff
    from clipwatch.results.voting import Voting


@click.command(
    epilog=examples(
        "clipwatch best",
        "clipwatch best my-lora",
        "clipwatch best --scorer siglip --json",
        "clipwatch best --strength 0.8",
        "clipwatch best --scorer loss",
        "clipwatch best --against dino",
        "clipwatch best --votes",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@click.option(
    "--scorer",
    metavar="NAME",
    help="Rank by this further scorer, not by the first; loss for the held-out loss.",
)
@click.option(
    "--strength",
    type=float,
    metavar="NUMBER",
    help="Rank at this one of several strengths alone.  [default: all]",
)
@click.option(
    "--against", metavar="NAME", help="Show whom no other beats by this scorer and the first."
)
@click.option("--votes", is_flag=True, help="Rank by the blind votes of clipwatch serve, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@state_dir_option
def best(
    run: str,
    scorer: str | None,
    strength: float | None,
    against: str | None,
    votes: bool,
    as_json: bool,
    state_dir: Path | None,
) -> None:
    """Name the best checkpoint of RUN, and those that cannot be told from it.

    RUN may be left out where one run is known, and the beginning of its name is enough.

    All scored checkpoints of the run's present settings are looked at, each at every strength
    that the settings name, on the prompts that all have. The intervals of the best one's mean and
    of the differences to it are corrected for having looked at so many.

    With --against it says beside that which checkpoints no other one beats in both means, that of
    the first scorer and that of another: adherence against likeness, say.

    Where held-out losses were measured (holdout in the settings) a line says where they are lowest;
    --scorer loss ranks by them, the lowest first of all.

    With --votes it says beside that whom people prefer who voted without names (clipwatch serve),
    and where votes and scores contradict each other.

    Ends with 1 when nothing is scored yet.
    """
    from clipwatch.journal import log_file
    from clipwatch.results.differences import circumstances
    from clipwatch.results.named import present, run_named
    from clipwatch.results.ranking import by_loss, rank
    from clipwatch.results.results import open_results
    from clipwatch.results.tradeoff import beside, rows, sentences
    from clipwatch.results.voting import votings

    with open_results(log_file(chosen_state_dir(state_dir))) as results:
        known = run_named(results.state, run)
        protocols = present(known, strength)
        ranking = rank(results, known, protocols, scorer)
        said = votings(results, known, protocols, scorer) if votes else []
        other = beside(results, ranking, against) if against else None
        losses = None if ranking.scale.turned else by_loss(results, known, protocols)
    unlike = circumstances([evaluation for evaluation, _ in ranking.all])
    if as_json:
        more: dict[str, object] = {}
        more |= {"votes": [_voting(it) for it in said]} if votes else {}
        more |= {"against": _against(other)} if other else {}
        more |= {"loss": _found(losses)} if losses else {}
        click.echo(json.dumps(as_object(ranking, unlike) | more, indent=2))
        return
    for line in as_lines(ranking, unlike):
        click.echo(line)
    if losses:
        click.echo(f"\n{about_loss(losses)}")
    if other:
        several = at_strengths(ranking)
        for line in ("", *aligned(rows(other), left=(3 + several, 4 + several)), ""):
            click.echo(line)
        for line in sentences(other):
            click.echo(line)
    if votes:
        for line in _votes(ranking, said):
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
    return {"run": ranking.run.name, "unit": ranking.run.unit, **_found(ranking)}


def _found(ranking: Ranking) -> dict[str, object]:
    ends = best_ends(ranking)
    first = _named(ranking.run, ranking.best)
    outdone = {"outdone": outdone_ones(ranking)} if ranking.outdone else {}
    return outdone | {
        "best": {**first, "mean": ranking.mean[0], "ci": ends and list(ends)},
        "tied": [_named(ranking.run, it) for it in ranking.tied],
        "may_be_best": [_named(ranking.run, it) for it in ranking.candidates],
        f"n_{item_of(ranking.scale)}s": ranking.n_prompts,
        "n_checkpoints": len(ranking.all),
    }


def outdone_ones(ranking: Ranking) -> list[dict[str, object]]:
    """Return those that are surely not the best, each with how far it was made, as objects."""
    run = ranking.run
    return [
        {
            **_named(run, it),
            "prompts": found.prompts,
            "of": found.of,
            "delta": found.delta,
            "by": run.evaluations[found.by].checkpoint,
        }
        for it in ranking.outdone
        if (found := it.outdone)
    ]


def _against(found: Tradeoff) -> dict[str, object]:
    run = found.ranking.run
    return {
        "scorer": found.scorer,
        "means": [
            {**_named(run, it), "mean": own.mean, "other": found.others[it.id].mean}
            for it, own in found.ranking.all
            if it.id in found.others
        ],
        "front": [_named(run, it) for it in found.front],
    }


def _votes(ranking: Ranking, said: Sequence[Voting]) -> Iterator[str]:
    if not said:
        yield from ("", "No votes so far: clipwatch serve asks for them.")
    several = at_strengths(ranking)
    for it in said:
        sentences = list(about_votes(it))
        yield from ("", sentences[0], "")
        yield from aligned(voted(it), left=(5 + several, 6 + several))
        yield from ("", *sentences[1:])


def _voting(voting: Voting) -> dict[str, object]:
    found = voting.found
    best = found and next(it for it in voting.all if it.id == found.best)
    return {
        "question": voting.question,
        "n": voting.votes,
        "neither": voting.neither,
        "best": best and _named(voting.run, best),
        "ranked": [
            {
                **_named(voting.run, it),
                "chosen": voting.won.get(it.id, 0),
                "of": voting.met.get(it.id, 0),
                "over_best": share and share[0],
                "ci": share and list(share[1:]),
                "tied": found is not None and it.id in found.tied,
            }
            for it in voting.all
            for share in (found and found.over.get((it.id, found.best)),)
        ],
        "opposed": [
            {"voters_prefer": _named(voting.run, a), "scores_prefer": _named(voting.run, b)}
            for a, b in voting.opposed
        ],
    }


def _named(run: Run, evaluation: Evaluation) -> dict[str, object]:
    at = strength_of(run, evaluation)
    told = {"step": evaluation.step, "checkpoint": evaluation.checkpoint}
    return told if at is None else told | {"strength": at}
