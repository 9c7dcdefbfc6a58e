"""kill -9 of the daemon at random moments: nothing is lost, nothing is repeated."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from fake_wandb import KEY, FakeWandb
from fast_world import BATCH, TAGS, Training
from real_world import points
from tensorboard_kit import tensorboard


def cases(*, of: int, seeds: int, few: int) -> list[Any]:
    """Return (seed, kills): some kills for `make test`, and so many for each seed of the rest."""
    rest = [pytest.param(seed, of, marks=pytest.mark.thorough) for seed in range(seeds)]
    return [pytest.param(seeds, few), *rest]


def killed(training: Training, kills: int, seed: int, amid: float) -> None:
    """Start and kill daemons beside a growing run; check after each kill that nothing was lost.

    Each is killed up to `amid` seconds after it has written a random number of events: by the time
    alone most kills would fall into its start.
    """
    chance = random.Random(seed)
    for _ in range(kills):
        training.train()
        known, committed, before = training.logged(), training.committed(), training.images()
        daemon = training.start()
        events = len(known) + chance.randrange(10)
        while training.written() < events and daemon.is_alive():
            time.sleep(0.003)  # asking the log costs as much as the daemon's own start
        time.sleep(chance.uniform(0, amid))
        daemon.kill()
        daemon.join()
        assert training.logged()[: len(known)] == known
        assert committed.isdisjoint(training.images()[len(before) :])
    training.finish()


def undisturbed(training: Training, folder: Path) -> Training:
    """Return the same run as it goes when nobody is killed."""
    other = Training(folder)
    for _ in range(training.steps // 10):
        other.train()
    other.finish()
    return other


def assert_no_repeats(training: Training, kills: int) -> None:
    """Images were generated once, but for the batch that was made and the one that was reported."""
    times = Counter(training.images())
    assert set(times) == training.committed()
    assert sum(times.values()) - len(times) <= 2 * kills * BATCH


@pytest.mark.parametrize(("seed", "kills"), cases(of=25, seeds=8, few=5))
def test_kills_at_random_moments_leave_the_state_of_a_run_that_was_never_killed(
    tmp_path: Path, seed: int, kills: int
) -> None:
    """25 kills: the log only grows, no scored image is made again, each step has one point."""
    training = Training(tmp_path / "killed")
    killed(training, kills, seed, amid=0.02)
    assert_no_repeats(training, kills)
    other = undisturbed(training, tmp_path / "undisturbed")
    assert training.results() == other.results()
    training.one_point_a_step()
    steps = list(range(10, training.steps + 1, 10))
    if seed == 0:
        (tmp_path / "server").mkdir()
        reader = ["--logdir", str(training.curve.parent), "--load_fast=true"]
        with tensorboard(training.curve.parent, reader, tmp_path / "server") as server:
            lines = {tag: server.points("clipwatch", tag) for tag in TAGS}
        assert [step for step, _ in lines["clip/mean"]] == steps
        assert [len(line) for line in lines.values()] == [len(steps)] * len(TAGS)


@pytest.mark.parametrize(("seed", "kills"), cases(of=15, seeds=2, few=3))
def test_kills_at_several_strengths_leave_a_curve_of_each(
    tmp_path: Path, seed: int, kills: int
) -> None:
    """No image of any strength is made again, and each curve has each step once."""
    training = Training(tmp_path, own={"strengths": [0.6, 0.8, 1.0]})
    killed(training, kills, seed, amid=0.02)
    assert_no_repeats(training, kills)
    run = training.run
    assert run is not None
    made = {it: run.protocols[it].adapter_strength for it in run.present}
    assert sorted(made.values()) == [0.6, 0.8, 1.0]
    steps = list(range(10, training.steps + 1, 10))
    for protocol, strength in made.items():
        means = {run.evaluations[it].step: run.evaluations[it].clip for it in run.scored[protocol]}
        assert sorted(means) == steps
        curve = points(training.curve.with_name(f"clipwatch-strength-{strength:g}"), "clip/mean")
        assert [step for step, _ in curve] == steps
        assert dict(curve) == pytest.approx({it: clip.mean for it, clip in means.items() if clip})


@pytest.mark.parametrize(("seed", "kills"), cases(of=10, seeds=3, few=2))
def test_kills_while_wandb_is_written_leave_one_row_for_each_checkpoint(
    tmp_path: Path, seed: int, kills: int
) -> None:
    """10 kills with the real wandb-core on loopback: one row in order of the results, no more."""
    with FakeWandb() as server:
        training = Training(
            tmp_path / "killed", {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        )
        killed(training, kills, seed, amid=3.0)
        rows = server.run.points
    assert_no_repeats(training, kills)
    assert training.run is not None
    order = training.run.scored[training.run.protocol]
    steps = [training.run.evaluations[id_].step for id_ in order]
    # at its own step at W&B, or at the next free place where it came late
    places = list(accumulate(steps, lambda last, step: max(step, last + 1)))
    assert rows == list(zip(places, steps, strict=True))
    assert len(rows) == kills
    assert {row[1] for row in training.results().values()} == {"published"}
