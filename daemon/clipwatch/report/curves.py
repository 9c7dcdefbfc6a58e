"""The runs and curves of the page: what each holds, and in which order they are offered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clipwatch.domain import strengths
from clipwatch.domain.state import Evaluation, Run, State
from clipwatch.results.named import run_named
from clipwatch.results.ranking import standing

MOST_RUNS: Final = 10
"""Of a page for which none is named: each is compared with each, and of 100 that takes minutes."""


@dataclass(frozen=True, slots=True)
class Curve:
    """What a scorer says of a run under one protocol: the base first, then in the order of steps.

    `scorer` is "" for the one that decides.
    """

    run: Run
    protocol: str
    evaluations: tuple[Evaluation, ...]
    scorer: str = ""


def runs_of(state: State, names: Sequence[str]) -> tuple[list[Run], str]:
    """Return the runs of a page, and in a sentence which that leaves out, "" for none.

    Args:
        state: All runs.
        names: Of those that are shown, or their beginnings; none for those with the newest results.

    Raises:
        ClipwatchError: One is not known, or several begin so.
    """
    if names:
        named = {it.name: it for it in (run_named(state, name) for name in names)}
        return [*named.values()], ""
    ends = {
        name: max(ended)
        for name, run in state.items()
        if (ended := [it.finished for it in run.evaluations.values() if it.finished])
    }
    newest = set(sorted(ends, key=lambda it: (ends[it], it))[-MOST_RUNS:])
    left = len(ends) - len(newest)
    told = f"Shown are the {MOST_RUNS} runs with the newest results; {left} more can be named."
    return [state[it] for it in state if it in newest], told if left else ""


def curves_of(run: Run) -> list[Curve]:
    """Return those that a run has scores of, those by further scorers behind the one that decides.

    Under its present protocol first, then at further strengths in their order, then the newest.
    """
    present = [run.protocol, *strengths.ascending(run, run.beside)]
    earlier = [it for it in reversed([*run.protocols]) if it not in present]
    order = [it for it in (*present, *earlier) if it in run.scored]
    return [
        curve
        for it in order
        if (columns := tuple(_columns(run, it)))
        for curve in _by_scorer(run, it, columns)
    ]


def _by_scorer(run: Run, protocol: str, columns: tuple[Evaluation, ...]) -> Iterator[Curve]:
    """Yield a curve for each scorer: those that came later have not scored all."""
    for scorer in run.protocols[protocol].scorers:
        yield Curve(run, protocol, columns, scorer.name)
    for name in run.further:
        own = tuple(it for it in columns if name in it.rescored)
        if own:
            yield Curve(run, protocol, own, name)


def _columns(run: Run, protocol: str) -> Iterator[Evaluation]:
    if base := strengths.base_of(run, protocol):
        yield run.evaluations[base]
    yield from standing(run, [protocol])
