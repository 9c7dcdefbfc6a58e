"""What the page shows of answers to the prompts' questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipwatch.domain.protocol import Prompt
from clipwatch.domain.state import Evaluation
from clipwatch.report.curves import Curve
from clipwatch.results.answers import question_means
from clipwatch.results.results import Results
from clipwatch.statistics import Summary


def asked(prompt: Prompt) -> dict[str, Any]:
    """Return its questions, each with its answer and its skill; {} for none."""
    found = [[it.text, it.answer, it.skill] for it in prompt.questions]
    return {"questions": found} if found else {}


def answered(results: Results, curve: Curve, evaluation: Evaluation) -> dict[str, Any]:
    """Return what a curve's scorer answered about a checkpoint; {} for one that asks nothing.

    "answers" are, by prompt in the protocol's order, the mean of each question's over its images;
    "skills" the mean of each and its interval, none where the rest of the prompts was spared.
    """
    means = question_means(results.images(curve.run, evaluation), curve.scorer)
    if not means:
        return {}
    prompts = results.protocols[evaluation.protocol].prompts
    done = evaluation.completed
    found = done.answered.get(curve.scorer) if done else None
    return {
        "answers": [_rounded(means[it.id]) if it.id in means else None for it in prompts],
        "skills": {name: _ends(it) for name, it in found.skills.items()} if found else {},
        "geometric": _ends(found.geometric) if found else None,
    }


def _ends(summary: Summary) -> tuple[float, float | None, float | None]:
    return summary.mean, summary.low, summary.high


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(it, 4) for it in values]
