"""From the log's images to what was answered about them, as tables; imports nothing heavy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.questions import Question
from clipwatch.results.tables import table_of
from clipwatch.statistics.scores import Scores

Asked = Mapping[str, Sequence[Question]]
"""Prompt id -> its questions."""


def asked_of(prompts: Iterable[Prompt]) -> dict[str, tuple[Question, ...]]:
    """Return the questions of each prompt that has some."""
    return {it.id: it.questions for it in prompts if it.questions}


def who_answered(images: Iterable[ImageScore]) -> list[str]:
    """Return the scorers that answered questions, sorted."""
    return sorted({name for image in images for name, it in image.answers.items() if it})


def geometric_table(images: Iterable[ImageScore], scorer: str) -> Scores:
    """Return prompt id -> the geometric mean of each picture's answers."""
    known = ((it, answers) for it in images if (answers := it.answers.get(scorer)))
    return table_of((it.prompt_id, it.index, geometric(answers)) for it, answers in known)


def geometric(values: Sequence[float]) -> float:
    """Return the geometric mean of numbers that are not negative; 0 where one of them is."""
    return 0.0 if min(values) <= 0 else math.exp(fmean(map(math.log, values)))


def skill_tables(images: Iterable[ImageScore], scorer: str, asked: Asked) -> dict[str, Scores]:
    """Return skill -> prompt id -> all answers that it took, of all its pictures; sorted."""
    found: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)
    for image in images:
        answers = image.answers.get(scorer, ())
        for question, value in zip(asked.get(image.prompt_id, ()), answers, strict=False):
            if question.skill:
                found[question.skill].setdefault(image.prompt_id, []).append(value)
    return {skill: found[skill] for skill in sorted(found)}


def question_means(images: Iterable[ImageScore], scorer: str) -> dict[str, list[float]]:
    """Return prompt id -> the mean of each of its questions' answers over its pictures."""
    rows: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    for image in images:
        if answers := image.answers.get(scorer):
            rows[image.prompt_id].append(answers)
    return {it: [fmean(each) for each in zip(*row, strict=False)] for it, row in rows.items()}
