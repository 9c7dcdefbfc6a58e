"""A training that pushes its checkpoints away, and `clipwatch start` beside nobody."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fast_world import Training
from hub_kit import Hub
from hub_kit import serve as serve_hub
from offline_kit import configure
from real_world import clipwatch, daemon, guarded, status, until
from s3_kit import SECRET, serve
from world import checkpoint


def copies(state: Path) -> list[str]:
    """Return the files of all copies, and of what is in the making; of the lists none."""
    return [str(it) for it in (state / "copies").rglob("*") if it.parent.name != "copies"]


@pytest.mark.thorough
@pytest.mark.timeout(900)  # it loads torch, on whatever machine
def test_a_bucket_is_watched_as_a_folder_is(project: Path, base: Path, tmp_path: Path) -> None:
    """Each checkpoint is scored as it is pushed, and the bucket may rotate."""
    trained = tmp_path / "trained"
    with serve() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        address = s3.push(guarded(trained, base, 100).parent, "run")
        configure(project, output_dir=address, report_to="tensorboard")
        with daemon(project):
            until(lambda: _states(project) == {100: "published"}, 400)
            s3.push(guarded(trained, base, 200), "run/checkpoint-200")
            s3.delete("run/checkpoint-100")
            until(lambda: _states(project) == dict.fromkeys((100, 200), "published"), 400)
            until(lambda: copies(project / "state") == [])
        said = (project / "said").read_text()
        assert f"watching {address} as run run-" in said
        told = clipwatch("status", "--state-dir", "state", cwd=project).stdout
        assert address in told
        assert SECRET not in said + told


def _states(project: Path) -> dict[int, str]:
    if not (project / "state/clipwatch.db").exists():
        return {}
    return {it["step"]: it["state"] for it in status(project)}


def away(training: Training, address: str) -> None:
    """Have a training's checkpoints lie at an address, and its results in tables alone."""
    path = training.folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "output_dir": address, "report_to": "none"}))


@pytest.mark.thorough
def test_a_kill_amid_a_copy_costs_the_copy(tmp_path: Path) -> None:
    """Half a file is in nobody's way: the next start deletes it and copies it again."""
    training = Training(tmp_path / "run", own={"rescan_seconds": 0.3})
    repository = tmp_path / "repository"
    for step in (10, 20):
        checkpoint(repository, step, step / 100)
    weights = "checkpoint-20/pytorch_lora_weights.safetensors"
    away(training, "hf://org/run")
    with serve_hub(Hub({"org/run": {"main": repository}}, held={weights})) as hub:
        cache = str(tmp_path / "cache")
        training.environment.update({"HF_ENDPOINT": hub.url, "HF_HOME": cache})
        killed = training.start("live")
        try:
            until(lambda: any(path.endswith(weights) for path in copies(training.state)))
        finally:
            killed.kill()
            killed.join()
            hub.gate.set()
        assert [it for it in os.listdir(training.state / "copies") if it.endswith(".part")]
        training.finish()
    assert {step: row[1] for step, row in training.results().items()} == {
        10: "scored",
        20: "scored",
    }
    assert copies(training.state) == []
