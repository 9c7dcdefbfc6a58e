"""Pictures of checkpoints beside those that SimpleTuner itself made of them while it trained."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import evaluator_kit as kit
from clipwatch.demo.models import CLIP
from clipwatch.domain.sighting import Whole
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.images import image_name
from clipwatch.layouts import look_once
from clipwatch.settings import load
from places import DATA

KEPT = DATA / "simpletuner"
RUNS = [
    *((it.parent.name, "fp32") for it in sorted(KEPT.glob("*/config.json"))),
    ("flux-real", "bf16"),  # as on a GPU, in which diffusers' FLUX would round time and guidance
]
OWN = {
    "device": "cpu",
    "evaluation_type": "clip",
    "pretrained_evaluation_model_name_or_path": str(CLIP),
    "seeds": "trainer",
}
"""What the trainer's configurations leave to clipwatch."""

LEVELS = 1.0
"""Of 255, by which pixels may differ on average; README.md there says by how much they do."""

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def trainers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the trainer's working folder, with its bases, runs and cache of the Hub."""
    folder = tmp_path_factory.mktemp("trainer")
    for archive in (KEPT / "bases").glob("*.tar.xz"):
        with tarfile.open(archive) as packed:
            packed.extractall(folder / "bases", filter="data")
    (folder / "output").symlink_to(KEPT)
    (folder / "prompts.json").symlink_to(KEPT / "prompts.json")
    cached = folder / "hub" / "models--terminusresearch--auraflow-v0.3"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / ("0" * 40)).symlink_to(folder / "bases" / "auraflow")
    return folder


@pytest.fixture(autouse=True)
def cache(trainers: Path) -> Iterator[None]:
    """Have the Hub's cache be the trainer's, which holds AuraFlow's text encoder."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(trainers / "hub"))
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


def pixels(path: Path, height: int) -> NDArray[np.int64]:
    """Read the upper part of a picture, levels of 0..255, (height, width, 3).

    Below its own the trainer writes the prompt.
    """
    return np.asarray(Image.open(path).convert("RGB"))[:height].astype(np.int64)


@pytest.mark.parametrize(("name", "dtype"), RUNS)
@pytest.mark.thorough(but=2)
def test_our_picture_is_the_trainers(
    trainers: Path,
    evaluator: Evaluator,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    name: str,
    dtype: str,
) -> None:
    """From its configuration and its checkpoint we make the picture that its validation made."""
    places = {"working_dir": str(trainers), "state_dir": str(tmp_path / "state")}
    flags = {**OWN, **places, "dtype": dtype}
    settings = load(KEPT / name / "config.json", flags=flags, environ={}, cwd=trainers)
    checkpoint = settings.paths.output_dir / "checkpoint-10"
    verdict = look_once(checkpoint, settings.protocol.weights).verdict
    assert isinstance(verdict, Whole), verdict
    weights = verdict.weights
    request = kit.request(
        checkpoint,
        weights.kind,
        settings.protocol,
        images=tmp_path,
        component=weights.component,
        files=weights.files,
    )
    kit.scores_of(evaluator, request)
    height, images = settings.protocol.height, list(settings.protocol.images())
    found = {
        f"step_10_{prompt.id}_{index}_64x64.png": pixels(
            tmp_path / image_name(prompt.id, index), height
        )
        for prompt, index, _ in images
    }
    theirs = {it.name: pixels(it, height) for it in (KEPT / name / "validation_images").iterdir()}
    apart = {it: float(np.abs(found[it] - theirs[it]).mean()) for it in theirs}
    record_property("levels", max(apart.values()))  # in the report of --junit-xml
    assert found.keys() == theirs.keys()
    assert max(apart.values()) <= LEVELS, apart
