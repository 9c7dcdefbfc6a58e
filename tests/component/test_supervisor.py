"""The loop, with a scripted evaluator and real files: what happens when things go wrong."""

from __future__ import annotations

import os
import re
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipwatch.domain.delivered import parked as waits_for_somebody
from clipwatch.domain.events import EvaluationReopened
from clipwatch.domain.state import evaluation_id
from clipwatch.executors.messages import Evaluate, Failed, Reply
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import ClipwatchError, SettingsError, TrackerRefused, TrackerUnavailable
from clipwatch.loop.narration import narrate
from clipwatch.results import view
from clipwatch.results.series import Series
from clipwatch.service.lock import exclusive
from loop_kit import Faulty, states, until
from world import MemoryTracker, World, checkpoint, usual


def test_once_evaluates_newest_first_publishes_all_and_ends_with_zero(tmp_path: Path) -> None:
    """Every checkpoint is scored and published; a second start adds nothing to the log."""
    world = World(tmp_path)
    for step in (100, 300, 200):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    assert [Path(request.path).name for request in world.requests] == [
        "checkpoint-300",
        "checkpoint-200",
        "checkpoint-100",
    ]
    assert {step for step, _ in world.rows().values()} == {100, 200, 300}
    assert set(states(world).values()) == {"published"}
    before = world.logged
    assert world.once() == 0
    assert world.logged == before
    assert len(world.requests) == 3


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What a killed daemon had committed is not generated again."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    world.script = lambda request: usual(request, images=2)  # and never ends
    with world.live():
        until(lambda: states(world) == {1: "evaluating"})
        until(lambda: len(next(iter(world.run.evaluations.values())).done) == 2)
    world.script = lambda _: None
    assert world.once() == 0
    assert len(world.requests[1].done) == 2
    assert states(world) == {1: "published"}


def test_weights_that_do_not_fit_are_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    """A failed checkpoint is told with its reason; the exit code says that something failed."""
    world = World(tmp_path)
    for step in (1, 2):
        checkpoint(world.output, step, step)

    def script(request: Evaluate) -> list[Reply] | None:
        return [Failed("weights", "3 of 9 tensors fit")] if request.path.endswith("2") else None

    world.script = script
    assert world.once() == 1
    assert states(world) == {1: "published", 2: "failed"}
    assert view.rows(world.run)[1].reason == "3 of 9 tensors fit"
    assert world.once() == 1
    assert len(world.requests) == 2


@pytest.mark.parametrize("stage", ["off", "copy", "pin"])
def test_a_failure_names_the_trainers_path(tmp_path: Path, stage: str) -> None:
    """Wherever a checkpoint is kept and read, its user knows it by the folder in output_dir."""
    world = World(tmp_path, stage=stage)
    folder = checkpoint(world.output, 1)
    world.script = lambda request: [
        Failed("weights", f"{request.path}/x holds NaN in {request.path}")
    ]
    assert world.once() == 1
    assert (world.requests[0].path == str(folder)) is (stage == "off")
    assert view.rows(world.run)[0].reason == f"{folder}/x holds NaN in {folder}"


def test_a_killed_evaluator_is_started_anew_with_half_the_batch(tmp_path: Path) -> None:
    """Lack of memory halves the batch until it fits; nothing scored is lost."""
    world = World(tmp_path, batch_size=4)
    checkpoint(world.output, 1)

    def script(request: Evaluate) -> list[Reply] | None:
        if request.batch_size > 1:
            return [*usual(request, images=1), Failed("killed", "killed by SIGKILL")]
        return None

    world.script = script
    assert world.once() == 0
    assert [(request.batch_size, len(request.done)) for request in world.requests] == [
        (4, 0),
        (2, 1),
        (1, 2),
    ]
    assert states(world) == {1: "published"}


def test_a_restart_tries_again_what_failed_for_outside_reasons(tmp_path: Path) -> None:
    """A base model that could not be loaded is no fault of the checkpoint."""
    world = World(tmp_path, max_attempts=1)
    checkpoint(world.output, 1)
    world.script = lambda _: [Failed("model", "no such folder")]
    assert world.once() == 1
    assert states(world) == {1: "failed"}
    world.script = lambda _: None
    assert world.once() == 0
    assert states(world) == {1: "published"}


def test_a_checkpoint_that_vanished_is_discarded_not_failed(tmp_path: Path) -> None:
    """Rotation is a normal thing: exit code 0, the reason in the status."""
    world = World(tmp_path)
    for step in (1, 2):
        checkpoint(world.output, step, step)

    def script(request: Evaluate) -> list[Reply] | None:
        if request.path.endswith("2"):
            shutil.rmtree(request.path)
            return [Failed("vanished", "gone")]
        return None

    world.script = script
    assert world.once() == 0
    assert states(world) == {1: "published", 2: "discarded"}


def test_a_checkpoint_that_comes_back_is_scored(tmp_path: Path) -> None:
    """A mount that was gone for a moment, as the weights were read, costs no result."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    aside = tmp_path / "aside"

    def gone(request: Evaluate) -> list[Reply]:
        world.output.rename(aside)
        world.output.mkdir()
        return [Failed("vanished", f"{request.path} is gone")]

    world.script = gone
    assert world.once() == 0
    assert states(world) == {1: "discarded"}
    assert any("is gone (tried again if it comes back)" in line for line in world.said)
    world.script = lambda _: None
    written = len(world.logged)
    assert world.once() == 0
    assert not [it for it in world.logged[written:] if isinstance(it.event, EvaluationReopened)]
    world.output.rmdir()
    aside.rename(world.output)
    world.clock = lambda: datetime.now(UTC) + timedelta(minutes=1)
    assert world.once() == 0
    assert states(world) == {1: "published"}


def test_a_hanging_tracker_delays_neither_the_others_nor_the_evaluation(tmp_path: Path) -> None:
    """While one tracker hangs, all checkpoints are scored and shown elsewhere."""
    world = World(tmp_path)
    hanging = Faulty(world.trackers["memory"].target)  # type: ignore[attr-defined]
    hanging.hold = threading.Event()
    world.trackers["hanging"] = hanging
    for step in (1, 2, 3):
        checkpoint(world.output, step, step)
    with world.live():
        until(lambda: len(world.rows()) == 3)
        assert world.rows("hanging") == {}
        hanging.hold.set()
        until(lambda: len(world.rows("hanging")) == 3)
    assert set(states(world).values()) == {"published"}


@pytest.mark.parametrize(
    ("error", "parked"),
    [
        (TrackerRefused("no key"), True),
        (TrackerUnavailable("503"), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_a_tracker_that_fails_is_told_and_filled_later(
    tmp_path: Path, error: Exception, parked: bool
) -> None:
    """Scores stay in the log; a later start brings the tracker what it lacks, once."""
    world = World(tmp_path)
    faulty = Faulty(world.trackers["memory"].target)  # type: ignore[attr-defined]
    faulty.error = error
    world.trackers["faulty"] = faulty
    checkpoint(world.output, 1)
    assert world.once() == 1
    assert states(world) == {1: "scored"}
    assert str(error) in (view.rows(world.run)[0].reason or "")
    assert waits_for_somebody(world.run, "faulty") is parked
    assert len(world.rows()) == 1
    faulty.error = None
    assert world.once() == 0
    assert world.rows("faulty") == world.rows()
    assert len(world.requests) == 1


def test_the_same_step_with_other_weights_is_scored_again(tmp_path: Path) -> None:
    """Both results are published, in their order."""
    world = World(tmp_path)
    checkpoint(world.output, 5, 1.0)
    assert world.once() == 0
    checkpoint(world.output, 5, 2.0)
    assert world.once() == 0
    assert [step for step, _ in world.rows().values()] == [5, 5]


def test_touched_or_copied_weights_are_the_same_weights(tmp_path: Path) -> None:
    """Scored ones are not scored again; unscored ones are evaluated as they lie there now."""
    world = World(tmp_path)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    world.script = lambda request: (
        [Failed("internal", "boom")] if request.path.endswith("2") else None
    )
    assert world.once() == 1
    for path in world.output.rglob("*.safetensors"):
        os.utime(path, ns=(1, 1))
    world.script = lambda _: None
    assert world.once() == 0
    assert [Path(request.path).name for request in world.requests] == [
        "checkpoint-2",
        "checkpoint-1",
        "checkpoint-2",
    ]
    assert world.requests[-1].files[0].mtime_ns == 1


def test_other_prompts_make_another_curve(tmp_path: Path) -> None:
    """Results of another protocol go to a series of their own."""
    world = World(tmp_path)
    checkpoint(world.output, 5)
    assert world.once() == 0
    world.settings = World(tmp_path, validation_seed=7).settings
    assert world.once() == 0
    memory = world.trackers["memory"]
    assert isinstance(memory, MemoryTracker)
    other = f"clipwatch-{world.settings.protocol.digest[:8]}"
    assert sorted(memory.rows) == ["clipwatch", other]
    assert len(memory.rows[other]) == 1


def test_a_live_run_is_followed_from_before_its_directory_exists(tmp_path: Path) -> None:
    """Checkpoints are seen as they come, also after the directory was deleted and made again."""
    world = World(tmp_path)
    world.output.rmdir()
    with world.live():
        until(lambda: "does not exist" in world.run.problem)
        checkpoint(world.output, 1, 1)
        until(lambda: states(world) == {1: "published"})
        shutil.rmtree(world.output)
        until(lambda: "does not exist" in world.run.problem)
        checkpoint(world.output, 2, 2)
        until(lambda: states(world).get(2) == "published")
    assert world.run.problem == ""
    assert states(world) == {1: "published", 2: "published"}


def test_events_bring_a_checkpoint_before_the_next_rescan(tmp_path: Path) -> None:
    """With an hour between rescans a renamed folder and a late guard are still seen."""
    world = World(tmp_path, rescan_seconds=3600, watch="events")
    with world.live():
        until(lambda: bool(world.watched.eyes._watcher._watches))
        made = checkpoint(tmp_path / "elsewhere", 1)
        (made / ".guard").unlink()
        made.rename(world.output / "checkpoint-1")
        checkpoint(tmp_path / "elsewhere", 2).rename(world.output / "checkpoint-2")
        until(lambda: world.output / "checkpoint-1" in world.watched.eyes._watcher._watches)
        (world.output / "checkpoint-1" / ".guard").write_text("complete")
        until(lambda: len(world.rows()) == 2)


def test_polling_needs_no_events(tmp_path: Path) -> None:
    """In mode poll only our own folder is watched, and checkpoints are found all the same."""
    world = World(tmp_path, watch="poll")
    with world.live():
        checkpoint(world.output, 1)
        until(lambda: len(world.rows()) == 1)
        wake = world.settings.paths.state_dir / "wake"
        assert list(world.watched.eyes._watcher._watches) == [wake]


def test_images_are_kept_of_the_newest_evaluations_only(tmp_path: Path) -> None:
    """Scores stay for ever, images as long as the setting says."""
    world = World(tmp_path, keep_images=1)

    def script(request: Evaluate) -> list[Reply] | None:
        assert request.images_dir is not None
        Path(request.images_dir).mkdir(parents=True, exist_ok=True)
        (Path(request.images_dir) / "x.png").touch()
        return None

    world.script = script
    for step in (1, 2, 3):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    images = sorted((world.settings.paths.state_dir / "images").rglob("x.png"))
    assert [path.parts[-4] for path in images] == ["checkpoint-1"]  # the last one evaluated


def test_once_without_an_output_directory_is_a_mistake_in_the_call(tmp_path: Path) -> None:
    """There is nothing to wait for: exit code 2."""
    world = World(tmp_path)
    world.output.rmdir()
    with pytest.raises(SettingsError, match="does not exist"):
        world.once()


def test_two_daemons_cannot_watch_the_same_run(tmp_path: Path) -> None:
    """The second is told who holds it and since when; the lock ends with its holder."""
    with exclusive(tmp_path, "run-a"):
        said = r"run-a is already watched by clipwatch with pid \d+ since 20"
        with pytest.raises(ClipwatchError, match=said), exclusive(tmp_path, "run-a"):
            pass
        with exclusive(tmp_path, "run-b"):
            assert (tmp_path / "run-b.lock").read_text().startswith("clipwatch with pid")
    with exclusive(tmp_path, "run-a"):
        assert (tmp_path / "run-a.lock").read_text().startswith("clipwatch with pid")


def test_two_runs_share_one_log(tmp_path: Path) -> None:
    """Two daemons write into one state directory at the same time and neither loses anything."""
    one = World(tmp_path)
    (tmp_path / "two").mkdir()
    two = World(tmp_path / "two", state_dir=str(one.settings.paths.state_dir))
    assert one.log == two.log
    with one.live(), two.live():
        for step in range(5):
            checkpoint(one.output, step, step)
            checkpoint(two.output, step, step)
        until(lambda: len(one.rows()) == len(two.rows()) == 5)
    runs = read_state(one.log)
    assert len(runs) == 2
    for run in runs.values():
        assert [row.state for row in view.rows(run)] == ["published"] * 5


def test_everything_said_is_one_line_for_each_matter(tmp_path: Path) -> None:
    """The narration of a whole run has no empty or broken line and names each checkpoint."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    world.once()
    lines = [line for recorded in world.logged for line in narrate(recorded.event)]
    assert all(line and "\n" not in line for line in lines)
    assert any(line.startswith("checkpoint-1: clip/mean 0.") for line in lines)
    checkpoint(world.output, 2)
    world.once()
    (told,) = (it for it in world.said if it.startswith("checkpoint-2: clip/mean"))
    number = "[0-9.]+"
    assert re.fullmatch(
        f"checkpoint-2: clip/mean {number} ± {number}, {number} (over|under) the best before "
        rf"\(checkpoint-1\); min {number}, max {number}, std {number}; [0-9]+ images in [0-9]+ s",
        told,
    )
    done = world.run.checkpoints["checkpoint-1"]
    assert evaluation_id(done, world.run.protocol).startswith("checkpoint-1/")


def test_an_adapter_of_another_kind_than_was_said_is_told_before_it_is_loaded(
    tmp_path: Path,
) -> None:
    """It is evaluated nevertheless, at the strength that the settings name."""
    world = World(tmp_path, lora_type="lycoris", validation_lycoris_strength=0.5)
    checkpoint(world.output, 10)
    assert world.once() == 0
    (said,) = [line for line in world.said if "lora_type" in line]
    assert said.startswith("checkpoint-10: it is a LoRA, and lora_type is 'lycoris'")
    assert [it.protocol.adapter_strength for it in world.requests] == [0.5]
    assert world.said.index(said) < world.said.index("checkpoint-10: loading")


def test_where_a_person_finds_it_is_asked_only_when_it_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may be slow, and the loop would wait: it asks for the destination alone."""
    world = World(tmp_path)
    kept = world.trackers["memory"]
    asked: list[str] = []

    def where(_: Series) -> str:
        asked.append(threading.current_thread().name)
        return str(tmp_path / "shown")

    monkeypatch.setattr(kept, "where", where)
    checkpoint(world.output, 1)
    assert world.once() == 0
    published = len(asked)
    assert world.once() == 0
    assert len(asked) == published + 1  # it is read once at a start
    assert set(asked) == {"tracker memory"}
