"""What status tells of a run: a table, what is in hand, when the queue is done, what failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from clipwatch.domain.events import (
    CheckpointCompleted,
    CheckpointDiscarded,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    Published,
    RunStarted,
)
from clipwatch.domain.fold import Happened, evolve
from clipwatch.domain.state import Run, evaluation_id
from clipwatch.results.listing import brief, listing
from clipwatch.results.painting import painted
from clipwatch.results.progress import Watcher, progress
from clipwatch.results.table import ago
from clipwatch.results.told import as_json
from clipwatch.statistics import Summary
from protocols import PROTOCOL

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAEMON = Watcher(NOW - timedelta(days=1))
EYES = {"run-1": DAEMON}
IMAGES = len(PROTOCOL.prompts) * PROTOCOL.images_per_prompt
CLIP = Summary(0.3, 0.1, 0.4, 0.05, IMAGES, 2, 0.01, 0.28, 0.32)


def run_of(*events: tuple[float, Event], name: str = "run-1", folder: str = "/out") -> Run:
    """Fold events, each some seconds before NOW."""
    started = RunStarted(folder, "", (), {"weights": "live"}, "0")
    begin = (started, ProtocolDefined(PROTOCOL.digest, PROTOCOL))
    happened: list[Happened] = [(name, it, NOW - timedelta(days=1)) for it in begin]
    happened += [(name, it, NOW - timedelta(seconds=before)) for before, it in events]
    return evolve({}, happened)[name]


def whole(step: int, name: str = "") -> CheckpointCompleted:
    name = name or f"checkpoint-{step}"
    return CheckpointCompleted(step, name, f"/out/{name}", "full", "unet", (), f"d{step}")


def id_of(step: int, name: str = "") -> str:
    checkpoint = run_of((0, whole(step, name))).checkpoints[name or f"checkpoint-{step}"]
    return evaluation_id(checkpoint, PROTOCOL.digest)


def begun(step: int, name: str = "") -> EvaluationStarted:
    name = name or f"checkpoint-{step}"
    return EvaluationStarted(id_of(step, name), name, step, f"d{step}", PROTOCOL.digest, {})


def images(step: int, numbers: Iterable[int]) -> ImagesScored:
    made = list(PROTOCOL.images())
    return ImagesScored(
        id_of(step),
        tuple(ImageScore(made[it][0].id, made[it][1], 1, {"": 0.3}) for it in numbers),
    )


def scored(
    step: int, before: float, seconds: float = 40.0, name: str = ""
) -> list[tuple[float, Event]]:
    done = EvaluationCompleted(id_of(step, name), {"": CLIP}, seconds=seconds, images=IMAGES)
    return [
        (before + seconds, whole(step, name)),
        (before + seconds, begun(step, name)),
        (before, done),
    ]


HALF = run_of(
    *scored(100, 300),
    (90, whole(200)),
    (80, whole(300)),
    (50, begun(300)),
    (40, images(300, [0])),
    (30, images(300, [1])),
)


def test_what_is_in_hand_is_told_with_its_speed_and_its_end() -> None:
    """Two of four images in twenty seconds: the others take twenty more, and are late by now."""
    how = progress(HALF, NOW, DAEMON)
    assert how.hand
    assert (how.hand.title, how.hand.done, how.hand.images) == ("checkpoint-300", 2, IMAGES)
    assert how.hand.per_second == pytest.approx(0.1)
    assert how.hand.left == 0.0
    assert how.waiting == 1
    assert how.left == pytest.approx(40.0)
    assert how.done_at(NOW) == NOW + timedelta(seconds=40)
    lines = listing({"run-1": HALF}, NOW, EYES)
    assert "now: checkpoint-300, 2 of 4 images, 0.1 images/s, about 0 s left" in lines
    (queue,) = (it for it in lines if it.startswith("queue: "))
    assert queue.startswith("queue: 1 more to be evaluated, all done in about 40 s, at ")


def test_what_several_slots_have_in_hand_is_told_each() -> None:
    """No more than there are slots: what a reload let go is in hand no more, and waits."""
    events: list[tuple[float, Event]] = [(60, whole(it)) for it in (100, 200, 300)]
    events += [(50, begun(200)), (40, images(200, [0])), (30, begun(100)), (20, begun(300))]
    run = replace(run_of(*events), settings={"device": "cpu,cpu"})
    how = progress(run, NOW, DAEMON)
    assert [it.title for it in how.hands] == ["checkpoint-300", "checkpoint-100"]
    assert how.waiting == 1
    lines = listing({"run-1": run}, NOW, EYES)
    assert [it for it in lines if it.startswith("now: ")] == [
        "now: checkpoint-300, 0 of 4 images",
        "now: checkpoint-100, 0 of 4 images",
    ]
    (told,) = as_json({"run-1": run}, NOW, EYES)["runs"]
    assert (told["now"]["step"], [it["step"] for it in told["beside"]]) == (300, [100])
    assert len(progress(replace(run, settings={"executor": "ray"}), NOW, DAEMON).hands) == 3
    assert len(progress(replace(run, settings={"slots": "1"}), NOW, DAEMON).hands) == 1


def test_the_time_that_is_left_is_that_of_all_slots_together() -> None:
    """Two at once end at the same time, and what waits takes what one took of the run's time."""
    half: list[tuple[float, Event]] = [(60, whole(it)) for it in (100, 200)]
    half += [(50, begun(it)) for it in (100, 200)]
    half += [(30, images(it, [0, 1])) for it in (100, 200)]
    run = replace(run_of(*half), settings={"device": "cuda:1,cuda:2"})
    how = progress(run, NOW + timedelta(seconds=-30), DAEMON)
    assert [it.left for it in how.hands] == [20.0, 20.0]
    assert how.left == pytest.approx(20.0)


def test_nothing_goes_on_where_nobody_watches() -> None:
    """A killed daemon leaves its work begun: nothing is evaluated now, and nobody knows an end."""
    how = progress(HALF, NOW, None)
    assert (how.hand, how.waiting, how.left) == (None, 2, None)
    lines = listing({"run-1": HALF}, NOW)
    assert not any(it.startswith("now: ") for it in lines)
    told = " ".join(lines)
    assert "queue: 2 to be evaluated; no clipwatch watches this run now, clipwatch start" in told


def test_what_an_earlier_daemon_had_in_hand_is_not_in_hand() -> None:
    """It was killed, and the next one loads: that is told, with all images still to be made."""
    loading = Watcher(NOW - timedelta(seconds=20), "checkpoint-300: importing torch")
    how = progress(HALF, NOW, loading)
    assert (how.hand, how.waiting, how.left) == (None, 2, 80.0)
    lines = listing({"run-1": HALF}, NOW, {"run-1": loading})
    assert [it for it in lines if it.startswith("now: ")] == [f"now: {loading.doing}"]


def test_before_anything_is_measured_nobody_knows_an_end() -> None:
    """Neither a speed nor a time is made up."""
    run = run_of((10, whole(100)), (5, begun(100)))
    how = progress(run, NOW, DAEMON)
    assert how.hand
    assert (how.hand.per_second, how.hand.left, how.left) == (0.0, None, None)
    lines = listing({"run-1": run}, NOW, EYES)
    assert "now: checkpoint-100, 0 of 4 images" in lines
    assert "queue: nothing more waits" in lines


def test_a_second_attempt_has_a_speed_of_its_own() -> None:
    """Images of the first one count as done, not as made since."""
    run = run_of(
        (1000, whole(100)),
        (900, begun(100)),
        (890, images(100, [0, 1])),
        (20, begun(100)),
        (10, images(100, [2])),
    )
    hand = progress(run, NOW, DAEMON).hand
    assert hand
    assert hand.done == 3
    assert hand.per_second == pytest.approx(0.1)
    assert hand.left == pytest.approx(0.0)


def test_a_place_to_copy_is_in_one_piece() -> None:
    """However narrow the terminal is; a view that may not wrap cuts it."""
    where = "/data/" + "long/" * 30
    shown = Published("tensorboard", (id_of(100),), where, protocol=PROTOCOL.digest)
    run = replace(run_of(*scored(100, 300), (9, shown)), tracker_names=("tensorboard",))
    assert f"tensorboard: {where}" in listing({"run-1": run}, NOW, EYES, 40)


def test_an_idle_run_has_no_queue() -> None:
    """All is scored: no line about it."""
    lines = listing({"run-1": run_of(*scored(100, 300))}, NOW, EYES)
    assert not any(it.startswith(("now: ", "queue: ")) for it in lines)


def test_programs_get_the_same_facts() -> None:
    """Times are ISO 8601, spans are seconds."""
    (told,) = as_json({"run-1": HALF}, NOW, EYES)["runs"]
    assert (told["watched"], told["doing"]) == (True, None)
    assert told["now"] == {
        "step": 300,
        "name": "checkpoint-300",
        "strength": None,
        "images_done": 2,
        "images": 4,
        "images_per_second": pytest.approx(0.1),
        "seconds_left": 0.0,
        "since": "2026-01-02T11:59:10Z",
    }
    assert told["queue"] == {
        "evaluations": 1,
        "seconds_left": pytest.approx(40.0),
        "done_at": "2026-01-02T12:00:40Z",
    }
    assert told["pace"] == {"seconds": 40.0, "images": 4, "saved_every_seconds": None}
    assert [it["time"] for it in told["checkpoints"]] == [
        "2026-01-02T11:55:00Z",
        "2026-01-02T11:58:30Z",
        "2026-01-02T11:59:10Z",
    ]


def test_reasons_are_told_once_with_their_checkpoints() -> None:
    """Of many with the same reason three are named; of many reasons those that most have."""
    gone = [
        (10.0, CheckpointDiscarded(it, f"checkpoint-{it}", "/out", "vanished", reason))
        for it, reason in enumerate(["deleted"] * 5 + ["a", "b", "c", "d"])
    ]
    failed = EvaluationFailed(id_of(50), "weights", "checkpoint-50: holds NaN", 1)
    run = run_of(*gone, (9, whole(50)), (9, begun(50)), (8, failed))
    lines = listing({"run-1": run}, NOW)
    assert "failed: checkpoint-50: holds NaN" in lines
    assert "left out: checkpoint-0, checkpoint-1, checkpoint-2 and 2 more: deleted" in lines
    assert "left out: 2 more for other reasons: clipwatch status --json has each" in lines
    assert "10 checkpoints: 1 failed, 9 left out" in lines


odd = st.text(
    st.one_of(st.sampled_from("学習🙂❤️e\u0301מרحب\u202e\x1b\n　"), st.characters(codec="utf-8")),
    min_size=1,
    max_size=80,
).filter(lambda it: "/" not in it)


@given(st.lists(odd, min_size=1, max_size=4, unique=True), odd, odd, st.integers(24, 200))
def test_every_line_fits(names: list[str], reason: str, run_name: str, width: int) -> None:
    """Whatever runs, folders and checkpoints are called, and whatever a reason quotes."""
    events = [it for step, name in enumerate(names) for it in scored(step, 300, name=name)]
    events.append((9, CheckpointDiscarded(99, f"{names[0]}9", "", "vanished", reason)))
    run = run_of(*events, (5, whole(98)), (5, begun(98)), name=run_name, folder=f"/{names[0]}")
    drawn = [
        *listing({run.name: run}, NOW, {run.name: DAEMON}, width),
        *listing({run.name: run}, NOW, {run.name: DAEMON}, width, 12),
        *brief(run, NOW, DAEMON, width, 12),
    ]
    assert all(cell_len(line) <= width for line in drawn)
    assert all(line.isprintable() for line in drawn)


@pytest.mark.parametrize("height", [1, 5, 10, 16, 40])
def test_a_view_has_no_more_lines_than_the_terminal(height: int) -> None:
    """The last rows are shown, how many are before them is told, and what is below stays."""
    run = run_of(*(it for step in range(1, 31) for it in scored(step, 400 - step)))
    for lines in (
        listing({"run-1": run}, NOW, EYES, 80, height),
        brief(run, NOW, DAEMON, 80, height),
    ):
        assert len(lines) <= height
        if height >= 10:
            assert any("checkpoint-30" in it for it in lines)
            assert any(it.endswith(" before") for it in lines) == (height < 40)
            assert any(it.startswith("clip/mean ") for it in lines)


def test_wide_terminals_show_more() -> None:
    """Deviation and count of images where there is room; names are whole before that."""
    run = run_of(*scored(100, 300))
    narrow, wide = (listing({"run-1": run}, NOW, width=it) for it in (72, 120))
    assert narrow[2].split() == ["step", "mean", "±", "min", "max", "state", "when", "checkpoint"]
    assert wide[2].split()[4:7] == ["max", "std", "n"]
    assert "5 min ago" in narrow[4]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s ago"),
        (0, "0 s ago"),
        (89.9, "89 s ago"),
        (90, "1 min ago"),
        (5400, "1 h ago"),
        (86400 * 3, "3 days ago"),
    ],
)
def test_ages_are_short(seconds: float, expected: str) -> None:
    """A clock that was set back makes nothing younger than now."""
    assert ago(seconds) == expected


def test_states_have_colours() -> None:
    """Only as cells of the table: a name that says `failed` is a name."""
    text = painted(" 100  0.3000  failed     3 min ago  is-failed")
    assert [(text.plain[it.start : it.end], it.style) for it in text.spans] == [("failed", "red")]
