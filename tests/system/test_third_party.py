"""Somebody else's package with a tracker, a layout and a scorer: installed, tested, run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from adapter_kit import unet_lora, written
from places import DATA, python_path
from real_world import clipwatch, environment, scored_images, status


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package's source, built and installed beside it in `site`; no network is asked."""
    folder = tmp_path_factory.mktemp("third") / "flatrun"
    shutil.copytree(DATA / "third_party", folder)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    where = ["--no-build-isolation", "--target", str(folder / "site"), str(folder)]
    built = subprocess.run([*pip, *where], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def beside(package: Path) -> dict[str, str]:
    """Return an environment in which the package is installed beside clipwatch."""
    path = os.pathsep.join([str(package / "site"), python_path()])
    return {**environment(), "PYTHONPATH": path}


def test_it_passes_the_contracts_that_clipwatch_ships(package: Path) -> None:
    """Its own tests inherit from clipwatch.testing, and need nothing of this tree's tests."""
    clean = re.sub(r"[^:]*/tests/support:?", "", beside(package)["PYTHONPATH"])
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "contracts.py"],
        cwd=package,
        env={**beside(package), "PYTHONPATH": clean},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    found = re.search(r"(\d+) passed", ended.stdout)
    assert found
    assert int(found[1]) >= 28


def test_clipwatch_runs_with_it_to_the_end(
    package: Path, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of a flat folder are found, generated from, scored by two, and published by epoch."""
    monkeypatch.setenv("PYTHONPATH", beside(package)["PYTHONPATH"])
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"] |= {"report_to": "flat", "scorers": {"light": "brightness:"}}
    (project / "config.json").write_text(json.dumps(config))
    for epoch in (1, 2):
        file = project / "output" / f"lora-epoch-{epoch}.safetensors"
        written("diffusers", file, *unet_lora(base, epoch))
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert [(it["step"], it["name"], it["state"]) for it in status(project)] == [
        (epoch, f"lora-epoch-{epoch}.safetensors", "published") for epoch in (1, 2)
    ]
    means = {it["step"]: it["clip"]["mean"] for it in status(project)}
    assert means[1] != means[2]
    [file] = (project / "state" / "flat").rglob("*.csv")
    with file.open(newline="") as lines:
        rows = {int(row["step"]): float(row["mean"]) for row in csv.DictReader(lines)}
    assert rows == pytest.approx(means, abs=1e-6)
    told = clipwatch("log", "--json", "--state-dir", "state", cwd=project).stdout.splitlines()
    found = [it["data"] for it in map(json.loads, told) if it["type"] == "CheckpointCompleted"]
    assert {(it["step"], it["unit"]) for it in found} == {(1, "epoch"), (2, "epoch")}
    [run] = (project / "state" / "images").iterdir()
    for image in scored_images(project):
        with Image.open(run / str(image.image)) as picture:
            light = sum(ImageStat.Stat(picture).mean) / 3 / 255
        assert image.scores["light"] == pytest.approx(10 * light, abs=1e-4)
