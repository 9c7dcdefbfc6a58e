"""The best of many evaluations, and the plateau: corrected for having looked at all."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from clipwatch.statistics.best import best_of, plateau
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scores import Scores
from score_tables import noisy


def brute_force(evaluations: dict[str, Scores]) -> float:
    """Return |t| that the largest of all pairs passes in 5 % of all flips, one flip at a time."""
    table = np.array([[row[0] for row in scores.values()] for scores in evaluations.values()])
    columns = list(itertools.combinations(range(len(table)), 2))
    largest = []
    for signs in itertools.product((1.0, -1.0), repeat=table.shape[1] - 1):
        flipped = table * np.array([*signs, 1.0])
        ts = []
        for i, j in columns:
            difference = flipped[i] - flipped[j]
            ts.append(
                abs(difference.mean()) / (difference.std(ddof=1) / math.sqrt(len(difference)))
            )
        largest.append(max(ts))
    place = math.floor(0.05 * len(largest))
    others = largest[1:]  # the first flip turns nothing
    return float(sorted(others)[-place])


def test_intervals_are_max_t() -> None:
    """The intervals' factor is that of a brute-force max-T over all flips and pairs."""
    evaluations = noisy(9, [0.0, 0.01, 0.02, 0.03])
    found = best_of(evaluations)
    factor = brute_force(evaluations)
    for name, (delta, low, high) in found.differences.items():
        pairs = zip(evaluations[name].values(), evaluations[found.best].values(), strict=True)
        difference = [a[0] - b[0] for a, b in pairs]
        half = factor * np.std(difference, ddof=1) / 3
        assert delta == pytest.approx(np.mean(difference))
        assert (low, high) == pytest.approx((delta - half, delta + half))


def test_the_best_and_those_near_it() -> None:
    """What is far below the best is told from it, what is near is not, among fourteen."""
    shifts = [0.0, 0.02, 0.0195, 0.001, *[0.0] * 10]
    found = best_of(noisy(200, shifts))
    assert found.best in {"1", "2"}
    assert set(found.tied) | {found.best} == {"1", "2"}
    assert found.n_prompts == 200
    assert set(found.differences) == {str(index) for index in range(14)} - {found.best}


def test_looking_at_many_widens() -> None:
    """A pair's interval is wider among 20 than alone, where it is nearly `compare`'s."""
    evaluations = noisy(60, [0.02, *[0.0] * 19])
    found, alone = best_of(evaluations), best_of(dict(list(evaluations.items())[:2]))
    _, low, high = alone.differences["1"]
    single = compare("0", evaluations["0"], "1", evaluations["1"])
    assert (low, high) == pytest.approx((single.low, single.high), abs=0.03 * (high - low))
    wide = found.differences["1"]
    assert wide[2] - wide[1] > 1.4 * (high - low)


def test_order_and_seed() -> None:
    """Order of prompts changes nothing, a seed gives the same figures again, another nearly so."""
    evaluations = noisy(50, [0.0, 0.004, 0.008])
    turned = {name: dict(reversed(list(scores.items()))) for name, scores in evaluations.items()}
    found = best_of(evaluations)
    assert best_of(turned) == found == best_of(evaluations)
    other = best_of(evaluations, seed=1)
    assert other != found
    for name, interval in found.differences.items():
        assert other.differences[name] == pytest.approx(interval, abs=0.001)


def test_equal_ones_tie_and_the_first_is_named() -> None:
    """The same scores under three names: the first is the best, the others tie at 0 width."""
    scores = noisy(40, [0.0])["0"]
    found = best_of({"x": scores, "y": scores, "z": scores})
    assert (found.best, found.tied) == ("x", ("y", "z"))
    assert found.differences["y"] == (0.0, 0.0, 0.0)


def test_float_noise_ties() -> None:
    """The same images scored a hair higher each time cannot be told apart."""
    scores = noisy(40, [0.0])["0"]
    higher = {name: [score + 5e-7 for score in row] for name, row in scores.items()}
    found = best_of({"x": scores, "y": higher})
    assert (found.best, found.tied) == ("x", ("y",))


def test_one_alone_and_few_prompts() -> None:
    """One evaluation is the best of one; on five prompts all tie within -2..2."""
    assert best_of(noisy(30, [0.0])).differences == {}
    found = best_of(noisy(5, [0.0, 0.5, 0.2]))
    assert (found.best, found.tied) == ("1", ("0", "2"))
    assert found.differences["0"][1:] == (-2.0, 2.0)


def test_common_prompts_only() -> None:
    """Prompts that one of them lacks are left out of all."""
    evaluations = noisy(40, [0.0, 0.01])
    part = dict(list(evaluations["0"].items())[:25])
    assert best_of({"a": part, "b": evaluations["1"]}).n_prompts == 25
    with pytest.raises(ValueError, match="share no scored prompt"):
        best_of({"a": {"x": [0.1]}, "b": {"y": [0.1]}})
    with pytest.raises(ValueError, match="share no scored prompt"):
        best_of({})


def split(prompts: int, earlier: list[float], recent: list[float], seed: int = 0) -> bool:
    """Say whether a plateau is called of checkpoints with these shifts."""
    tables = list(noisy(prompts, [*earlier, *recent], seed=seed).items())
    return plateau(dict(tables[: len(earlier)]), dict(tables[len(earlier) :])).reached


def test_plateau_needs_prompts() -> None:
    """Equal checkpoints are a plateau on 2,000 prompts; on 40 noise could hide a gain, so none."""
    assert split(2000, [0.0] * 5, [0.0] * 3)
    assert not split(40, [0.0] * 5, [0.0] * 3)
    assert not split(5, [0.0] * 5, [0.0] * 3)


def test_a_gain_is_no_plateau() -> None:
    """A recent one that is better, by much or by little, means that there is no plateau."""
    assert not split(2000, [0.0] * 5, [0.0, 0.02, 0.0])
    assert not split(5000, [0.0] * 5, [0.0, 0.003, 0.0])


def test_getting_worse_is_a_plateau() -> None:
    """Few prompts are enough to say that there is no gain where all got much worse."""
    assert split(40, [0.0] * 5, [-0.05] * 3)


def test_plateau_says_how_sure() -> None:
    """`within` is the gain that is ruled out: `worth` above it is a plateau, below it none."""
    tables = list(noisy(500, [0.0] * 6).items())
    earlier, recent = dict(tables[:4]), dict(tables[4:])
    within = plateau(earlier, recent).within
    assert plateau(earlier, recent, worth=within * 1.01).reached
    assert not plateau(earlier, recent, worth=within * 0.99).reached
    with pytest.raises(ValueError, match="needs earlier and recent"):
        plateau(earlier, {})
