"""A scorer of a third party: no dual encoder, no model files, a scale of its own."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from clipwatch.demo import models
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from real_world import clipwatch, guarded, points, scored_images, status

MODULE = """
from clipwatch.models.kinds import ScorerKind
from clipwatch.statistics.scale import Scale


class Brightness:
    commit = told = ""

    def __init__(self, spec, device, store, digest):
        self.most = float(dict(spec.options).get("most", "10"))

    def prepare(self, prompts):
        return 0

    def score(self, images, prompts):
        return [self.most * float(it.float().mean()) / 255 for it in images]


def scale(spec, told):
    return Scale(0.0, 10.0, tie=1e-6, worth=0.5, digits=2, poor=0.1, saturated=9.9)


KIND = ScorerKind("brightness:Brightness", scale)
"""


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as an installer leaves it: a module, and the name of its entry point."""
    site = tmp_path_factory.mktemp("site")
    (site / "brightness.py").write_text(textwrap.dedent(MODULE))
    about = site / "brightness-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[clipwatch.scorers]\nbrightness = brightness:KIND\n")
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return site


def brightness(path: Path) -> float:
    """Return what the scorer has to say of a picture, found in another way."""
    with Image.open(path) as picture:
        means = ImageStat.Stat(picture).mean
    return 10 * sum(means) / len(means) / 255


@pytest.mark.thorough
@pytest.mark.usefixtures("installed")
def test_a_scorer_of_a_third_party_decides(project: Path, base: Path) -> None:
    """Its numbers, far from cosines, come unchanged to log, tracker and tables; CLIP is beside."""
    config = json.loads((project / "config.json").read_text())
    config["--pretrained_evaluation_model_name_or_path"] = "brightness:"
    further = {"clip": str(models.CLIP), "half": "brightness:?most=5"}
    config["clipwatch"] |= {"scorers": further, "baseline": True, "report_to": "tensorboard"}
    (project / "config.json").write_text(json.dumps(config))
    for step in (100, 200):
        guarded(project / "output", base, step)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert [it["state"] for it in status(project)] == ["published"] * 3

    images = scored_images(project)
    folder = project / "state" / "images"
    (run,) = read_state(log_file(project / "state")).values()
    assert images
    for image in images:
        expected = brightness(folder / run.name / str(image.image))
        assert image.score == pytest.approx(expected, abs=1e-4)
        assert image.scores["half"] == pytest.approx(expected / 2, abs=1e-4)
        assert -1 <= image.scores["clip"] <= 1
    assert max(image.score for image in images) > 1  # no cosine
    (protocol,) = run.protocols.values()
    assert [str(it) for it in protocol.scorers[::2]] == ["brightness", "brightness"]
    assert "scorer" not in {it.part for it in protocol.inputs}  # it loads no files

    curves = project / "output/logs/shapes/clipwatch"
    means = dict(points(curves, "clip/mean"))
    own = {it.step: it.clip.mean for it in run.evaluations.values() if it.clip}
    assert means == pytest.approx(own, rel=1e-6)
    halves = dict(points(curves, "scorer_half/mean"))
    assert halves == pytest.approx({step: mean / 2 for step, mean in own.items()}, rel=1e-5)

    state = ("--state-dir", "state")
    assert f"{own[200]:.2f}  " in clipwatch("status", *state, cwd=project).stdout
    told = clipwatch("compare", "@100", "@200", "--json", *state, cwd=project)
    found = json.loads(told.stdout)
    assert found["delta"] == pytest.approx(own[200] - own[100], abs=1e-9)
    assert found["ci"] == [-10, 10]  # too few prompts: all that the scale allows
    best = json.loads(clipwatch("best", "--json", *state, cwd=project).stdout)
    assert best["best"]["mean"] == pytest.approx(max(own[100], own[200]), abs=1e-9)


def test_a_kind_of_scorers_that_is_not_installed(project: Path) -> None:
    """It is refused at the start, with its name, the key and the kinds that are here."""
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"]["scorers"] = {"light": "brightness:"}
    (project / "config.json").write_text(json.dumps(config))
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 2
    assert "'brightness'" in ended.stderr
    assert "scorers.light" in ended.stderr
    assert "dual_encoder" in ended.stderr
