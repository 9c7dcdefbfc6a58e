"""The fold and the decisions: pure, so a test is a list of events and a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.curves import series_name
from clipwatch.domain.delivered import may_try, owed
from clipwatch.domain.events import (
    AdviceGiven,
    CheckpointCompleted,
    CheckpointDiscarded,
    CheckpointFound,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationReopened,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
    Published,
    PublishFailed,
    RunStarted,
    SettingsChanged,
    WeightFile,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.further import EvaluationRescored, FurtherScore, ImagesRescored
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.domain.queue import (
    Pending,
    due,
    observe,
    pending,
    queue,
    reopenable,
    retryable,
    vanished,
    wholes,
    with_base,
)
from clipwatch.domain.retries import (
    CRAMPED,
    LASTING,
    RETRY_SECONDS,
    SPREAD,
    batch_sizes,
    pause,
    retry_at,
)
from clipwatch.domain.sighting import Partial, Sighting, Unusable, Weights, Whole
from clipwatch.domain.state import Run, State, evaluation_id, is_unfinished
from clipwatch.results import view
from clipwatch.results.told import as_json
from clipwatch.statistics import Summary

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUN, PROTOCOL = "run-1", "aaaaaaaabbbbbbbb"
HOW = EvaluationProtocol(
    prompts=(Prompt("a", "a cat"),),
    images_per_prompt=1,
    seed=0,
    negative_prompt="",
    inference_steps=1,
    guidance=1.0,
    width=16,
    height=16,
    scheduler="",
    base_model="/base",
    base_revision="",
    base_variant="",
    weights="live",
    dtype="fp32",
    scorers=(ScorerSpec("", "/clip"),),
)
STARTED = RunStarted("/out", PROTOCOL, ("tensorboard", "wandb"), {}, "0")
CLIP = Summary(0.3, 0.1, 0.4, 0.05, 4)
FILE = WeightFile("unet/w.safetensors", 1, 2, 3)


def completed(step: int, digest: str = "d1") -> CheckpointCompleted:
    name = f"checkpoint-{step}"
    return CheckpointCompleted(step, name, f"/out/{name}", "full", "unet", (FILE,), digest)


def id_of(step: int, digest: str = "d1") -> str:
    return f"checkpoint-{step}/{digest}/aaaaaaaa"


def started(step: int, digest: str = "d1") -> EvaluationStarted:
    return EvaluationStarted(id_of(step, digest), f"checkpoint-{step}", step, digest, PROTOCOL, {})


def scored(step: int, digest: str = "d1") -> list[Event]:
    images = (ImageScore("a", 0, 1, {"": 0.3}, "x.png"),)
    return [
        completed(step, digest),
        started(step, digest),
        ImagesScored(id_of(step, digest), images),
        EvaluationCompleted(id_of(step, digest), {"": CLIP}),
    ]


def replay(events: Sequence[Event], state: State | None = None) -> State:
    """Fold events from the beginning, or on from a state."""
    return reduce(lambda so_far, event: evolve(so_far, [(RUN, event, NOW)]), events, state or {})


def fold(*events: Event) -> Run:
    """Return the run after these events."""
    return replay((STARTED, *events))[RUN]


def whole(step: int, digest: str = "d1") -> Sighting:
    name = f"checkpoint-{step}"
    verdict = Whole(Weights("full", "unet", (FILE,)), digest)
    return Sighting(step, name, Path("/out") / name, verdict)


def states(run: Run) -> dict[int, str]:
    return {row.step: row.state for row in view.rows(run)}


def unpublished(run: Run, tracker: str) -> tuple[str, ...]:
    return owed(run, "tracker", tracker).get(PROTOCOL, ())


def may_publish(run: Run, tracker: str, now: datetime) -> bool:
    return may_try(run, "tracker", tracker, PROTOCOL, now)


def test_the_newest_checkpoint_goes_first_and_none_is_forgotten() -> None:
    """The queue is all whole, unscored checkpoints, newest step first."""
    run = fold(completed(100), completed(300), completed(200))
    assert [checkpoint.step for checkpoint in queue(run)] == [300, 200, 100]
    run = fold(completed(100), completed(200), *scored(300))
    assert [checkpoint.step for checkpoint in queue(run)] == [200, 100]


def test_a_running_evaluation_is_resumed_after_a_crash() -> None:
    """What was scored stays done; the checkpoint stays in the queue."""
    images = (ImageScore("a", 0, 1, {"": 0.3}), ImageScore("a", 1, 2, {"": 0.2}))
    run = fold(completed(1), started(1), ImagesScored(id_of(1), images), started(1))
    assert queue(run)[0].step == 1
    assert run.evaluations[id_of(1)].done == {("a", 0), ("a", 1)}
    assert states(run) == {1: "evaluating"}


def test_the_same_step_with_other_weights_is_a_new_evaluation() -> None:
    """A saved-again checkpoint is evaluated again; the earlier result keeps its place."""
    run = fold(*scored(100), completed(100, "d2"))
    assert [checkpoint.digest for checkpoint in queue(run)] == ["d2"]
    run = fold(*scored(100), *scored(100, "d2"))
    assert run.scored[PROTOCOL] == (id_of(100), id_of(100, "d2"))
    assert queue(run) == []


def test_nothing_new_on_disk_adds_nothing_to_the_log() -> None:
    """Looking again at the same checkpoints observes nothing."""
    run = fold(*scored(100), completed(200))
    assert observe(run, [whole(200), whole(100)]) == []


def test_observations_tell_what_became_of_each_checkpoint() -> None:
    """New, finished, spoiled and deleted checkpoints are each told once."""
    place = (7, "checkpoint-7", "/out/checkpoint-7")
    partial = Sighting(7, "checkpoint-7", Path(place[2]), Partial("3 of 9 bytes"))
    run = fold()
    assert observe(run, [partial]) == [CheckpointFound(*place, "3 of 9 bytes")]
    run = fold(CheckpointFound(*place, "2 of 9 bytes"))
    assert observe(run, [partial]) == []
    assert observe(run, [whole(7)]) == [completed(7)]
    bad = Sighting(7, "checkpoint-7", Path(place[2]), Unusable("unsupported", "LyCORIS"))
    discarded = CheckpointDiscarded(*place, "unsupported", "LyCORIS")
    assert observe(run, [bad]) == [discarded]
    assert observe(fold(discarded), [bad]) == []
    assert observe(fold(discarded), [whole(7)]) == [completed(7)]


def test_what_rotation_took_is_told_unless_it_was_scored_or_is_held() -> None:
    """Only a checkpoint that nobody can evaluate any more is reported as vanished."""
    assert [type(event) for event in observe(fold(completed(1)), [])] == [CheckpointDiscarded]
    assert observe(fold(*scored(1)), []) == []
    begun = fold(completed(1), started(1))
    assert observe(begun, [], {("checkpoint-1", "d1")}) == []
    assert len(observe(begun, [], {("checkpoint-1", "d2")})) == 1
    gone = fold(completed(1), observe(fold(completed(1)), [])[0])
    assert states(gone) == {1: "discarded"}
    assert "deleted before it was evaluated" in (view.rows(gone)[0].reason or "")


def test_what_belongs_to_a_checkpoint_may_be_written_over_once_it_is_held_or_scored() -> None:
    """As the tokens beside a LoRA are with the next one: then it is neither left out nor lost."""
    place = (1, "checkpoint-1", "/out/checkpoint-1")
    over = Sighting(1, place[1], Path(place[2]), Unusable("unsupported", "other tokens"))
    begun = fold(completed(1), started(1))
    assert observe(begun, [over], {("checkpoint-1", "d1")}) == []
    assert observe(fold(*scored(1)), [over]) == []
    lost = CheckpointDiscarded(*place, "unsupported", "other tokens")
    assert observe(begun, [over], {("checkpoint-1", "d2")}) == [lost]
    damaged = replace(over, verdict=Unusable("unreadable", "damaged"))
    assert len(observe(begun, [damaged], {("checkpoint-1", "d1")})) == 1


def test_a_scored_checkpoint_seen_half_deleted_is_no_loss() -> None:
    """Its files go one by one; only what was never scored was deleted too early."""
    half = CheckpointFound(1, "checkpoint-1", "/out/checkpoint-1", "the folder is being deleted")
    (gone,) = observe(fold(*scored(1), half), [])
    assert isinstance(gone, CheckpointDiscarded)
    assert gone.reason == "it was deleted, after it was scored"
    assert view.rows(fold(*scored(1), half, gone))[0].state == "scored"
    (lost,) = observe(fold(*scored(2), half), [])
    assert isinstance(lost, CheckpointDiscarded)
    assert "deleted before it was evaluated" in lost.reason


def test_a_score_outlives_its_folder() -> None:
    """A scored checkpoint that is discarded later still shows its score."""
    lost = CheckpointDiscarded(1, "checkpoint-1", "/out/checkpoint-1", "vanished", "gone")
    row = view.rows(fold(*scored(1), lost))[0]
    assert (row.state, row.clip) == ("scored", CLIP)


def test_a_failed_attempt_waits_and_lets_others_pass() -> None:
    """Until its time comes the next checkpoint is taken; at last it is given up."""
    later = NOW + timedelta(seconds=30)
    fail = EvaluationFailed(id_of(2), "internal", "boom", 1, later)
    run = fold(completed(1), completed(2), started(2), fail)
    assert _steps(due(run, NOW)) == [1]
    assert _steps(due(run, later)) == [2, 1]
    assert states(run)[2] == "waiting"
    assert reopenable(run, NOW) == [run.evaluations[id_of(2)]]
    assert reopenable(run, later) == []
    run = fold(completed(2), started(2), EvaluationFailed(id_of(2), "internal", "boom", 3))
    assert due(run, later) == []
    assert view.rows(run)[0].reason == "boom"
    assert states(run) == {2: "failed"}
    assert reopenable(run, NOW) == [run.evaluations[id_of(2)]]


def _steps(found: Sequence[Pending]) -> list[int]:
    return [it.checkpoint.step for it in found]


def _failures(run: Run, kind: FailureKind, batch_size: int) -> list[tuple[int, float | None]]:
    """Fail until it is given up; return for each attempt its batch and the pause after it."""
    told: list[tuple[int, float | None]] = []
    while not told or told[-1][1] is not None:
        known = run.evaluations[id_of(1)]
        size, limit = batch_sizes(run, known, batch_size)
        assert limit == 0
        attempt = known.attempt + 1
        again = retry_at(kind, attempt, NOW, attempts=3, batch_size=size, luck=0)
        told.append((size, None if again is None else (again - NOW).total_seconds()))
        fail = EvaluationFailed(id_of(1), kind, "it failed", attempt, again)
        run = evolve({RUN: run}, [(RUN, fail, NOW)])[RUN]
    return told


@pytest.mark.parametrize("kind", sorted(CRAMPED))
def test_lack_of_memory_halves_the_batch_down_to_one(kind: FailureKind) -> None:
    """Each such failure halves the batch at once; at one image the bound on attempts holds."""
    run = fold(completed(1), started(1))
    assert _failures(run, kind, 16) == [(16, 0), (8, 0), (4, 0), (2, 0), (1, None)]
    assert _failures(run, kind, 2) == [(2, 0), (1, 120), (1, None)]
    assert _failures(run, kind, 1) == [(1, 30), (1, 120), (1, None)]


def test_a_batch_that_is_looked_for_may_grow_to_what_memory_had() -> None:
    """Without a configured size it is looked for, or is what was found best before."""
    run = fold(completed(1), started(1))
    known = run.evaluations[id_of(1)]
    sizes = [batch_sizes(run, replace(known, cramped=n), None) for n in range(5)]
    assert sizes == [(0, 64), (0, 16), (0, 4), (0, 1), (0, 1)]
    clip = Summary(0.3, 0.1, 0.4, 0.05, 4)
    run = fold(completed(1), started(1), EvaluationCompleted(id_of(1), {"": clip}, batch_size=12))
    sizes = [batch_sizes(run, replace(known, cramped=n), None) for n in range(3)]
    assert sizes == [(12, 64), (12, 16), (4, 4)]
    assert batch_sizes(run, known, 4) == (4, 0)


def test_the_base_model_is_the_first_checkpoint_to_be_evaluated() -> None:
    """It is there once, under its own name, until it is another one, or not wanted any more."""
    run = fold(completed(1), completed(2))
    (base,) = with_base(run, HOW, wanted=True)
    assert isinstance(base, CheckpointCompleted)
    assert (base.step, base.name, base.kind) == (0, "base-model", "base")
    assert with_base(run, HOW, wanted=False) == []
    run = fold(completed(1), completed(2), base)
    assert [c.name for c in queue(run)] == ["base-model", "checkpoint-2", "checkpoint-1"]
    assert with_base(run, HOW, wanted=True) == []
    assert len(with_base(run, replace(HOW, base_revision="other"), wanted=True)) == 1
    assert observe(run, []) == [vanished(c) for c in run.checkpoints.values() if c.step]
    assert wholes(run).keys() == {"checkpoint-1", "checkpoint-2"}
    (off,) = with_base(run, HOW, wanted=False)
    run = fold(completed(1), completed(2), base, off)
    assert [c.name for c in queue(run)] == ["checkpoint-2", "checkpoint-1"]
    (again,) = with_base(run, HOW, wanted=True)
    assert again == base


def test_an_image_scored_starts_the_count_of_failures_anew() -> None:
    """What makes progress is not given up for a failure now and then."""
    fail = EvaluationFailed(id_of(1), "killed", "kill -9", 2, NOW)
    image = ImagesScored(id_of(1), (ImageScore("a", 0, 1, {"": 0.3}),))
    run = fold(completed(1), started(1), fail, started(1), image)
    assert run.evaluations[id_of(1)].attempt == 0


@given(st.integers(1, 9), st.floats(0, 1))
def test_pauses_grow_to_a_bound_and_are_spread(attempt: int, luck: float) -> None:
    """A pause is never shorter than its base nor longer than it by more than the spread."""
    base = RETRY_SECONDS[min(attempt, 4) - 1]
    assert base <= pause(attempt, luck).total_seconds() <= base * (1 + SPREAD)
    assert pause(attempt, luck) <= pause(attempt + 1, luck)


@given(st.timedeltas(timedelta(days=-9), timedelta(days=9)))
def test_a_clock_that_is_set_makes_nothing_wait_longer_than_a_pause(jump: timedelta) -> None:
    """Whatever the clock says now, a next try is due at its time or within the longest pause."""
    later = NOW + pause(9, 1.0)
    fail = EvaluationFailed(id_of(1), "internal", "boom", 1, later)
    run = fold(completed(1), started(1), fail, PublishFailed("wandb", "busy", 1, later))
    now = NOW + jump
    waits = timedelta(0) <= now - NOW < later - NOW
    assert (_steps(due(run, now)) == []) is waits
    assert may_publish(run, "wandb", now) is not waits


def test_a_full_disk_is_waited_for_without_end() -> None:
    """It is no fault of the checkpoint, so no number of attempts gives it up."""
    at = [retry_at("disk", n, NOW, attempts=3, batch_size=1, luck=0) for n in (1, 3, 99)]
    assert at == [NOW + timedelta(seconds=seconds) for seconds in (30, 600, 1800)]


def test_only_what_failed_and_is_there_can_be_tried_again() -> None:
    """A person's retry concerns the failed evaluations of a step, given up or waiting."""
    fail = EvaluationFailed(id_of(2), "weights", "3 of 9", 1)
    run = fold(completed(2), started(2), fail, *scored(1))
    assert [evaluation.id for evaluation in retryable(run, 2)] == [id_of(2)]
    assert retryable(run, 1) == retryable(run, 3) == []
    again = evolve({RUN: run}, [(RUN, EvaluationReopened(id_of(2), NOW), NOW)])[RUN]
    assert _steps(due(again, NOW)) == [2]
    gone = CheckpointDiscarded(2, "checkpoint-2", "/out/checkpoint-2", "vanished", "gone")
    assert retryable(fold(completed(2), started(2), fail, gone), 2) == []


def test_bad_weights_are_not_tried_twice_and_other_failures_a_few_times() -> None:
    """A misfit is final at once; anything else after the configured number of attempts."""
    for kind in LASTING:
        assert retry_at(kind, 1, NOW, attempts=3, batch_size=4, luck=0) is None
    times = [retry_at("internal", n, NOW, attempts=3, batch_size=4, luck=0) for n in (1, 2, 3)]
    assert times == [NOW + timedelta(seconds=30), NOW + timedelta(seconds=120), None]


def test_each_tracker_has_its_own_backlog() -> None:
    """What one tracker lacks depends on nothing but its own confirmations."""
    shown = Published("tensorboard", (id_of(1),), "/tb")
    run = fold(*scored(1), *scored(2), shown)
    assert unpublished(run, "tensorboard") == (id_of(2),)
    assert unpublished(run, "wandb") == (id_of(1), id_of(2))
    assert run.trackers["tensorboard"].where == "/tb"
    assert states(run) == {1: "scored", 2: "scored"}
    both = Published("wandb", (id_of(1),), "url")
    assert states(fold(*scored(1), shown, both)) == {1: "published"}


def test_a_parked_tracker_waits_for_changed_settings() -> None:
    """A refusal parks; a passing failure waits; success and new settings clear both."""
    refused = PublishFailed("wandb", "no key", 1)
    run = fold(*scored(1), refused)
    assert not may_publish(run, "wandb", NOW + timedelta(days=9))
    assert may_publish(run, "tensorboard", NOW)
    assert view.rows(run)[0].reason == "wandb: no key"
    assert view.problems(run) == ["wandb: no key"]
    waiting = fold(*scored(1), PublishFailed("wandb", "busy", 1, NOW + timedelta(seconds=30)))
    assert not may_publish(waiting, "wandb", NOW)
    assert may_publish(waiting, "wandb", NOW + timedelta(seconds=30))
    changed = SettingsChanged(PROTOCOL, ("tensorboard", "wandb"), {"x": "y"}, "0")
    assert may_publish(fold(*scored(1), refused, changed), "wandb", NOW)


def test_another_protocol_starts_another_curve_and_evaluates_again() -> None:
    """Numbers of different protocols never mix: neither in the queue nor in a tracker."""
    other = "ccccccccdddddddd"
    changed = SettingsChanged(other, ("tensorboard",), {}, "0")
    run = fold(*scored(1), Published("tensorboard", (id_of(1),), "/tb"), changed)
    assert [checkpoint.step for checkpoint in queue(run)] == [1]
    assert unpublished(run, "tensorboard") == ()
    assert states(run) == {1: "waiting"}


def test_the_first_protocol_has_the_plain_name() -> None:
    """Its curve is called clipwatch, any later one carries its digest."""
    run = Run("r", "/out", "two", (), {}, protocols=dict.fromkeys(("one", "two"), HOW))
    assert series_name(run, "two") == "clipwatch-two"
    assert series_name(run, "one") == "clipwatch"


def test_status_json_has_the_documented_shape() -> None:
    """The object that other programs read."""
    told: Any = as_json({RUN: fold(*scored(100))}, NOW, {})
    assert told == {
        "runs": [
            {
                "run": RUN,
                "output_dir": "/out",
                "problem": None,
                "watched": False,
                "doing": None,
                "now": None,
                "beside": [],
                "queue": {"evaluations": 0, "seconds_left": None, "done_at": None},
                "pace": None,
                "checkpoints": [
                    {
                        "step": 100,
                        "name": "checkpoint-100",
                        "state": "scored",
                        "clip": {
                            "mean": 0.3,
                            "min": 0.1,
                            "max": 0.4,
                            "std": 0.05,
                            "n": 4,
                            "prompts": 0,
                            "se": None,
                            "low": None,
                            "high": None,
                        },
                        "published": {"tensorboard": False, "wandb": False},
                        "reason": None,
                        "unit": "step",
                        "strength": None,
                        "time": "2026-01-02T00:00:00Z",
                        "skipped": False,
                        "decision": None,
                        "estimate": None,
                        "losses": None,
                        "answered": {},
                        "outdone": None,
                    }
                ],
                "owed": {"tensorboard": 1, "wandb": 1},
                "advice": [],
            }
        ]
    }


steps = st.integers(1, 4)
digests = st.sampled_from(["d1", "d2"])


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Draw a history as a supervisor could write it, with crashes anywhere."""
    events: list[Event] = []
    for _ in range(draw(st.integers(0, 12))):
        step, digest = draw(steps), draw(digests)
        one = scored(step, digest)
        one.insert(3, EvaluationFailed(id_of(step, digest), "killed", "kill -9", 1, NOW))
        if draw(st.booleans()):
            one.insert(3, ImagesDeleted(id_of(step, digest), "its evaluation cannot go on"))
        known = fold(*events)
        done = id_of(step, digest) in known.scored.get(PROTOCOL, ())
        events += one[: 1 if done else draw(st.integers(1, len(one)))]
        if draw(st.booleans()) and known.scored:
            id_ = draw(st.sampled_from(known.scored[PROTOCOL]))
            later: list[Event] = [
                ImagesRescored(id_, "late", (FurtherScore("a", 0, 0.5),)),
                EvaluationRescored(id_, "late", Summary(0.5, 0.5, 0.5, 0.0, 1)),
                ImagesDeleted(id_, "keep_images is 0"),
            ]
            events += later[: draw(st.integers(1, 3))]
        if draw(st.booleans()) and known.scored:
            events.append(Published("tensorboard", tuple(known.scored[PROTOCOL]), "/tb"))
    return events


@given(histories())
def test_images_of_finished_evaluations_may_be_left_out(events: list[Event]) -> None:
    """Who only wants the state need not read them; and all at once is one after the other."""
    done = {event.evaluation for event in events if isinstance(event, EvaluationCompleted)}
    images = (ImagesScored, ImagesRescored)
    kept = [x for x in events if not (isinstance(x, images) and x.evaluation in done)]
    one_by_one = fold(*events)
    assert evolve({}, [(RUN, event, NOW) for event in (STARTED, *events)]) == {RUN: one_by_one}
    assert evolve({}, [(RUN, event, NOW) for event in (STARTED, *kept)]) == {RUN: one_by_one}


@given(histories(), histories())
def test_a_fold_leaves_what_it_began_with(first: list[Event], then: list[Event]) -> None:
    """The state before is the same after, so that whoever holds it sees no change."""
    before, same = replay((STARTED, *first)), replay((STARTED, *first))
    evolve(before, [(RUN, event, NOW) for event in then])
    assert before == same


@given(histories(), st.data())
def test_folding_in_two_parts_is_folding_at_once(events: list[Event], data: st.DataObject) -> None:
    """State is a fold: where the log was cut and read on makes no difference."""
    log = [STARTED, *events]
    cut = data.draw(st.integers(0, len(log)))
    assert replay(log[cut:], replay(log[:cut])) == replay(log)


AMID = (
    SettingsChanged("c" * 16, ("tensorboard",), {}, "0"),
    SettingsChanged(PROTOCOL, ("tensorboard",), {}, "0", beside=("c" * 16,)),
    SettingsChanged(PROTOCOL, ("tensorboard",), {}, "0"),
    CheckpointFound(2, "checkpoint-2", "/out/checkpoint-2", "no weights"),
    CheckpointDiscarded(1, "checkpoint-1", "/out/checkpoint-1", "vanished", "gone"),
    CheckpointCompleted(3, "checkpoint-3", "/out/checkpoint-3", "lora", "unet", (FILE,), "d1"),
)


@given(histories(), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(AMID)), max_size=6))
def test_what_is_unfinished_is_known_without_a_look_at_each(
    events: list[Event], amid: list[tuple[int, Event]]
) -> None:
    """What the fold keeps up to date is what a look at every checkpoint finds."""
    for place, event in amid:
        events.insert(place, event)
    for count in range(len(events) + 1):
        run = fold(*events[:count])
        found = {name for name, it in run.checkpoints.items() if is_unfinished(run, it)}
        assert run.unfinished == found


@given(histories(), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(AMID)), max_size=6))
def test_what_waits_is_the_same_while_what_is_unfinished_is_the_same_object(
    events: list[Event], amid: list[tuple[int, Event]]
) -> None:
    """So a daemon may keep it from one turn to the next; images alone change nothing of it."""
    for place, event in amid:
        events.insert(place, event)
    state = replay([STARTED])
    for event in events:
        before = state[RUN]
        state = evolve(state, [(RUN, event, NOW)])
        if state[RUN].unfinished is before.unfinished:
            assert pending(state[RUN]) == pending(before)
        else:
            assert not isinstance(event, ImagesScored)


@given(histories())
def test_nothing_is_scored_twice_or_published_unscored(events: list[Event]) -> None:
    """Each evaluation has one place, queue and scored are disjoint, trackers show scored ones."""
    run = fold(*events)
    order = run.scored.get(PROTOCOL, ())
    assert len(set(order)) == len(order)
    waiting = {evaluation_id(checkpoint, PROTOCOL) for checkpoint in queue(run)}
    assert waiting.isdisjoint(order)
    for tracker in run.trackers.values():
        assert tracker.has <= set(order)
    assert all(row.state in view.STATES for row in view.rows(run))


def test_an_unknown_event_is_no_silent_loss() -> None:
    """A vocabulary that grows without its case fails loudly."""
    with pytest.raises(TypeError, match="no case"):
        evolve({RUN: fold()}, [(RUN, object(), NOW)])  # type: ignore[list-item]


def test_an_advice_is_given_once() -> None:
    """An import completed the evaluation while a daemon did: nobody is told twice."""
    low = AdviceGiven(id_of(1), 1, "low", "it does not show")
    other = AdviceGiven(id_of(1), 1, "low", "it does not show, by another count")
    done = EvaluationCompleted(id_of(1), {"": CLIP})
    assert fold(*scored(1), low, done, other).advice == (low,)
