"""Images stay as long as somebody may need them, are told to be gone, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.decided import Decision, Reference
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.queue import vanished
from clipwatch.domain.retention import GB, UNFINISHED, dear_ones, to_delete
from clipwatch.domain.state import BASE_NAME, Checkpoint, Run, evaluation_id
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import Projection
from clipwatch.loop.console import Console
from clipwatch.loop.pruning import Pruner
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import images_of, read_images
from clipwatch.settings.parts import Evaluating
from clipwatch.statistics import Summary

NOW = datetime(2026, 1, 2, tzinfo=UTC)
A, B = "aaaaaaaa", "bbbbbbbb"
DIGEST = "d1" * 8


def id_of(step: int, protocol: str = A) -> str:
    return f"checkpoint-{step}/{DIGEST[:8]}/{protocol}"


def saved(step: int) -> Event:
    name = f"checkpoint-{step}"
    return CheckpointCompleted(step, name, f"/out/{name}", "lora", "", (), DIGEST)


def begun(step: int, protocol: str = A) -> list[Event]:
    place = (f"checkpoint-{step}", step, DIGEST, protocol)
    return [saved(step), EvaluationStarted(id_of(step, protocol), *place, {})]


def scored(step: int, protocol: str = A, mean: float | None = None) -> list[Event]:
    """Have one scored; unless it is told the mean grows with the step, so the newest is best."""
    clip = Summary(step / 1000 if mean is None else mean, -1.0, 1.0, 0.05, 4)
    return [*begun(step, protocol), EvaluationCompleted(id_of(step, protocol), {"": clip})]


BASE = evaluation_id(Checkpoint(0, BASE_NAME, "", "whole", digest=DIGEST), A)


def base() -> list[Event]:
    """Have the base model scored under the first protocol."""
    clip = Summary(0.9, -1.0, 1.0, 0.05, 4)
    return [
        CheckpointCompleted(0, BASE_NAME, "/base", "base", "", (), DIGEST),
        EvaluationStarted(BASE, BASE_NAME, 0, DIGEST, A, {}),
        EvaluationCompleted(BASE, {"": clip}),
    ]


STARTED = RunStarted("/out", A, (), {}, "0")


def fold(*events: Event) -> Run:
    """Return the run; each event came a second after the one before."""
    told = enumerate((STARTED, *events))
    return evolve({}, [("run", event, NOW + timedelta(seconds=n)) for n, event in told])["run"]


class Kept:
    """A log, and what keeps the images beside it."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.journal, self.images = journal, images_of(folder, "run")
        projection = Projection(journal)
        self.log = RunLog(projection, "run", Console(), lambda: None, lambda: NOW, once=True)
        self.log.record_run(STARTED)
        self.pruner = Pruner(self.log, folder)

    def happened(self, *events: Event) -> None:
        """Write events down."""
        for event in events:
            name = getattr(event, "evaluation", "")
            record = self.log.record_evaluation if name else lambda _, it: self.log.record_run(it)
            record(name, event)

    def deleted(self) -> list[tuple[str, str]]:
        """Return what the log says was deleted, and why."""
        told = (it.event for it in self.journal.read())
        return [(it.evaluation, it.reason) for it in told if isinstance(it, ImagesDeleted)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Return a run without an event."""
    with Journal(log_file(tmp_path)) as journal:
        yield Kept(tmp_path, journal)


def asked(keep: int, most: float | None = None) -> Evaluating:
    """Return settings."""
    return Evaluating(True, None, "sequence", "mean", "best", 60.0, 3, "png", keep, most, "wait")


def drawn(images: Path, *ids: str) -> None:
    """Have an image of each evaluation."""
    for id_ in ids:
        (images / id_).mkdir(parents=True, exist_ok=True)
        (images / id_ / "a-0.png").touch()


def left(images: Path) -> set[str]:
    """Return the images that are there, and the folders that are empty."""
    return {
        str(it.relative_to(images))
        for it in images.rglob("*")
        if not it.is_dir() or not list(it.iterdir())
    }


def test_the_newest_of_each_protocol_stay_and_those_that_are_owed(kept: Kept) -> None:
    """All others go, each with the folders that it alone was in, and the log tells of it."""
    changed = SettingsChanged(B, (), {}, "0")
    kept.happened(*scored(1), *scored(2), *scored(3), changed, *scored(4, B), *scored(5, B))
    drawn(kept.images, *(id_ for ids in kept.log.run.scored.values() for id_ in ids))
    newest = {f"{id_of(3)}/a-0.png", f"{id_of(5, B)}/a-0.png"}
    kept.pruner.prune(asked(-1), (), ())
    assert len(left(kept.images)) == 5
    kept.pruner.prune(asked(1), {id_of(1)}, ())
    assert left(kept.images) == {*newest, f"{id_of(1)}/a-0.png"}
    kept.pruner.prune(asked(1), (), ())
    assert left(kept.images) == newest
    kept.pruner.prune(asked(1), (), ())
    why = "keep_images is 1"
    assert kept.deleted() == [(id_of(2), why), (id_of(4, B), why), (id_of(1), why)]
    kept.pruner.prune(asked(0), (), ())
    assert list(kept.images.iterdir()) == []
    assert kept.deleted()[3:] == [(id_, "keep_images is 0") for id_ in (id_of(3), id_of(5, B))]


def test_the_base_and_the_best_stay_beside_the_newest(kept: Kept) -> None:
    """Under each protocol; another best takes the place of the one before."""
    kept.happened(*base(), *scored(1, mean=0.5), *scored(2, mean=0.3), *scored(3, mean=0.2))
    drawn(kept.images, BASE, *map(id_of, (1, 2, 3)))
    kept.pruner.prune(asked(1), (), ())
    assert left(kept.images) == {f"{it}/a-0.png" for it in (BASE, id_of(1), id_of(3))}
    kept.happened(*scored(4, mean=0.6))
    drawn(kept.images, id_of(4))
    kept.pruner.prune(asked(1), (), ())
    assert left(kept.images) == {f"{it}/a-0.png" for it in (BASE, id_of(4))}


def test_the_mean_of_a_part_is_no_best() -> None:
    """As `clipwatch best` has it: an estimate is one only while nothing else is there."""
    decision = Decision(Reference(id_of(1)), "within", 32, 0.0, -0.001, 0.001, 0.005)
    parts = [
        replace(it, decision=decision) if isinstance(it, EvaluationCompleted) else it
        for it in (*scored(2, mean=0.9), *scored(3, mean=0.8))
    ]
    assert dear_ones(fold(*parts)) == {id_of(2)}
    assert dear_ones(fold(*scored(1, mean=0.5), *parts)) == {id_of(1)}


def test_beyond_the_bound_the_oldest_go_first(kept: Kept) -> None:
    """Measured on the disk; what is owed stays, whatever it takes."""
    kept.happened(*base(), *scored(1, mean=0.5), *scored(2, mean=0.3), *scored(3, mean=0.2))
    drawn(kept.images, BASE, *map(id_of, (1, 2, 3)))
    for path in kept.images.rglob("*.png"):
        path.write_bytes(bytes(1000))
    kept.pruner.prune(asked(-1, 4000 / GB), (), ())
    assert len(left(kept.images)) == 4
    kept.pruner.prune(asked(-1, 3999 / GB), {id_of(2)}, ())
    assert left(kept.images) == {f"{it}/a-0.png" for it in (BASE, id_of(1), id_of(2))}
    kept.pruner.prune(asked(-1, 1 / GB), {id_of(2)}, ())
    assert left(kept.images) == {f"{id_of(2)}/a-0.png"}
    assert [it for it, _ in kept.deleted()] == [id_of(3), BASE, id_of(1)]
    assert kept.deleted()[0][1] == "keep_images_gb is 3.999e-06"


def test_what_was_written_down_as_deleted_goes_with_the_next_start(kept: Kept) -> None:
    """And nothing else; it is not written down again."""
    kept.happened(*scored(1), *scored(2), ImagesDeleted(id_of(1), "keep_images is 1"))
    drawn(kept.images, id_of(1), id_of(2))
    kept.pruner.finish()
    assert left(kept.images) == {f"{id_of(2)}/a-0.png"}
    assert len(kept.deleted()) == 1


def test_nobody_looks_for_what_is_deleted(kept: Kept) -> None:
    """Its scores stay; images that are made later have their files."""
    kept.happened(*begun(1))
    first, second = (ImageScore(it, 0, 1, {"": 0.5}, f"x/{it}-0.png") for it in "ab")
    kept.happened(ImagesScored(id_of(1), (first,)), ImagesDeleted(id_of(1), UNFINISHED))
    kept.happened(ImagesScored(id_of(1), (second,)))
    read = read_images(kept.journal, "run", id_of(1))
    assert read == (replace(first, image=None), second)
    assert not kept.log.run.evaluations[id_of(1)].images_deleted


def test_an_evaluation_without_an_end_leaves_nothing(kept: Kept) -> None:
    """Its images stay while it can go on: its weights lie there, or are held; then they go."""
    again = EvaluationFailed(id_of(2), "memory", "out of memory", 1, NOW)
    lost = EvaluationFailed(id_of(3), "unreadable", "damaged", 1, None)
    kept.happened(*begun(1), *begun(2), again, *begun(3), lost)
    ids = {id_of(step) for step in (1, 2, 3)}
    drawn(kept.images, *ids)
    kept.pruner.prune(asked(0), (), ())
    assert left(kept.images) == {f"{id_}/a-0.png" for id_ in ids}
    kept.happened(*map(vanished, kept.log.run.checkpoints.values()))
    kept.pruner.prune(asked(0), (), {("checkpoint-1", DIGEST)})
    assert left(kept.images) == {f"{id_of(1)}/a-0.png"}
    kept.pruner.prune(asked(0), (), ())
    assert list(kept.images.iterdir()) == []
    assert {why for _, why in kept.deleted()} == {UNFINISHED}


def test_weights_that_were_replaced_are_no_longer_there(kept: Kept) -> None:
    """Another digest under the same name does not keep the images of the first."""
    replaced = CheckpointCompleted(1, "checkpoint-1", "/out/checkpoint-1", "lora", "", (), "e" * 16)
    drawn(kept.images, id_of(1))
    kept.happened(*begun(1), replaced)
    kept.pruner.prune(asked(0), (), ())
    assert list(kept.images.iterdir()) == []


def test_what_is_not_ours_stays(kept: Kept, tmp_path: Path) -> None:
    """Folders that the log does not know, and what a link leads to."""
    theirs, images = tmp_path / "theirs", kept.images
    drawn(theirs, id_of(1), id_of(2))
    drawn(images, "mine/own/pictures")
    (images / "checkpoint-1").symlink_to(theirs / "checkpoint-1")
    weights = images / "checkpoint-2" / DIGEST[:8]
    weights.mkdir(parents=True)
    (weights / A).symlink_to(theirs / id_of(2))
    kept.happened(*scored(1), *scored(2))
    kept.pruner.prune(asked(0), (), ())
    assert left(theirs) == {f"{id_of(1)}/a-0.png", f"{id_of(2)}/a-0.png"}
    assert "mine/own/pictures/a-0.png" in left(images)
    assert kept.deleted() == []


@st.composite
def runs(draw: st.DrawFn) -> tuple[Run, dict[str, int], frozenset[str]]:
    """Draw a run, what its images take, and which of them are owed."""
    events = base() if draw(st.booleans()) else []
    for step in range(1, draw(st.integers(1, 6)) + 1):
        protocol = draw(st.sampled_from([A, B]))
        mean = draw(st.sampled_from([0.1, 0.2, 0.3]))
        events += scored(step, protocol, mean) if draw(st.booleans()) else begun(step, protocol)
    run = fold(*events)
    sizes = {id_: draw(st.integers(1, 9)) for id_ in run.evaluations if draw(st.booleans())}
    owed = frozenset(id_ for id_ in run.evaluations if draw(st.integers(0, 3)) == 0)
    return run, sizes, owed


def dear(run: Run) -> set[str]:
    """Return base and best of each protocol, found in another way."""
    found = set()
    for ids in run.scored.values():
        own = [run.evaluations[it] for it in ids]
        found |= {it.id for it in own if it.of_base}
        ranked = sorted(
            (it for it in own if not it.of_base and it.clip),
            key=lambda it: (-it.clip.mean, it.step) if it.clip else (0.0, 0),
        )
        found |= {it.id for it in ranked[:1]}
    return found


@given(runs(), st.integers(-1, 4), st.none() | st.integers(1, 30))
def test_what_is_kept_whatever_happened(
    drawn_run: tuple[Run, dict[str, int], frozenset[str]], keep: int, most: int | None
) -> None:
    """Nothing owed goes; base, best and the newest stay within the bound; the order is by age."""
    run, there, owed = drawn_run
    most_gb = None if most is None else most / GB
    gone = [it.evaluation for it in to_delete(run, there, keep, most_gb, owed, ())]
    assert len(set(gone)) == len(gone)
    assert set(gone) <= there.keys() - owed
    known, special = run.evaluations, dear(run)
    assert all(known[it].state == "scored" for it in gone)  # the others can go on
    plain = [it.evaluation for it in to_delete(run, there, keep, None, owed, ())]
    assert gone[: len(plain)] == plain  # the bound comes on top
    newest = {it for ids in run.scored.values() for it in ids[-keep:]} if keep > 0 else set()
    if keep < 0:
        assert plain == []
    elif keep:
        assert not set(plain) & (special | newest)
        assert all(
            it in special | newest | owed
            for it in there
            if it in known and it not in plain and known[it].state == "scored"
        )
    else:
        assert set(plain) == {it for it in there.keys() - owed if known[it].state == "scored"}
    bounded = gone[len(plain) :]
    if most is None:
        assert bounded == []
        return
    left_over = sum(size for it, size in there.items() if it not in gone)
    movable = [
        it for it in there if it not in gone and it not in owed and known[it].state == "scored"
    ]
    assert left_over <= most or not movable
    if bounded:  # no more than needed
        assert left_over + there[bounded[-1]] > most
    order = [(it in special, known[it].finished) for it in bounded]
    assert order == sorted(order)
