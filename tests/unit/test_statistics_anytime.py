"""The difference that may be looked at after every prompt, and what it makes known."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from clipwatch.statistics.anytime import _PRIOR, LEAST, Difference, Differing, critical, p_value
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import COSINE
from clipwatch.statistics.scores import Scores
from clipwatch.statistics.sequential import Running

WORTH = 0.005


@pytest.mark.parametrize(("n", "t"), [(8, 3.0), (40, 2.0), (40, 4.0), (60, 3.5)])
def test_p_is_one_over_the_mixture_of_noncentral_laws(n: int, t: float) -> None:
    """The likelihood ratio, with the effect drawn from its Gaussian law, integrated numerically."""
    near = t / math.sqrt(n) + np.linspace(-8, 8, 161) / math.sqrt(n)
    laws = stats.nct.pdf(t, n - 1, near * math.sqrt(n))
    weighed = laws * stats.norm.pdf(near, scale=math.sqrt(_PRIOR))
    ratio = float(integrate.trapezoid(weighed, near))
    expected = min(1.0, float(stats.t.pdf(t, n - 1)) / ratio)
    assert p_value(n, t) == pytest.approx(expected, rel=1e-4)
    assert p_value(n, -t) == p_value(n, t)


@given(st.integers(2, 5000), st.floats(1e-4, 0.2))
def test_p_and_interval_agree(n: int, alpha: float) -> None:
    """At the interval's end p is alpha; where there is no interval nothing is ever so rare."""
    factor = critical(n, alpha)
    if math.isinf(factor):
        assert p_value(n, math.inf) > alpha * (1 - 1e-9)
    else:
        assert p_value(n, factor) == pytest.approx(alpha, rel=1e-6)


def test_it_is_wider_than_one_look_by_half() -> None:
    """Between 1.4 and 1.8 times Student's interval, from the least number of prompts on."""
    for n in range(LEAST, 2000, 7):
        assert 1.4 < critical(n) / float(stats.t.ppf(0.975, n - 1)) < 1.8
    assert math.isinf(critical(1))
    assert p_value(1, 5.0) == 1.0


@pytest.mark.parametrize(
    ("low", "high", "known"),
    [
        (0.001, 0.004, "within"),  # sure, and no matter
        (0.001, 0.006, "above"),
        (-0.006, -0.001, "below"),
        (-0.004, 0.004, "within"),
        (-0.006, 0.004, None),
    ],
)
def test_what_an_interval_makes_known(low: float, high: float, known: str | None) -> None:
    """What does not matter comes first, whichever way it is; too few prompts say nothing."""
    found = Difference(LEAST, (low + high) / 2, low, high)
    assert found.known(WORTH) == known
    assert Difference(LEAST - 1, found.delta, low, high).known(WORTH) is None


def followed(values: list[float], **more: bool) -> Differing:
    """Follow an evaluation whose reference has 0.3 everywhere."""
    names = [f"p{n}" for n in range(len(values))]
    found = Differing(1, dict.fromkeys(names, 0.3), WORTH, 2.5e-5, **more)
    for name, value in zip(names, values, strict=True):
        found.add([(name, 0, 0.3 + value)])
    return found


@pytest.mark.parametrize(
    ("shift", "known"), [(0.0, "within"), (0.002, "within"), (0.01, "above"), (-0.01, "below")]
)
def test_equal_differences_are_known_at_the_least(shift: float, known: str) -> None:
    """Without any luck the least number of prompts tells all, and what comes later is passed by."""
    found = followed([shift] * 60)
    assert (found.known, found.enough) == (known, True)
    assert found.difference
    assert found.difference.prompts == LEAST
    assert found.difference.delta == pytest.approx(shift)


def test_one_that_is_above_goes_on_where_it_will_be_compared_with() -> None:
    """Known, and not enough; what is below or within has no such use."""
    above = followed([0.01] * 40, go_on=True)
    assert (above.known, above.enough) == ("above", False)
    assert followed([-0.01] * 40, go_on=True).enough
    assert followed([0.0] * 40, go_on=True).enough


def test_prompts_that_the_reference_lacks_say_nothing() -> None:
    """They are not counted, nor waited for."""
    found = Differing(1, {"a": 0.3}, WORTH)
    found.add([("x", 0, 0.9), ("a", 0, 0.4)])
    assert found.difference
    assert found.difference.prompts == 1
    assert found.difference.delta == pytest.approx(0.1)
    assert not found.enough


@given(st.integers(1, 3), st.integers(1, 30), st.integers(0, 10**6))
def test_batches_change_nothing(images: int, size: int, seed: int) -> None:
    """In batches of any size it is what it is of all images at once, in the same order."""
    luck = Random(seed)
    told = [(f"p{n}", i, luck.gauss(0.305, 0.01)) for n in range(90) for i in range(images)]
    reference = {f"p{n}": luck.gauss(0.3, 0.002) for n in range(90)}
    at_once = Differing(images, reference, WORTH)
    at_once.add(told)
    in_parts = Differing(images, reference, WORTH)
    for at in range(0, len(told), size):
        in_parts.add(told[at : at + size])
    assert in_parts.known == at_once.known
    assert in_parts.difference == at_once.difference


def test_a_prompt_waits_for_those_before_it() -> None:
    """One of whose two images one came counts when the other is there, and holds up the next."""
    found = Differing(2, {"a": 0.0, "b": 0.0}, WORTH)
    found.add([("a", 0, 1.0), ("b", 0, 0.5), ("b", 1, 0.5)])
    assert found.difference is None
    found.add([("a", 1, 0.0)])
    assert found.difference
    assert found.difference.prompts == 2
    assert found.difference.delta == pytest.approx(0.5)


def test_it_holds_at_all_looks_at_once() -> None:
    """Of 400 that do not differ 5 % at most are ever said to, but for luck."""
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        running = Running()
        for value in generator.normal(size=300).tolist():
            running = running.add(value)
            found = Difference.of(running)
            if found.low > 0 or found.high < 0:
                wrong += 1
                break
    assert wrong <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def table(values: list[float]) -> Scores:
    return {f"{n:03}": [value] for n, value in enumerate(values)}


def test_compare_knows_of_an_evaluation_that_ended() -> None:
    """Interval, p and verdict agree, are wider than a plain one's, and wider among several."""
    luck = Random(1)
    a = [luck.gauss(0.3, 0.02) for _ in range(60)]
    b = [value + luck.gauss(0.004, 0.01) for value in a]
    plain, ended, among = (
        compare("a", table(a), "b", table(b), COSINE, stopped=it) for it in (0, 1, 5)
    )
    assert [it.stopped for it in (plain, ended, among)] == [False, True, True]
    assert plain.delta == ended.delta == among.delta
    widths = [it.high - it.low for it in (plain, ended, among)]
    assert widths == sorted(widths)
    assert plain.p < ended.p <= among.p
    for it in (ended, among):
        assert (it.p < 0.05) == (it.verdict != "inconclusive")
    same = compare("a", table(a), "b", table(a), COSINE, stopped=1)
    assert (same.low, same.high, same.p, same.verdict) == (0.0, 0.0, 1.0, "inconclusive")
    few = compare("a", table(a[:2]), "b", table(b[:2]), COSINE, stopped=1)
    assert (few.low, few.high, few.p) == (-2.0, 2.0, 1.0)
