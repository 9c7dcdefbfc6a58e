"""Held-out losses of `clipwatch score`, with tiny models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clipwatch.cli import main
from clipwatch.domain.losses import THIRDS
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Measured, Reply
from clipwatch.settings import Settings
from clipwatch.testing.scripted import ScriptedEvaluator, usual
from loss_kit import plan, rows
from real_world import clipwatch, guarded
from world import checkpoint

PLAN = plan(6)
HELD, TRAINED = rows(0.7, 1, 6), rows(0.5, 2, 6)


def pictures(folder: Path, hue: int, count: int = 6) -> Path:
    """Write images with captions."""
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (40, 32), (hue, 40 * number, 90)).save(folder / f"{hue}-{number}.png")
        (folder / f"{hue}-{number}.txt").write_text(f"picture {number}")
    return folder


@pytest.mark.thorough
def test_a_checkpoint_has_its_loss(project: Path, base: Path) -> None:
    """Of the images that the flag names, and of those of the training that the settings name."""
    folder = guarded(project / "output", base, 10)
    pictures(project / "held", 200)
    pictures(project / "trained", 20)
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"] |= {"train_sample": "trained"}
    (project / "config.json").write_text(json.dumps(config))
    said = clipwatch("score", folder, "--holdout", "held", "--json", cwd=project)
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    losses = told["losses"]
    assert (losses["n_images"], told["clip"]["n"]) == (6, 8)
    assert losses["ci"][0] < losses["heldout"] < losses["ci"][1]
    thirds = [losses[f"heldout_{it}_noise"] for it in THIRDS]
    assert losses["heldout"] == pytest.approx(sum(thirds) / 3)
    assert len({*thirds, losses["trained"]}) == 4


# --- with a scripted evaluator -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a config, held-out images and a checkpoint, whose losses are known."""

    def script(request: Evaluate) -> list[Reply]:
        first, *others = usual(request)
        if request.losses is None:
            return [first, *others]
        if len(request.losses.held) == 1:
            return [first, Measured(problem="FooPipeline has no held-out loss here"), *others]
        held, trained = (len(it) for it in (request.losses.held, request.losses.trained))
        known = replace(PLAN, held=PLAN.held[:held], trained=PLAN.trained[:trained])
        return [first, Measured(known, HELD[:held], TRAINED[:trained], 1.0), *others]

    def scripted(settings: Settings) -> LocalExecutor:
        return LocalExecutor(settings, lambda receive: ScriptedEvaluator(receive, script))

    monkeypatch.setattr("clipwatch.executors.named.LocalExecutor", scripted)
    (tmp_path / "base").mkdir()
    pictures(tmp_path / "held", 200)
    own = {"evaluation_type": "clip", "device": "cpu", "give_way": False}
    places = {"output_dir": "o", "pretrained_model_name_or_path": "./base"}
    config = {**places, "validation_prompt": "a hut", "clipwatch": own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint(tmp_path / "o", 7)
    return tmp_path


def score(folder: Path, *words: str) -> Result:
    where = (str(folder / "o/checkpoint-7"), "--config", str(folder / "config.json"))
    return CliRunner().invoke(main, ["score", *where, *words])


def test_the_numbers_are_those_of_the_evaluator(folder: Path) -> None:
    """Means by thirds, the gap, and the interval of the held-out one, whose ends are in order."""
    config = json.loads((folder / "config.json").read_text())
    config["clipwatch"] |= {"train_sample": str(pictures(folder / "trained", 20))}
    (folder / "config.json").write_text(json.dumps(config))
    held = str(folder / "held")
    losses = json.loads(score(folder, "--holdout", held, "--json").stdout)["losses"]
    assert losses["heldout"] == pytest.approx(sum(map(sum, HELD)) / 36)
    assert losses["gap"] == pytest.approx(losses["heldout"] - losses["trained"])
    low, high = losses["ci"]
    assert low < losses["heldout"] < high
    assert losses["measured_on"] == PLAN.digest
    line = score(folder, "--holdout", held).stdout.splitlines()[-1]
    thirds = "  ".join(f"{it} noise {losses[f'heldout_{it}_noise']:.4f}" for it in THIRDS)
    assert line == (
        f"held-out loss {losses['heldout']:.4f} ± {(high - low) / 2:.4f}  {thirds}  on the "
        f"training's {losses['trained']:.4f}  gap {losses['gap']:+.4f}  (6 images)"
    )


def test_nobody_asked(folder: Path) -> None:
    """So there is none, in the JSON as in the text."""
    assert "losses" not in json.loads(score(folder, "--json").stdout)
    assert "loss" not in score(folder).stdout


def test_why_there_is_none_is_told(folder: Path) -> None:
    """The scores are there all the same, and it ends with 0."""
    one = str(pictures(folder / "one", 90, 1))
    said = score(folder, "--holdout", one)
    assert said.exit_code == 0
    assert said.stdout.splitlines()[-1] == "no held-out loss: FooPipeline has no held-out loss here"
    found = json.loads(score(folder, "--holdout", one, "--json").stdout)
    assert found["losses"] == {"problem": "FooPipeline has no held-out loss here"}
    assert found["clip"]["n"] > 0


def test_parts_keep_no_loss(folder: Path) -> None:
    """The flag is refused beside --save; the settings' images are passed over."""
    said = score(folder, "--holdout", str(folder / "held"), "--save", "parts")
    assert said.exit_code == 2
    assert "--holdout cannot be had with --save: parts keep no losses" in said.stderr
