"""The Comet adapter: archives of offline experiments, and the real package against a small server.

Comet's own server was never asked: see fake_comet.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from clipwatch.kit.errors import TrackerRefused
from clipwatch.testing.series import START, make_series, make_target, with_everything
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.comet import CometTracker
from clipwatch_adapters.comet.archives import held, points
from comet_world import isolate, means, serve
from fake_comet import KEY, FakeComet
from tracker_kit import bring


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Go without a server, as the trainer does."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("COMET_START_ONLINE", "false")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have neither key nor mode."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.mark.thorough(but=3)
@pytest.mark.usefixtures("offline")
class TestOffline(TrackerContract):
    """The contract with offline archives."""

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: CometTracker(target)


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_an_archive_tells_all_of_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers at their steps, protocol, tags, images, tables, advice; once; nothing elsewhere."""
    hostile = {"EXPERIMENT_KEY": "t" * 32, "PROJECT_NAME": "x", "START_MODE": "get"}
    for name, value in hostile.items():
        monkeypatch.setenv(f"COMET_{name}", value)
    series = with_everything(make_series(tmp_path, [100, 300, 200]))
    tracker = CometTracker(make_target(tmp_path))
    monkeypatch.chdir(tmp_path / "output")
    tracker.publish(series, [0, 1, 2])
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]
    (file,) = Path(tracker.where(series)).glob("*.zip")
    with zipfile.ZipFile(file) as archive:
        head = json.loads(archive.read("experiment.json"))
        lines = [json.loads(it)["payload"] for it in archive.read("messages.json").splitlines()]
    assert head["project_name"] == "project"
    assert set(head["tags"]) == {"clipwatch", "run"}
    assert head["resume_strategy"] == "get_or_create"
    assert head["offline_id"] != "t" * 32
    parameters = {
        it["param"]["paramName"]: it["param"]["paramValue"] for it in lines if "param" in it
    }
    assert parameters["protocol"] == series.digest
    assert (parameters["inference_steps"], parameters["prompts"]) == (20, 4)
    files = [it for it in lines if "file_path" in it]
    images = [it for it in files if "figName" in it["additional_params"]]
    assert len(images) == 3 * 4
    assert images[0]["additional_params"]["figName"] == "clipwatch/1 a red cube on a table"
    assert images[0]["metadata"]["caption"] == "step 100, score 0.2000: a red cube on a table"
    assert sum(it["additional_params"].get("type") == "text-sample" for it in files) == 1
    names = {it["metric"]["metricName"] for it in lines if "metric" in it}
    assert {"scorer_siglip/mean", "clip_category/places", "clip_delta/best_low"} <= names
    assert [it.name for it in (tmp_path / "output").iterdir()] == []
    assert not any(Path(os.environ["HOME"]).iterdir())
    file.unlink()
    assert bring(tracker, series) == {0, 1, 2}
    assert list(Path(tracker.where(series)).glob("*.zip")) == []


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_a_later_scorer_is_added(tmp_path: Path) -> None:
    """What a scorer said later comes alone, and the result counts once that is there, too."""
    series = make_series(tmp_path, [100], images=False)
    tracker = CometTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    scored = with_everything(series).results[0].scores
    later = replace(series.results[0], scores=scored, later={"siglip": START})
    grown = replace(with_everything(series), results=(later,))
    assert tracker.published(grown) == frozenset()
    assert bring(CometTracker(make_target(tmp_path)), grown) == {0}
    assert means(tracker.where(series)) == [(100, series.results[0].clip.mean)]
    *_, added = sorted(Path(tracker.where(series)).glob("*.zip"))
    assert ("scorer_siglip/mean", 100, scored["siglip"].mean) in points(added)


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_archives_can_be_uploaded(tmp_path: Path) -> None:
    """The command of the hint brings all archives into one experiment, each number once."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = CometTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    tracker.publish(series, [1, 2])
    program, *words = shlex.split(tracker.hint(series))
    files = [str(it) for it in sorted(Path(words[-1]).parent.glob("*.zip"))]
    assert len(files) == 2
    with FakeComet() as server:
        env = os.environ | {"COMET_URL_OVERRIDE": server.url, "COMET_API_KEY": KEY}
        command = [str(Path(sys.executable).with_name(program)), *words[:-1], *files]
        subprocess.run(command, check=True, capture_output=True, env=env, cwd=tmp_path)
    found = server.experiment
    assert sorted(found.points()) == sorted((it.step, it.clip.mean) for it in series.results)
    assert len(found.images) == 12
    assert len(found.assets) == 3


@pytest.mark.thorough
@pytest.mark.usefixtures("offline")
def test_a_damaged_archive_is_replaced(tmp_path: Path) -> None:
    """One that was cut counts for nothing, and its rows are written again, once."""
    series = make_series(tmp_path, [100, 300], images=False)
    tracker = CometTracker(make_target(tmp_path))
    tracker.publish(series, [0])
    (file,) = Path(tracker.where(series)).glob("*.zip")
    os.truncate(file, file.stat().st_size - 30)
    assert held(file) is None
    assert tracker.published(series) == frozenset()
    assert bring(CometTracker(make_target(tmp_path)), series) == {0, 1}
    assert means(tracker.where(series)) == [(it.step, it.clip.mean) for it in series.results]


@pytest.mark.thorough
def test_a_server_gets_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The real package brings each number once, late ones too; trainer's variables mislead none."""
    series = with_everything(make_series(tmp_path, [100, 300, 200]))
    with serve(monkeypatch, tmp_path_factory.mktemp("home")) as server:
        monkeypatch.setenv("COMET_EXPERIMENT_KEY", "t" * 32)
        tracker = CometTracker(make_target(tmp_path))
        before = tracker.where(series)
        tracker.publish(series, [0, 1])
        assert tracker.published(series) == {0, 1}
        (key,) = server.experiments
        assert tracker.where(series) == before
        assert before.endswith(f"/team/project/{key}")
        assert bring(CometTracker(make_target(tmp_path)), series) == {0, 1, 2}
        found = server.experiment
        assert sorted(found.points()) == sorted((it.step, it.clip.mean) for it in series.results)
        assert found.project == "project"
        assert set(found.tags) == {"clipwatch", "run"}
        assert found.parameters["protocol"] == series.digest
        assert len(found.images) == 12
        assert not any("notification" in it for it in server.paths)
        assert tracker.hint(series) == ""


@pytest.mark.usefixtures("clean")
def test_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told what to do, at once and in one line; offline none is needed."""
    series = make_series(tmp_path, [100], images=False)
    with pytest.raises(TrackerRefused, match="no API key for Comet") as told:
        CometTracker(make_target(tmp_path)).publish(series, [0])
    with pytest.raises(TrackerRefused, match="no API key for Comet"):
        CometTracker(make_target(tmp_path)).where(series)
    assert "COMET_API_KEY" in str(told.value)
    assert "\n" not in str(told.value)
    monkeypatch.setenv("COMET_START_ONLINE", "0")
    assert CometTracker(make_target(tmp_path)).published(series) == frozenset()


@pytest.mark.usefixtures("offline")
def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told which extra installs it."""
    (tmp_path / "comet_ml.py").write_text("raise ImportError('No module named comet_ml')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    series = make_series(tmp_path, [100], images=False)
    with pytest.raises(TrackerRefused, match=r"pip install 'clipwatch\[comet\]'"):
        CometTracker(make_target(tmp_path)).publish(series, [0])


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("options", "environ", "mode"),
    [
        ({}, {}, "online"),
        ({}, {"COMET_START_ONLINE": "False"}, "offline"),
        ({}, {"COMET_OFFLINE": "1"}, "offline"),
        ({}, {"COMET_MODE": "offline"}, "offline"),
        ({"mode": "online"}, {"COMET_START_ONLINE": "false"}, "online"),
        ({"mode": "offline"}, {}, "offline"),
    ],
)
def test_which_mode_is_taken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    environ: dict[str, str],
    mode: str,
) -> None:
    """The option decides, else what the trainer's environment says."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    target = make_target(tmp_path)
    target.options.update(options)
    assert f", {mode}," in CometTracker(target).destination()
    target.options["mode"] = "sometimes"
    with pytest.raises(TrackerRefused, match="sometimes"):
        CometTracker(target).destination()


def test_the_daemon_does_not_load_comet() -> None:
    """The adapter is loaded without Comet's package; all of that happens in the child."""
    code = "import sys, clipwatch_adapters.comet; sys.exit('comet_ml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
