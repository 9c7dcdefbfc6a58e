"""The W&B adapter without a server: offline runs, the reader of their files, pure decisions."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.testing.series import make_series, make_target
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.wandb import WandbTracker
from clipwatch_adapters.wandb.files import finished_rows, trainer_run
from clipwatch_adapters.wandb.starting import api_key, environment
from examples import examples
from fake_wandb import KEY, FakeWandb
from tracker_disks import fill, mounted, run
from tracker_kit import bring
from wandb_world import isolate, train


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Go without a server."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.thorough(but=4)
@pytest.mark.usefixtures("offline")
class TestOffline(TrackerContract):
    """The contract with offline runs."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: WandbTracker(target)


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_a_torn_offline_run_is_replaced(tmp_path: Path) -> None:
    """A run without its end counts for nothing and makes room for a whole one; repeats add none."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    tracker.publish(series, [1, 2])
    _, torn = sorted(Path(tracker.where(series)).glob("offline-run-*"))
    (file,) = torn.glob("*.wandb")
    file.write_bytes(file.read_bytes()[:-200])
    assert tracker.published(series) == {0}
    tracker.publish(series, [1, 2])
    tracker.publish(series, [0, 1, 2])
    runs = sorted(Path(tracker.where(series)).glob("offline-run-*"))
    assert len(runs) == 2
    rows = [row for run in runs for row in finished_rows(run) or ()]
    assert [(row["_step"], row["clipwatch/step"]) for row in rows] == [
        (100, 100),
        (300, 300),
        (301, 200),
    ]
    assert len({run.name.partition("cw-")[2] for run in runs}) == 1


@pytest.mark.usefixtures("offline")
def test_offline_runs_can_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the hint brings all sessions into one run, in order and once."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    tracker.publish(series, [1, 2])
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", *shlex.split(tracker.hint(series))]
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with FakeWandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        for _ in range(2):
            subprocess.run(command, check=True, capture_output=True)
    run = server.run
    assert run.points == [(100, 100), (300, 300), (301, 200)]
    assert (run.group, run.job_type) == ("run", "eval")


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_runs_may_be_removed_once_they_are_synced(tmp_path: Path) -> None:
    """What somebody synced and cleaned away is not written again, so the next sync adds no row."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1])
    command = [sys.executable, "-m", *shlex.split(tracker.hint(series))]
    env = {**os.environ, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}
    with FakeWandb() as server:
        env["WANDB_BASE_URL"] = server.url
        subprocess.run(command, check=True, capture_output=True, env=env, cwd=tmp_path)
        folder = str(Path(tracker.where(series)).parent)
        clean = [sys.executable, "-m", "wandb", "clean", "--force", "--min-hours=0"]
        subprocess.run(clean, check=True, capture_output=True, env={**env, "WANDB_DIR": folder})
        assert list(Path(folder).glob("wandb/offline-run-*")) == []
        assert bring(WandbTracker(make_target(tmp_path)), series) == {0, 1, 2}
        assert len(list(Path(folder).glob("wandb/offline-run-*"))) == 1
        subprocess.run(command, check=True, capture_output=True, env=env, cwd=tmp_path)
    assert server.run.points == [(100, 100), (300, 300), (301, 200)]
    shutil.rmtree(folder)
    assert tracker.published(series) == frozenset()


@pytest.mark.usefixtures("offline")
def test_weights_that_come_back_begin_no_other_run(tmp_path: Path) -> None:
    """Also where they were the first of the log: it is known by what it scored first."""
    series = make_series(tmp_path, [100, 100], images=False)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1])
    first, second = series.results
    back = replace(series, results=(replace(second, seq=0), replace(first, seq=1)))
    assert WandbTracker(make_target(tmp_path)).published(back) == {0, 1}


def cut(file: Path) -> None:
    """Leave half of it."""
    os.truncate(file, file.stat().st_size // 2)


def zero(file: Path) -> None:
    """Overwrite 16 bytes in the middle by zeros."""
    with file.open("r+b") as out:
        out.seek(file.stat().st_size // 2)
        out.write(bytes(16))


def empty(file: Path) -> None:
    """Leave nothing of it."""
    file.write_bytes(b"")


def disturb(file: Path) -> None:
    """Spoil what clipwatch notes for itself, but no run."""
    (file.parents[2] / "written.json").write_bytes(b'{"\xff": [7]}')
    (file.parents[4] / "trainer-run.json").write_bytes(b'["\xff", "\xff"]')


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("damage", [cut, zero, empty, disturb])
@pytest.mark.thorough
def test_after_damage_each_row_is_there_once(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Whatever happened to a run, afterwards each result is a row of one finished run."""
    series = make_series(tmp_path, [100, 300, 200], images=False)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1])
    (file,) = Path(tracker.where(series)).glob("offline-run-*/*.wandb")
    damage(file)
    assert tracker.published(series) == ({0, 1} if damage is disturb else frozenset())
    assert bring(WandbTracker(make_target(tmp_path)), series) == {0, 1, 2}
    runs = sorted(Path(tracker.where(series)).glob("offline-run-*"))
    rows = [row for run in runs for row in finished_rows(run) or ()]
    assert [(row["_step"], row["clipwatch/step"]) for row in rows] == [
        (100, 100),
        (300, 300),
        (301, 200),
    ]


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("left", [0, 8192], ids=["nothing", "too-little"])
@pytest.mark.thorough
def test_a_full_disk_may_pass(tmp_path: Path, left: int) -> None:
    """Without room for us or for W&B's own files nothing is lost; with room all rows come once."""
    series = make_series(tmp_path, [100, 300], images=False)
    with mounted(tmp_path / "state", "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        tracker = WandbTracker(make_target(tmp_path))
        tracker.publish(series, [0])
        ballast = fill(tmp_path / "state")
        os.truncate(ballast, ballast.stat().st_size - left)
        with pytest.raises(TrackerUnavailable, match="No space left"):
            bring(tracker, series)
        assert tracker.published(series) == {0}
        ballast.unlink()
        assert bring(tracker, series) == {0, 1}
        runs = sorted(Path(tracker.where(series)).glob("offline-run-*"))
        rows = [row for run in runs for row in finished_rows(run) or ()]
        assert [row["_step"] for row in rows] == [100, 300]


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_a_read_only_disk_is_refused(tmp_path: Path) -> None:
    """A state folder that cannot be written is named, for somebody to mend."""
    series = make_series(tmp_path, [100, 300], images=False)
    state = tmp_path / "state"
    with mounted(state, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        tracker = WandbTracker(make_target(tmp_path))
        tracker.publish(series, [0])
        run("mount", "-o", "remount,ro", state)
        with pytest.raises(TrackerRefused, match=rf"{state}.*Read-only file system"):
            bring(tracker, series)
        assert tracker.published(series) == {0}


@pytest.mark.usefixtures("offline")
def test_a_file_in_the_place_of_a_run_is_refused(tmp_path: Path) -> None:
    """What is no run is named and kept."""
    series = make_series(tmp_path, [100, 200], images=False)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    (run,) = Path(tracker.where(series)).glob("offline-run-*")
    shutil.rmtree(run)
    run.write_text("mine")
    with pytest.raises(TrackerRefused, match=f"{run}: Not a directory"):
        bring(WandbTracker(make_target(tmp_path)), series)
    assert run.read_text() == "mine"


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An offline run by the real package, with records that span blocks."""
    folder = tmp_path_factory.mktemp("trainer")
    train(folder, "project")
    (file,) = (folder / "wandb" / "latest-run").glob("*.wandb")
    return file


def test_rows_are_read_as_they_were_logged(run_file: Path) -> None:
    """The reader gives the values and steps that the real package was given."""
    rows = finished_rows(run_file.parent) or ()
    assert [(row["_step"], row["loss"], len(row["note"])) for row in rows] == [
        (0, 0, 40_000),
        (1, 0.5, 40_000),
        (2, 1, 40_000),
    ]


@examples(50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_hides_a_run_but_never_invents_one(
    run_file: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """A file that was cut or altered anywhere reads as it was written or as not finished."""
    whole = run_file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole[:at] if data.draw(st.booleans()) else whole)
    if len(damaged) == len(whole):
        damaged[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "run-damaged.wandb").write_bytes(damaged)
    assert finished_rows(tmp_path) in (None, finished_rows(run_file.parent))


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_a_trainer_of_another_project_is_a_stranger(tmp_path: Path) -> None:
    """The latest run counts only if it belongs to the project, and nothing unreadable matters."""
    assert trainer_run(tmp_path / "wandb", "project") == ""
    train(tmp_path, "project", "other")
    assert trainer_run(tmp_path / "wandb", "project") == ""
    assert trainer_run(tmp_path / "wandb", "other") == "trainer-other"
    (file,) = (tmp_path / "wandb" / "latest-run").glob("*.wandb")
    file.write_bytes(file.read_bytes()[:7])
    assert trainer_run(tmp_path / "wandb", "other") == ""


@given(st.dictionaries(st.from_regex(r"(WANDB_)?[A-Za-z_]+", fullmatch=True), st.text()))
def test_a_session_inherits_only_what_it_may(environ: dict[str, str]) -> None:
    """Neither a key nor anything that steers a run comes out of the environment by itself."""
    environ |= {"WANDB_SERVICE": "x", "WANDB_API_KEY": KEY, "https_proxy": "p", "LC_ALL": "C"}
    kept = environment(environ)
    assert kept.items() <= environ.items()
    assert {"https_proxy", "LC_ALL"} <= kept.keys()
    assert not any("SERVICE" in n or "KEY" in n or "RUN" in n or "MODE" in n for n in kept)


def test_where_a_key_comes_from(tmp_path: Path) -> None:
    """Options go before the variable, that before a named file, that before credentials."""
    (tmp_path / "wandb-api-key").write_text("from-systemd\n")
    (tmp_path / "file").write_text("from-file\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert api_key({}, {}) == ""
    assert api_key({}, environ) == "from-systemd"
    environ["WANDB_API_KEY_FILE"] = str(tmp_path / "file")
    assert api_key({}, environ) == "from-file"
    environ["WANDB_API_KEY"] = "from-variable"
    assert api_key({}, environ) == "from-variable"
    assert api_key({"api_key": "from-options"}, environ) == "from-options"
    with pytest.raises(TrackerRefused, match="gone"):
        api_key({}, {"WANDB_API_KEY_FILE": str(tmp_path / "gone")})


@pytest.mark.parametrize("text", ["", "\n", "-", "-\n"])
@pytest.mark.parametrize("credential", [True, False])
def test_a_file_without_a_key(tmp_path: Path, text: str, credential: bool) -> None:
    """What stands in for a key that a service does not have leaves it to `wandb login`."""
    file = tmp_path / "wandb-api-key"
    file.write_text(text)
    named = {"WANDB_API_KEY_FILE": str(file)}
    assert api_key({}, {"CREDENTIALS_DIRECTORY": str(tmp_path)} if credential else named) == ""


def test_the_daemon_does_not_load_wandb() -> None:
    """The adapter is loaded without W&B's package; all of that happens in the child."""
    code = "import sys, clipwatch_adapters.wandb; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
