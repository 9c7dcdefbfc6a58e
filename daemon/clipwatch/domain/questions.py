"""What is asked of a picture beside its prompt, and what the answers come to.

A part of the log's vocabulary, see `events`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from clipwatch.statistics import Summary


@dataclass(frozen=True, slots=True)
class Question:
    """A requirement of a prompt, as a question to its picture, with the `answer` that is right.

    `skill` is what it takes to get it right ("count", "attribute"), "" where nobody says.
    """

    text: str
    answer: str
    skill: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a scorer's answers to the prompts' questions come to; its mean stands with all means.

    Attributes:
        geometric: Of each picture the geometric mean of its answers, which one requirement that is
            ignored spoils (Soft-TIFA GM of GenEval 2, arXiv 2512.16853).
        skills: Of each skill, by its name, all answers.
    """

    geometric: Summary
    skills: dict[str, Summary] = field(default_factory=dict)


def are_answered(
    scores: Mapping[str, float],
    answers: Mapping[str, Sequence[float]],
    asked: Sequence[Question],
) -> bool:
    """Whether somebody answered where something is asked, and only there.

    Each who did is among those who scored, by the mean of a finite number for each question.
    """
    return bool(answers) == bool(asked) and all(
        len(it) == len(asked)
        and all(map(math.isfinite, it))
        and math.isclose(scores.get(name, math.nan), fmean(it), rel_tol=1e-6, abs_tol=1e-9)
        for name, it in answers.items()
    )
