"""Where the TensorBoard adapter goes, and what it says when the file system says no."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.testing.series import make_protocol, make_series, make_target
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.tensorboard import event_files as _events
from places import python_path
from tensorboard_kit import event_file


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Return a target whose trainer run exists."""
    target = make_target(tmp_path)
    (target.logging_dir / target.project).mkdir(parents=True)
    return target


@pytest.mark.parametrize(
    ("events", "home"),
    [
        ([], "state"),
        (["logs/events.out.tfevents.1.host"], "logs"),
        (["logs/events.out.tfevents.1.host", "logs/1700.5/events.out.tfevents.1.host"], "logs"),
        (["logs/other/events.out.tfevents.1.host"], "logs/other"),
        (["logs/a/events.out.tfevents.1.h", "logs/b/events.out.tfevents.1.h"], "state"),
        (["logs/a/events.out.tfevents.1.h", "logs/project/notes.txt"], "logs/project"),
        (["logs/a/notes.txt"], "state"),
        ([f"logs/a/{_events.PREFIX}0000000001"], "state"),
        (["logs"], "state"),
    ],
)
def test_the_trainers_run_is_found(tmp_path: Path, events: list[str], home: str) -> None:
    """The run is the project's folder, else the only one with a trainer's events, else ours."""
    target = make_target(tmp_path)
    for name in events:
        (target.output_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (target.output_dir / name).touch()
    before = sorted(target.output_dir.rglob("*"))
    series = make_series(tmp_path, [100])
    homes = {"state": target.state_dir / target.project}
    tracker = TensorBoardTracker(target)
    assert tracker.where(series) == str(homes.get(home, target.output_dir / home) / "clipwatch")
    assert sorted(target.output_dir.rglob("*")) == before
    tracker.publish(series, [0])
    assert tracker.published(series) == {0}


@pytest.mark.parametrize("project", ["../..", "a/../../..", "/tmp", ".", ".."])
def test_a_projects_name_leads_nowhere_else(tmp_path: Path, project: str) -> None:
    """It is a name and no way: curves stay in the trainer's folder for logs, or in our own room."""
    target = replace(make_target(tmp_path), project=project)
    home = Path(TensorBoardTracker(target).where(make_series(tmp_path, [100])))
    assert target.state_dir in home.parent.parents
    assert ".." not in home.parts


E = "events.out.tfevents.1.host"


@pytest.mark.parametrize(
    ("below", "events", "home"),
    [
        ("", [f"logs/20261127230916/network_train/{E}"], "logs/20261127230916/network_train"),
        (
            "",
            [f"logs/a20261127230916/network_train/{E}", f"logs/a20261128002325/finetuning/{E}"],
            "logs/a20261128002325/finetuning",
        ),
        ("", [f"logs/a20261127230916/n/{E}", f"logs/b20261128002325/n/{E}"], "state"),
        ("", [f"logs/a20261127230916/n/{E}", f"logs/other/{E}"], "state"),
        ("", [f"logs/lora_20261127-230916/{E}"], "logs/lora_20261127-230916"),
        ("save", [f"tensorboard/2026-11-27_23-09-16/{E}"], "tensorboard/2026-11-27_23-09-16"),
        ("", [f"tensorboard/2026-11-27_23-09-16/{E}"], "tensorboard/2026-11-27_23-09-16"),
        ("20261127_10-00-00", [f"20261127_10-00-00/{E}"], "20261127_10-00-00"),
        (
            "",
            [f"20261127_10-00-00/{E}", f"20261128_10-00-00/{E}"],
            "20261128_10-00-00",
        ),
        ("run/ckpts", [f"run/{E}"], "run"),
    ],
)
def test_each_trainers_place_is_found(
    tmp_path: Path, below: str, events: list[str], home: str
) -> None:
    """The newest of those that are named by their time; and the command shows both curves."""
    root = tmp_path / "train"
    target = replace(make_target(tmp_path), output_dir=root / below, logging_dir=root / "logs")
    for name in (*events, f"{below}/x" if below else "x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    series = make_series(tmp_path, [100])
    tracker = TensorBoardTracker(target)
    place = target.state_dir / target.project if home == "state" else root / home
    assert tracker.where(series) == str(place / "clipwatch")
    tracker.publish(series, [0])
    assert tracker.published(series) == {0}
    shown = root / "logs" if home.startswith("logs") else place
    if home != "state":
        assert tracker.hint(series) == f"tensorboard --logdir {shown}"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_curve_moves_into_the_trainers_run(tmp_path: Path, *, restarted: bool) -> None:
    """When that appears, what was shown in our own room moves there, with its images."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200])
    other = replace(series, name="clipwatch-2")
    tracker = TensorBoardTracker(target)
    for each in (other, series):
        tracker.publish(each, [0])
    earlier = Path(tracker.where(series))
    assert earlier.is_relative_to(target.state_dir)
    bytes_before = event_file(earlier).read_bytes()
    shutil.rmtree(series.images)
    home = target.logging_dir / target.project
    home.mkdir(parents=True)
    if restarted:
        tracker = TensorBoardTracker(replace(target, where=str(earlier)))
    assert tracker.where(series) == str(home / "clipwatch")
    assert not (home / "clipwatch").exists()  # asking changes nothing
    assert tracker.published(series) == {0}
    assert event_file(home / "clipwatch").read_bytes() == bytes_before
    assert event_file(home / "clipwatch-2")
    assert list(earlier.parent.iterdir()) == []
    tracker.publish(series, [1])
    assert tracker.published(series) == {0, 1}


def test_a_curve_leaves_another_trainers_run_for_the_one_of_the_projects_name(
    tmp_path: Path,
) -> None:
    """An old training's was the only one there; a further run of any name moves nothing."""
    target = make_target(tmp_path)
    old, third = target.logging_dir / "old", target.logging_dir / "third"
    for run in (old, third):
        run.mkdir(parents=True)
    (old / "events.out.tfevents.1.host").touch()
    series = make_series(tmp_path, [100, 200], images=False)
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])
    (third / "events.out.tfevents.1.host").touch()
    assert tracker.where(series) == str(old / "clipwatch")
    (target.logging_dir / target.project).mkdir()
    assert tracker.published(series) == {0}
    assert event_file(target.logging_dir / target.project / "clipwatch")
    assert [path.name for path in old.iterdir()] == ["events.out.tfevents.1.host"]


def test_a_run_that_appears_amid_a_publication_is_moved_to_by_the_next(tmp_path: Path) -> None:
    """What was read in our own room is told to be there, so that it is not left behind."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100], images=False)
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])
    assert tracker.published(series) == {0}
    home = target.logging_dir / target.project
    home.mkdir(parents=True)
    told = tracker.where(series)
    assert told.startswith(str(target.state_dir))
    again = TensorBoardTracker(replace(target, where=told))
    assert again.where(series) == str(home / "clipwatch")
    assert again.published(series) == {0}
    assert event_file(home / "clipwatch")


@pytest.mark.parametrize("copied", [False, True])
def test_a_move_that_was_cut_off_goes_on(tmp_path: Path, *, copied: bool) -> None:
    """Killed before or after the copy was whole, the next call has each point once."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200], images=False)
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0, 1])
    earlier = Path(tracker.where(series))
    home = target.logging_dir / target.project / "clipwatch"
    home.mkdir(parents=True)
    whole = event_file(earlier).read_bytes()
    name = event_file(earlier).name if copied else _events.UNFINISHED
    (home / name).write_bytes(whole if copied else whole[:500])
    again = TensorBoardTracker(replace(target, where=str(earlier)))
    assert again.published(series) == {0, 1}
    assert event_file(home).read_bytes() == whole
    assert not earlier.exists()


def test_a_curve_that_cannot_move_stays(target: Target, tmp_path: Path) -> None:
    """A trainer's run that may not be written is no better place."""
    home = target.logging_dir / target.project
    home.rmdir()
    series = make_series(tmp_path, [100, 200], images=False)
    TensorBoardTracker(target).publish(series, [0])
    where = Path(TensorBoardTracker(target).where(series))
    home.mkdir(mode=0o555)
    assert unprivileged(PUBLISH, tmp_path, where) == str(where)
    assert list(home.iterdir()) == []


def unprivileged(script: str, *arguments: Path) -> str:
    """Run Python code for which folder permissions hold, also when the tests run as root."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = [sys.executable, "-c", script, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(
        [*drop, *command] if os.geteuid() == 0 else command,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PUBLISH = """
import sys
from pathlib import Path
from clipwatch.kit.errors import ClipwatchError
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch.testing.series import make_protocol, make_series, make_target
folder, *where = map(Path, sys.argv[1:])
series = make_series(folder, [100, 200], images=False)
tracker = TensorBoardTracker(make_target(folder, where=str(*where)))
try:
    tracker.publish(series, [0, 1])
    print(tracker.where(series))
except ClipwatchError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_closed_trainer_run_is_left_for_our_own_room(
    target: Target, tmp_path: Path, mode: int
) -> None:
    """Where the trainer's run cannot be written or read, the curve goes to the state folder."""
    run = target.logging_dir / target.project
    run.chmod(mode)
    try:
        where = unprivileged(PUBLISH, tmp_path)
    finally:
        run.chmod(0o755)
    assert where == str(target.state_dir / target.project / "clipwatch")
    assert list(run.iterdir()) == []


@pytest.mark.parametrize("closed", [".", "..", "../.."])
def test_a_curve_that_has_begun_is_not_split(target: Target, tmp_path: Path, closed: str) -> None:
    """When its folder is closed later, the curve waits for somebody to mend that."""
    series = make_series(tmp_path, [100, 200], images=False)
    TensorBoardTracker(target).publish(series, [0])
    where = Path(TensorBoardTracker(target).where(series))
    folder = (where / closed).resolve()
    folder.chmod(0o000)
    try:
        said = unprivileged(PUBLISH, tmp_path, where)
    finally:
        folder.chmod(0o755)
    assert said.startswith(f"TrackerRefused TensorBoard: {where.parent}")
    assert "Permission denied" in said
    assert unprivileged(PUBLISH, tmp_path, where) == str(where)
    assert TensorBoardTracker(target).published(series) == {0, 1}
    assert not target.state_dir.exists()


def test_no_room_at_all_is_refused(tmp_path: Path) -> None:
    """Without any folder to write, one line names the folder and what it lacks."""
    (tmp_path / "state").mkdir(mode=0o555)
    said = unprivileged(PUBLISH, tmp_path)
    assert said.startswith(f"TrackerRefused TensorBoard: {tmp_path}/state/tracker")
    assert "Permission denied" in said
    assert "\n" not in said


def test_a_file_in_the_folders_place_is_refused(target: Target, tmp_path: Path) -> None:
    """A plain file called like our folder is named, and kept."""
    file = target.logging_dir / target.project / "clipwatch"
    file.write_text("mine")
    series = make_series(tmp_path, [100])
    with pytest.raises(TrackerRefused, match="clipwatch"):
        TensorBoardTracker(target).publish(series, [0])
    with pytest.raises(TrackerRefused, match="clipwatch"):
        TensorBoardTracker(target).published(series)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("first", [0, 1])
def test_a_disk_that_fills_up_amid_a_record_is_survived(
    target: Target, tmp_path: Path, first: int
) -> None:
    """A half-written record or file is not counted, and the next publication is whole again."""
    series = make_series(tmp_path, [100, 200], images=False)
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [first])
    file = event_file(Path(tracker.where(series)))
    limit = file.stat().st_size + 50
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2)\n"
    said = unprivileged(full + PUBLISH, tmp_path)
    assert said.startswith("TrackerUnavailable")
    assert "File too large; it will be tried again" in said
    assert event_file(file.parent) == file
    assert file.stat().st_size == (limit if first == 0 else limit - 50)
    assert tracker.published(series) == {first}
    tracker.publish(series, [1 - first])
    assert tracker.published(series) == {0, 1}


@pytest.mark.parametrize("protocol", [0, 1])
def test_two_trainings_of_one_logging_folder_have_folders_of_their_own(
    tmp_path: Path, protocol: int
) -> None:
    """Outside of the output directory another run's curve is left as it is, byte for byte."""
    target = replace(make_target(tmp_path), logging_dir=tmp_path / "logs")
    (target.logging_dir / target.project).mkdir(parents=True)
    series = make_series(tmp_path, [100, 200])
    other = make_series(tmp_path, [100, 200], protocol=make_protocol(seed=protocol))
    other = replace(other, run="another")
    TensorBoardTracker(target).publish(series, [0])
    (file,) = Path(TensorBoardTracker(target).where(series)).iterdir()
    before = file.read_bytes()
    tracker = TensorBoardTracker(target)
    assert tracker.published(other) == frozenset()
    tracker.publish(other, [0, 1])
    assert TensorBoardTracker(target).published(other) == {0, 1}
    assert file.read_bytes() == before
    assert TensorBoardTracker(target).published(series) == {0}
    assert tracker.where(other) != TensorBoardTracker(target).where(series)


def test_a_run_that_was_moved_goes_on_in_its_folder(target: Target, tmp_path: Path) -> None:
    """What lies in the output directory is this training's, whatever the log called it."""
    series = make_series(tmp_path, [100, 200, 300])
    TensorBoardTracker(target).publish(series, [0, 1])
    where = TensorBoardTracker(target).where(series)
    moved = replace(series, run="moved")
    tracker = TensorBoardTracker(target)
    assert tracker.published(moved) == {0, 1}
    tracker.publish(moved, [2])
    assert tracker.published(moved) == {0, 1, 2}
    assert tracker.where(moved) == where


def test_a_home_by_another_name_is_not_moved_into_itself(target: Target, tmp_path: Path) -> None:
    """By a link, or at another mount point: every run in it stays as it is."""
    series = make_series(tmp_path, [100, 200])
    tracker = TensorBoardTracker(target)
    for name in ("clipwatch", "clipwatch-2"):
        tracker.publish(replace(series, name=name), [0])
    (tmp_path / "link").symlink_to(target.output_dir)
    logs = tmp_path / "link/logs"
    linked = replace(target, output_dir=tmp_path / "link", logging_dir=logs)
    again = TensorBoardTracker(replace(linked, where=tracker.where(series)))
    home = target.logging_dir / target.project
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in home.glob("*/*")}
    assert len(before) == 2
    assert again.published(series) == {0}
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in home.glob("*/*")} == before
    assert again.where(series) == str(logs / target.project / "clipwatch")


def test_what_stands_at_the_new_home_and_what_would_move_there_both_stay(tmp_path: Path) -> None:
    """Of two curves none is thrown away for the other."""
    target = make_target(tmp_path)
    series = make_series(tmp_path, [100, 200], images=False)
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0, 1])
    earlier = Path(tracker.where(series))
    home = target.logging_dir / target.project
    home.mkdir(parents=True)
    others = replace(make_series(tmp_path, [300], images=False), run="another")
    TensorBoardTracker(target).publish(others, [0])
    (kept, before) = (event_file(earlier), event_file(earlier).read_bytes())
    again = TensorBoardTracker(replace(target, where=str(earlier)))
    assert again.published(series) <= {0}
    again.publish(series, [0, 1])
    assert again.published(series) == {0, 1}
    assert kept.read_bytes() == before


HOLD = """
import sys
from pathlib import Path
from clipwatch_adapters.tensorboard.event_files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_publishers_of_one_folder_exclude_each_other(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process writes there it is waited for, and told when that takes too long."""
    series = make_series(tmp_path, [100, 200])
    TensorBoardTracker(target).publish(series, [0])
    folder = TensorBoardTracker(target).where(series)
    monkeypatch.setattr(_events, "LOCK_SECONDS", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TrackerUnavailable, match=f"another clipwatch is writing to {folder}"):
            TensorBoardTracker(target).publish(series, [1])
        other.kill()
    TensorBoardTracker(target).publish(series, [1])
    assert TensorBoardTracker(target).published(series) == {0, 1}
