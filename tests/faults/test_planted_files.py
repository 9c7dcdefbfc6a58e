"""A state directory that others can write to: nothing that they plant there leads us elsewhere."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from clipwatch.doctor.state_dir import holder
from clipwatch.domain.events import OutputDirChecked
from clipwatch.evaluator.store import Store
from clipwatch.journal import Journal, checked
from clipwatch.journal.compacting import compact
from clipwatch.kit.errors import ClipwatchError, JournalError, TrackerRefused
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.ownfiles import read_own
from clipwatch.service.heartbeat import HeartbeatFile, heartbeats
from clipwatch.service.lock import exclusive
from clipwatch.staging.kept import left_behind
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.shared.batches import NOTE
from clipwatch_adapters.shared.child import room
from clipwatch_adapters.shared.disk import plain_errors, write_private
from clipwatch_adapters.tensorboard import TensorBoardTracker, event_files
from clipwatch_adapters.wandb.companion import Companion
from clipwatch_adapters.wandb.offline import OfflineRuns
from histories import write
from tensorboard_kit import event_file
from tracker_kit import bring

pytestmark = pytest.mark.timeout(30)  # a pipe that is opened blocks for ever

SOMEBODY = 65534
PRECIOUS = b"precious"
VECTORS = [torch.ones(3)]


@dataclass(frozen=True)
class Trap:
    """What lies under a name of ours, and the file to which it leads."""

    kind: str
    victim: Path

    def set(self, path: Path) -> None:
        """Lay it."""
        path.unlink(missing_ok=True)
        match self.kind:
            case "link":
                path.symlink_to(self.victim)
            case "link to nothing":
                path.symlink_to(self.victim.with_name("new"))
            case "second name":
                path.hardlink_to(self.victim)
            case "pipe":
                os.mkfifo(path)


@pytest.fixture(params=["link", "link to nothing", "second name", "pipe"])
def trap(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trap]:
    """One of each kind; the file behind it is as it was in the end, and no other was made."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    victim = folder / "victim"
    victim.write_bytes(PRECIOUS)
    os.utime(victim, (1, 1))
    yield Trap(request.param, victim)
    assert [path.name for path in folder.iterdir()] == ["victim"]
    assert (victim.read_bytes(), victim.stat().st_mtime) == (PRECIOUS, 1)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory."""
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["r.alive", ".r.alive.new"])
def test_a_heartbeat_takes_the_place_of_what_is_planted(state: Path, trap: Trap, name: str) -> None:
    """Of a new heartbeat; and one that is only touched touches nothing else."""
    heart = HeartbeatFile(state, "r", Path("/out"))
    trap.set(state / name)
    heart.beat("well")
    assert [it.heartbeat.status for it in heartbeats(state)] == ["well"]
    if trap.kind.startswith("link"):  # a second name is the same file
        trap.set(state / "r.alive")
        heart._touched = float("-inf")
        heart.beat("well")
        assert heartbeats(state) == []


def test_who_asks_for_signs_of_life_is_not_led_astray(state: Path, trap: Trap) -> None:
    """What is no heartbeat is none, at once."""
    trap.set(state / "other.alive")
    assert heartbeats(state) == []


@pytest.mark.parametrize("name", ["", ".new"])
def test_a_normal_end_marks_the_log_and_nothing_else(state: Path, trap: Trap, name: str) -> None:
    """The mark is left beside the log whatever lay there, and it is trusted."""
    path = state / "clipwatch.db"
    mark = checked.beside(path)
    with Journal(path) as journal:
        trap.set(mark.with_name(f".{mark.name}.new") if name else mark)
        journal.append("r", "run", 0, [OutputDirChecked("")])
        journal.known = 1
    with Journal(path) as journal:
        assert journal.known == 1


def test_a_mark_that_is_planted_vouches_for_nothing(state: Path, trap: Trap) -> None:
    """The next start looks at everything."""
    path = state / "clipwatch.db"
    with Journal(path) as journal:
        journal.append("r", "run", 0, [OutputDirChecked("")])
        journal.known = 1
    trap.set(checked.beside(path))
    with Journal(path) as journal:
        assert journal.known == 0


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_a_log_is_compacted_beside_what_is_planted(state: Path, trap: Trap, suffix: str) -> None:
    """The new log is a file of ours alone, and so is what takes the old one's place."""
    log = write(state, 1)
    trap.set(state / f".clipwatch.db.new{suffix}")
    assert compact(log, None, lambda *_: None).changed
    with Journal(log, read_only=True) as journal:
        assert [*journal.read()]
    assert (log.stat().st_nlink, log.is_symlink()) == (1, False)


def test_a_file_of_ours_takes_no_more_memory_than_it_has(state: Path) -> None:
    """Where the address space is bounded, as by some batch systems, more could not be had."""
    (state / "small").write_bytes(b"well")
    tracemalloc.start()
    try:
        assert read_own(state / "small") == b"well"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_log_is_no_link_and_no_pipe(state: Path, trap: Trap, suffix: str) -> None:
    """It is refused in one line, by who writes and by who reads.

    A second name it may have: a copy of the folder made of links has.
    """
    path = state / f"clipwatch.db{suffix}"
    if trap.kind == "second name":
        with Journal(state / "clipwatch.db") as journal:
            path.with_name("copy").hardlink_to(path)
            assert journal.append("r", "run", 0, [OutputDirChecked("")]) == 1
        return
    trap.set(path)
    for read_only in (False, True):
        with pytest.raises(JournalError, match=f"{path.name}: is no regular file"):
            Journal(state / "clipwatch.db", read_only=read_only)


def test_no_lock_is_written_over_another_file(state: Path, trap: Trap) -> None:
    """The start is refused, and says what is wrong; nobody holds such a run."""
    trap.set(state / "r.lock")
    assert holder(state / "r.lock") == ""
    with pytest.raises(ClipwatchError, match="cannot be made or written"), exclusive(state, "r"):
        pass


@pytest.mark.parametrize("name", ["note.json", ".note.json.new"])
def test_notes_of_trackers_replace_what_is_planted(state: Path, trap: Trap, name: str) -> None:
    """Only their owner can read them."""
    trap.set(state / name)
    write_private(state / "note.json", b"{}", lasting=True)
    assert (state / "note.json").read_bytes() == b"{}"
    assert (state / "note.json").lstat().st_mode & 0o777 == 0o600


def test_the_log_of_sessions_is_no_link_and_no_pipe(state: Path, trap: Trap) -> None:
    """Nothing is published then, and it is told."""
    trap.set(state / "session.log")
    with pytest.raises(ClipwatchError, match=r"session\.log: "), room("W&B", state):
        pass


def test_encoded_prompts_are_made_anew(state: Path, trap: Trap) -> None:
    """What is planted is not there; what is written takes its place."""
    store = Store(state)
    trap.set(store._path(state, "key"))
    assert store.read("key") is None
    assert store.write("key", VECTORS)
    assert store.read("key") is not None


@pytest.mark.parametrize("name", ["trainer-run.json", "wandb/latest-run/run-1.wandb"])
def test_what_is_planted_names_no_trainers_run(
    state: Path, trap: Trap, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it hold anybody up; what is remembered takes its place."""
    monkeypatch.setenv("WANDB_DIR", str(state))
    (state / name).parent.mkdir(parents=True, exist_ok=True)
    trap.set(state / name)
    companion = Companion(replace(make_target(state), state_dir=state))
    assert companion.trainer == ""
    companion.remember_trainer()
    assert (state / "trainer-run.json").read_bytes() == b'["project",""]'


def test_a_link_names_no_trainers_run(state: Path) -> None:
    """Whatever it leads to."""
    (state / "other.json").write_bytes(b'["project","found"]')
    (state / "trainer-run.json").symlink_to(state / "other.json")
    assert Companion(replace(make_target(state), state_dir=state)).trainer == ""


@pytest.mark.parametrize("name", [NOTE, "wandb/offline-run-1-id/run-1.wandb"])
def test_what_is_planted_tells_of_no_offline_run(state: Path, trap: Trap, name: str) -> None:
    """It is told: what runs held that were taken away is not known then.

    A second name may be read: a copy of the folder that is made of links has such.
    """
    (state / name).parent.mkdir(parents=True, exist_ok=True)
    trap.set(state / name)
    runs = OfflineRuns(state, "id")
    if trap.kind == "second name":
        assert runs.held() == frozenset()
        return
    with pytest.raises(TrackerRefused, match=Path(name).name), plain_errors("W&B", state):
        runs.held()


@pytest.mark.parametrize(
    "name", [event_files.UNFINISHED, *(f"{event_files.PREFIX}{n:010d}" for n in (0, 1, 2))]
)
@pytest.mark.parametrize("moves", [False, True])
def test_a_curve_is_written_nowhere_else(state: Path, trap: Trap, name: str, moves: bool) -> None:
    """Neither as it begins, goes on, is written anew, nor as it moves into the trainer's run."""
    target, series = make_target(state), make_series(state, [10, 20, 15], images=False)
    trainers = target.logging_dir / target.project
    place = trainers if moves else target.state_dir / target.project
    (place / series.name).mkdir(parents=True)
    if moves:
        trainers.rename(state / "later")
    tracker = TensorBoardTracker(target)
    for number in range(3):
        if moves and number == 1:
            (state / "later").rename(trainers)
        if (place / series.name).is_dir() and not (place / series.name / name).exists():
            trap.set(place / series.name / name)
        tracker.publish(series, [number])
    assert Path(tracker.where(series)).parent == place
    assert bring(tracker, series) == {0, 1, 2}


def test_a_copy_of_a_curve_that_is_made_of_links_stays_as_it_is(state: Path) -> None:
    """`cp -al` makes such: the curve goes on in a file of its own."""
    target, series = make_target(state), make_series(state, [10, 20], images=False)
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])
    file = event_file(Path(tracker.where(series)))
    (copy := state / "copy").hardlink_to(file)
    before = copy.read_bytes()
    assert tracker.published(series) == {0}
    tracker.publish(series, [1])
    assert copy.read_bytes() == before
    assert tracker.published(series) == {0, 1}


# --- Folders -------------------------------------------------------------------------------------


@pytest.fixture
def theirs(state: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Plant a link of another user to a folder with a precious file; return that file."""
    if os.geteuid() != 0:
        pytest.skip("only root makes links of others")

    def plant(name: str) -> Path:
        precious = tmp_path / "elsewhere" / "precious"
        precious.parent.mkdir()
        precious.touch()
        (state / name).symlink_to(precious.parent)
        os.lchown(state / name, SOMEBODY, SOMEBODY)
        return precious

    return plant


def test_no_folder_of_ours_is_a_link_of_another(state: Path, theirs: Callable[[str], Path]) -> None:
    """Neither is anything made behind it, nor below it."""
    precious = theirs("images")
    for folder in (state / "images", state / "images" / "run" / "id"):
        with pytest.raises(OSError, match="a link of another user"):
            make_private(folder)
    assert list(precious.parent.iterdir()) == [precious]


def test_what_another_links_to_is_not_tidied(state: Path, theirs: Callable[[str], Path]) -> None:
    """All that lies in the folder of kept checkpoints is removed, but not behind such a link."""
    precious = theirs("staged")
    assert left_behind(state / "staged") == {}
    assert left_behind(state / "staged" / "..") == {}
    assert precious.exists()


@pytest.mark.parametrize("who", ["root", "ourselves", "the owner of the folder"])
def test_links_of_those_who_may_are_followed(
    state: Path, theirs: Callable[[str], Path], who: str
) -> None:
    """A larger disk may be given to the images."""
    precious = theirs("images")
    if who == "the owner of the folder":
        os.chown(state, SOMEBODY, SOMEBODY)
    else:
        os.lchown(state / "images", os.geteuid(), 0)
    make_private(state / "images" / "run")
    assert (precious.parent / "run").is_dir()
    with suppress(OSError):
        os.chown(state, 0, 0)
