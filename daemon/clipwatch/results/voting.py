"""The votes of a run: who is preferred over whom, and where the scores say the opposite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from clipwatch.domain.kinds import Question
from clipwatch.domain.state import Evaluation, Run
from clipwatch.domain.strengths import base_of
from clipwatch.domain.votes import Voted
from clipwatch.results.ranking import looked_at
from clipwatch.results.results import Results
from clipwatch.statistics.best import Together
from clipwatch.statistics.scores import common
from clipwatch.statistics.votes import Preferences, preferences

Opposed = tuple[Evaluation, Evaluation]
"""The first is surely preferred over the second, and has surely a lower mean."""


@dataclass(frozen=True, slots=True)
class Voting:
    """What voters said to one question of a run's checkpoints, each at all its strengths.

    Attributes:
        run: Their run.
        question: What was asked.
        all: Those that could be voted on, in the order of their steps.
        votes: How many there are.
        neither: Of these, those that saw no difference.
        won: By evaluation, the votes that chose it.
        met: By evaluation, the votes that chose it or what stood beside it.
        found: Who is preferred over whom, None where no vote decided.
        opposed: Where votes and scores contradict each other, beyond the intervals of both.
    """

    run: Run
    question: Question
    all: tuple[Evaluation, ...]
    votes: int
    neither: int
    won: Mapping[str, int]
    met: Mapping[str, int]
    found: Preferences | None
    opposed: tuple[Opposed, ...]


def votings(
    results: Results, run: Run, protocols: Sequence[str], scorer: str | None = None
) -> list[Voting]:
    """Return what was said to each question that has votes.

    Args:
        results: That hold their scores.
        run: Whose votes.
        protocols: Under which what was voted on is scored.
        scorer: With whose scores the votes are compared, None for the one that decides.
    """
    known = {it.id: it for it in entrants(run, protocols)}
    cast = [it for it in results.votes(run) if it.left in known and it.right in known]
    found = []
    for question in get_args(Question):
        mine = [it for it in cast if it.question == question]
        if mine:
            found.append(_voting(results, run, question, known, mine, scorer))
    return found


def entrants(run: Run, protocols: Sequence[str]) -> list[Evaluation]:
    """Return what is voted on: the base model, then checkpoints in the order of their steps."""
    bases = (base_of(run, it) for it in protocols)
    base = next(filter(None, bases), None)
    return [*([run.evaluations[base]] if base else []), *looked_at(run, protocols)]


def _voting(
    results: Results,
    run: Run,
    question: Question,
    known: Mapping[str, Evaluation],
    votes: Sequence[Voted],
    scorer: str | None,
) -> Voting:
    won = Counter(it for vote in votes if (it := chosen(vote)))
    said = preferences(list(known), won)
    wins: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for (better, worse), count in won.items():
        wins[better] += count
        met[better] += count
        met[worse] += count
    opposed = tuple(_opposed(results, run, known, said, scorer)) if said else ()
    decided = won.total()
    all_ = tuple(known.values())
    return Voting(run, question, all_, len(votes), len(votes) - decided, wins, met, said, opposed)


def chosen(vote: Voted) -> tuple[str, str] | None:
    """Return who was chosen over whom, None for no difference."""
    sides = {"left": (vote.left, vote.right), "right": (vote.right, vote.left)}
    return sides.get(vote.choice)


def _opposed(
    results: Results,
    run: Run,
    known: Mapping[str, Evaluation],
    said: Preferences,
    scorer: str | None,
) -> list[Opposed]:
    there = {id_: it for id_, it in known.items() if results.has(run, it, scorer)}
    surely = [(a, b) for a, b in said.surely() if a in there and b in there]
    if not surely:
        return []
    tables = common([results.scores(run, it, scorer) for it in there.values()])
    if not tables[0]:
        return []
    scale = results.scale(run, there[surely[0][0]], scorer)
    together = Together(dict(zip(there, tables, strict=True)), scale)
    return [(known[a], known[b]) for a, b in surely if together.interval(a, b)[1] > 0]
