"""The curves of the page: what each holds, and in which order they are offered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clipwatch.domain import strengths
from clipwatch.domain.state import Evaluation, Run
from clipwatch.results.ranking import looked_at


@dataclass(frozen=True, slots=True)
class Curve:
    """What a scorer says of a run under one protocol: the base first, then in the order of steps.

    `scorer` is "" for the one that decides.
    """

    run: Run
    protocol: str
    evaluations: tuple[Evaluation, ...]
    scorer: str = ""


def curves_of(run: Run) -> list[Curve]:
    """Return those that a run has scores of, those by further scorers behind the one that decides.

    Under its present protocol first, then at further strengths in their order, then the newest.
    """
    present = [run.protocol, *strengths.ascending(run, run.beside)]
    earlier = [it for it in reversed([*run.protocols]) if it not in present]
    order = [it for it in (*present, *earlier) if it in run.scored]
    return [
        Curve(run, it, columns, scorer.name)
        for it in order
        if (columns := tuple(_columns(run, it)))
        for scorer in run.protocols[it].scorers
    ]


def _columns(run: Run, protocol: str) -> Iterator[Evaluation]:
    if base := strengths.base_of(run, protocol):
        yield run.evaluations[base]
    yield from looked_at(run, [protocol])
