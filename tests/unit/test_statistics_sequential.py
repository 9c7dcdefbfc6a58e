"""The confidence sequence that says when enough prompts have been seen."""

from __future__ import annotations

import math
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from clipwatch.statistics.scores import prompt_means
from clipwatch.statistics.sequential import (
    Followed,
    Running,
    enough,
    half_width,
    student_half_width,
)


def seen(values: list[float]) -> Running:
    """Return the running sums of values."""
    running = Running()
    for value in values:
        running = running.add(value)
    return running


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=50), st.sampled_from([0.0, 1e6]))
def test_running_sums_are_sound(values: list[float], far: float) -> None:
    """Mean and squares are those of the standard library, also far away from 0."""
    shifted = [value + far for value in values]
    running = seen(shifted)
    assert running.n == len(values)
    assert running.total / running.n == pytest.approx(statistics.fmean(shifted), abs=1e-9)
    expected = statistics.variance(shifted) * (len(values) - 1)
    assert running.squares == pytest.approx(expected, rel=1e-6, abs=1e-6 if far else 1e-12)


def test_half_width_is_the_papers() -> None:
    """At 500 prompts of standard deviation 1 the half width is the formula's, worked by hand.

    log(1 - 2 log 0.05) - 2 log 0.05 = 1.9450 + 5.9915 = n r;
    sqrt(2 * 8.9365 / (500 * 7.9365) * log(sqrt(8.9365) / 0.05)) = 0.1358.
    """
    running = Running(500, 0.0, 499.0)
    assert half_width(running) == pytest.approx(0.13577, abs=5e-5)


def test_half_width_is_wider_than_one_look_and_narrows() -> None:
    """It is between 1.3 and 2 times the normal interval from 64 to 5,000 prompts, and shrinks."""
    widths = {n: half_width(Running(n, 0.0, n - 1.0)) for n in range(64, 5001)}
    assert all(1.3 < widths[n] * math.sqrt(n) / 1.96 < 2 for n in widths)
    assert all(widths[n] > widths[n + 1] for n in range(64, 5000))


def test_half_width_is_tuned_near_its_target() -> None:
    """Compared with one look it is narrowest within a few hundred prompts of the target."""
    relative = {n: half_width(Running(n, 0.0, n - 1.0)) * math.sqrt(n) for n in range(64, 5001)}
    assert relative[500] < min(relative[64], relative[5000])
    stricter = half_width(Running(500, 0.0, 499.0), alpha=0.01)
    assert stricter > half_width(Running(500, 0.0, 499.0))


@pytest.mark.parametrize("values", [[], [0.3]])
def test_too_few_to_say(values: list[float]) -> None:
    """Without two prompts the half width is infinite, and nothing is enough."""
    assert half_width(seen(values)) == math.inf
    assert not enough(seen(values), precision=1.0, minimum=0)


def test_enough_waits_for_the_minimum() -> None:
    """Equal scores look certain at once, and are not believed before the minimum."""
    assert not enough(seen([0.3] * 63), precision=0.003)
    assert enough(seen([0.3] * 64), precision=0.003)
    assert enough(seen([0.3] * 8), precision=0.003, minimum=8)


def test_enough_is_the_precision() -> None:
    """Scores that spread by 0.025 are known to 0.003 after 550 to 750 prompts, not before."""
    values = [0.275, 0.325] * 400
    first = next(n for n in range(2, 801) if enough(seen(values[:n]), precision=0.003))
    assert 550 <= first <= 750


def read_again(told: list[tuple[str, int, float]], images: int, precision: float) -> bool:
    """Answer from all images at once, as it was done before an evaluation was followed."""
    table: dict[str, dict[int, float]] = {}
    for prompt, index, score in told:
        table.setdefault(prompt, {})[index] = score
    whole = {id_: [row[n] for n in sorted(row)] for id_, row in table.items() if len(row) == images}
    return enough(seen(list(prompt_means(whole).values())), precision)


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[int, list[list[tuple[str, int, float]]]]:
    """Draw images for each prompt, and batches that bring all of them in some order."""
    images, prompts = draw(st.integers(1, 3)), draw(st.integers(1, 90))
    luck = Random(draw(st.integers()))
    told = [
        (f"p{n}", index, luck.gauss(0.3, 0.02)) for n in range(prompts) for index in range(images)
    ]
    reach = draw(st.sampled_from([1, 5, len(told)]))  # how far from their order they come
    places = {cell: n + luck.uniform(0, reach) for n, cell in enumerate(told)}
    told.sort(key=places.__getitem__)
    size = draw(st.integers(1, 40))
    return images, [told[at : at + size] for at in range(0, len(told), size)]


@given(evaluations(), st.floats(-1e-3, 1e-3))
def test_what_is_followed_is_what_is_read_again(
    evaluation: tuple[int, list[list[tuple[str, int, float]]]], beside: float
) -> None:
    """After each batch, whatever the order: also at the very half width that there is then."""
    images, batches = evaluation
    told = [cell for batch in batches for cell in batch]
    table: dict[str, list[float]] = {}
    for prompt, _, score in told:
        table.setdefault(prompt, []).append(score)
    exact = half_width(seen(list(prompt_means(table).values())))
    for precision in (exact, math.nextafter(exact, 0), exact + beside, 0.01):
        followed = Followed(images, precision)
        for n, batch in enumerate(batches, 1):
            followed.add(batch)
            so_far = [cell for it in batches[:n] for cell in it]
            assert followed.enough == read_again(so_far, images, precision)


def test_what_is_followed_is_not_kept() -> None:
    """An image costs the same work after ten thousand others as at the beginning."""
    followed = Followed(1, 0.0)
    for n in range(10_000):
        followed.add([(f"p{n}", 0, 0.3)])
    assert vars(followed)["_open"] == {}
    assert vars(followed)["_counted"].n == 10_000


def test_students_width_is_scipys() -> None:
    """From the least number of prompts on, to a millionth."""
    for n in (64, 65, 100, 1000, 10_000):
        exact = float(stdtrit(n - 1, 0.975)) / math.sqrt(n)
        assert student_half_width(Running(n, 0.0, n - 1.0)) == pytest.approx(exact, rel=1e-6)
    assert student_half_width(Running(1, 0.3, 0.0)) == math.inf


def test_students_width_ends_sooner() -> None:
    """Where the sequence takes 550 to 750 prompts, the interval that is published takes 270."""
    ends = {}
    for width in (half_width, student_half_width):
        followed = Followed(1, 0.003, width)
        for n in range(1000):
            followed.add([(f"p{n}", 0, 0.275 + 0.05 * (n % 2))])
            if followed.enough:
                ends[width] = n + 1
                break
    assert 250 <= ends[student_half_width] <= 290
    assert ends[half_width] > 2 * ends[student_half_width]
