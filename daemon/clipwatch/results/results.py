"""What a person names, found in the log: runs, checkpoints, the scores of both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from clipwatch.domain.events import ImageScore, ImagesScored, ProtocolDefined
from clipwatch.domain.fold import evolve
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Evaluation, Run
from clipwatch.journal import Journal
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.kit.textfiles import plain
from clipwatch.results.tables import other_tables, score_table
from clipwatch.statistics.scores import Scores

BEST: Final = "best"
LISTED: Final = 12
"""So many things of a kind stand in one sentence."""

VALUE: Final = 60
"""Characters of a setting that a message shows."""

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


class Answers:
    """The results in a log, as they were when it was opened; each one's scores are read once.

    Attributes:
        state: All runs.
        protocols: By digest, in the order of their first use.
    """

    def __init__(self, journal: Journal) -> None:
        events = journal.landmarks()
        self.state = evolve({}, ((it.run, it.event, it.time) for it in events))
        defined = (it.event for it in events if isinstance(it.event, ProtocolDefined))
        self.protocols = {event.digest: event.protocol for event in defined}
        self._journal = journal
        self._images: dict[str, list[ImageScore]] = {}

    def run(self, beginning: str = "") -> Run:
        """Return the run whose name this is, or the only one whose name begins so.

        Raises:
            ClipwatchError: There is none, or several; the text names those that are known.
        """
        if beginning in self.state:
            return self.state[beginning]
        found = [name for name in self.state if name.startswith(beginning)]
        with_scores = [name for name in found if any(self.state[name].scored.values())]
        if len(with_scores) == 1:  # the others may be of mistyped folders
            found = with_scores
        if len(found) == 1:
            return self.state[found[0]]
        if found:
            fix = f"name one of {', '.join(found)}"
            raise ClipwatchError("more than one run can be meant", fix=fix)
        known = ", ".join(self.state) or "none"
        raise ClipwatchError(f"no run has a name that begins with {beginning!r}; known: {known}")

    def named(self, text: str, scorer: str | None = None) -> Named:
        """Return what RUN@STEP, @STEP or RUN stands for; RUN alone is its newest scored step.

        A bare STEP is @STEP, unless a run's name begins so.

        Args:
            text: As a person wrote it.
            scorer: By whose numbers a STEP "best" is the best; None for CLIP.

        Raises:
            SettingsError: It is none of these.
            ClipwatchError: There is no such run, or nothing of it is scored there.
        """
        if _STEP.fullmatch(text) and not any(name.startswith(text) for name in self.state):
            text = f"@{text}"
        name, at, step = text.rpartition("@") if "@" in text else (text, "", "")
        if not text or (at and not _STEP.fullmatch(step)):
            raise SettingsError(
                f"{text!r} names no checkpoint",
                fix=f"write RUN@STEP, @STEP or RUN, with a number or {BEST!r} for STEP",
            )
        run = self.run(name)
        if step == BEST:
            from clipwatch.results.ranking import rank  # with numpy, which nothing else here needs

            best = rank(self, run, scorer).best
            return Named(run, best.step, best.checkpoint, picked=True)
        steps = sorted({it.step for protocol in run.scored for it in scored(run, protocol)})
        if not steps:
            fix = "clipwatch status shows why"
            raise ClipwatchError(f"{run.name} has no scores yet", fix=fix)
        if at and int(step) not in steps:
            known = listed([str(it) for it in steps])
            raise ClipwatchError(
                f"{run.name} has no scores of step {int(step)}; scored so far: {known}"
            )
        return Named(run, int(step) if at else steps[-1])

    def pair(self, a: Named, b: Named) -> tuple[Evaluation, Evaluation]:
        """Return both under a protocol that they share: their runs' present one, or the newest.

        Raises:
            ClipwatchError: They share none; the text says where their protocols differ.
        """
        first, second = a.results(), b.results()
        if shared := first.keys() & second.keys():
            protocol = self._newest(shared, a.run, b.run)
            return first[protocol], second[protocol]
        differences = unlike(
            self.protocols[self._newest(first, a.run)], self.protocols[self._newest(second, b.run)]
        )
        raise ClipwatchError(
            f"{a} and {b} were not scored alike, so that their scores cannot be compared: "
            f"{'; '.join(differences)}"
        )

    def superseded(self, run: Run, protocol: str) -> list[str]:
        """Return in which fields a protocol differs from the run's present one, with both values.

        Nothing for the present one itself, and for a run whose present one is not known so far.
        """
        present = self.protocols.get(run.protocol)
        return unlike(self.protocols[protocol], present) if present else []

    def _newest(self, protocols: Iterable[str], *runs: Run) -> str:
        order = list(self.protocols)
        present = [run.protocol for run in runs]
        return max(protocols, key=lambda it: (present.count(it), order.index(it)))

    def scores(self, run: Run, evaluation: Evaluation, scorer: str | None = None) -> Scores:
        """Return an evaluation's scores: those of CLIP, or of a further scorer.

        Raises:
            ClipwatchError: There is no such scorer; the text names those that there are.
        """
        stream = evaluation_stream(run.name, evaluation.id)
        if stream not in self._images:
            events = (recorded.event for recorded in self._journal.read(stream=stream))
            batches = (event.images for event in events if isinstance(event, ImagesScored))
            self._images[stream] = [image for batch in batches for image in batch]
        if scorer is None:
            return score_table(self._images[stream])
        others = other_tables(self._images[stream])
        if scorer not in others:
            known = ", ".join(sorted(others)) or "none"
            where = Named(run, evaluation.step)
            raise ClipwatchError(f"{where} has no scores of {scorer!r}; further scorers: {known}")
        return others[scorer]


@contextmanager
def answers(log: Path) -> Iterator[Answers]:
    """Open a log for questions.

    Raises:
        ClipwatchError: There is none.
        JournalError: It cannot be read.
    """
    if not log.exists():
        raise ClipwatchError(
            f"there is no log in {log.parent}", fix="name the folder with --state-dir"
        )
    with Journal(log, read_only=True) as journal:
        yield Answers(journal)


def scored(run: Run, protocol: str) -> list[Evaluation]:
    """Return what was scored under a protocol, in the order in which it was."""
    return [run.evaluations[id_] for id_ in run.scored.get(protocol, ())]


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: of many the first ones and the last."""
    if len(names) > LISTED:
        names = [*names[: LISTED - 1], "...", names[-1]]
    return ", ".join(names)


def unlike(a: EvaluationProtocol, b: EvaluationProtocol) -> list[str]:
    """Return in which fields two protocols differ, with both values; of prompts how many do."""
    first: Mapping[str, object] = msgspec.to_builtins(a)
    second: Mapping[str, object] = msgspec.to_builtins(b)
    return [
        _prompts(a, b)
        if name == "prompts"
        else f"{name} {_value(value)} and {_value(second[name])}"
        for name, value in first.items()
        if value != second[name]
    ]


def circumstances(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return in which circumstances these were made that differ and may matter, with the values.

    The GPU's own number does not matter, its kind does. What is not known is not told.
    """
    keys = dict.fromkeys(key for it in evaluations for key in it.environment if key != "gpu")
    found = {
        key: list(dict.fromkeys(it.environment[key] for it in evaluations if key in it.environment))
        for key in keys
    }
    return [f"{key}: {listed(values)}" for key, values in found.items() if len(values) > 1]


def _prompts(a: EvaluationProtocol, b: EvaluationProtocol) -> str:
    one, other = set(a.prompts), set(b.prompts)
    if one == other:
        return "prompts in another order"
    lacking = f"{len(one - other)} of {len(one)} and {len(other - one)} of {len(other)}"
    return f"prompts ({lacking} are not in the other)"


def _value(value: object) -> str:
    return plain(json.dumps(value, ensure_ascii=False), VALUE)
