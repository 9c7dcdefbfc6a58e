"""What a checkpoint costs against how often one is saved, told before it is paid."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipwatch.doctor import costs
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ProtocolDefined,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.domain.state import Run
from clipwatch.executors.messages import Evaluate, Finished, Loaded, Reply, Scored
from clipwatch.pace import Pace, Save, is_news, line, pace_of, remedy, told
from clipwatch.pace.measure import IDLE, rhythm
from clipwatch.pace.words import duration
from clipwatch.settings import load
from clipwatch.statistics import summarize
from world import World, checkpoint
from world import settings as world_settings

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SLOW = Pace(144, 144, seconds=240, loading=12, steps=500, between=120, limit=3)


def scored_of(load: float, limit: int, kept: int, checkpoints: int) -> float:
    """Return the share that is scored while a training goes on, by playing it through.

    One checkpoint is saved each second; the trainer keeps the newest `limit`, we the newest `kept`
    of those that wait, and one evaluation of `load` seconds goes on at a time, the newest first.
    """
    waiting: list[int] = []
    done, busy_until = 0, 0.0
    for now in range(checkpoints):
        while waiting and busy_until < now:  # what ended before this save takes up the next one
            waiting.pop()
            busy_until += load
            done += 1
        waiting.append(now)
        mine = set(waiting[-kept:])
        waiting = [it for it in waiting if it > now - limit or it in mine]
        if busy_until <= now:
            waiting.pop()
            busy_until = now + load
            done += 1
    return done / checkpoints


@settings(deadline=None)
@given(
    load=st.floats(0.05, 40),
    limit=st.integers(1, 12),
    kept=st.integers(1, 5),
)
def test_the_share_that_is_scored_is_that_of_a_training_played_through(
    load: float, limit: int, kept: int
) -> None:
    """Whatever trainer and clipwatch keep: newest first, only the load decides."""
    pace = Pace(10, 10, seconds=load, between=1.0, limit=limit)
    played = scored_of(load, limit, kept, 2000)
    assert played == pytest.approx(pace.scored, abs=0.01)


@settings(deadline=None)
@given(
    seconds=st.floats(1, 10_000),
    loading=st.floats(0, 0.9),
    between=st.floats(1, 10_000),
    prompts=st.integers(1, 5000),
)
def test_as_many_prompts_as_fit_keep_up(
    seconds: float, loading: float, between: float, prompts: int
) -> None:
    """With `fitting` prompts an evaluation ends before the next save, one tenth to spare."""
    pace = Pace(prompts, prompts, seconds, loading * seconds, 100, between)
    each = (pace.seconds - pace.loading) / prompts
    room, fits = 0.9 * between, pace.fitting
    assert fits == 0 or pace.loading + fits * each <= room * (1 + 1e-9)
    assert pace.loading + (fits + 1) * each > room * (1 - 1e-9)


@settings(deadline=None)
@given(
    first=st.integers(0, 1000),
    steps=st.integers(1, 1000),
    rate=st.floats(1.01, 100),
    gone=st.sets(st.integers(0, 9), max_size=8),
)
def test_the_rhythm_of_even_saves_is_found(
    first: int, steps: int, rate: float, gone: set[int]
) -> None:
    """Checkpoints that are gone have steps and no times; two times are enough."""
    saves: list[Save] = [
        (first + n * steps, None if n in gone else (1000 + n * steps * rate)) for n in range(10)
    ]
    apart, between = rhythm(saves)
    assert apart == steps
    assert between == pytest.approx(steps * rate, rel=1e-6)


def test_files_that_were_copied_tell_no_rhythm() -> None:
    """Written within moments of one another; their steps still do."""
    assert rhythm([(10, 100.0), (20, 100.012), (30, 100.024)]) == (10, 0.0)


def test_a_pause_of_the_training_is_not_its_rhythm() -> None:
    """One night between two saves does not count among the others."""
    times = [0.0, 60.0, 120.0, 40_000.0, 40_060.0, 40_120.0]
    assert rhythm([(100 * n, time) for n, time in enumerate(times)]) == (100, 60.0)
    assert rhythm([(100, 5.0)]) == (0, 0.0)
    assert rhythm([(100, 5.0), (200, 5.0)]) == (100, 0.0)  # copied, without their times


PROTOCOL = EvaluationProtocol(
    prompts=tuple(Prompt(f"p{n}", "a cat") for n in range(144)),
    images_per_prompt=1,
    seed=0,
    negative_prompt="",
    inference_steps=30,
    guidance=5.0,
    width=1024,
    height=1024,
    scheduler="",
    base_model="base",
    base_revision="",
    base_variant="",
    weights="live",
    dtype="bf16",
    scorers=(ScorerSpec("", "clip"),),
)
LIMITED = {"checkpoints_total_limit": "3", "checkpoint_step_interval": "500"}


def measured(*seconds: float, images: int = 144, loads: tuple[float, ...] = ()) -> Run:
    """Return a run whose checkpoints took so many seconds each, 12 or `loads` of them to load."""
    digest = PROTOCOL.digest
    happened: list[Event] = [
        RunStarted("/out", digest, (), dict(LIMITED), "0.1.0"),
        ProtocolDefined(digest, PROTOCOL),
    ]
    for number, took in enumerate(seconds, 1):
        step = 500 * number
        name = f"checkpoint-{step}"
        stamp = int((NOW - timedelta(seconds=120 * (len(seconds) - number))).timestamp() * 1e9)
        file = WeightFile("w", 1, stamp, number)
        happened += [
            CheckpointCompleted(step, name, f"/out/{name}", "lora", "", (file,), "d" * 16),
            EvaluationStarted(name, name, step, "d", digest, {"device": "cuda"}),
            EvaluationCompleted(
                name,
                {"": summarize([0.25] * 144)},
                seconds=took,
                phases={"load": loads[number - 1] if loads else 12.0},
                images=images,
            ),
        ]
    start = NOW - timedelta(hours=1)
    timed = [("run", it, start + timedelta(seconds=n)) for n, it in enumerate(happened)]
    return evolve({}, timed)["run"]


def pace(run: Run | None, protocol: EvaluationProtocol = PROTOCOL, **settings: str) -> Pace:
    """Return the pace of a run that saved every two minutes, the last time just now."""
    saves: list[Save] = [(500 * n, NOW.timestamp() - 120 * (4 - n)) for n in range(1, 5)]
    return pace_of(protocol, {**LIMITED, **settings}, run, saves, NOW.timestamp())


def test_before_the_first_the_log_has_no_time() -> None:
    """Then it is said how often one is saved, and that the first will tell."""
    found = pace(None)
    assert (found.images, found.seconds, found.steps, found.between) == (144, 0.0, 500, 120.0)
    assert told(found) == (
        "the first one tells how long a checkpoint takes; one is saved every 500 steps, about "
        "every 2 min"
    )


def test_a_slow_evaluation_is_told_with_what_is_lost_and_what_would_help() -> None:
    """The sentence names times, share, the trainer's limit and the prompts that keep up."""
    assert line(pace(measured(240.0, 240.0))) == (
        "a checkpoint takes about 4 min (144 images, measured), one is saved every 500 steps, "
        "about every 2 min: about 1 of 2 checkpoints will be scored, the others are deleted by "
        "the trainer (checkpoints_total_limit 3) before their turn; fewer prompts (--max-prompts "
        "60, a new curve) would keep up"
    )
    assert line(pace(measured(60.0))).endswith("about every 2 min: clipwatch keeps up")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 0}, "falls behind, and scores the rest when the training has ended"),
        ({"limit": None}, "those that the trainer deletes before their turn get no score"),
        ({"loading": 110.0}, "a checkpoint every 1200 steps (checkpoint_step_interval) would do"),
        ({"between": 220.0}, "most checkpoints will be scored"),
        ({"seconds": 2400.0, "prompts": 20}, "about 1 checkpoint of 20 will be scored"),
        ({"between": 0.0, "waiting": 12}, "measured); 12 wait, about 48 min in all"),
        ({"between": 0.0, "waiting": 1}, "measured); 1 waits, about 4 min in all"),
        ({"between": 0.0}, "measured); one is saved every 500 steps"),
    ],
)
def test_words_follow_the_numbers(changes: dict[str, float], words: str) -> None:
    """Each case has words of its own."""
    assert words in line(replace(SLOW, **changes))  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    seconds=st.just(0.0) | st.floats(1e-3, 1e7),
    loading=st.floats(0, 1),
    between=st.just(0.0) | st.floats(1e-3, 1e7),
    steps=st.integers(0, 10**6),
    limit=st.none() | st.integers(0, 100),
    waiting=st.integers(0, 100),
)
def test_there_is_a_line_for_every_pace(
    seconds: float, loading: float, between: float, steps: int, limit: int | None, waiting: int
) -> None:
    """One line, which promises to keep up only where an evaluation fits between two saves."""
    found = Pace(144, 144, seconds, loading * seconds, steps, between, limit, waiting)
    assert "\n" not in line(found)
    assert ("keeps up" in line(found)) is (0 < found.load <= 1)


@pytest.mark.parametrize(
    ("written", "limit"), [("3", 3), ("0", 0), ("-1", 0), ("(hidden)", None), ("", None)]
)
def test_the_trainers_limit_is_a_number_or_unknown(written: str, limit: int | None) -> None:
    """What is hidden in the log is not known."""
    assert pace(None, checkpoints_total_limit=written).limit == limit


def test_a_training_that_saves_no_more_loses_nothing() -> None:
    """After three intervals without a save what waits is only counted."""
    saves: list[Save] = [(500, 0.0), (1000, 120.0)]
    run = measured(240.0)
    alive = pace_of(PROTOCOL, LIMITED, run, saves, 120 * IDLE)
    over = pace_of(PROTOCOL, LIMITED, run, saves, 121 + 120 * IDLE)
    assert (alive.between, over.between) == (120.0, 0.0)


def test_other_prompts_cost_in_proportion_and_another_size_is_not_known() -> None:
    """Half the images take half the time beside loading; of another size nothing was measured."""
    run = measured(240.0, 240.0)
    half = replace(PROTOCOL, prompts=PROTOCOL.prompts[:72])
    assert pace(run, half).seconds == pytest.approx(12 + 228 / 2)
    assert pace(run, replace(PROTOCOL, width=512)).seconds == 0.0


def test_the_middle_of_three_counts_and_a_resumed_one_counts_in_full() -> None:
    """One slow evaluation is bad luck; of a resumed one the images that it made took the time."""
    assert pace(measured(240.0, 900.0, 250.0)).seconds == pytest.approx(250.0)
    assert pace(measured(126.0, 126.0, images=72)).seconds == pytest.approx(12 + 2 * 114.0)


def test_an_attempt_that_made_no_image_measures_none() -> None:
    """Killed after its last image, an evaluation is finished by one that only loads."""
    assert pace(measured(20.0, images=0)).seconds == 0.0


def test_what_is_loaded_once_is_not_counted_for_each() -> None:
    """The first evaluation has loaded the base model, and the next one shows what is left."""
    assert pace(measured(240.0, loads=(140.0,))).seconds == pytest.approx(100.0)
    later = pace(measured(240.0, 105.0, loads=(140.0, 5.0)))
    assert later.seconds == pytest.approx(105.0)
    assert later.loading == 5.0


def test_it_is_said_again_only_when_much_changes() -> None:
    """The first time, when the rhythm becomes known, and when the load changes by a quarter."""
    unknown = replace(SLOW, seconds=0.0)
    assert is_news(None, unknown)
    assert not is_news(unknown, replace(unknown, between=100.0))
    assert is_news(unknown, SLOW)
    assert is_news(replace(SLOW, between=0.0), SLOW)
    assert not is_news(SLOW, replace(SLOW, between=0.0))
    assert not is_news(SLOW, replace(SLOW, seconds=280.0))
    assert is_news(SLOW, replace(SLOW, seconds=310.0))
    fast = replace(SLOW, seconds=10.0)
    assert not is_news(fast, replace(fast, seconds=100.0))
    assert is_news(fast, SLOW)


def test_times_are_told_to_two_digits() -> None:
    """In the unit in which people say them."""
    said = [duration(it) for it in (0.34, 8.25, 42, 89, 150, 3000, 7200, 200_000)]
    assert said == ["0.34 s", "8.2 s", "42 s", "89 s", "2.5 min", "50 min", "2 h", "2 days"]


def written(folder: Path, ago: float) -> None:
    """Set the time of a checkpoint's weights, in seconds before now."""
    at = time.time() - ago
    os.utime(folder / "pytorch_lora_weights.safetensors", (at, at))


@pytest.mark.parametrize(
    ("keys", "limit", "interval"),
    [
        ({"model_family": "sdxl"}, "5", "500"),
        ({"model_family": "sdxl", "save_total_limit": 2}, "2", "500"),
        ({"model_family": "sdxl", "checkpointing_steps": 250}, "5", "250"),
        ({}, None, None),
    ],
)
def test_the_trainers_own_defaults_hold_for_its_configurations(
    tmp_path: Path, keys: dict[str, object], limit: str | None, interval: str | None
) -> None:
    """By any of its names; of another trainer's nothing is assumed."""
    base = {"output_dir": "out", "pretrained_model_name_or_path": "me/model"}
    (tmp_path / "config.json").write_text(json.dumps({**base, **keys}))
    flags = {"evaluation_type": "clip"}
    told_so = load(tmp_path, flags=flags, environ={}, cwd=tmp_path).as_text()
    assert told_so.get("checkpoints_total_limit") == limit
    assert told_so.get("checkpoint_step_interval") == interval


def timed(seconds: float) -> Callable[[Evaluate], list[Reply]]:
    """Return a script by which each evaluation says that it took so long."""

    def script(request: Evaluate) -> list[Reply]:
        images = tuple(
            ImageScore(prompt.id, index, seed, {"": 0.25})
            for prompt, index, seed in request.protocol.images()
        )
        return [Loaded({"device": "script"}), Scored(images), Finished(0, seconds)]

    return script


def test_a_daemon_says_it_once(tmp_path: Path) -> None:
    """What the first one will tell, then what it took; not at each checkpoint."""
    world = World(tmp_path, checkpoint_step_interval=100, checkpoints_total_limit=2)
    world.script = timed(240.0)
    for step in (100, 200, 300):
        written(checkpoint(world.output, step, step / 1000), 5000 - step)
    assert world.once() == 0
    assert [it for it in world.said if "a checkpoint takes" in it] == [
        "the first one tells how long a checkpoint takes; one is saved every 100 steps",
        "a checkpoint takes about 4 min (4 images, measured); 2 wait, about 8 min in all",
    ]


def test_a_daemon_beside_a_living_training_says_what_is_lost(tmp_path: Path) -> None:
    """The training saves every 100 s, the last time just now, and an evaluation takes 4 min."""
    world = World(tmp_path, checkpoint_step_interval=100, checkpoints_total_limit=2)
    world.script = timed(240.0)
    for step in (100, 200):
        written(checkpoint(world.output, step, step / 1000), 200 - step)
    assert world.once() == 0
    (said,) = [it for it in world.said if "measured" in it]
    assert "4 min (4 images, measured), one is saved every 100 steps, about every 1.7 min" in said
    assert "about 2 of 5 checkpoints will be scored" in said
    assert said.endswith("a checkpoint every 270 steps (checkpoint_step_interval) would do")


def test_doctor_warns_of_checkpoints_that_will_be_lost() -> None:
    """With the remedy as its fix; what keeps up is well."""
    finding = costs.assess(SLOW, told(SLOW))
    assert (finding.verdict, finding.fix) == ("warn", remedy(SLOW))
    assert costs.assess(replace(SLOW, seconds=60.0), "").verdict == "ok"


def test_doctor_measures_what_lies_there(tmp_path: Path) -> None:
    """Without a log the times of the files tell how often a checkpoint is saved."""
    run = world_settings(tmp_path)
    for number in range(3):
        written(checkpoint(run.paths.output_dir, 100 * number), 600 * (2 - number))
    (finding,) = costs.look(run)
    assert finding.verdict == "ok"
    assert finding.found == (
        "4 images of 256x256, 30 steps; the first one tells how long a checkpoint takes; one is "
        "saved every 100 steps, about every 10 min"
    )
