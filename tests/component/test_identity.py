"""The content of the models' files: what counts, what does not, and what is remembered."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from clipwatch.demo.models import CLIP
from clipwatch.domain.protocol import EvaluationProtocol, Part, ScorerSpec
from clipwatch.layouts import files
from clipwatch.models import identity
from clipwatch.models.identity import Identities, ModelError, files_of
from evaluator_kit import QUIET, protocol

pytestmark = QUIET

PARTS = {
    "base": "base/model_index.json",
    "base/scheduler": "base/scheduler/scheduler_config.json",
    "base/text_encoder": "base/text_encoder/model.safetensors",
    "base/tokenizer": "base/tokenizer/tokenizer.json",
    "base/unet": "base/unet/diffusion_pytorch_model.safetensors",
    "base/vae": "base/vae/config.json",
    "scorer": "clip/model.safetensors",
    "scorer/second": "second/preprocessor_config.json",
}
"""Part → one of its files."""


@pytest.fixture
def models(tmp_path: Path, base: Path) -> Path:
    """A folder with a base and two scorers of its own to change."""
    shutil.copytree(base, tmp_path / "base")
    shutil.copytree(CLIP, tmp_path / "clip")
    shutil.copytree(CLIP, tmp_path / "second")
    return tmp_path


def asked(models: Path) -> EvaluationProtocol:
    """Return a protocol that loads all of them."""
    second = ScorerSpec("second", str(models / "second"))
    return protocol(models / "base", scorers=(ScorerSpec("", str(models / "clip")), second))


def rewrite(path: Path) -> None:
    """Put other content in a file's place; what is loaded from it may be the same."""
    if path.suffix == ".safetensors":
        tensors = {name: it + 1 for name, it in load_file(path).items()}
        save_file(tensors, path.with_suffix(".new"), {"format": "pt"})
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        path.with_suffix(".new").write_text(json.dumps(content | {"_made": "anew"}))
    path.with_suffix(".new").replace(path)


def parts_of(known: Identities, how: EvaluationProtocol) -> dict[str, str]:
    """Return part → digest."""
    return {it.part: it.digest for it in known.inputs(how)}


def test_all_that_is_loaded_is_a_part(models: Path) -> None:
    """Base, scorers, and each of the base's parts; equal files have equal digests."""
    found = parts_of(Identities(), asked(models))
    assert set(found) == set(PARTS)
    assert found["scorer"] == found["scorer/second"]
    assert found == parts_of(Identities(), asked(models))


@pytest.mark.parametrize("part", PARTS)
def test_another_file_is_another_identity(models: Path, part: str) -> None:
    """Of each part one file is replaced: that part's digest changes and no other one's."""
    known, how = Identities(), asked(models)
    before = parts_of(known, how)
    rewrite(models / PARTS[part])
    assert not known.unchanged(how)
    after = parts_of(known, how)
    assert {name for name in before if before[name] != after[name]} == {part}
    assert after == parts_of(Identities(), how)


def test_the_same_content_elsewhere_is_the_same(models: Path, tmp_path: Path) -> None:
    """A copy, a link and new times change nothing; the folder's own name counts elsewhere."""
    before = parts_of(Identities(), asked(models))
    os.utime(models / PARTS["base/unet"], ns=(1, 1))
    shutil.move(models / "base", tmp_path / "moved")
    (models / "base").symlink_to(tmp_path / "moved")
    assert parts_of(Identities(), asked(models)) == before


@pytest.mark.parametrize(
    "name",
    [
        "base/unet/diffusion_pytorch_model.bin",
        "base/unet/notes.md",
        "base/README.md",
        "base/other.safetensors",
        "clip/pytorch_model.bin",
    ],
)
def test_what_is_not_loaded_does_not_count(models: Path, name: str) -> None:
    """Pickles, read-mes and whatever else lies beside the files."""
    before = parts_of(Identities(), asked(models))
    (models / name).write_bytes(b"anything")
    assert parts_of(Identities(), asked(models)) == before


def test_a_part_from_elsewhere(models: Path) -> None:
    """It counts instead of the base's own, which then does not."""
    shutil.copytree(models / "base" / "vae", models / "other" / "vae")
    part = Part("vae", str(models / "other"), "vae")
    how = replace(asked(models), parts=(part,))
    before = parts_of(Identities(), how)
    assert set(before) == set(PARTS) - {"base/vae"} | {"vae"}
    assert before["vae"] != parts_of(Identities(), asked(models))["base/vae"]  # named otherwise
    rewrite(models / "base" / "vae" / "config.json")
    assert parts_of(Identities(), how) == before
    rewrite(models / "other" / "vae" / "config.json")
    assert parts_of(Identities(), how) != before


def test_files_are_read_once(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later looks cost stats alone, but for files that changed within a tick of their clock."""
    how = asked(models)
    paths = [path for _, paths in files_of(how).values() for path in paths]
    moment = max(path.stat().st_ctime for path in paths)
    read: list[str] = []
    samples = files.samples

    def counted(file: object, size: int) -> object:
        read.append(str(size))
        return samples(file, size)  # type: ignore[arg-type]

    monkeypatch.setattr(identity, "samples", counted)
    known = Identities(wall=lambda: moment + 60)
    before = known.inputs(how)
    assert len(read) == len(paths)
    assert known.unchanged(how)
    assert known.inputs(how) == before
    assert len(read) == len(paths)
    racy = Identities(wall=lambda: moment + 1)
    assert racy.inputs(how) == before
    assert not racy.unchanged(how)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("base/model_index.json", "base model '{base}' has no model_index.json"),
        ("base/vae/diffusion_pytorch_model.safetensors", "base model '{base}' vae/ has no safe"),
        ("base/tokenizer/", "base model '{base}' tokenizer/ is missing"),
        ("clip/model.safetensors", "scorer '{clip}' has no safetensors weights"),
        ("clip/", "scorer '{clip}' has no config.json"),
    ],
)
def test_what_lacks_is_named(models: Path, name: str, told: str) -> None:
    """With the model, in one line; a local one is nothing to be fetched."""
    path = models / name
    shutil.rmtree(path) if name.endswith("/") else path.unlink()
    with pytest.raises(ModelError) as caught:
        Identities().inputs(asked(models))
    expected = told.format(base=models / "base", clip=models / "clip")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)
    assert not caught.value.remote


def test_a_setting_in_the_index_is_no_part(models: Path) -> None:
    """Krea 2 says there which layers of its text encoder are read; no folder is missed."""
    before = Identities().inputs(asked(models))
    index = models / "base" / "model_index.json"
    settings = {"text_encoder_select_layers": [2, 5], "sample_sigmas": [1.0, 0.5]}
    index.write_text(json.dumps(json.loads(index.read_text()) | settings))
    after = Identities().inputs(asked(models))
    assert [it.part for it in after] == [it.part for it in before]


def test_models_of_the_hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read in the cache, at the commit that the reference names; else to be fetched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    how = replace(asked(models), base_model="org/base")
    with pytest.raises(ModelError, match=r"base model 'org/base' is not in the Hub's cache") as it:
        Identities().inputs(how)
    assert it.value.remote
    room = tmp_path / "hub" / "models--org--base"
    (room / "refs").mkdir(parents=True)
    (room / "refs" / "main").write_text("c" * 40)
    shutil.copytree(models / "base", room / "snapshots" / ("c" * 40))
    known = Identities()
    assert known.inputs(how) == Identities().inputs(asked(models))
    assert known.commits(how) == {"base_commit": "c" * 40}
    (room / "snapshots" / ("c" * 40) / "unet" / "config.json").unlink()
    (room / "snapshots" / ("c" * 40) / PARTS["base/unet"].removeprefix("base/")).unlink()
    with pytest.raises(ModelError, match="unet/ is empty") as it:
        known.inputs(how)
    assert it.value.remote
