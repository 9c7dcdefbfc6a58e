"""What a person names, found among the results: RUN@STEP."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from clipwatch.domain.state import Evaluation, Run, State
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.results.differences import listed, unlike
from clipwatch.results.ranking import rank
from clipwatch.results.results import Results, scored

BEST: Final = "best"
_STEP = re.compile(rf"[0-9]{{1,18}}|{BEST}")


@dataclass(frozen=True, slots=True)
class Named:
    """A checkpoint that somebody named; `checkpoint` is its folder's name, "" for any.

    `picked`: it was named as the best of its run, not by its step.
    """

    run: Run
    step: int
    checkpoint: str = ""
    picked: bool = False

    def __str__(self) -> str:
        """Return a name by which it is found again."""
        return f"{self.run.name}@{self.step}"

    def results(self) -> dict[str, Evaluation]:
        """Return by protocol what was scored last of it."""
        return {
            protocol: evaluation
            for protocol in self.run.scored
            for evaluation in scored(self.run, protocol)
            if evaluation.step == self.step and self.checkpoint in ("", evaluation.checkpoint)
        }


def run_named(state: State, beginning: str = "") -> Run:
    """Return the run whose name this is, or the only one whose name begins so.

    Raises:
        ClipwatchError: There is none, or several; the text names those that are known.
    """
    if beginning in state:
        return state[beginning]
    found = [name for name in state if name.startswith(beginning)]
    with_scores = [name for name in found if any(state[name].scored.values())]
    if len(with_scores) == 1:  # the others may be of mistyped folders
        found = with_scores
    if len(found) == 1:
        return state[found[0]]
    if found:
        fix = f"name one of {', '.join(found)}"
        raise ClipwatchError("more than one run can be meant", fix=fix)
    known = ", ".join(state) or "none"
    raise ClipwatchError(f"no run has a name that begins with {beginning!r}; known: {known}")


def find(results: Results, text: str, scorer: str | None = None) -> Named:
    """Return what RUN@STEP, @STEP or RUN stands for; RUN alone is its newest scored step.

    A bare STEP is @STEP, unless a run's name begins so.

    Args:
        results: Among which it is looked for.
        text: As a person wrote it.
        scorer: By whose numbers a STEP "best" is the best; None for CLIP.

    Raises:
        SettingsError: It is none of these.
        ClipwatchError: There is no such run, or nothing of it is scored there.
    """
    if _STEP.fullmatch(text) and not any(name.startswith(text) for name in results.state):
        text = f"@{text}"
    name, at, step = text.rpartition("@") if "@" in text else (text, "", "")
    if not text or (at and not _STEP.fullmatch(step)):
        raise SettingsError(
            f"{text!r} names no checkpoint",
            fix=f"write RUN@STEP, @STEP or RUN, with a number or {BEST!r} for STEP",
        )
    run = run_named(results.state, name)
    if step == BEST:
        best = rank(results, run, run.protocol, scorer).best
        return Named(run, best.step, best.checkpoint, picked=True)
    steps = sorted({it.step for protocol in run.scored for it in scored(run, protocol)})
    if not steps:
        fix = "clipwatch status shows why"
        raise ClipwatchError(f"{run.name} has no scores yet", fix=fix)
    if at and int(step) not in steps:
        known = listed([str(it) for it in steps])
        raise ClipwatchError(
            f"{run.name} has no scores of {run.unit} {int(step)}; scored so far: {known}"
        )
    return Named(run, int(step) if at else steps[-1])


def both(results: Results, a: Named, b: Named) -> tuple[Evaluation, Evaluation]:
    """Return both under a protocol that they share: their runs' present one, or the newest.

    Raises:
        ClipwatchError: They share none; the text says where their protocols differ.
    """
    first, second = a.results(), b.results()
    if shared := first.keys() & second.keys():
        protocol = _newest(results, shared, a.run, b.run)
        return first[protocol], second[protocol]
    differences = unlike(
        results.protocols[_newest(results, first, a.run)],
        results.protocols[_newest(results, second, b.run)],
    )
    raise ClipwatchError(
        f"{a} and {b} were not scored alike, so that their scores cannot be compared: "
        f"{'; '.join(differences)}"
    )


def superseded(results: Results, run: Run, protocol: str) -> list[str]:
    """Return in which fields a protocol differs from the run's present one, with both values.

    Nothing for the present one itself, and for a run whose present one is not known so far.
    """
    present = results.protocols.get(run.protocol)
    return unlike(results.protocols[protocol], present) if present else []


def _newest(results: Results, protocols: Iterable[str], *runs: Run) -> str:
    order = list(results.protocols)
    present = [run.protocol for run in runs]
    return max(protocols, key=lambda it: (present.count(it), order.index(it)))
