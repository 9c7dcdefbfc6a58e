"""What W&B shows beside the mean: every number, the further scorers, and advice as alerts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.decided import Decision, Estimate, Reference
from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import make_series, make_target, with_everything
from clipwatch_adapters.shared.frames import fields, records
from clipwatch_adapters.shared.numbers import Names, scalars
from clipwatch_adapters.wandb import WandbTracker
from clipwatch_adapters.wandb.files import HEADER, HISTORY, finished_rows
from clipwatch_adapters.wandb.rows import places
from clipwatch_adapters.wandb.rows import row as row_of
from fake_wandb import HANG, KEY, FakeWandb, Fault, StoredRun
from wandb_world import collect_children, isolate

ADVICE = "regressed: Seen: regressed <b>*now*</b>.\nplateau: Seen: plateau <b>*now*</b>."
ALERTS = ["clipwatch: regressed at step 200", "clipwatch: plateau at step 200"]

ALERT = 10
"""Field of a Record in a `.wandb` file."""


@pytest.fixture
def series(tmp_path: Path) -> Series:
    """Return two results with all that there may be; the second brings advice."""
    return with_everything(make_series(tmp_path, [100, 200], images=False))


def axes(run: StoredRun) -> dict[str, str]:
    """Return number → x-axis; "1" is a name there, "5" the place of its x-axis."""
    metrics = run.config["_wandb"]["value"]["m"]
    found = {metric["1"]: metrics[metric["5"] - 1]["1"] for metric in metrics if "5" in metric}
    return {name: axis for name, axis in found.items() if not name.startswith("clipwatch/")}


def titles(run: StoredRun) -> list[str]:
    """Return the alerts that the server was asked to send."""
    return [alert["title"] for alert in run.alerts]


def test_a_row_has_every_number(server: FakeWandb, tmp_path: Path, series: Series) -> None:
    """A row holds the same scalars as TensorBoard's, each drawn over the trainer's step."""
    WandbTracker(make_target(tmp_path)).publish(series, [0, 1])
    for row, result in zip(server.run.rows, series.results, strict=True):
        expected = scalars(Names.of(series), result)
        assert {tag: row[tag] for tag in row if re.match("(?!clipwatch/).+/", tag)} == expected
    assert axes(server.run) == dict.fromkeys(expected, "clipwatch/step")
    assert len(expected) == 8 + 6 + 2 + 2 * 8


@pytest.mark.thorough
def test_a_later_session_keeps_the_axes(server: FakeWandb, tmp_path: Path, series: Series) -> None:
    """What only earlier results have keeps its x-axis when a session brings a bare one."""
    bare = make_series(tmp_path, [100, 200, 300], images=False).results[2]
    longer = replace(series, results=(*series.results, bare), scores=lambda _: ())
    WandbTracker(make_target(tmp_path)).publish(series, [0, 1])
    before = axes(server.run)
    WandbTracker(make_target(tmp_path)).publish(longer, [2])
    assert [step for _, step in server.run.points] == [100, 200, 300]
    assert axes(server.run) == before


SHOWN = {
    "clip_best/mean": 0.2315,
    "clip_best/step": 100,
    "clip_last/mean": 0.2115,
    "clip_last/step": 300,
    "clip/mean": 0.2115,
    "clip/max": 0.213,
    "clipwatch/step": 300,
    "clipwatch/checkpoint": "checkpoint-300",
}
"""What the summary says of `late`: the newest step came second, the best one last."""


@pytest.fixture
def late(tmp_path: Path) -> Series:
    """Return a series in which two older steps come after the newest."""
    return make_series(tmp_path, [0, 300, 200, 100], images=False)


def shown(run: StoredRun) -> dict[str, object]:
    """Return what a run's summary says of the best and the newest step."""
    return {
        key: round(value, 4) if isinstance(value := run.summary[key], float) else value
        for key in SHOWN
    }


def test_the_summary_has_best_and_last(server: FakeWandb, tmp_path: Path, late: Series) -> None:
    """Best and last are told with their steps, whatever the order in which rows came."""
    target = make_target(tmp_path)
    for seqs in ([0, 1], [2], [3]):
        WandbTracker(target).publish(replace(late, results=late.results[: seqs[-1] + 1]), seqs)
    assert shown(server.run) == SHOWN
    assert server.run.points == [(0, 0), (300, 300), (301, 200), (302, 100)]


def test_the_summary_is_of_one_result(server: FakeWandb, tmp_path: Path) -> None:
    """What only an earlier one has, such as that its mean is an estimate, is gone with the next."""
    series = make_series(tmp_path, [100, 200], images=False)
    one, other = series.results
    decision = Decision(Reference("checkpoint-1/a/b"), "above", 40, 0.01, 0.001, 0.02, 0.005)
    one = replace(one, decision=decision, estimate=Estimate((), {"": 90.0}, {"": 0.2}))
    series = replace(series, results=(one, replace(other, losses={"loss/heldout": 0.5}, part=True)))
    for count, told in ((1, {"clip_count/effective", "clip_decision/verdict"}), (2, set())):
        tracker = WandbTracker(make_target(tmp_path))
        tracker.publish(replace(series, results=series.results[:count]), [count - 1])
        found = {it for it in server.run.summary if "effective" in it or "verdict" in it}
        assert found == told
    assert server.run.summary["loss/heldout"] == 0.5
    assert server.run.summary["clip_best/step"] == 100  # the other one is higher, and a part


@pytest.mark.thorough
def test_offline_runs_bring_the_summary(
    tmp_path: Path, late: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wandb sync` of several offline runs ends with the same summary and rows."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(replace(late, results=late.results[:2]), [0, 1])
    tracker.publish(late, [2, 3])
    command = [sys.executable, "-m", *shlex.split(tracker.hint(late))]
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with FakeWandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert shown(server.run) == SHOWN
    assert server.run.points == [(0, 0), (300, 300), (301, 200), (302, 100)]


@given(steps=st.lists(st.integers(0, 50), max_size=20), count=st.integers(0, 20))
def test_a_place_is_kept_for_good(
    steps: list[int], count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Places grow, begin with the trainer's steps, and none depends on what comes later."""
    results = make_series(tmp_path_factory.getbasetemp(), steps, images=False).results
    found = places(results)
    assert list(found) == sorted(set(found))
    assert all(place >= step for place, step in zip(found, steps, strict=True))
    assert found[:count] == places(results[:count])
    ordered = sorted(set(steps))
    in_order = make_series(tmp_path_factory.getbasetemp(), ordered, images=False).results
    assert list(places(in_order)) == ordered


@pytest.mark.thorough
def test_further_scorers_are_in_the_table(
    server: FakeWandb, tmp_path: Path, series: Series
) -> None:
    """The table of prompts has a column for each image and scorer, empty where there is none."""
    scores = list(series.scores(series.results[0].evaluation))
    scores[1] = replace(scores[1], scores={"": scores[1].score, "siglip": 0.5})
    WandbTracker(make_target(tmp_path)).publish(
        replace(series, scores=lambda _: tuple(scores)), [0]
    )
    table = json.loads(server.run.files[server.run.rows[0]["clipwatch/scores"]["path"]])
    assert table["columns"][2:] == ["prompt", "score 0", "odd_name score 0", "siglip score 0"]
    assert table["data"][0][3:] == [0.2, 2.0, 0.1]
    assert table["data"][1][3:] == [0.201, None, 0.5]


def test_pictures_stand_beside_the_base_models(tmp_path: Path) -> None:
    """A line for each prompt shown has both pictures and both scores, by each scorer."""
    series = with_everything(make_series(tmp_path, [0, 200]))
    names = Names.of(series)
    base, later = (row_of(series, names, it, it.step) for it in series.results)
    assert later.picture_columns == (
        *("image", "base image", "category", "prompt", "score", "base score"),
        *("odd_name score", "odd_name base score", "siglip score", "siglip base score"),
    )
    image, before, *others = later.pictures[0]
    assert (image, before) == tuple(
        str(tmp_path / f"images/clipwatch-{seq}/red-cube-0.png") for seq in (1, 0)
    )
    assert others[:2] == ["objects", "a red cube on a table"]
    assert others[2:] == pytest.approx([0.21, 0.2, 2.1, 2.0, 0.105, 0.1])
    assert [line[1] for line in base.pictures] == [""] * 4
    assert base.pictures[0][5] is None


@pytest.mark.thorough
def test_a_table_brings_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files go with the table; one that is gone leaves its place empty, and nothing else."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    series = with_everything(make_series(tmp_path, [0, 200]))
    (tmp_path / "images/clipwatch-0/old-town-0.png").unlink()
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [1])
    (run,) = Path(tracker.where(series)).glob("offline-run-*")
    (file,) = run.glob("*.wandb")
    kinds = (b"run_table", b"clipwatch/pictures.table.json")
    (sent,) = (it for it in records(file, HEADER) if all(kind in it for kind in kinds))
    assert len(set(re.findall(rb"media/images/\w+/\d\.jpg", sent))) == 4 + 3
    staged = {Path(it.decode()) for it in re.findall(rb"/[^\"\s]+/staging/tmp\w{8}", sent)}
    assert sum(it.read_bytes()[:2] == b"\xff\xd8" for it in staged) == 4 + 3


@pytest.mark.thorough
def test_advice_is_an_alert(server: FakeWandb, tmp_path: Path, series: Series) -> None:
    """Advice is sent before its row, as a warning; the row and the run's summary keep its text."""
    WandbTracker(make_target(tmp_path)).publish(series, [0, 1])
    run = server.run
    assert titles(run) == ALERTS
    assert {alert["severity"] for alert in run.alerts} == {"WARN"}
    assert run.alerts[0]["text"] == "Seen: regressed <b>*now*</b>."
    assert all(len(title) < 64 for title in titles(run))
    assert server.requests.index("NotifyScriptableRunAlert") < server.requests.index("history")
    assert [row.get("clipwatch/advice") for row in run.rows] == [None, ADVICE]
    assert run.summary["clipwatch/advice"] == ADVICE
    WandbTracker(make_target(tmp_path)).publish(series, [0, 1])
    assert titles(run) == ALERTS


@pytest.mark.parametrize("stage", ["NotifyScriptableRunAlert", "history"])
@pytest.mark.thorough
def test_a_kill_does_not_lose_an_alert(
    server: FakeWandb,
    tmp_path: Path,
    series: Series,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """Killed before the alert or the row, the next session sends both, and the row comes once."""
    children = collect_children(monkeypatch)
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(replace(series, results=series.results[:1]), [0])
    reached = threading.Event()

    def kill() -> None:
        if not reached.is_set():
            reached.set()
            children[-1].kill()

    server.faults.append(Fault(stage, HANG, then=kill))
    with pytest.raises(TrackerUnavailable, match="no answer"):
        tracker.publish(series, [1])
    assert reached.is_set()
    assert server.run.points == [(100, 100)]
    sent = titles(server.run)
    assert sent == ([] if stage == "NotifyScriptableRunAlert" else ALERTS)
    server.faults.clear()
    WandbTracker(make_target(tmp_path)).publish(series, [1])
    assert titles(server.run) == sent + ALERTS
    assert server.run.points == [(100, 100), (200, 200)]


@pytest.mark.parametrize("status", [404, 500])
@pytest.mark.thorough
def test_an_alert_that_is_not_taken_does_not_stop_the_numbers(
    server: FakeWandb, tmp_path: Path, series: Series, status: int
) -> None:
    """Where a server sends no alerts, the row comes in the same session, with the text in it."""
    server.faults.append(Fault("NotifyScriptableRunAlert", status))
    target = make_target(tmp_path)
    WandbTracker(target).publish(series, [0, 1])
    assert server.run.points == [(100, 100), (200, 200)]
    assert titles(server.run) == []
    assert server.run.summary["clipwatch/advice"] == ADVICE
    log = (target.state_dir / "session.log").read_text()
    assert "W&B did not take an alert, its text is in the row: " in log
    assert str(status) in log


@pytest.mark.thorough
def test_offline_alerts_come_with_the_sync(
    tmp_path: Path, series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offline run holds the numbers, and the alerts before their row; `wandb sync` sends all."""
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1])
    (run,) = Path(tracker.where(series)).glob("offline-run-*")
    rows = finished_rows(run) or ()
    for row, result in zip(rows, series.results, strict=True):
        expected = scalars(Names.of(series), result)
        assert {tag: row[tag] for tag in row if re.match("(?!clipwatch/).+/", tag)} == expected
    assert rows[1]["clipwatch/advice"] == ADVICE
    (file,) = run.glob("*.wandb")
    kinds = [
        n for record in records(file, HEADER) for n, _ in fields(record) if n in {HISTORY, ALERT}
    ]
    assert kinds == [HISTORY, ALERT, ALERT, HISTORY]
    command = [sys.executable, "-m", *shlex.split(tracker.hint(series))]
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with FakeWandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert titles(server.run) == ALERTS
    assert server.run.points == [(100, 100), (200, 200)]
    assert len(axes(server.run)) == 8 + 6 + 2 + 2 * 8
