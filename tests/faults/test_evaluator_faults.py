"""Weights that are broken, or go while they are read: a failure in one line, never a number."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import evaluator_kit as kit
from clipwatch.demo.models import CLIP
from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator

KINDS = pytest.mark.parametrize("kind", kit.FILES)

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def fresh(world: Path) -> list[ImageScore]:
    """The scores of a good checkpoint, from an evaluator of its own."""
    return kit.scores_of(
        Evaluator(), kit.request(world / "lora", "lora", kit.protocol(world / "base"))
    )


@pytest.fixture
def the_next_one_is_scored_right(
    world: Path, evaluator: Evaluator, fresh: list[ImageScore]
) -> Iterator[None]:
    """Whatever a test does, the next checkpoint is scored as by a fresh process.

    A LoRA tells most: its scores depend on the base's own weights and on every layer left behind.
    """
    yield
    request = kit.request(world / "lora", "lora", kit.protocol(world / "base"))
    assert kit.same(kit.scores_of(evaluator, request), fresh)


after = pytest.mark.usefixtures("the_next_one_is_scored_right")


@pytest.fixture
def checkpoint(world: Path, tmp_path: Path, kind: str) -> Path:
    """Return a copy of a good checkpoint to spoil."""
    return Path(shutil.copytree(world / kind, tmp_path / "checkpoint"))


# --- not finite ----------------------------------------------------------------------------------


@after
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("kind", "file", "tensor"),
    [
        ("full", kit.FILES["full"], "conv_out.bias"),
        ("full", kit.FILES["full"], "time_embedding.linear_1.weight"),
        # infinite pixels are clamped to white: nobody would see it
        ("pipeline", "vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias"),
        ("pipeline", "text_encoder/model.safetensors", "final_layer_norm.bias"),
        ("lora", kit.FILES["lora"], "lora_B.weight"),
    ],
)
@pytest.mark.thorough(but=1)
def test_weights_that_are_not_finite_have_no_score(
    world: Path,
    checkpoint: Path,
    evaluator: Evaluator,
    kind: str,
    file: str,
    tensor: str,
    value: str,
) -> None:
    """The tensor is named, and no image is made."""
    state = load_file(checkpoint / file)
    name = next(name for name in state if name.endswith(tensor))
    state[name].view(-1)[-1] = float(value)
    save_file(state, checkpoint / file)
    failed = kit.failure(evaluator, kit.request(checkpoint, kind, kit.protocol(world / "base")))
    assert failed.kind == "weights"
    assert "holds NaN or infinity in torch.float32" in failed.reason
    assert tensor.rpartition(".")[0] in failed.reason


@pytest.mark.thorough
@after
@pytest.mark.parametrize("kind", ["full"])
def test_weights_beyond_half_precision_have_no_score(
    world: Path, checkpoint: Path, evaluator: Evaluator, kind: str
) -> None:
    """What fp16 cannot hold is said of fp16; in bf16 the same checkpoint has scores."""
    state = load_file(checkpoint / kit.FILES[kind])
    state["conv_in.bias"][0] = 100_000.0
    save_file(state, checkpoint / kit.FILES[kind])
    how = kit.protocol(world / "base", dtype="fp16")
    failed = kit.failure(evaluator, kit.request(checkpoint, kind, how))
    assert (failed.kind, "in torch.float16" in failed.reason) == ("weights", True)
    assert kit.scores_of(evaluator, kit.request(checkpoint, kind, replace(how, dtype="bf16")))


@after
@pytest.mark.parametrize("kind", ["full"])
def test_images_that_are_not_finite_have_no_score(
    world: Path, checkpoint: Path, evaluator: Evaluator, kind: str
) -> None:
    """Weights that are finite but overflow make no number either."""
    state = load_file(checkpoint / kit.FILES[kind])
    state["conv_out.weight"] *= 1e38
    save_file(state, checkpoint / kit.FILES[kind])
    failed = kit.failure(evaluator, kit.request(checkpoint, kind, kit.protocol(world / "base")))
    assert (failed.kind, "the images are not finite" in failed.reason) == ("scores", True)


@after
@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.thorough
def test_a_scorer_or_base_model_that_is_not_finite_is_refused(
    world: Path, tmp_path: Path, evaluator: Evaluator, value: str
) -> None:
    """It is no fault of the checkpoint, which may be evaluated once that is mended."""
    shutil.copytree(CLIP, tmp_path / "scorer")
    shutil.copytree(world / "base", tmp_path / "base")
    for path in (tmp_path / "scorer" / "model.safetensors", tmp_path / "base" / kit.FILES["full"]):
        state = load_file(path)
        next(iter(state.values())).view(-1)[0] = float(value)
        save_file(state, path)
    good = kit.protocol(world / "base")
    for how in (
        replace(good, scorers=(ScorerSpec("", str(tmp_path / "scorer")),)),
        replace(good, base_model=str(tmp_path / "base")),
    ):
        failed = kit.failure(evaluator, kit.request(world / "lora", "lora", how))
        assert (failed.kind, "holds NaN or infinity" in failed.reason) == ("model", True)


# --- not whole -----------------------------------------------------------------------------------


def header(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Rewrite a safetensors file's header, its length kept right."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    new = change(content[8 : 8 + size])
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])


def overlap(text: bytes) -> bytes:
    """Let the second tensor begin where the first one does."""
    first, second = text.split(b'"data_offsets":[')[1:3]
    begin, end = (int(number) for number in second.split(b"]")[0].split(b","))
    old = b'"data_offsets":[' + second.split(b"]")[0]
    start = int(first.split(b",")[0])
    return text.replace(old, b'"data_offsets":[%d,%d' % (start, start + end - begin))


def a_folder(path: Path) -> None:
    """Put a folder in a file's place."""
    path.unlink()
    path.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "4 bytes": lambda path: os.truncate(path, 4),
    "half a header": lambda path: os.truncate(path, 100),
    "half the data": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "one byte long": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "huge header": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
    "no JSON": lambda path: header(path, lambda text: text.replace(b"{", b"(")),
    "overlapping": lambda path: header(path, overlap),
    "unknown dtype": lambda path: header(path, lambda text: text.replace(b'"F32"', b'"X32"')),
    "a pickle": lambda path: torch.save({"conv_in.bias": torch.zeros(32)}, path),
    "a folder": a_folder,
}


@after
@KINDS
@pytest.mark.thorough(but=1)
def test_files_that_are_not_whole_are_refused(
    world: Path, tmp_path: Path, evaluator: Evaluator, kind: str
) -> None:
    """In one line each, with the file or its folder in it."""
    for name, spoil in BROKEN.items():
        spoiled = Path(shutil.copytree(world / kind, tmp_path / name))
        spoil(spoiled / kit.FILES[kind])
        failed = kit.failure(evaluator, kit.request(spoiled, kind, kit.protocol(world / "base")))
        assert (name, failed.kind) == (name, "weights")
        assert str(spoiled) in failed.reason
