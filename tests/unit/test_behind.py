"""What is left out where checkpoints come too fast: pure, so trainings are played through."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.behind import WAITING, left_out
from clipwatch.domain.events import (
    CheckpointCompleted,
    CheckpointDiscarded,
    CheckpointFound,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
    SettingsChanged,
    WeightFile,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.kinds import Unit, WhenBehind
from clipwatch.domain.queue import due, had_back, observe, queue, reopenable, wholes
from clipwatch.domain.sighting import Partial, Sighting, Unusable, Weights, Whole
from clipwatch.domain.state import Checkpoint, Run, evaluation_id
from clipwatch.results import view
from clipwatch.results.reading import series_of
from clipwatch.statistics import Summary
from results_kit import protocol

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MADE = protocol(1)
FILES = (WeightFile("w.safetensors", 1, 1, 1),)
Policy = Literal["newest", "spread"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def fold(*events: Event, run: Run | None = None) -> Run:
    """Return the run after these events."""
    state = {"r": run} if run else {}
    return evolve(state, (("r", it, NOW) for it in events))["r"]


def begun(when_behind: str = "newest") -> list[Event]:
    """Return how a run begins."""
    settings = {"when_behind": when_behind}
    return [
        RunStarted("/out", MADE.digest, (), settings, "0"),
        ProtocolDefined(MADE.digest, MADE),
    ]


def whole(step: int, digest: str = "", *, name: str = "", unit: Unit = "step") -> Event:
    """Return what makes a checkpoint whole."""
    name = name or f"checkpoint-{step}"
    digest = (digest or f"{step:x}").ljust(8, "x")
    return CheckpointCompleted(step, name, f"/out/{name}", "lora", "", FILES, digest, unit)


def id_of(step: int, digest: str = "", made: str = MADE.digest) -> str:
    """Return the evaluation of such a checkpoint."""
    it = whole(step, digest)
    assert isinstance(it, CheckpointCompleted)
    return evaluation_id(Checkpoint(step, it.name, "", "whole", digest=it.digest), made)


def taken_up(step: int, *, images: int = 0, made: str = MADE.digest) -> list[Event]:
    """Return how its evaluation begins."""
    it, id_ = whole(step), id_of(step, made=made)
    assert isinstance(it, CheckpointCompleted)
    started = EvaluationStarted(id_, it.name, step, it.digest, made, {})
    scores = tuple(ImageScore(f"p{n}", 0, 0, {"": 0.3}) for n in range(images))
    return [started, *([ImagesScored(id_, scores)] if images else [])]


def scored(step: int, mean: float = 0.3, made: str = MADE.digest) -> list[Event]:
    """Return how it is evaluated."""
    summary = Summary(mean, 0.1, 0.4, 0.05, 1)
    return [
        *taken_up(step, images=1, made=made),
        EvaluationCompleted(id_of(step, made=made), {"": summary}),
    ]


def key(step: int) -> tuple[str, str]:
    """Return by what it is known."""
    it = whole(step)
    assert isinstance(it, CheckpointCompleted)
    return it.name, it.digest


def out(run: Run, when_behind: WhenBehind, *in_hand: int) -> list[int]:
    """Return the steps that are left out now."""
    return sorted(it.step for it in left_out(run, when_behind, [key(it) for it in in_hand]))


def without(run: Run, when_behind: WhenBehind, *in_hand: int) -> Run:
    """Return the run when that is written down."""
    return fold(*left_out(run, when_behind, [key(it) for it in in_hand]), run=run)


def waiting(run: Run) -> list[int]:
    """Return the steps in the queue, in their order."""
    return [it.step for it in queue(run)]


def test_all_wait_unless_something_else_is_asked_for() -> None:
    """The default evaluates each of them, however many there are."""
    run = fold(*begun(), *map(whole, range(1, 50)))
    assert out(run, "wait") == []


def test_the_newest_is_jumped_to() -> None:
    """One that waits goes when a newer one is complete, whichever was seen first."""
    assert out(fold(*begun(), *map(whole, (1, 2, 3))), "newest") == [1, 2]
    assert out(fold(*begun(), *map(whole, (3, 1, 2))), "newest") == [1, 2]
    assert out(fold(*begun(), whole(3), *scored(3), whole(2)), "newest") == [2]
    unfinished = CheckpointFound(9, "checkpoint-9", "/out/checkpoint-9", "no weights yet")
    assert out(fold(*begun(), whole(3), unfinished), "newest") == []


@pytest.mark.parametrize("when_behind", POLICIES)
def test_what_matters_is_never_left_out(when_behind: Policy) -> None:
    """Base, the last ones, the best, what is in hand or begun: in a crowd that is left out."""
    other = replace(MADE, seed=7)
    base = CheckpointCompleted(0, "base-model", "/base", "base", "", (), "b" * 16)
    run = fold(
        *begun(),
        base,
        *(whole(it) for it in range(10, 90)),
        whole(89, "final", name="lora-final"),
        *scored(20, 0.5),
        *scored(30, 0.4),
        ProtocolDefined(other.digest, other),
        SettingsChanged(other.digest, (), {}, "0"),
        *taken_up(40, images=1, made=other.digest),
        *taken_up(50, made=other.digest),
    )
    left = {it.step for it in left_out(run, when_behind, [key(60)])}
    assert not left & {0, 20, 40, 60, 89}
    assert {30, 50} <= left or when_behind == "spread"
    names = {it.name for it in queue(without(run, when_behind, 60))}
    assert {"base-model", "checkpoint-89", "lora-final", "checkpoint-20"} <= names


def test_a_failed_attempt_without_an_image_waits_like_any_other() -> None:
    """It goes with its turn, and a restart does not have it back."""
    failed = EvaluationFailed(id_of(1), "killed", "killed", 1, NOW + timedelta(minutes=1))
    run = fold(*begun(), whole(1), *taken_up(1), failed, whole(2))
    assert out(run, "newest") == [1]
    run = without(run, "newest")
    assert waiting(run) == [2]
    assert reopenable(run, NOW) == []
    kept = fold(*begun(), whole(1), *taken_up(1, images=1), failed, whole(2))
    assert out(kept, "newest") == []


def test_files_of_no_training_have_none_that_is_newer() -> None:
    """Their numbers are places among names."""
    files = [whole(it, name=f"{it}.safetensors", unit="file") for it in range(1, 30)]
    assert out(fold(*begun(), *files), "newest") == []
    assert out(fold(*begun(), *files), "spread") == []


def test_a_checkpoint_goes_at_all_its_strengths() -> None:
    """As a whole, unless one of them has an image; one row tells of it."""
    beside = MADE.at(0.5)
    strengths: list[Event] = [
        ProtocolDefined(beside.digest, beside, "strength 0.5"),
        SettingsChanged(MADE.digest, (), {}, "0", (beside.digest,)),
    ]
    run = fold(*begun(), *strengths, whole(1), whole(2), *scored(2), whole(3))
    assert out(run, "newest") == [1]
    run = without(run, "newest")
    assert [it.id for it in due(run, NOW)][-1] == id_of(2, made=beside.digest)
    assert [(it.step, it.state) for it in view.rows(run) if it.step == 1] == [(1, "discarded")]
    back = fold(*had_back(run, 1), run=run)
    assert waiting(back) == [3, 2, 1]
    assert len([it for it in due(back, NOW) if it.checkpoint.step == 1]) == 2


steps = st.sets(st.integers(1, 300), min_size=1, max_size=40)


@given(steps=steps, done=steps, when_behind=st.sampled_from(POLICIES), data=st.data())
def test_the_decision_holds(
    steps: set[int], done: set[int], when_behind: Policy, data: st.DataObject
) -> None:
    """Made once it is made, whatever the order; few wait, and those that go were the closest."""
    events = [*map(whole, steps), *(it for step in done for it in (whole(step), *scored(step)))]
    run = fold(*begun(), *events)
    shuffled = data.draw(st.permutations(sorted(steps - done)))
    again = fold(*begun(), *(it for step in done for it in (whole(step), *scored(step))))
    assert out(fold(*map(whole, shuffled), run=again), when_behind) == out(run, when_behind)
    after = without(run, when_behind)
    assert out(after, when_behind) == []
    assert after.skipped == len(out(run, when_behind))
    last = max(steps | done)
    free = [it for it in waiting(after) if it != last]
    assert len(free) <= (0 if when_behind == "newest" else WAITING)
    assert not set(out(run, when_behind)) & (done | {last})
    if when_behind == "spread" and after.skipped:
        there = sorted({0, last, *done, *waiting(after)})
        place = {step: n for n, step in enumerate(there)}
        least = min(there[place[it] + 1] - there[place[it] - 1] for it in free)
        made = [b - a for a, b in pairwise(there) if any(a < it < b for it in steps)]
        assert max(made) <= least


@given(batches=st.lists(steps, min_size=1, max_size=5), data=st.data())
def test_whether_they_come_at_once_or_one_by_one_the_same_newest_is_left(
    batches: list[set[int]], data: st.DataObject
) -> None:
    """What is jumped to does not depend on when it was decided."""
    run, there = fold(*begun()), set[int]()
    for it in batches:
        order = data.draw(st.permutations(sorted(it - there)))
        run = without(fold(*map(whole, order), run=run), "newest")
        there |= it
    assert waiting(run) == [max(there)]


def played(saves: int, lasts: float, when_behind: WhenBehind) -> list[int]:
    """Return the steps that are scored of a training that saves at 1, 2, 3, ...

    Each evaluation takes `lasts` of these; the newest is taken first, and the rest after the end.
    """
    run, hand, ready = fold(*begun()), 0, 0.0
    for step in range(1, saves + 1):
        while hand and ready <= step:
            run, hand = fold(*scored(hand), run=run), (waiting(run) or [0])[0]
            ready += lasts
        run = without(fold(whole(step), run=run), when_behind, hand)
        if not hand:
            hand, ready = step, step + lasts
    return sorted({it.step for it in run.evaluations.values()} | {*waiting(run), hand} - {0})


@given(saves=st.integers(20, 120), lasts=st.floats(0.2, 40))
def test_the_spread_of_a_training_is_even(saves: int, lasts: float) -> None:
    """No gap is more than 2.5 times their average, however slow evaluations are."""
    found = played(saves, lasts, "spread")
    gaps = [b - a for a, b in pairwise([0, *found])]
    assert found[-1] == saves
    assert max(gaps) <= max(1, 2.5 * saves / len(gaps))


@given(lasts=st.floats(0.2, 20))
def test_of_a_training_as_many_are_scored_as_there_is_time_for(lasts: float) -> None:
    """Jumping to the newest costs none: it is one for each evaluation's time, and the last."""
    found = played(100, lasts, "newest")
    assert abs(len(found) - 100 / max(1, lasts)) <= 2
    assert found[-1] == 100


def seen(step: int, verdict: Whole | Partial | Unusable) -> Sighting:
    """Return what a look found of it."""
    return Sighting(step, f"checkpoint-{step}", Path(f"/out/checkpoint-{step}"), verdict)


def test_what_was_left_out_stays_so_until_other_weights_lie_there() -> None:
    """Neither the next look nor a restart has it back, nor what is seen while it is deleted."""
    run = without(fold(*begun(), whole(1), whole(2)), "newest")
    same = Whole(Weights("lora", "", FILES), key(1)[1])
    two = seen(2, Whole(Weights("lora", "", FILES), key(2)[1]))
    assert wholes(run)["checkpoint-1"] == same
    touched = Whole(Weights("lora", "", (replace(FILES[0], mtime_ns=9),)), same.digest)
    for verdict in (same, touched, Partial("it is being deleted"), Unusable("unreadable", "bits")):
        assert observe(run, [two, seen(1, verdict)]) == []
    assert observe(run, [two]) == []
    (news,) = observe(run, [two, seen(1, Whole(Weights("lora", "", FILES), "other"))])
    assert isinstance(news, CheckpointCompleted)
    run = fold(news, run=run)
    assert (run.skipped, waiting(run)) == (0, [2, 1])
    assert out(run, "newest") == [1]  # a new checkpoint, as any other


def test_one_that_a_person_had_back_is_not_left_out_again() -> None:
    """However many come; the weights that take its place may be."""
    run = without(fold(*begun(), *map(whole, (1, 2, 3))), "newest")
    assert had_back(run, 3) == []
    run = fold(*had_back(run, 1), run=run)
    assert (run.skipped, waiting(run)) == (1, [3, 1])
    run = fold(*map(whole, range(4, 40)), run=run)
    assert 1 not in out(run, "newest")
    assert 1 not in out(run, "spread")
    assert 1 in out(fold(whole(1, "other"), run=run), "newest")


def test_a_result_tells_how_many_had_been_left_out_when_it_was_scored() -> None:
    """A constant of it: none where all wait, else 0 before the first; later ones change nothing."""
    run = fold(*begun("wait"), whole(1), *scored(1))
    assert series_of(run, MADE.digest, Path()).results[0].skipped is None
    run = fold(*begun(), whole(1), *scored(1), whole(2), whole(3), whole(4))
    run = fold(*scored(4), run=without(run, "newest"))
    run = fold(*had_back(run, 2), *scored(2), run=run)
    run = fold(SettingsChanged(MADE.digest, (), {"when_behind": "wait"}, "0"), run=run)
    run = fold(whole(5), *scored(5), run=run)
    told = [(it.step, it.skipped) for it in series_of(run, MADE.digest, Path()).results]
    assert told == [(1, 0), (4, 2), (2, 1), (5, 1)]
    elsewhere = [taken_up(6)[0], EvaluationImported(id_of(6), "/a/log", "r", 9), *scored(6)[1:]]
    run = fold(whole(6), *elsewhere, run=run)
    assert series_of(run, MADE.digest, Path()).results[-1].skipped is None


def test_the_reason_can_be_acted_on() -> None:
    """It tells why, by which setting, and what has it back."""
    run = fold(*begun(), *map(whole, range(1, 9)))
    (why,) = {it.reason for it in left_out(run, "newest", ())}
    assert why == (
        "a newer one was complete before its turn (when_behind newest); clipwatch retry STEP "
        "scores it"
    )
    (why,) = {it.reason for it in left_out(run, "spread", ())}
    assert why == (
        "more than 4 waited, and those around it were the closest (when_behind spread); "
        "clipwatch retry STEP scores it"
    )
    row = view.rows(without(run, "newest"))[0]
    assert (row.state, row.skipped) == ("discarded", True)


def test_a_score_from_elsewhere_stands_for_one_that_was_left_out() -> None:
    """An import brings it; it is not left out any more in what is shown."""
    run = without(fold(*begun(), whole(1), whole(2)), "newest")
    elsewhere = [taken_up(1)[0], EvaluationImported(id_of(1), "/a/log", "r", 9), *scored(1)[1:]]
    run = fold(*elsewhere, run=run)
    row = view.rows(run)[0]
    assert (row.step, row.state, row.skipped) == (1, "scored", False)
    assert waiting(fold(*had_back(run, 1), run=run)) == [2]


def test_what_was_left_out_was_understood() -> None:
    """Where the newest was deleted before its turn, nothing is said of files that mean nothing."""
    run = without(fold(*begun(), whole(1), whole(2)), "newest")
    run = fold(*observe(run, []), run=run)
    assert [it.state for it in view.rows(run)] == ["discarded", "discarded"]
    assert view.unread(run, "a folder") == ""


def test_a_log_that_tells_of_one_that_was_never_whole_is_read() -> None:
    """As any that was left out: nothing can have it back."""
    told = CheckpointDiscarded(1, "checkpoint-1", "/out/checkpoint-1", "skipped", "why")
    run = fold(*begun(), told)
    assert (run.skipped, had_back(run, 1), view.rows(run)[0].skipped) == (0, [], False)
