"""One evaluation by itself: its mean with an interval, by category, its quantiles."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from scipy.special import stdtrit

from clipwatch.statistics.scale import Scale
from clipwatch.statistics.scores import Scores, prompt_means
from clipwatch.statistics.summary import Summary, summarize

CONFIDENCE: Final = 0.95


def describe(scores: Scores) -> Summary:
    """Summarise an evaluation; its interval speaks of all prompts that are like these.

    Images of one prompt are alike, so prompts are what is counted: with m the mean of all n images
    and e_p the sum of (x - m) over the images of prompt p,

        se^2 = P / (P - 1) * sum_p e_p^2 / n^2,    low, high = m -/+ t(0.975; P - 1) * se

    (Liang and Zeger 1986, with the usual factor for few clusters; for language models Miller 2024,
    arXiv 2411.00640, section 2.2). With equally many images of each prompt that is the standard
    deviation of the prompts' means over sqrt(P). The interval covers 95 % where prompts' means are
    about normal or many; strongly skewed ones (skewness 1.5) it covers in 93 % for 16 prompts and
    in 94 % for 32 (benchmarks/coverage.py).

    Raises:
        ValueError: There is no score, or one is not finite.
    """
    images = [score for row in scores.values() for score in row]
    summary = summarize(images)
    sums = [math.fsum(score - summary.mean for score in row) for row in scores.values() if row]
    count = len(sums)
    if count == 1:
        return replace(summary, prompts=count)
    squares = math.fsum(total * total for total in sums)
    se = math.sqrt(count / (count - 1) * squares) / len(images)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * se
    return replace(summary, prompts=count, se=se, low=summary.mean - half, high=summary.mean + half)


def described(scores: Scores, scale: Scale) -> Summary:
    """Summarise an evaluation as it is told: losses with their own sign, see `Scale.turned`.

    Raises:
        ValueError: As `describe`.
    """
    found = describe(scores)
    return found.turned() if scale.turned else found


def by_category(scores: Scores, categories: Mapping[str, str]) -> dict[str, Summary]:
    """Summarise each category by itself, sorted by name; prompts without one are left out.

    Args:
        scores: The evaluation.
        categories: Prompt id -> category; "" is none.

    Raises:
        ValueError: A score is not finite.
    """
    groups: defaultdict[str, dict[str, Sequence[float]]] = defaultdict(dict)
    for prompt, row in scores.items():
        if row and (category := categories.get(prompt)):
            groups[category][prompt] = row
    return {category: describe(groups[category]) for category in sorted(groups)}


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The ends, the quarters and the median."""


def quantiles(scores: Scores, at: Sequence[float] = QUANTILES) -> tuple[float, ...]:
    """Return quantiles of the prompts' means, in the order of `at`.

    Between two means the line is straight (definition 7 of Hyndman and Fan 1996).

    Raises:
        ValueError: There is no score.
    """
    means = list(prompt_means(scores).values())
    if not means:
        raise ValueError("no scores")
    return tuple(float(value) for value in np.quantile(means, at))
