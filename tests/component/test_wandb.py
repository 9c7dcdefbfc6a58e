"""The W&B adapter with the real package, against a server on loopback."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipwatch.kit.errors import TrackerRefused
from clipwatch.results.series import ImageScore, Series
from clipwatch.testing.series import make_protocol, make_series, make_target
from clipwatch.testing.trackers import Connect, TrackerContract
from clipwatch_adapters.wandb import WandbTracker
from clipwatch_adapters.wandb.companion import Companion
from fake_wandb import KEY, FakeWandb
from tracker_kit import bring
from wandb_world import train


def snapshot(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.thorough
class TestOnline(TrackerContract):
    """The contract against a server."""

    @pytest.fixture(autouse=True)
    def _server(self, server: FakeWandb) -> None:
        self.server = server

    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        """See TrackerContract."""
        target = make_target(tmp_path)
        return lambda: WandbTracker(target)

    def test_publishing_again_is_harmless(self, connect: Connect, tmp_path: Path) -> None:
        """What the server shows is not sent again, and the run is not even touched."""
        series = make_series(tmp_path, [100, 200])
        connect().publish(series, [0, 1])
        self.server.requests.clear()
        connect().publish(series, [0, 1])
        assert self.server.run.points == [(100, 100), (200, 200)]
        assert not {"UpsertBucket", "history", "file_stream"} & set(self.server.requests)


def test_a_row_says_it_all(server: FakeWandb, tmp_path: Path) -> None:
    """A row has the numbers, what they are of, captioned images and a table; late steps stay."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = WandbTracker(make_target(tmp_path))
    tracker.publish(series, [0, 1, 2])
    run = server.run
    assert run.points == [(100, 100), (300, 300), (301, 200)]
    assert (run.name, run.group, run.job_type) == ("run / clipwatch", "run", "eval")
    assert run.id.startswith("cw-")
    assert tracker.where(series) == f"{server.url}/team/project/runs/{run.id}"
    assert tracker.hint(series) == ""
    row, result = run.rows[1], series.results[1]
    shown = [row[f"clip/{name}"] for name in ("mean", "min", "max", "std")]
    clip = result.clip
    assert shown == [clip.mean, clip.min, clip.max, clip.std]
    assert row["clip_count/images"] == 4
    assert row["clipwatch/checkpoint"] == "checkpoint-300"
    assert row["clipwatch/evaluation"] == result.evaluation
    assert row["clipwatch/samples"]["captions"][0] == (
        "step 300, score 0.2100: a red cube on a table"
    )
    assert sum(row["clipwatch/histogram"]["values"]) == 4
    assert row["clipwatch/histogram"]["bins"][0] == 0.21
    assert run.files.keys() >= set(row["clipwatch/samples"]["filenames"])
    table = json.loads(run.files[row["clipwatch/scores"]["path"]])
    assert table["columns"] == ["prompt id", "category", "prompt", "score 0"]
    assert table["data"][0] == ["red-cube", "objects", "a red cube on a table", 0.21]
    pictures = row["clipwatch/pictures"]
    assert (pictures["nrows"], pictures["ncols"]) == (4, 6)
    assert run.config["protocol"]["value"] == series.protocol.digest
    assert run.config["prompts"]["value"] == 4
    metrics = run.config["_wandb"]["value"]["m"]  # "1" is a name, "5" the place of its x axis
    axes = {metric["1"]: metrics[metric["5"] - 1]["1"] for metric in metrics if "5" in metric}
    ours = {key for key in row if key.startswith("clip")} - {"clipwatch/step"}
    assert axes == dict.fromkeys(ours, "clipwatch/step")
    assert len(axes) == 5 + 6


def restarted(series: Series, names: Sequence[str], steps: Sequence[int]) -> Series:
    """Return a series as another log has it: its evaluations by name, in another order."""
    by_name = {result.evaluation: result for result in series.results}
    results = [
        replace(by_name.get(name, series.results[0]), seq=seq, step=step, evaluation=name)
        for seq, (name, step) in enumerate(zip(names, steps, strict=True))
    ]

    def scores(name: str) -> tuple[ImageScore, ...]:
        return series.scores(name if name in by_name else series.results[0].evaluation)

    return replace(series, results=tuple(results), scores=scores)


@pytest.mark.thorough
def test_another_log_doubles_and_hides_nothing(server: FakeWandb, tmp_path: Path) -> None:
    """One begun anew, or restored from a backup: rows are known by their evaluations."""
    series = make_series(tmp_path, [100, 200, 300])
    target = make_target(tmp_path)
    WandbTracker(target).publish(series, [0, 1, 2])
    # begun anew: the newest first, one that was rewritten since, and what was there before
    anew = restarted(series, ["clipwatch-2", "rewritten", "clipwatch-0"], [300, 200, 100])
    tracker = WandbTracker(target)
    assert tracker.published(anew) == {0, 2}
    assert bring(tracker, anew) == {0, 1, 2}
    # of yesterday: it knows the first alone, and what comes now lies before what the run has
    restored = restarted(series, ["clipwatch-0", "between"], [100, 150])
    assert bring(WandbTracker(target), restored) == {0, 1}
    points = [(100, 100), (200, 200), (300, 300), (301, 200), (302, 150)]
    assert server.run.points == points
    names = [row["clipwatch/evaluation"] for row in server.run.rows]
    assert names == ["clipwatch-0", "clipwatch-1", "clipwatch-2", "rewritten", "between"]
    assert bring(WandbTracker(target), series) == {0, 1, 2}  # and the old log, if it is found
    assert server.run.points == points


@pytest.mark.thorough
def test_an_older_log_leaves_what_a_newer_one_summed_up(server: FakeWandb, tmp_path: Path) -> None:
    """Restored from a backup, it does not know the best and the last, which stand."""
    series = make_series(tmp_path, [100, 200, 300], images=False)
    target = make_target(tmp_path)
    WandbTracker(target).publish(series, [0, 1, 2])
    before = {**server.run.summary}
    assert before["clip_last/step"] == 300
    restored = restarted(series, ["clipwatch-0", "between"], [100, 150])
    assert bring(WandbTracker(target), restored) == {0, 1}
    after = server.run.summary
    assert len(server.run.points) == 4
    assert after["clip_last/step"] == 300
    assert after["clip/mean"] == before["clip/mean"]
    assert after["clip_best/mean"] >= before["clip_best/mean"]


def test_anothers_row_in_our_run_is_passed_over(server: FakeWandb, tmp_path: Path) -> None:
    """Though it is the newest, what is ours is known, and comes behind it."""
    series, target = make_series(tmp_path, [100, 200], images=False), make_target(tmp_path)
    WandbTracker(target).publish(series, [0])
    server.run.lines[1] = {"_step": 500, "loss": 0.5}
    tracker = WandbTracker(target)
    assert tracker.published(series) == {0}
    assert bring(tracker, series) == {0, 1}
    assert [row["_step"] for row in server.run.rows] == [100, 500, 501]


def test_a_protocol_is_a_run_whatever_the_log_calls_it(server: FakeWandb, tmp_path: Path) -> None:
    """A log with other prompts never writes into the run of the one before."""
    series = make_series(tmp_path, [100])
    other = make_series(tmp_path, [100], protocol=make_protocol(seed=1))
    companion = Companion(make_target(tmp_path))
    ids = {companion.identity(series), companion.identity(other)}
    assert len(ids) == 2
    assert companion.identity(replace(series, name="clipwatch-later")) in ids
    moved = replace(make_target(tmp_path), output_dir=tmp_path / "moved")
    assert Companion(moved).identity(series) in ids
    assert companion.identity(replace(series, run="begun-where-that-one-was")) not in ids
    assert not server.runs


def test_a_run_that_an_earlier_version_began_goes_on(server: FakeWandb, tmp_path: Path) -> None:
    """Its id was made otherwise; the address that the log knows tells."""
    series, target = make_series(tmp_path, [100]), make_target(tmp_path)
    facts = (server.url, "", "project", "run", str(target.output_dir), "clipwatch", "2")
    text = "\0".join((*facts, series.results[0].evaluation))
    earlier = "cw-" + hashlib.sha256(text.encode()).hexdigest()[:16]
    known = replace(target, places={"clipwatch": f"{server.url}/team/project/runs/{earlier}"})
    assert Companion(known).identity(series) == earlier
    assert Companion(target).identity(series) != earlier


def test_the_destination_is_all_that_decides_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server, entity, project, mode or trainer's run is another one; a key is not."""
    for name in ("BASE_URL", "ENTITY", "MODE", "API_KEY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    target = make_target(tmp_path)

    def told(**changes: Any) -> str:
        return WandbTracker(replace(target, **changes)).destination()

    usual = told()
    others = {
        told(options={"base_url": "https://wandb.example.org"}),
        told(options={"entity": "others"}),
        told(options={"mode": "offline"}),
        told(project="another"),
        told(run_name="another"),
    }
    assert len({usual, *others}) == 6
    assert told(options={"api_key": KEY}) == usual
    login = told(options={"base_url": "https://me:s3cret@wandb.example.org/"})
    assert "s3cret" not in login
    monkeypatch.setenv("WANDB_ENTITY", "others")
    assert told() in others
    monkeypatch.setenv("WANDB_MODE", "of course")
    with pytest.raises(TrackerRefused, match="WANDB_MODE"):
        told()


@pytest.mark.thorough
def test_the_trainer_is_found_and_left_alone(server: FakeWandb, tmp_path: Path) -> None:
    """The group is the trainer's run id, for good, and its files stay as they are."""
    train(tmp_path, "project")
    before = snapshot(tmp_path / "wandb")
    series = make_series(tmp_path, [100, 200])
    target = make_target(tmp_path)
    WandbTracker(target).publish(series, [0])
    assert snapshot(tmp_path / "wandb") == before
    assert server.run.group == "trainer-project"
    assert server.run.config["trainer_run"]["value"] == "trainer-project"
    train(tmp_path, "other")
    WandbTracker(target).publish(series, [1])
    assert server.run.points == [(100, 100), (200, 200)]
    assert server.requests.count("RunResumeStatus") == 2


@pytest.mark.thorough
def test_the_trainers_run_is_linked(server: FakeWandb, tmp_path: Path) -> None:
    """Once the server has the trainer's run, its address is in our run's config."""
    train(tmp_path, "project")
    (offline,) = (tmp_path / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "sync", str(offline)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    WandbTracker(make_target(tmp_path)).publish(make_series(tmp_path, [100]), [0])
    (run,) = (run for run in server.runs.values() if run.id.startswith("cw-"))
    address = f"{server.url}/team/project/runs/trainer-project"
    assert run.config["trainer_run"]["value"] == address


def test_without_a_key_it_says_what_to_do(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key is a refusal at once; one in the netrc file, where `wandb login` puts it, will do."""
    monkeypatch.delenv("WANDB_API_KEY")
    tracker = WandbTracker(make_target(tmp_path))
    with pytest.raises(TrackerRefused, match=r"wandb login.*WANDB_MODE=offline"):
        tracker.published(make_series(tmp_path, [100]))
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {server.url.partition('//')[2]} login user password {KEY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert tracker.published(make_series(tmp_path, [100])) == frozenset()


def test_a_missing_package_is_named(
    server: FakeWandb,  # noqa: ARG001 - would be asked
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without W&B's package the user is told how to get it."""
    (tmp_path / "wandb.py").write_text("raise ImportError('No module named wandb')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(TrackerRefused, match="pip install wandb"):
        WandbTracker(make_target(tmp_path)).published(make_series(tmp_path, [100]))


@pytest.mark.thorough
def test_a_hostile_environment_changes_nothing(
    server: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a trainer leaves in the environment does not turn rows into its own run."""
    for name, value in {
        "WANDB_MODE": "disabled",
        "WANDB_DISABLED": "true",
        "WANDB_RUN_ID": "trainer",
        "WANDB_RESUME": "must",
        "WANDB_NAME": "trainer",
        "WANDB_RUN_GROUP": "trainer",
        "WANDB_PROJECT": "trainer",
        "WANDB_DIR": str(tmp_path / "trainer"),
        "WANDB_SERVICE": "3-1-unix-/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    series = make_series(tmp_path, [100])
    with pytest.raises(TrackerRefused, match="disabled"):
        WandbTracker(make_target(tmp_path)).publish(series, [0])
    assert WandbTracker(make_target(tmp_path)).hint(series) == ""
    WandbTracker(replace(make_target(tmp_path), options={"mode": "online"})).publish(series, [0])
    run = server.run
    assert (run.project, run.group, run.points) == ("project", "run", [(100, 100)])
    assert not (tmp_path / "trainer").exists()
