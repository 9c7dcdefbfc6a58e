"""Which requirements of the prompts the images of a checkpoint do not meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from clipwatch.domain.protocol import Prompt
from clipwatch.domain.questions import Answered, Question
from clipwatch.domain.state import Evaluation
from clipwatch.domain.strengths import base_of
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.textfiles import plain
from clipwatch.results.answers import question_means, who_answered
from clipwatch.results.figures import aligned
from clipwatch.results.named import Named, as_found
from clipwatch.results.results import Results
from clipwatch.statistics import Summary

DIGITS = 2
TEXT = 70
"""Characters of a prompt that are shown."""


@dataclass(frozen=True, slots=True)
class Met:
    """A requirement: how probable its right answer is, by the mean of the prompt's images.

    `base` is the same of the base model, None where that was not asked about.
    """

    prompt: Prompt
    question: Question
    value: float
    base: float | None


@dataclass(frozen=True, slots=True)
class Requirements:
    """All of them of one checkpoint, the one met least first, by one scorer.

    `now` and `base` are what the log says of the checkpoint and of the base model: None where
    nothing is known of all prompts. `alike`: both were asked about the same prompts.
    """

    named: Named
    evaluation: Evaluation
    scorer: str
    met: tuple[Met, ...]
    now: Answered | None
    base: Answered | None
    alike: bool


def requirements(results: Results, named: Named, scorer: str | None) -> Requirements:
    """Return the requirements of a checkpoint that somebody named.

    Args:
        results: The log.
        named: Under its run's present protocol, or the newest that it was scored under.
        scorer: Whose answers, None for the first that has some.

    Raises:
        ClipwatchError: No scorer asked about it, or not this one.
    """
    found = named.results()
    present = [it for it in named.run.present if it in found]
    protocol = present[0] if present else max(found, key=[*results.protocols].index)
    evaluation = found[protocol]
    images = results.images(named.run, evaluation)
    known = who_answered(images)
    if not known or (scorer is not None and scorer not in known):
        told = f"those that did: {', '.join(known)}" if known else "no scorer did"
        asked = f"{scorer!r} answered no questions" if scorer else "no question was answered"
        raise ClipwatchError(
            f"{asked} about {named}; {told}",
            fix='name a scorer of kind "questions" in the settings, and prompts that have some',
        )
    name = known[0] if scorer is None else scorer
    base = named.run.evaluations.get(base_of(named.run, protocol))
    now = question_means(images, name)
    before = question_means(results.images(named.run, base), name) if base else {}
    met = _met(results.protocols[protocol].prompts, now, before)
    ordered = sorted(met, key=lambda it: it.value)
    both = _of(evaluation, name), _of(base, name)
    own = as_found(named, evaluation)
    return Requirements(own, evaluation, name, tuple(ordered), *both, now.keys() == before.keys())


def _met(
    prompts: Sequence[Prompt],
    now: Mapping[str, Sequence[float]],
    before: Mapping[str, Sequence[float]],
) -> Iterator[Met]:
    for prompt in prompts:
        past = before.get(prompt.id)
        values = zip(prompt.questions, now.get(prompt.id, ()), strict=False)
        for place, (question, value) in enumerate(values):
            yield Met(prompt, question, value, past[place] if past else None)


def _of(evaluation: Evaluation | None, scorer: str) -> Answered | None:
    done = evaluation.completed if evaluation else None
    return done.answered.get(scorer) if done else None


def skills(found: Requirements) -> list[str]:
    """Return a table of the skills, the weakest first, and of prompts as a whole."""
    if found.now is None:
        return ["Not all prompts were scored, and so nothing is told of skills."]
    past = found.base if found.alike and not found.evaluation.of_base else None
    rows = [("skill", "right", "95 % interval", *(("base", "change") if past else ()), "answers")]
    ordered = sorted(found.now.skills.items(), key=lambda it: it[1].mean)
    for name, it in (*ordered, ("whole prompts", found.now.geometric)):
        before = None
        if past:
            before = past.geometric if it is found.now.geometric else past.skills.get(name)
        rows.append(_row(plain(name), it, before, beside=past is not None))
    return aligned(rows, left=(0,))


def _row(name: str, now: Summary, before: Summary | None, *, beside: bool) -> tuple[str, ...]:
    ends = "" if now.low is None or now.high is None else f"{_share(now.low)} to {_share(now.high)}"
    more = (_share(before.mean), f"{now.mean - before.mean:+z.{DIGITS}f}") if before else ("", "")
    return (name, _share(now.mean), ends, *(more if beside else ()), str(now.n))


def least(found: Requirements, most: int) -> list[str]:
    """Return a table of the requirements that are met least, the worst first."""
    beside = any(it.base is not None for it in found.met) and not found.evaluation.of_base
    rows = [("right", *(("base",) if beside else ()), "question", "answer", "prompt")]
    for it in found.met[:most]:
        base = "" if it.base is None else _share(it.base)
        texts = (it.question.text, it.question.answer, it.prompt.text)
        rows.append(
            (_share(it.value), *((base,) if beside else ()), *(plain(text, TEXT) for text in texts))
        )
    first = 1 + beside
    return aligned(rows, left=(first, first + 1, first + 2))


def _share(value: float) -> str:
    return f"{value:z.{DIGITS}f}"
