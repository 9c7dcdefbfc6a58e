"""The MLflow adapter with the real package, against a real server on loopback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image

from clipwatch.kit.errors import TrackerRefused
from clipwatch.statistics import summarize
from clipwatch.testing.series import (
    START,
    make_protocol,
    make_series,
    make_target,
    with_everything,
)
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.mlflow import MlflowTracker
from mlflow_kit import TRAINER, Server, Sessions, attached, clean, isolate, means, target_of
from tracker_kit import bring


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sessions]:
    """Return one child for the jobs of all tests here."""
    own = Sessions(tmp_path_factory.mktemp("sessions"))
    yield own
    own.close()


@pytest.fixture(autouse=True)
def _one_child(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipwatch_adapters.mlflow.run", sessions.run)


@pytest.mark.thorough(but=4)
class TestBeside(TrackerContract):
    """The contract in an experiment in which the trainer's run cannot be told."""

    @pytest.fixture
    def connect(self, mlflow: Server, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = target_of(tmp_path)
        mlflow.experiment(target.project)
        return lambda: MlflowTracker(target)


@pytest.mark.thorough(but=3)
class TestAttached(TrackerContract):
    """The contract in the trainer's own run."""

    @pytest.fixture
    def connect(self, mlflow: Server, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        attached(mlflow, tmp_path)
        return lambda: MlflowTracker(target_of(tmp_path))


def test_a_run_says_it_all(mlflow: Server, tmp_path: Path) -> None:
    """The trainer's run has the numbers at their steps, the protocol, a table, images, advice."""
    before = attached(mlflow, tmp_path)
    series = with_everything(make_series(tmp_path, [100, 300, 200]))
    tracker = MlflowTracker(target_of(tmp_path))
    tracker.publish(series, [0, 1, 2])
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert tracker.where(series).endswith(f"/runs/{run.id}")
    assert tracker.hint(series) == ""
    assert (run.status, run.name, run.points("loss")) == ("RUNNING", before.name, [(1, 0.5)])
    assert run.points("clip/mean") == means(series, 0, 2, 1)
    assert run.latest["clip/mean"] == series.results[1].clip.mean
    groups = {name.partition("/")[0] for name in run.latest} - {"loss"}
    assert groups == {
        *("clip", "clip_category", "clip_count", "clip_delta", "clip_interval"),
        *("scorer_siglip", "scorer_siglip_interval", "scorer_siglip_count"),
        *("scorer_odd_name", "scorer_odd_name_interval", "scorer_odd_name_count"),
    }
    tags = {key: it for key, it in run.tags.items() if key.startswith("clipwatch.")}
    assert tags["clipwatch.protocol"] == series.digest
    assert tags["clipwatch.guidance"] == "5.0"
    assert tags["clipwatch.prompts"] == "4"
    assert tags["clipwatch.advice"].startswith("step 300: regressed: Seen")
    table = run.read("clipwatch/step-00000300/prompts.csv").decode().splitlines()
    assert table[0].startswith("prompt,score 0,")
    assert table[1].startswith("a red cube on a table,0.21,")
    assert b"plateau" in run.read("clipwatch/step-00000300/advice.txt")
    images = [it for it in run.files("images") if "+step+300+" in it]
    assert len(images) == 2 * 4
    whole = Image.open(io.BytesIO(run.read(images[1])))
    assert (whole.format, whole.width) == ("WEBP", 64)
    assert run.tags["mlflow.loggedImages"] == "True"


def test_publishing_again_leaves_every_point_once(mlflow: Server, tmp_path: Path) -> None:
    """What is there is not sent again, and what is sent again changes nothing."""
    series = make_series(tmp_path, [100, 300, 200])
    for _ in range(2):
        MlflowTracker(target_of(tmp_path)).publish(series, [0, 1, 2])
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert run.points("clip/mean") == means(series, 0, 2, 1)
    files = run.files()
    assert len(files) == 3 * (1 + 2 * 4)
    assert (run.name, run.status) == ("run / clipwatch", "FINISHED")
    assert run.told["info"]["start_time"] == START.timestamp() * 1000
    MlflowTracker(target_of(tmp_path)).publish(series, [0, 1, 2])
    assert mlflow.runs(target_of(tmp_path).project)[0].files() == files


@pytest.mark.thorough
def test_a_step_that_is_scored_again(mlflow: Server, tmp_path: Path) -> None:
    """MLflow keeps both points, the newer one is its latest; what comes back is so once more."""
    series = make_series(tmp_path, [100, 200, 200])
    tracker = MlflowTracker(target_of(tmp_path))
    assert bring(tracker, replace(series, results=series.results[:2])) == {0, 1}
    assert bring(tracker, series) == {0, 1, 2}
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert run.points("clip/mean") == means(series, 0, 1, 2)
    assert run.latest["clip/mean"] == series.results[2].clip.mean
    first, second, third = series.results  # the second's weights stand in their place again
    back = replace(series, results=(first, replace(third, seq=1), replace(second, seq=2)))
    assert bring(tracker, back) == {0, 1, 2}
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert run.points("clip/mean") == [*means(series, 0, 1, 2), *means(series, 1)]
    assert run.latest["clip/mean"] == second.clip.mean
    assert bring(tracker, back) == {0, 1, 2}
    assert len(run.points("clip/mean")) == 4


@pytest.mark.thorough
def test_a_replaced_result_is_not_sent_after_the_newer_one(mlflow: Server, tmp_path: Path) -> None:
    """Of a back-fill each step gets one point."""
    series = make_series(tmp_path, [100, 200, 100, 100])
    assert bring(MlflowTracker(target_of(tmp_path)), series) == {0, 1, 2, 3}
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert run.points("clip/mean") == means(series, 3, 1)


@pytest.mark.thorough
def test_another_log_goes_on_in_the_same_run(mlflow: Server, tmp_path: Path) -> None:
    """A point is known by its evaluation: scored again after the log was lost, it counts."""
    series = make_series(tmp_path, [100, 200])
    tracker = MlflowTracker(target_of(tmp_path))
    bring(tracker, series)
    later = [replace(it, finished=it.finished + timedelta(days=1)) for it in series.results]
    fresh = make_series(tmp_path, [100, 200, 300]).results[2]
    anew = replace(series, results=(*later, fresh), scores=lambda _: ())
    assert tracker.published(anew) == {0, 1}
    assert bring(tracker, anew) == {0, 1, 2}
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert run.points("clip/mean") == [*means(series), *means(anew, 2)]


@pytest.mark.thorough
def test_scorers_may_come_later(mlflow: Server, tmp_path: Path) -> None:
    """Their numbers join the points that are there, and until then a result is owed."""
    plain = make_series(tmp_path, [100, 200])
    tracker = MlflowTracker(target_of(tmp_path))
    bring(tracker, plain)
    light = summarize([1.0, 2.0])
    results = [
        replace(it, scores={**it.scores, "light": light}, later={"light": START})
        for it in plain.results
    ]
    series = replace(plain, results=tuple(results))
    assert tracker.published(series) == frozenset()
    assert bring(tracker, series) == {0, 1}
    (run,) = mlflow.runs(target_of(tmp_path).project)
    assert run.points("scorer_light/mean") == [(100, 1.5), (200, 1.5)]
    assert run.points("clip/mean") == means(plain)


def test_another_protocol_stands_below_the_trainers_run(mlflow: Server, tmp_path: Path) -> None:
    """It gets a companion that MLflow's page nests, and the trainer's run keeps to the first."""
    trainers = attached(mlflow, tmp_path)
    first = make_series(tmp_path, [100])
    protocol = make_protocol(seed=1)
    other = make_series(tmp_path, [100, 200], name="clipwatch-other", protocol=protocol)
    tracker = MlflowTracker(target_of(tmp_path))
    assert bring(tracker, first) == {0}
    assert bring(tracker, other) == {0, 1}
    companion, run = mlflow.runs(target_of(tmp_path).project)
    assert run.id == trainers.id
    assert companion.tags["mlflow.parentRunId"] == run.id
    assert companion.name == "run / clipwatch-other"
    assert companion.points("clip/mean") == means(other)
    assert run.points("clip/mean") == means(first)


@pytest.mark.parametrize("case", ["two alike", "another directory", "no evidence", "has scores"])
@pytest.mark.thorough(but=1)
def test_a_run_that_cannot_be_told_is_left_alone(mlflow: Server, tmp_path: Path, case: str) -> None:
    """Two that look alike, one of another training, one without a word, one with a curve of it."""
    target = target_of(tmp_path)
    experiment, output = mlflow.experiment(target.project), str(target.output_dir)
    runs = {
        "two alike": [("", output), ("", output)],
        "another directory": [("run", f"{output}-else")],
        "no evidence": [("", "")],
        "has scores": [("run", "")],
    }[case]
    theirs = [
        mlflow.train(experiment, name, **({"output_dir": it} if it else {})) for name, it in runs
    ]
    if case == "has scores":
        own = {"key": "clip/mean", "value": 0.3, "timestamp": 1, "step": 1}
        mlflow.call("runs/log-metric", run_id=theirs[0], **own)
    before = {it.id: it.told for it in mlflow.runs(target.project)}
    series = make_series(tmp_path, [100, 200], images=False)
    assert bring(MlflowTracker(target), series) == {0, 1}
    after = {it.id: it for it in mlflow.runs(target.project)}
    assert {id_: after[id_].told for id_ in theirs} == before
    (companion,) = (it for id_, it in after.items() if id_ not in theirs)
    assert companion.points("clip/mean") == means(series)
    parent = companion.tags.get("mlflow.parentRunId")
    assert parent == (theirs[0] if case == "has scores" else None)


@pytest.mark.thorough
def test_a_run_is_known_by_its_name_or_by_its_id(
    mlflow: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tracker_run_name tells one, run_id another; a variable that means another is passed over."""
    target = target_of(tmp_path)
    experiment = mlflow.experiment(target.project)
    named, other = mlflow.train(experiment, "run"), mlflow.train(experiment, "else")
    series = make_series(tmp_path, [100], images=False)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert bring(MlflowTracker(target), series) == {0}
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    another = replace(make_series(tmp_path, [200], images=False), run="another")
    assert bring(MlflowTracker(target), another) == {0}
    monkeypatch.delenv("MLFLOW_RUN_ID")
    points = {it.id: it.points("clip/mean") for it in mlflow.runs(target.project)}
    assert points == {named: means(series), other: means(another)}
    wrong = MlflowTracker(replace(target, options={"run_id": "0" * 32}))
    with pytest.raises(TrackerRefused, match=r"there is no run 0000.*correct run_id"):
        wrong.published(replace(series, run="a third"))


def test_a_trainer_that_comes_late_gets_the_curve(mlflow: Server, tmp_path: Path) -> None:
    """The base model is scored before the trainer opens its run: that point moves there."""
    target, series = target_of(tmp_path), make_series(tmp_path, [0, 100, 200])
    assert bring(MlflowTracker(target), replace(series, results=series.results[:1])) == {0}
    (companion,) = mlflow.runs(target.project)
    run = mlflow.train(companion.told["info"]["experiment_id"], output_dir="output")
    tracker = MlflowTracker(target)
    assert tracker.published(series) == frozenset()
    assert bring(tracker, series) == {0, 1, 2}
    (left,) = mlflow.runs(target.project)
    assert left.id == run
    assert left.points("clip/mean") == means(series)
    assert tracker.where(series).endswith(run)


@pytest.mark.thorough
def test_a_curve_that_has_begun_stays(mlflow: Server, tmp_path: Path) -> None:
    """With two steps in a companion it goes on there, below the trainer's run that came later."""
    target, series = target_of(tmp_path), make_series(tmp_path, [0, 100, 200])
    assert bring(MlflowTracker(target), replace(series, results=series.results[:2])) == {0, 1}
    (companion,) = mlflow.runs(target.project)
    run = mlflow.train(companion.told["info"]["experiment_id"], output_dir="output")
    where = MlflowTracker(target).where(series)
    assert bring(MlflowTracker(target), series) == {0, 1, 2}
    assert MlflowTracker(target).where(series) == where
    by_id = {it.id: it for it in mlflow.runs(target.project)}
    assert by_id[run].points("clip/mean") == []
    assert by_id[companion.id].points("clip/mean") == means(series)
    assert by_id[companion.id].tags["mlflow.parentRunId"] == run
    # a restarted trainer is a second run: nothing moves
    mlflow.train(companion.told["info"]["experiment_id"], output_dir="output")
    assert bring(MlflowTracker(target), series) == {0, 1, 2}


@pytest.mark.thorough
def test_what_a_person_deletes_comes_again(mlflow: Server, tmp_path: Path) -> None:
    """A run that is deleted in MLflow's page shows nothing, so the next publication makes one."""
    target, series = target_of(tmp_path), make_series(tmp_path, [100, 200], images=False)
    bring(MlflowTracker(target), series)
    (run,) = mlflow.runs(target.project)
    mlflow.call("runs/delete", run_id=run.id)
    assert MlflowTracker(target).published(series) == frozenset()
    assert bring(MlflowTracker(target), series) == {0, 1}
    (again,) = mlflow.runs(target.project)
    assert again.id != run.id


def test_the_trainers_run_takes_nothing_back(mlflow: Server, tmp_path: Path) -> None:
    """--fresh is refused there, in one line that says why."""
    attached(mlflow, tmp_path)
    series = make_series(tmp_path, [100], images=False)
    tracker = MlflowTracker(target_of(tmp_path))
    tracker.publish(series, [0])
    with pytest.raises(TrackerRefused, match=r"stand in the trainer's run .*another experiment"):
        tracker.clear(series)
    assert tracker.published(series) == {0}


@pytest.mark.thorough
def test_accelerates_own_run_is_found_and_kept(
    mlflow: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that logs while we do: both curves are whole, and its run ends as it would."""
    target = replace(make_target(tmp_path, project="diffusers"), run_name="")
    environ = clean(os.environ) | {"MLFLOW_TRACKING_URI": mlflow.url, "OMP_NUM_THREADS": "1"}
    series = make_series(tmp_path, [1, 2, 3])
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER, "diffusers", "output", "3", "wait"],
        cwd=tmp_path,
        env=environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as trainer:
        assert trainer.stdin
        assert trainer.stdout
        for seq in range(3):
            until_step = str(seq + 1)
            while trainer.stdout.readline().strip() != until_step:
                assert trainer.poll() is None
            grown = replace(series, results=series.results[: seq + 1])
            assert bring(MlflowTracker(target), grown) == set(range(seq + 1))
            trainer.stdin.write("\n")
            trainer.stdin.flush()
        assert trainer.wait() == 0
    (run,) = mlflow.runs("diffusers")
    assert run.status == "FINISHED"
    assert run.points("train_loss") == [(1, 1.0), (2, 0.5), (3, 0.3333)]
    assert run.points("clip/mean") == means(series)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "diffusers")  # which goes before the project
    elsewhere = replace(target, project="another")
    assert MlflowTracker(elsewhere).published(series) == {0, 1, 2}


def test_the_package_is_imported_by_sessions_alone() -> None:
    """The daemon stays as small as it is."""
    code = "import sys, clipwatch_adapters.mlflow; print('mlflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


class TestDatabase:
    """MLflow without a server: what it keeps in the trainer's working directory."""

    @pytest.fixture(autouse=True)
    def _alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()  # a child for each job, as it is
        isolate(monkeypatch)

    def test_all_goes_there(self, tmp_path: Path) -> None:
        """Into mlflow.db, and the files below mlruns, as MLflow itself would; read by no server."""
        series = make_series(tmp_path, [100, 200])
        tracker = MlflowTracker(make_target(tmp_path))
        database = f"sqlite:///{tmp_path}/mlflow.db"
        assert tracker.destination() == f"{database}, project, beside run, form 2"
        assert tracker.published(series) == frozenset()
        assert not (tmp_path / "mlflow.db").exists()
        tracker.publish(series, [0, 1])
        assert tracker.published(series) == {0, 1}
        assert tracker.where(series) == f"{database}, experiment project, run run / clipwatch"
        assert tracker.hint(series) == f"mlflow ui --backend-store-uri {database}"
        os.umask(mask := os.umask(0))  # the trainer, who may be another, writes there too
        assert (tmp_path / "mlflow.db").stat().st_mode & 0o777 == 0o644 & ~mask
        files = [it.name for it in (tmp_path / "mlruns").rglob("*") if it.is_file()]
        assert len(files) == 2 * (1 + 2 * 4)

    def test_options_go_before_the_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Relative places are the trainer's; a password is in no text."""
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
        tracker = MlflowTracker(make_target(tmp_path))
        assert tracker.destination().startswith("http://(hidden)@127.0.0.1:9, project")
        options = {"tracking_uri": "sqlite:///other.db", "experiment": "mine", "run_id": "7"}
        own = MlflowTracker(replace(make_target(tmp_path), options=options))
        assert own.destination() == f"sqlite:///{tmp_path}/other.db, mine, beside 7, form 2"

    def test_a_folder_of_an_old_mlflow_is_told(self, tmp_path: Path) -> None:
        """MLflow 3 goes to an existing ./mlruns, and refuses to write there: said in one line."""
        (tmp_path / "mlruns" / "0").mkdir(parents=True)
        (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("name: Default\n")
        with pytest.raises(TrackerRefused, match="MLFLOW_ALLOW_FILE_STORE") as told:
            MlflowTracker(make_target(tmp_path)).published(make_series(tmp_path, [100]))
        assert "\n" not in str(told.value)
