"""The MLflow adapter where MLflow fails: what is told, how soon, and what is shown after."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.mlflow import MlflowTracker
from mlflow_kit import Server, Sessions, isolate, means, serve, target_of, until
from places import python_path
from tracker_kit import bring

TOKEN = "only-for-the-server"
HANG, CLOSE = 0, -1
"""What a stub does instead of answering with a status."""

PUBLISHER = """
import sys
from pathlib import Path
from clipwatch_adapters.mlflow import MlflowTracker
from clipwatch.testing.series import make_series
from mlflow_kit import target_of
folder, steps = Path(sys.argv[1]), range(100, 100 + 100 * int(sys.argv[2]), 100)
tracker = MlflowTracker(target_of(folder))
tracker.patience = 1000
tracker.publish(make_series(folder, steps, images=False), range(len(steps)))
"""


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    """Return one child for the jobs of all tests that ask for it."""
    own = Sessions(tmp_path_factory.mktemp("sessions"))
    yield own
    own.close()


@pytest.fixture
def one_child(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use it, with a token and no patience."""
    isolate(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setattr("clipwatch_adapters.mlflow.run", sessions.run)
    monkeypatch.setattr(MlflowTracker, "patience", 8)


@contextmanager
def stub(status: int, body: str) -> Iterator[str]:
    """Run a server that answers everything so; yield its address, with a login in it."""
    ended = threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if status == HANG:
                ended.wait(60)
            if status in {HANG, CLOSE}:
                return
            data = f"{body} {self.headers['Authorization']}".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After", "3600")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{server.server_port}"
        ended.set()
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, TrackerRefused, "does not accept who asks.*MLFLOW_TRACKING_USERNAME"),
        (403, TrackerRefused, "refuses.*permit edits of the experiment"),
        (404, TrackerRefused, "no MLflow server answers there.*correct tracking_uri"),
        (200, TrackerRefused, "no MLflow server answers there.*correct tracking_uri"),
        (400, TrackerRefused, "check tracking_uri, experiment and run_id"),
        (409, TrackerUnavailable, r"cannot take it now \(HTTP 409\)"),
        (429, TrackerUnavailable, r"cannot take it now \(HTTP 429\)"),
        (500, TrackerUnavailable, r"cannot take it now \(HTTP 500\)"),
        (503, TrackerUnavailable, r"cannot take it now \(HTTP 503\)"),
        (HANG, TrackerUnavailable, r"does not answer \(timed out\)"),
        (CLOSE, TrackerUnavailable, r"does not answer \(Connection aborted\)"),
    ],
)
@pytest.mark.usefixtures("one_child")
@pytest.mark.thorough(but=2)
def test_what_a_server_answers_is_told(
    tmp_path: Path, status: int, kind: type[Exception], words: str
) -> None:
    """In one line, soon, though it asks to wait an hour; without login and token."""
    with stub(status, "<html>what you wanted was not to be had</html>") as uri:
        tracker = MlflowTracker(target_of(tmp_path, tracking_uri=uri))
        began = time.monotonic()
        with pytest.raises(kind, match=words) as told:
            tracker.published(make_series(tmp_path, [100], images=False))
        assert time.monotonic() - began < 60
    line = f"{told.value}"
    assert f"127.0.0.1:{uri.rpartition(':')[2]}" in line
    assert "\n" not in line
    assert not any(it in line for it in ("secret", "me:", TOKEN, "bWU6c2VjcmV0", "wanted"))
    assert len(line) < 200


@pytest.mark.usefixtures("one_child")
def test_no_server_is_no_refusal(tmp_path: Path) -> None:
    """It may come up again: results wait in the log."""
    tracker = MlflowTracker(target_of(tmp_path, tracking_uri="http://127.0.0.1:9"))
    with pytest.raises(TrackerUnavailable, match=r"http://127.0.0.1:9 does not answer"):
        tracker.publish(make_series(tmp_path, [100], images=False), [0])


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("nonsense://there", "MLflow at nonsense://there refuses"),
        ("postgresql://me:secret@127.0.0.1/x", "needs the package psycopg: pip install psycopg"),
    ],
)
@pytest.mark.usefixtures("one_child")
@pytest.mark.thorough
def test_a_bad_address_is_refused(tmp_path: Path, uri: str, words: str) -> None:
    """What is no address of MLflow's, or needs a driver, waits for a person."""
    with pytest.raises(TrackerRefused, match=words) as told:
        MlflowTracker(target_of(tmp_path, tracking_uri=uri)).published(make_series(tmp_path, [1]))
    assert "secret" not in str(told.value)


@pytest.mark.usefixtures("one_child")
@pytest.mark.thorough
def test_a_deleted_experiment_is_refused(mlflow_server: Server, tmp_path: Path) -> None:
    """It says how to have it back."""
    target = target_of(tmp_path, tracking_uri=mlflow_server.url)
    id_ = mlflow_server.experiment(target.project)
    mlflow_server.call("experiments/delete", experiment_id=id_)
    with pytest.raises(TrackerRefused, match=rf"is deleted: .*--experiment-id {id_}"):
        MlflowTracker(target).published(make_series(tmp_path, [100], images=False))


@pytest.mark.parametrize("package", ["mlflow", "sqlalchemy"])
def test_a_missing_package_names_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The extra, or the whole package where a database is used without a server."""
    isolate(monkeypatch)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / f"{package}.py").write_text(f"raise ImportError('gone', name='{package}')\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    sqlite3.connect(tmp_path / "mlflow.db").close()
    (tmp_path / "mlflow.db").touch()
    words = {"mlflow": r"clipwatch\[mlflow\]", "sqlalchemy": "pip install mlflow, or name a server"}
    with pytest.raises(TrackerRefused, match=words[package]):
        MlflowTracker(make_target(tmp_path)).published(make_series(tmp_path, [100]))


@pytest.mark.thorough
def test_a_database_that_is_locked_or_spoilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock passes; a file that is no database does not."""
    isolate(monkeypatch)
    series, tracker = make_series(tmp_path, [100], images=False), MlflowTracker(target_of(tmp_path))
    tracker.publish(series, [0])
    with sqlite3.connect(tmp_path / "mlflow.db") as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackerUnavailable, match="MLflow"):
            tracker.published(series)
        lock.rollback()
    assert tracker.published(series) == {0}
    (tmp_path / "mlflow.db").write_bytes(b"no database, " * 1000)
    with pytest.raises(TrackerRefused, match=r"not a database.*name another in tracking_uri"):
        tracker.published(series)


@pytest.mark.thorough
def test_files_that_are_not_taken_hold_up_no_number(
    mlflow: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: Sessions
) -> None:
    """Where the server cannot keep artifacts, the numbers are published without them."""
    monkeypatch.setattr("clipwatch_adapters.mlflow.run", sessions.run)
    target = target_of(tmp_path)
    location = f"file://{tmp_path}/planted/artifacts"
    (tmp_path / "planted").write_text("a file in a folder's place")
    mlflow.call("experiments/create", name=target.project, artifact_location=location)
    series = make_series(tmp_path, [100, 200])
    assert bring(MlflowTracker(target), series) == {0, 1}
    (run,) = mlflow.runs(target.project)
    assert run.points("clip/mean") == means(series)


@pytest.mark.thorough
def test_a_server_that_is_killed_amid_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as what passes; started again, the server gets what lacks, each result once."""
    with TemporaryDirectory() as folder, serve(Path(folder)) as server:
        isolate(monkeypatch, server.url)
        series = make_series(tmp_path, range(100, 1300, 100), images=False)
        target = target_of(tmp_path)

        def kill() -> None:
            until(
                lambda: any(len(it.points("clip/mean")) > 2 for it in server.runs(target.project))
            )
            server.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(TrackerUnavailable, match=r"127.0.0.1:\d+ does not answer"):
            MlflowTracker(target).publish(series, range(12))
        killer.join()
        server.start()
        assert bring(MlflowTracker(target), series) == set(range(12))
        (run,) = server.runs(target.project)
        assert run.points("clip/mean") == means(series)
        assert run.points("clip/max") == [(it.step, it.clip.max) for it in series.results]


@pytest.mark.timeout(600)
@pytest.mark.thorough
def test_two_hundred_results_survive_a_kill(mlflow: Server, tmp_path: Path) -> None:
    """A back-fill is killed amid it, with its session, and goes on: MLflow shows each once."""
    count, target = 200, target_of(tmp_path)
    series = make_series(tmp_path, range(100, 100 + 100 * count, 100), images=False)
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(tmp_path), str(count)],
        env={**os.environ, "PYTHONPATH": python_path()},
    ) as publisher:
        until(lambda: any(len(it.points("clip/mean")) > 30 for it in mlflow.runs(target.project)))
        publisher.send_signal(signal.SIGKILL)
    tracker = MlflowTracker(target)
    had = tracker.published(series)
    assert 30 < len(had) < count
    tracker.patience = 1000
    assert bring(tracker, series) == set(range(count))
    (run,) = mlflow.runs(target.project)
    for key, values in (("mean", means(series)), ("std", None)):
        points = run.points(f"clip/{key}")
        assert [step for step, _ in points] == [it.step for it in series.results]
        assert values is None or points == values
    assert bring(MlflowTracker(target), replace(series)) == set(range(count))
    assert len(run.points("clip/mean")) == count
