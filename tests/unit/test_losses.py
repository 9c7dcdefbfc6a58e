"""Losses on fixed images: what they are of, what they come to, and what they say of a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from clipwatch.domain.decided import Reference
from clipwatch.domain.events import EvaluationCompleted
from clipwatch.domain.losses import (
    LOSS,
    TIMES,
    Example,
    LossMeasured,
    LossNotMeasured,
    LossProtocol,
    Rows,
    losses_of,
    with_losses,
)
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.state import Evaluation, Run
from clipwatch.judging.overfit import Measured, growth, overfit
from clipwatch.results.ranking import looked_at
from clipwatch.statistics import Summary
from clipwatch.statistics.unpaired import difference
from protocols import PROTOCOL

HELD = tuple(Example(f"{number:016x}", f"picture {number}") for number in range(12))
TRAINED = tuple(Example(f"{number:016x}", f"picture {number}") for number in range(100, 112))
PLAN = LossProtocol(HELD, TRAINED, 7, 64, 64)


def measured(held: Rows, trained: Rows = (), plan: LossProtocol = PLAN) -> LossMeasured:
    return LossMeasured("checkpoint-1/a/b", plan, held, trained)


def rows(level: float, seed: int, *, wiggle: float = 0.0, own: int = 0) -> Rows:
    """Return losses of twelve images around a level; those of one `seed` belong to one image."""
    images = np.random.default_rng(seed).normal(0, 0.05, (12, len(TIMES)))
    noise = np.random.default_rng(1000 + own).normal(0, wiggle, images.shape)
    return tuple(tuple(map(float, row)) for row in level + images + noise)


def test_what_is_measured_has_a_name_of_its_own() -> None:
    """Another image, caption, seed, size or time makes another digest; the same ones make none."""
    assert replace(PLAN).digest == PLAN.digest
    others = (
        replace(PLAN, held=(replace(HELD[0], image="f" * 16), *HELD[1:])),
        replace(PLAN, held=(replace(HELD[0], caption="another"), *HELD[1:])),
        replace(PLAN, trained=()),
        replace(PLAN, seed=8),
        replace(PLAN, width=32),
        replace(PLAN, times=TIMES[:3]),
    )
    assert len({PLAN.digest, *(it.digest for it in others)}) == 1 + len(others)


def test_noise_belongs_to_an_image_and_a_time() -> None:
    """It is the same whatever stands beside it, and another for each of both."""
    alone = LossProtocol(HELD[:1], (), 7, 32, 32)
    assert alone.seeds(HELD[0]) == PLAN.seeds(HELD[0])
    seeds = [seed for it in (*HELD, *TRAINED) for seed in PLAN.seeds(it)]
    assert len(set(seeds)) == len(seeds) == 24 * len(TIMES)
    assert PLAN.seeds(replace(HELD[0], caption="another")) == PLAN.seeds(HELD[0])
    assert replace(PLAN, seed=8).seeds(HELD[0]) != PLAN.seeds(HELD[0])


def test_times_lie_evenly_where_bf16_holds_them() -> None:
    """Two in each third of the way; rounded to eight bits they are what they were."""
    assert [sum(low <= it < low + 1000 / 3 for it in TIMES) for low in (0, 1000 / 3, 2000 / 3)] == [
        2,
        2,
        2,
    ]
    for time in TIMES:
        assert time % 2 ** max(0, time.bit_length() - 8) == 0


def test_losses_are_told_by_their_thirds() -> None:
    """And the gap is that of both means, whatever the images' own levels."""
    held = tuple((1.0, 3.0, 4.0, 6.0, 10.0, 12.0) for _ in HELD)
    found = losses_of(measured(held, tuple((1.0,) * 6 for _ in TRAINED)))
    assert found.by == PLAN.digest
    assert found.means == {
        "heldout": 6.0,
        "heldout_low_noise": 2.0,
        "heldout_mid_noise": 5.0,
        "heldout_high_noise": 11.0,
        "trained": 1.0,
        "gap": 5.0,
    }
    assert found.tags(PLAN.digest)["loss/heldout"] == 6.0
    assert set(found.tags("")) == {f"loss_{PLAN.digest[:8]}/{name}" for name in found.means}
    assert "gap" not in losses_of(measured(held)).means


def test_a_failure_takes_nothing_back() -> None:
    """What was measured stays; a problem is told where there is nothing, and goes when there is."""
    failed = LossNotMeasured("checkpoint-1/a/b", "no such file")
    before = losses_of(measured(rows(1.0, 1)))
    assert with_losses(None, failed).problem == "no such file"
    assert with_losses(before, failed) == before
    assert with_losses(with_losses(None, failed), measured(rows(1.0, 1))) == before


def course(held: list[float], trained: list[float] | None = None) -> list[Measured]:
    """Return checkpoints whose losses lie at these levels, and wiggle a little."""
    found = []
    for place, level in enumerate(held):
        own = rows(level, 1, wiggle=0.002, own=place)
        theirs = rows(trained[place], 2, wiggle=0.002, own=100 + place) if trained else ()
        found.append(Measured(100 * place, measured(own, theirs)))
    return found


FALLS_AND_RISES = [1.0, 0.8, 0.7, 0.75, 0.8, 0.9]
FALLS = [1.0, 0.8, 0.6, 0.4, 0.3, 0.25]


def test_a_training_that_learns_by_heart_is_told() -> None:
    """Held-out images get worse while the training's get better: with the step and the size."""
    said = overfit(course(FALLS_AND_RISES, FALLS))
    assert "lowest at step 200" in said
    assert "surely" in said
    assert "the gap to images of the training grew by 0.5" in said
    assert "lowest at epoch 2" in overfit(
        [replace(it, step=it.step // 100) for it in course(FALLS_AND_RISES)], "epoch"
    )


@pytest.mark.parametrize(
    ("held", "trained"),
    [
        (FALLS, FALLS),  # it learns
        ([1.0, 0.8, 0.7, 0.6, 0.5, 0.65], FALLS),  # one checkpoint may be bad luck
        (FALLS_AND_RISES, FALLS_AND_RISES),  # it goes wrong altogether
        ([1.0, 0.8, 0.7, 0.7, 0.701, 0.702], FALLS),  # too little to act on
        (FALLS_AND_RISES[:2], FALLS[:2]),  # too early to say
    ],
)
def test_what_is_no_overfitting_is_not_told(held: list[float], trained: list[float]) -> None:
    """Each of the conditions alone keeps it silent."""
    assert overfit(course(held, trained)) == ""


def test_losses_of_other_images_are_not_compared() -> None:
    """A course begins anew where an image was changed."""
    changed = replace(PLAN, seed=8)
    told = course(FALLS_AND_RISES)
    later = [replace(it, losses=replace(it.losses, protocol=changed)) for it in told[4:]]
    assert overfit(told)
    assert overfit([*told[:4], *later]) == ""


def test_few_images_show_nothing() -> None:
    """As few prompts do: with five no difference is sure."""
    plan = replace(PLAN, held=HELD[:5], trained=TRAINED[:5])
    few = [
        replace(it, losses=measured(it.losses.held[:5], it.losses.trained[:5], plan))
        for it in course(FALLS_AND_RISES, FALLS)
    ]
    assert overfit(few) == ""
    assert growth(few[0].losses, few[-1].losses) is None


def test_flat_losses_are_seldom_called_overfitting() -> None:
    """Twenty checkpoints that only wiggle, looked at one after the other, fifty times over."""
    told = 0
    for seed in range(50):
        random = np.random.default_rng(seed)
        level = random.normal(0, 0.05, (12, len(TIMES)))
        points = []
        for place in range(20):
            own = 1.0 + level + random.normal(0, 0.02, level.shape)
            held: Rows = tuple(tuple(map(float, row)) for row in own)
            points.append(Measured(place, measured(held)))
            if overfit(points):
                told += 1
                break
    assert told <= 1


def test_two_sets_differ_as_welch_says() -> None:
    """Difference and interval are those of scipy's test with unequal variances."""
    random = np.random.default_rng(3)
    one, other = random.normal(1.0, 1.0, 9), random.normal(0.0, 3.0, 14)
    expected = stats.ttest_ind(one, other, equal_var=False)
    interval = expected.confidence_interval(0.95)
    found = difference([*one], [*other])
    assert found == pytest.approx((one.mean() - other.mean(), interval.low, interval.high))
    assert difference([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_what_ended_early_has_its_whole_loss() -> None:
    """It is no best by its images beside others, and is one by its loss."""
    how = replace(PROTOCOL, prompts=tuple(Prompt(str(n), f"prompt {n}") for n in range(10)))
    known = {}
    for step, images in ((1, 20), (2, 12)):
        name, clip = f"checkpoint-{step}", Summary(0.3, 0.3, 0.3, 0.0, images, images // 2)
        one = Evaluation(f"{name}/d/p", name, step, "d", "p", "scored", clip=clip)
        ended = EvaluationCompleted(one.id, {"": clip})
        known[one.id] = replace(one, completed=ended, reference=Reference("checkpoint-1/d/p"))
    run = Run(
        "r", "/out", "p", (), {}, protocols={"p": how}, evaluations=known, scored={"p": [*known]}
    )
    assert [it.step for it in looked_at(run, ["p"])] == [1]
    assert [it.step for it in looked_at(run, ["p"], LOSS)] == [1, 2]
