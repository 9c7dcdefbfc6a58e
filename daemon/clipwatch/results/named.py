"""What a person names, found among the results: RUN@STEP, or a file by its name."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from clipwatch.domain.state import Evaluation, Run, State
from clipwatch.domain.strengths import WITHOUT, ascending, has_none, label, told, written
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.layouts.single_file import SUFFIX
from clipwatch.results.differences import listed, unlike
from clipwatch.results.figures import plural
from clipwatch.results.ranking import outdone, rank, scored_by
from clipwatch.results.results import Results

BEST: Final = "best"
_NUMBER = re.compile(r"[0-9.e+-]{1,30}")
_STEP = re.compile(rf"(?P<step>[0-9]{{1,18}}|{BEST})(?::(?P<strength>{_NUMBER.pattern}))?")


@dataclass(frozen=True, slots=True)
class Named:
    """A checkpoint that somebody named; `checkpoint` is its folder's name, "" for any.

    `among` are the protocols from whose results it was picked as the best; () for one that was
    named by its step. `strength` is the one that was named, None for any; `scorer` is by whose
    numbers it is asked for, None for the one that decides.
    """

    run: Run
    step: int
    checkpoint: str = ""
    among: tuple[str, ...] = ()
    strength: float | None = None
    scorer: str | None = None

    def __str__(self) -> str:
        """Return a name by which it is found again."""
        return f"{self.run.name}{self.short}"

    @property
    def short(self) -> str:
        """Return its name within its run."""
        return f"@{self.step}" + ("" if self.strength is None else f":{written(self.strength)}")

    def results(self) -> dict[str, Evaluation]:
        """Return by protocol what was scored last of it; at any strength of what has none."""
        known = self.run.protocols
        return {
            protocol: evaluation
            for protocol in self.run.protocols
            for evaluation in scored_by(self.run, protocol, self.scorer)
            if evaluation.step == self.step
            and self.checkpoint in ("", evaluation.checkpoint)
            and (
                self.strength is None
                or has_none(self.run, evaluation.checkpoint)
                or known[protocol].adapter_strength == self.strength
            )
        }


def run_named(state: State, beginning: str = "", *, or_file: bool = False) -> Run:
    """Return the run whose name this is, or the only one whose name begins so.

    Args:
        state: All runs.
        beginning: Of a run's name.
        or_file: Whether it could have been a file, so that those are told as well.

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
    names = [name for run in state.values() if run.unit == "file" for name in run.checkpoints]
    files = f"; files: {listed(names)}" if or_file and names else ""
    raise ClipwatchError(f"no run has a name that begins with {beginning!r}; known: {known}{files}")


def find(results: Results, text: str, scorer: str | None = None) -> Named:
    """Return what RUN@STEP, @STEP or RUN stands for; RUN alone is its newest scored step.

    A bare STEP is @STEP, unless a run's name begins so. STEP:STRENGTH is one of several strengths.
    Where files are checkpoints of their own the name of one, with or without its ending, stands for
    a step or for RUN@STEP.

    Args:
        results: Among which it is looked for.
        text: As a person wrote it.
        scorer: By whose numbers a STEP "best" is the best; None for CLIP.

    Raises:
        SettingsError: It is none of these.
        ClipwatchError: There is no such run, or nothing of it is scored there.
    """
    begins = any(name.startswith(text) for name in results.state)
    if _STEP.fullmatch(text) and not begins:
        text = f"@{text}"
    elif file := _file(results.state, text, scorer, alone=not begins):
        return file
    name, at, place = text.rpartition("@") if "@" in text else (text, "", "")
    parts = _STEP.fullmatch(place)
    strength = _strength(parts["strength"]) if parts and parts["strength"] else None
    if not text or (at and not parts):
        raise SettingsError(
            f"{text!r} names no checkpoint",
            fix=f"write RUN@STEP, @STEP or RUN, with a number or {BEST!r} for STEP, and "
            "STEP:STRENGTH where a run has several strengths; a file that has no step by its name",
        )
    run = run_named(results.state, name, or_file=not at)
    step = parts["step"] if parts else ""
    if step == BEST:
        among = present(run, strength)
        best = rank(results, run, among, scorer).best
        if run.beside and not has_none(run, best.checkpoint):
            strength = run.protocols[best.protocol].adapter_strength
        return Named(run, best.step, best.checkpoint, among, strength, scorer)
    found = (it for protocol in run.protocols for it in scored_by(run, protocol, scorer))
    steps = sorted({it.step for it in found})
    if not steps:
        fix = "clipwatch status shows why"
        raise ClipwatchError(f"{run.name} has no scores yet", fix=fix)
    if at and int(step) not in steps:
        _refuse_outdone(run, {it.name for it in run.checkpoints.values() if it.step == int(step)})
        known = listed([str(it) for it in steps])
        raise ClipwatchError(
            f"{run.name} has no scores of {run.unit} {int(step)}; scored so far: {known}"
        )
    named = Named(run, int(step) if at else steps[-1], strength=strength, scorer=scorer)
    if strength is not None and not named.results():
        at_all = {run.protocols[it].adapter_strength for it in run.scored}
        known = listed([written(it) for it in sorted(at_all)])
        raise ClipwatchError(f"{named} has no scores; those of {run.name} are at strength {known}")
    return named


def present(run: Run, strength: float | None = None) -> tuple[str, ...]:
    """Return the protocols in use, of several strengths all, in their order, or one.

    Raises:
        ClipwatchError: That is none of them; the text names those that are.
    """
    if strength is None:
        return tuple(ascending(run, run.present))
    present = (it for it in ascending(run, run.present) if it in run.protocols)
    known = {run.protocols[it].adapter_strength: it for it in present}
    if strength not in known:
        there = listed([written(it) for it in known])
        raise ClipwatchError(
            f"{run.name} is not scored at {label(strength)} by its present settings; it is at "
            f"{there or 'none yet'}"
        )
    return (known[strength],)


def _file(state: State, text: str, scorer: str | None, *, alone: bool) -> Named | None:
    """Return the file of which this is the name, behind RUN@ or by itself; None if it is none.

    Args:
        state: All runs.
        text: FILE, RUN@FILE, either with ":STRENGTH" behind it.
        scorer: As in `Named`.
        alone: Whether a name without its ending means a file.

    Raises:
        ClipwatchError: It has no score, or several runs have one of that name.
    """
    runs = [run for run in state.values() if run.unit == "file"]
    found = [
        Named(run, run.checkpoints[name].step, name, (), strength, scorer)
        for begin, file, strength in _ways(text)
        for run in runs
        if run.name.startswith(begin)
        for name in (file, f"{file}{SUFFIX}" if alone or begin else "")
        if name in run.checkpoints and not _STEP.fullmatch(file)
    ]
    with_scores = [it for it in found if it.results()]
    if len(with_scores) > 1:
        fix = f"name one of {', '.join(map(str, with_scores))}"
        raise ClipwatchError("more than one file can be meant", fix=fix)
    if found and not with_scores:
        _refuse_outdone(found[0].run, {found[0].checkpoint})
        reason = found[0].run.checkpoints[found[0].checkpoint].reason
        told = f"{found[0].checkpoint} has no scores in {found[0].run.name}"
        raise ClipwatchError(f"{told}{reason and ': '}{reason}", fix="clipwatch status shows why")
    return with_scores[0] if with_scores else None


def _refuse_outdone(run: Run, names: Container[str]) -> None:
    """Say of what has a part of its scores why that is so.

    Raises:
        ClipwatchError: One of these is outdone.
    """
    found = [it for it in outdone(run, run.present) if it.checkpoint in names]
    if found and (told := found[0].outdone):
        seen = f"{told.prompts} of {plural(told.of, 'prompt')}"
        raise ClipwatchError(
            f"{found[0].checkpoint} was let go of after {seen}, as surely not the best",
            fix="clipwatch rank --full makes the rest",
        )


def _ways(text: str) -> Iterator[tuple[str, str, float | None]]:
    """Yield beginning of a run, file and strength in each way in which a text may be read."""
    begin, at, rest = text.partition("@")
    for run, file in (("", text), (begin, rest))[: 2 if at else 1]:
        yield run, file, None
        name, _, written_ = file.rpartition(":")
        if name and _NUMBER.fullmatch(written_):
            yield run, name, _strength(written_)


def _strength(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingsError(
            f"{text!r} is no strength", fix="write a number, as in 500:0.8"
        ) from None


def both(results: Results, a: Named, b: Named) -> tuple[Evaluation, Evaluation]:
    """Return both under a protocol that they share: their runs' present one, or the newest.

    Where their strengths were named, or one has none, as the base, they may differ in that.

    Raises:
        ClipwatchError: They share none; the text says where their protocols differ.
    """
    first, second = a.results(), b.results()
    if shared := first.keys() & second.keys():
        protocol = _newest(results, shared, a.run, b.run)
        return first[protocol], second[protocol]
    bare = [
        {it: run.protocols[it].at(WITHOUT) for it in known}
        for run, known in ((a.run, first), (b.run, second))
    ]
    pairs = [(it, other) for it in first for other in second if bare[0][it] == bare[1][other]]
    named = None not in (a.strength, b.strength)
    none = (
        has_none(run, it.checkpoint)
        for run, known in ((a.run, first), (b.run, second))
        for it in known.values()
    )
    if pairs and (named or any(none)):
        one, other = max(pairs, key=lambda it: [list(results.protocols).index(each) for each in it])
        return first[one], second[other]
    differences = unlike(
        results.protocols[_newest(results, first, a.run)],
        results.protocols[_newest(results, second, b.run)],
    )
    raise ClipwatchError(
        f"{a} and {b} were not scored alike, so that their scores cannot be compared: "
        f"{'; '.join(differences)}"
    )


def as_found(named: Named, evaluation: Evaluation) -> Named:
    """Return it with the strength at which it was found, where that tells it from others."""
    made = named.run.protocols[evaluation.protocol]
    tells = named.strength is not None or told(named.run, evaluation.protocol)
    none = has_none(named.run, evaluation.checkpoint)
    return replace(named, strength=made.adapter_strength if tells and not none else None)


def superseded(results: Results, named: Named, evaluation: Evaluation) -> list[str]:
    """Return in which fields a result's protocol differs from its run's present one, with both.

    Nothing for the present ones themselves, and for a run whose present one is not known so far;
    nor is a strength that was named.
    """
    now, made = results.protocols.get(named.run.protocol), results.protocols[evaluation.protocol]
    if now is None or evaluation.protocol in named.run.present:
        return []
    return unlike(made if named.strength is None else made.at(now.adapter_strength), now)


def _newest(results: Results, protocols: Iterable[str], *runs: Run) -> str:
    order = list(results.protocols)
    present = [run.protocol for run in runs]
    return max(protocols, key=lambda it: (present.count(it), order.index(it)))
