"""A layout from another package, with real models: files in one folder, counted in epochs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from adapter_kit import unet_lora, written
from package_kit import write_package
from real_world import clipwatch, digests, points, status


@pytest.mark.timeout(400)
@pytest.mark.thorough
def test_a_layout_of_another_package_is_scored_to_the_end(
    project: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRAs in kohya's names become points at their epochs, and `score` gives the same number."""
    site = write_package(tmp_path / "site")
    ours = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), ours))))
    output = project / "output"
    for epoch in (3, 6):
        path = output / f"mine-{epoch:06}.safetensors"
        written("comfyui sdxl", path, *unet_lora(base, seed=epoch))
    before = digests(output)

    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert "mine-000006.safetensors: saved by the trainer (LoRA, epoch 6)" in ended.stderr
    rows = {row["step"]: row for row in status(project)}
    assert {step: (row["unit"], row["state"]) for step, row in rows.items()} == {
        3: ("epoch", "published"),
        6: ("epoch", "published"),
    }
    means = {step: row["clip"]["mean"] for step, row in rows.items()}
    assert means[3] != pytest.approx(means[6], abs=1e-4)
    curve = dict(points(output / "logs/shapes/clipwatch", "clip/mean"))
    assert curve == pytest.approx(means, abs=1e-6)
    assert {path: seen for path, seen in digests(output).items() if path in before} == before

    ended = clipwatch("score", output / "mine-000003.safetensors", "--json", cwd=project)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["step"], told["unit"]) == (3, "epoch")
    assert told["clip"]["mean"] == pytest.approx(means[3], abs=1e-4)

    ended = clipwatch("doctor", cwd=project)
    assert "2 checkpoints, newest mine-000006.safetensors readable" in ended.stdout
