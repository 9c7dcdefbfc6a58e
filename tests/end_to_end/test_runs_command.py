"""`clipwatch start --runs` over real trainings: one daemon, real evaluators."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from clipwatch.demo import models
from real_world import PROMPTS, clipwatch, daemon, guarded, until


def training(root: Path, base: Path, name: str, *steps: int) -> Path:
    """Write a training below a folder; return its own."""
    folder = root / "trainings" / name
    folder.mkdir(parents=True)
    for step in steps:
        guarded(folder / "output", base, step)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS[:2]))
    own = {
        "prompts": "prompts.txt",
        "device": "cpu",
        "batch_size": 2,
        "baseline": False,
        "state_dir": str(root / "state"),
        "rescan_seconds": 0.5,
    }
    config = {
        "output_dir": "output",
        "evaluation_type": "clip",
        "pretrained_model_name_or_path": str(base),
        "pretrained_evaluation_model_name_or_path": str(models.CLIP),
        "validation_resolution": "32x32",
        "validation_num_inference_steps": 2,
        "clipwatch": own,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def rows(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Return training → name and state of each checkpoint, as `status` tells them."""
    ended = clipwatch("status", "--json", "--state-dir", "state", cwd=root)
    runs: list[dict[str, Any]] = json.loads(ended.stdout)["runs"] if ended.returncode == 0 else []
    return {
        Path(it["output_dir"]).parent.name: [
            (row["name"], row["state"]) for row in it["checkpoints"]
        ]
        for it in runs
    }


@pytest.mark.thorough
@pytest.mark.timeout(900)  # some imports of torch, on a machine that may be busy
def test_runs_are_scored_by_one_daemon_and_a_later_one_is_picked_up(
    tmp_path: Path, base: Path
) -> None:
    """Once: both are scored, a broken one is told with file and key. Then one more comes."""
    for name in ("a", "b"):
        training(tmp_path, base, name, 10)
    broken = training(tmp_path, base, "c")
    text = (broken / "config.json").read_text()
    (broken / "config.json").write_text(text.replace('"device"', '"devise"'))
    ended = clipwatch("start", "--runs", "trainings", "--once", cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert f"not watched: {broken}/config.json:1: devise: is not a setting" in ended.stderr
    assert rows(tmp_path) == {it: [("checkpoint-10", "scored")] for it in ("a", "b")}

    shutil.rmtree(broken)
    with daemon(tmp_path, "--runs", "trainings") as process:
        until(lambda: (tmp_path / "said").read_text().count(": watching ") == 2)
        training(tmp_path, base, "later", 20)
        until(lambda: rows(tmp_path).get("later") == [("checkpoint-20", "scored")], 400)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("output", "--runs", "."), "PATH names one run, and --config or --runs name several"),
        (("--output-dir", "x", "-c", "a.json", "-c", "b.json"), "--output-dir names one run"),
        (("--runs", ".", "-c", "a.json"), "--runs finds the configs, and --config names them"),
        (("--runs", "none"), "there is no folder"),
        (("--runs", ".", "--once"), "asks for CLIP scores"),
        (("-c", "a.json", "-c", "b.json"), "a.json"),
    ],
)
def test_calls_that_cannot_be_meant_end_with_two(
    tmp_path: Path, call: tuple[str, ...], told: str
) -> None:
    """One line says what is wrong; nothing is started."""
    ended = clipwatch("start", *call, cwd=tmp_path)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "state").exists()
