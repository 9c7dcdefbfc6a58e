"""The Comet adapter when it is killed, and against a server that fails at each stage."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.comet import CometTracker
from comet_world import isolate, means, serve
from fake_comet import KEY, FakeComet, Fault
from tracker_kit import bring
from wandb_world import collect_children


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FakeComet]:
    with serve(monkeypatch, tmp_path_factory.mktemp("home")) as fake:
        yield fake


@pytest.mark.thorough
def test_two_hundred_results_and_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Back-filled offline, with kill -9 amid a batch: the archives hold each result once."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("COMET_START_ONLINE", "false")
    children = collect_children(monkeypatch)
    series = make_series(tmp_path, range(100, 20_100, 100), images=False)
    tracker = CometTracker(make_target(tmp_path))
    fresh = Path(tracker.where(series)).parent / ".clipwatch.new"

    def kill() -> None:  # as soon as the second session has begun its archive
        while len(children) < 2 or not list(fresh.glob("*.zip")):
            time.sleep(0.01)
        os.kill(children[1].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrackerUnavailable, match="ended with -9"):
        tracker.publish(series, range(200))
    killer.join()
    assert len(tracker.published(series)) == 40
    while len(bring(CometTracker(make_target(tmp_path)), series)) < 200:
        pass
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]
    assert not fresh.exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("word", "status", "error", "words"),
    [
        ("metadata", 401, TrackerRefused, "does not accept the API key.*COMET_API_KEY"),
        ("add/run", 403, TrackerRefused, "check workspace, project"),
        ("account-details", 404, TrackerRefused, "check workspace, project"),
        ("metadata", 503, TrackerUnavailable, "cannot take it now"),
        ("metadata", 0, TrackerUnavailable, "does not answer"),
    ],
)
def test_what_a_failing_server_means(
    server: FakeComet, tmp_path: Path, word: str, status: int, error: type[Exception], words: str
) -> None:
    """What may pass and what somebody must mend are told apart, in one line without the key."""
    server.faults.append(Fault(word, status))
    series = make_series(tmp_path, [100], images=False)
    with pytest.raises(error, match=words) as told:
        CometTracker(make_target(tmp_path)).publish(series, [0])
    assert "\n" not in str(told.value)
    assert KEY not in str(told.value)
    assert KEY not in (make_target(tmp_path).state_dir / "session.log").read_text()


@pytest.mark.thorough
def test_a_lost_reply_repeats_nothing(server: FakeComet, tmp_path: Path) -> None:
    """Numbers that were stored though the answer got lost are found by reading, not sent anew."""
    server.faults.append(Fault("experiment/metric", 502, times=1, lost=True))
    series = make_series(tmp_path, [100, 300], images=False)
    tracker = CometTracker(make_target(tmp_path))
    tracker.patience = 20
    with suppress(TrackerUnavailable):
        tracker.publish(series, [0, 1])
    assert bring(CometTracker(make_target(tmp_path)), series) == {0, 1}
    assert sorted(server.experiment.points()) == [(it.step, it.clip.mean) for it in series.results]


@pytest.mark.thorough
def test_a_kill_amid_a_session_repeats_nothing(
    server: FakeComet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the first numbers arrive, the next session adds what lacks and no more."""
    children = collect_children(monkeypatch)

    def kill() -> None:
        os.kill(children[-1].pid, signal.SIGKILL)

    server.faults.append(Fault("experiment/metric", 0, times=1, lost=True, then=kill))
    series = make_series(tmp_path, [100, 300], images=False)
    with pytest.raises(TrackerUnavailable, match="ended with -9"):
        CometTracker(make_target(tmp_path)).publish(series, [0, 1])
    assert server.experiment.metrics
    assert bring(CometTracker(make_target(tmp_path)), series) == {0, 1}
    assert sorted(server.experiment.points()) == [(it.step, it.clip.mean) for it in series.results]


def test_nobody_listens(server: FakeComet, tmp_path: Path) -> None:
    """A refused connection may pass, and is told in time."""
    server.stop()
    series = make_series(tmp_path, [100], images=False)
    with pytest.raises(TrackerUnavailable, match="does not answer"):
        CometTracker(make_target(tmp_path)).published(series)
