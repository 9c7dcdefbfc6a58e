"""The W&B adapter without a server: offline runs, the reader of their files, pure decisions."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipwatch.errors import TrackerRefused
from clipwatch_adapters.wandb import WandbTracker, api_key, environment
from clipwatch_adapters.wandb_files import finished_rows, trainer_run
from clipwatch_adapters.wandb_session import judge
from fake_wandb import KEY, FakeWandb
from tracker_contract import Connect, TrackerContract
from tracker_world import make_series, make_target
from wandb_world import isolate, train


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Go without a server."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("offline")
class TestOffline(TrackerContract):
    """The contract with offline runs."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: WandbTracker(target)


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
    assert [(row["_step"], row["clipwatch/step"]) for row in rows] == [(0, 100), (1, 300), (2, 200)]
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
    assert run.points == [(0, 100), (1, 300), (2, 200)]
    assert (run.group, run.job_type) == ("run", "eval")


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


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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


@pytest.mark.parametrize(
    ("kinds", "text", "kind"),
    [
        ({"CommError"}, "Timed out while retrying: HTTP 409: taken\nConsider ...", "unavailable"),
        ({"CommError"}, "while retrying: HTTP 429: slow down", "unavailable"),
        ({"CommError"}, "dial tcp: lookup nohost on 10.0.0.1:53: no such host", "unavailable"),
        (
            {"AuthenticationError", "CommError"},
            "the service did not respond in time",
            "unavailable",
        ),
        ({"AuthenticationError", "CommError"}, "API key must have 40+ characters", "refused"),
        ({"CommError"}, "run cw-1 was previously created and deleted", "refused"),
        ({"UsageError"}, "Invalid project name", "refused"),
        ({"OSError"}, "No space left on device", "unavailable"),
    ],
)
def test_errors_are_judged(kinds: set[str], text: str, kind: str) -> None:
    """What may pass is tried again, what somebody must mend is not; each in one line."""
    verdict = judge(kinds, text, "https://server")
    assert verdict.kind == kind
    assert "\n" not in verdict.reason


def test_the_daemon_does_not_load_wandb() -> None:
    """The adapter is loaded without W&B's package; all of that happens in the child."""
    code = "import sys, clipwatch_adapters.wandb; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
