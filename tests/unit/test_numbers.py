"""Protocols, seeds and statistics: the pure numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.protocol import ScorerSpec, image_seed
from clipwatch.results.table import sparkline
from clipwatch.statistics import summarize
from protocols import PROTOCOL


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_summaries_agree_with_numpy(values: list[float]) -> None:
    """Mean, extremes and the population's standard deviation are numpy's."""
    clip = summarize(values)
    assert math.isclose(clip.mean, np.mean(values), abs_tol=1e-12)
    assert math.isclose(clip.std, np.std(values), abs_tol=1e-9)
    assert (clip.min, clip.max, clip.n) == (min(values), max(values), len(values))


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf]])
def test_what_is_no_number_is_never_summarised(values: list[float]) -> None:
    """No score and non-finite scores are refused."""
    with pytest.raises(ValueError, match=r"scores|finite"):
        summarize(values)


def test_every_image_has_its_own_seed_that_depends_on_nothing_else() -> None:
    """Seeds follow the prompt and the index, not the order or the number of prompts."""
    seeds = {(p.id, index): seed for p, index, seed in PROTOCOL.images()}
    assert len(set(seeds.values())) == 4
    turned = replace(PROTOCOL, prompts=PROTOCOL.prompts[::-1], images_per_prompt=1)
    assert {(p.id, i): seed for p, i, seed in turned.images()}.items() <= seeds.items()


def test_seed_zero_is_a_seed() -> None:
    """0 gives another noise than 1, and always the same."""
    assert image_seed(0, "a", 0) != image_seed(1, "a", 0)
    assert image_seed(0, "a", 0) == 5_377_369_291_220_743_188


@given(st.integers(), st.text(), st.integers(0, 100))
def test_seeds_fit_every_generator(seed: int, prompt: str, index: int) -> None:
    """A seed is a non-negative 63-bit integer."""
    assert 0 <= image_seed(seed, prompt, index) < 2**63


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"guidance": 0.0},
        {"scorers": (ScorerSpec("", "/other"),)},
        {"dtype": "bf16"},
        {"scheduler": "ddim"},
        {"scoring_version": 2},
        {"prompts": PROTOCOL.prompts[:1]},
    ],
)
def test_whatever_changes_a_number_changes_the_digest(changed: dict[str, object]) -> None:
    """Protocols that could give other scores have other digests; equal ones have the same."""
    assert replace(PROTOCOL, **changed).digest != PROTOCOL.digest  # type: ignore[arg-type]
    assert replace(PROTOCOL).digest == PROTOCOL.digest


def test_sparklines_span_from_the_lowest_to_the_highest() -> None:
    """The lowest value is the lowest bar, the highest the highest; nothing draws nothing."""
    assert sparkline([0.1, 0.2, 0.3]) == "▁▅█"
    assert sparkline([0.2]) == "▄"
    assert sparkline([]) == ""


@given(st.lists(st.floats(-1, 1), max_size=300), st.integers(1, 100))
def test_a_sparkline_has_no_more_bars_than_there_is_room(values: list[float], most: int) -> None:
    """Of more values each bar is the mean of some; few have a bar each."""
    assert len(sparkline(values, most)) == min(len(values), most)
    assert sparkline([0.0, 0.2, 0.9, 1.0], 2) == "▁█"
