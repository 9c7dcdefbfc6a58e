"""The loop under fault: evaluators that hang, settings that change, disks that are full."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clipwatch.domain.delivered import parked
from clipwatch.domain.events import EvaluationFailed, SettingsChanged
from clipwatch.executors.messages import Evaluate, Failed, Reply
from clipwatch.journal import Journal
from clipwatch.kit.errors import ClipwatchError, JournalError, SettingsError, TrackerRefused
from clipwatch.results import view
from clipwatch.results.listing import listing
from clipwatch.settings import Settings
from clipwatch.tasks.reopen import reopen
from loop_kit import Faulty, states, until
from world import World, checkpoint, settings, usual


def failures(world: World) -> list[tuple[str, int, bool]]:
    """Return kind, attempt and whether it is given up, of each failure."""
    events = [recorded.event for recorded in world.logged]
    failed = [event for event in events if isinstance(event, EvaluationFailed)]
    return [(event.kind, event.attempt, event.retry_at is None) for event in failed]


# Evaluators ----------------------------------------------------------------------------------


def test_an_evaluator_that_hangs_is_ended_and_its_batch_halved(tmp_path: Path) -> None:
    """Silence for too long is a failure with its reason; the next checkpoint is not held up."""
    world = World(tmp_path, batch_size=2, max_attempts=2)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    world.script = lambda request: [] if request.path.endswith("2") else None
    assert world.once() == 1
    assert [request.batch_size for request in world.requests] == [2, 1, 2]
    assert failures(world) == [("hung", 1, False), ("hung", 2, True)]
    assert states(world) == {1: "published", 2: "failed"}
    assert "no sign of life for 1800 s" in (view.rows(world.run)[1].reason or "")


def test_the_last_words_of_an_ended_evaluator_are_not_taken_for_the_next_ones(
    tmp_path: Path,
) -> None:
    """A reply belongs to the child that sent it, however late it is read."""
    world = World(tmp_path, batch_size=1)
    for step in (1, 2):
        checkpoint(world.output, step, step)

    def script(request: Evaluate) -> list[Reply] | None:
        if request.path.endswith("2"):  # a failure that ends the child, and it talks on
            return [Failed("internal", "boom"), *usual(request, images=1)]
        return None

    world.script = script
    assert world.once() == 1
    assert states(world) == {1: "published", 2: "waiting"}
    assert [len(found.done) for found in world.run.evaluations.values()] == [0, 0]


def test_a_person_can_have_a_failed_checkpoint_tried_again(tmp_path: Path) -> None:
    """`retry` reaches a running daemon through the log, and a later start without one."""
    world = World(tmp_path)
    checkpoint(world.output, 7)
    world.script = lambda _: [Failed("weights", "3 of 9 tensors fit")]
    with world.live():
        until(lambda: states(world) == {7: "failed"})
        assert reopen(world.log, 7, None) == ["checkpoint-7"]
        until(lambda: len(world.requests) == 2)
        until(lambda: states(world) == {7: "failed"})
    world.script = lambda _: None
    assert world.once() == 1
    assert len(world.requests) == 2
    assert reopen(world.log, 7, world.run.name) == ["checkpoint-7"]
    assert world.once() == 0
    assert states(world) == {7: "published"}


@pytest.mark.parametrize(
    ("step", "run", "said"),
    [
        (7, None, "nothing to try again: checkpoint-7 is published"),
        (8, None, "no checkpoint of step 8 is known"),
        (7, "other", "no run is called 'other': name one of these with --run: output-"),
    ],
)
def test_a_retry_of_what_did_not_fail_is_told_why(
    tmp_path: Path, step: int, run: str | None, said: str
) -> None:
    """Nothing is written, and one line says what the step's state is."""
    world = World(tmp_path)
    checkpoint(world.output, 7)
    assert world.once() == 0
    before = world.logged
    with pytest.raises(ClipwatchError, match=said):
        reopen(world.log, step, run)
    assert world.logged == before


def test_a_retry_in_an_empty_log_names_no_run(tmp_path: Path) -> None:
    """A daemon that has not seen its output directory has written nothing so far."""
    log = tmp_path / "clipwatch.db"
    with Journal(log):
        pass
    with pytest.raises(ClipwatchError, match="the log has no run so far"):
        reopen(log, 1, None)


def test_a_retry_without_a_log_makes_none(tmp_path: Path) -> None:
    """A misspelt state directory stays as it is."""
    with pytest.raises(ClipwatchError, match="--state-dir"):
        reopen(tmp_path / "none" / "clipwatch.db", 1, None)
    assert not (tmp_path / "none").exists()


# Settings ------------------------------------------------------------------------------------


def test_settings_that_are_read_again_hold_at_once(tmp_path: Path) -> None:
    """After a reload a new protocol makes a new curve of the checkpoints that are there."""
    world = World(tmp_path)
    checkpoint(world.output, 5)
    world.reread = lambda: settings(tmp_path, validation_seed=7)
    with world.live() as supervisor:
        until(lambda: len(world.rows()) == 1)
        supervisor.reload()
        until(lambda: len(world.requests) == 2)
        until(lambda: states(world) == {5: "published"})
    assert [request.protocol.seed for request in world.requests] == [0, 7]
    assert "settings reloaded" in world.said


def test_a_storm_of_reloads_is_one(tmp_path: Path) -> None:
    """What was asked for while settings were being read is answered by reading them once more."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    with world.live() as supervisor:
        until(lambda: states(world) == {1: "published"})
        for _ in range(200):
            supervisor.reload()
        checkpoint(world.output, 2)
        until(lambda: states(world) == {1: "published", 2: "published"})
    assert 1 <= world.said.count("settings reloaded") < 20


def test_a_reload_drops_an_evaluation_that_nobody_wants_any_more(tmp_path: Path) -> None:
    """What was under way by the old protocol is ended, what it had scored stays in the log."""
    world = World(tmp_path)
    checkpoint(world.output, 5)
    old = world.settings.protocol

    def script(request: Evaluate) -> list[Reply] | None:
        return usual(request, images=1) if request.protocol == old else None

    world.script = script
    world.reread = lambda: settings(tmp_path, validation_seed=7)
    with world.live() as supervisor:
        until(lambda: states(world) == {5: "evaluating"})
        until(lambda: len(next(iter(world.run.evaluations.values())).done) == 1)
        supervisor.reload()
        until(lambda: states(world) == {5: "published"})
    assert len(world.run.evaluations) == 2


@pytest.mark.parametrize("mistake", ["file", "output_dir"])
def test_a_bad_file_keeps_the_old_settings_and_says_so(tmp_path: Path, mistake: str) -> None:
    """The daemon goes on as it was; the line names what is wrong."""
    world = World(tmp_path)

    def reread() -> Settings:
        if mistake == "file":
            raise SettingsError("is no JSON", file=tmp_path / "config.json", line=3)
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        return settings(tmp_path, output_dir="elsewhere")

    world.reread = reread
    with world.live() as supervisor:
        supervisor.reload()
        until(lambda: any("not reloaded" in line for line in world.said))
        checkpoint(world.output, 5)
        until(lambda: states(world) == {5: "published"})
    (line,) = [line for line in world.said if "not reloaded" in line]
    assert ("config.json:3" in line) if mistake == "file" else ("output_dir" in line)
    assert not any(isinstance(recorded.event, SettingsChanged) for recorded in world.logged)


def test_a_reload_gives_a_parked_tracker_and_a_failed_checkpoint_a_new_chance(
    tmp_path: Path,
) -> None:
    """Whoever mended a key or a model outside of the file reloads, and need not restart."""
    world = World(tmp_path, max_attempts=1)
    faulty = Faulty(world.trackers["memory"].target)  # type: ignore[attr-defined]
    faulty.error = TrackerRefused("no key")
    world.trackers["faulty"] = faulty
    for step in (1, 2):
        checkpoint(world.output, step, step)
    broken = threading.Event()
    broken.set()
    world.script = lambda request: (
        [Failed("model", "no such folder")]
        if broken.is_set() and request.path.endswith("2")
        else None
    )
    with world.live() as supervisor:
        until(lambda: states(world) == {1: "scored", 2: "failed"})
        until(lambda: parked(world.run, "faulty"))
        faulty.error = None
        broken.clear()
        supervisor.reload()
        until(lambda: states(world) == {1: "published", 2: "published"})


# The state directory -------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of one MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "small", folder], check=False
        ).returncode
    ):
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all space that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    return ballast


def test_a_full_state_disk_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon says that it waits, and goes on where it was when there is space."""
    monkeypatch.setattr("clipwatch.loop.run_log.PAUSE_SECONDS", 0.05)
    world = World(tmp_path, state_dir=str(small / "state"))
    with world.live():
        checkpoint(world.output, 1, 1)
        until(lambda: states(world) == {1: "published"})
        ballast = fill(small)
        checkpoint(world.output, 2, 2)
        until(lambda: any("waiting for space" in line for line in world.said))
        known = world.logged
        ballast.unlink()
        until(lambda: states(world) == {1: "published", 2: "published"})
    assert world.logged[: len(known)] == known
    assert "the log can be written again" in world.said
    assert len(world.requests) == 2


def test_a_full_state_disk_ends_what_does_not_wait(tmp_path: Path, small: Path) -> None:
    """With --once, or when it is asked to stop, one line says why it cannot go on."""
    world = World(tmp_path, state_dir=str(small / "state"))
    checkpoint(world.output, 1, 1)
    assert world.once() == 0
    ballast = fill(small)
    checkpoint(world.output, 2, 2)
    with pytest.raises(JournalError):
        world.once()
    ballast.unlink()
    assert world.once() == 0
    assert states(world) == {1: "published", 2: "published"}


def test_a_log_deleted_under_a_daemon_ends_it(tmp_path: Path) -> None:
    """It would write into a file that is gone: one line says so, the next start begins anew."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    # the daemon goes on writing its sign of life there meanwhile: a file may go before its turn
    world.script = lambda _: shutil.rmtree(world.settings.paths.state_dir, ignore_errors=True)
    with Journal(world.log) as journal:
        supervisor = world.supervisor(journal, once=False)
        with pytest.raises(JournalError, match="deleted or replaced"):
            supervisor.run()
    assert not world.log.exists()
    world.script = lambda _: None
    assert world.once() == 0
    assert states(world) == {1: "published"}


def test_what_files_say_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """Names of tensors come from anywhere: in log, status and on the screen they are text."""
    world = World(tmp_path)
    world.script = lambda _: [Failed("weights", "lacks \x1b]0;owned\x07\x1b[2J\nunet.weight")]
    checkpoint(world.output, 1)
    assert world.once() == 1
    (row,) = view.rows(world.run)
    assert row.reason == r"lacks \x1b]0;owned\x07\x1b[2J\nunet.weight"
    told = "\n".join([*world.said, *listing({world.run.name: world.run}, datetime.now(UTC))])
    assert "owned" in told
    assert "\x1b" not in told
