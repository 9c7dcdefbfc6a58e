"""The W&B adapter against a server that fails at each stage: what is told, and what is shown after.

Stages, as the server names them: Viewer, GetDefaultEntity and Run ask before sending,
RunResumeStatus and UpsertBucket open the run, "history" brings rows, RunHistoryKeys reads back.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import PROMPTS, make_protocol, make_series, make_target
from clipwatch_adapters.wandb import WandbTracker
from fake_wandb import CLOSE, HANG, FakeWandb, Fault
from wandb_world import collect_children, cores

ROWS = [(100, 100), (300, 300), (301, 200)]


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Return three results, the last one late."""
    return make_series(tmp_path, [step for _, step in ROWS], images=False)


def impatient(tmp_path: Path, patience: float) -> WandbTracker:
    """Return a tracker that gives up soon."""
    tracker = WandbTracker(make_target(tmp_path))
    tracker.patience = patience
    return tracker


def mended(server: FakeWandb, tmp_path: Path, series: Series) -> list[tuple[int, int]]:
    """Take the faults away, publish everything as after a restart, and return the rows."""
    server.faults.clear()
    WandbTracker(make_target(tmp_path)).publish(series, [0, 1, 2])
    return server.run.points


@pytest.mark.parametrize(
    ("stage", "status", "words"),
    [
        ("*", 401, "does not accept the API key.*wandb login --relogin"),
        ("Run", 401, "does not accept the API key.*wandb login --relogin"),
        ("history", 401, "does not accept the API key.*wandb login --relogin"),
        ("GetDefaultEntity", 403, "what the API key may do"),
        ("RunResumeStatus", 403, "what the API key may do"),
        ("UpsertBucket", 403, "what the API key may do"),
        ("history", 403, "what the API key may do"),
        ("*", 404, "base_url, entity, project"),
        ("UpsertBucket", 404, "base_url, entity, project"),
        ("history", 404, "base_url, entity, project"),
    ],
)
@pytest.mark.thorough(but=1)
def test_what_somebody_must_mend_is_refused(
    server: FakeWandb, tmp_path: Path, series: Series, stage: str, status: int, words: str
) -> None:
    """A refusal at any stage says in one line what to mend; once mended, all rows come once."""
    server.faults.append(Fault(stage, status))
    with pytest.raises(TrackerRefused, match=words) as told:
        WandbTracker(make_target(tmp_path)).publish(series, [0, 1, 2])
    assert server.url in str(told.value)
    assert "\n" not in str(told.value)
    assert mended(server, tmp_path, series) == ROWS


@pytest.mark.parametrize(
    ("stage", "status", "words"),
    [
        ("GetDefaultEntity", 409, "cannot take it now"),
        ("RunResumeStatus", 409, "cannot take it now"),
        ("history", 409, "cannot take it now"),
        ("UpsertBucket", 429, "cannot take it now"),
        ("history", 429, "cannot take it now"),
        ("history", 500, "cannot take it now"),
        ("UpsertBucket", 502, "cannot take it now"),
        ("Run", 503, "does not answer"),
        ("RunHistoryKeys", 503, "does not answer"),
        ("*", HANG, "does not answer"),
        ("history", HANG, "does not answer"),
        ("RunResumeStatus", CLOSE, "does not answer"),
    ],
)
@pytest.mark.thorough
def test_what_may_pass_is_unavailable_in_time(
    server: FakeWandb, tmp_path: Path, series: Series, stage: str, status: int, words: str
) -> None:
    """What may pass is told in one line within bounds, though asked to wait; then rows come once.

    A proxy that answers 409 at any stage, one that limits, fails or hangs: none is a refusal.
    """
    server.faults.append(Fault(stage, status, retry_after=3600 if status == 429 else None))
    began = time.monotonic()
    with pytest.raises(TrackerUnavailable, match=words) as told:
        impatient(tmp_path, 5).publish(series, [0, 1, 2])
    assert time.monotonic() - began < 100  # and not the hour it was asked to wait
    assert "\n" not in str(told.value)
    assert mended(server, tmp_path, series) == ROWS


@pytest.mark.parametrize("stage", ["UpsertBucket", "history"])
@pytest.mark.thorough
def test_a_short_fault_is_not_even_told(
    server: FakeWandb, tmp_path: Path, series: Series, stage: str
) -> None:
    """One failure that heals by itself delays the rows and nothing else."""
    server.faults.append(Fault(stage, 503, times=1))
    WandbTracker(make_target(tmp_path)).publish(series, [0, 1, 2])
    assert server.run.points == ROWS
    assert not server.faults[0].times


@pytest.mark.parametrize(
    ("stage", "status"),
    [("UpsertBucket", 502), ("history", 502), ("history", HANG), ("history", CLOSE)],
)
@pytest.mark.thorough
def test_a_lost_reply_repeats_nothing(
    server: FakeWandb, tmp_path: Path, series: Series, stage: str, status: int
) -> None:
    """Rows that were stored though the answer got lost are found by reading back, not sent anew."""
    server.faults.append(Fault(stage, status, lost=True))
    with suppress(TrackerUnavailable):
        impatient(tmp_path, 8).publish(series, [0, 1, 2])
    assert (server.run.points == ROWS) == (stage == "history")
    assert mended(server, tmp_path, series) == ROWS


def test_nobody_listens(server: FakeWandb, tmp_path: Path, series: Series) -> None:
    """A refused connection may pass."""
    server.stop()
    with pytest.raises(TrackerUnavailable, match="does not answer"):
        impatient(tmp_path, 16).published(series)  # half of which it has


@pytest.mark.thorough
def test_media_are_secondary(server: FakeWandb, tmp_path: Path) -> None:
    """A row is published though the server takes no files."""
    series = make_series(tmp_path, [100, 300, 200])
    server.faults += [Fault("storage", HANG), Fault("ArtifactType", 404)]
    impatient(tmp_path, 8).publish(series, [0, 1, 2])
    assert server.run.points == ROWS


@pytest.mark.thorough
def test_a_row_is_never_too_long(server: FakeWandb, tmp_path: Path) -> None:
    """W&B silently leaves out rows above 10 MB: prompts of any length stay below."""
    prompts = [prompt.__class__(prompt.id, "x" * 3_000_000, "long") for prompt in PROMPTS]
    series = make_series(tmp_path, [100, 200], protocol=make_protocol(prompts))
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1])
    assert server.run.points == [(100, 100), (200, 200)]
    assert len(server.run.rows[0]["clipwatch/samples"]["captions"]) == 4


@pytest.mark.parametrize("victim", ["session", "wandb-core"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.thorough
def test_kills_at_random_lose_and_repeat_nothing(
    server: FakeWandb,
    tmp_path: Path,
    series: Series,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
    seed: int,
) -> None:
    """Killed at any request, before or after it took effect, no row is ever there twice.

    Results come meanwhile, and the first attempt that is not killed completes the rows.
    """
    children = collect_children(monkeypatch)
    chance = random.Random(seed)
    kills = 0

    def kill() -> None:
        nonlocal kills
        targets = [children[-1].pid] if victim == "session" else cores(os.environ["HOME"])
        for pid in targets:
            os.kill(pid, signal.SIGKILL)
            kills += 1

    for attempt in range(5):
        grown = replace(series, results=series.results[: 1 + attempt // 2])
        moment = Fault("*", CLOSE, 1, lost=chance.random() < 0.5, then=kill)
        moment.after = chance.randrange(22)  # as many requests as a session makes
        server.faults[:] = [moment]
        with suppress(TrackerUnavailable):
            WandbTracker(make_target(tmp_path)).publish(grown, range(len(grown.results)))
        rows = [row for run in server.runs.values() for row in run.points]
        assert rows == ROWS[: len(rows)]
    assert kills
    assert mended(server, tmp_path, series) == ROWS
    assert len(server.runs) == 1
