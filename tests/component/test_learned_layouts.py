"""Learned tokens that lie beside the checkpoints: only those that were saved with one count."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import staging_kit
from clipwatch.domain.kinds import StageMode
from clipwatch.domain.sighting import Whole
from clipwatch.layouts import look_once
from staging_kit import desk, intact
from trainer_runs import looked, seen, told

LORA = "pytorch_lora_weights.safetensors"
START = 1_800_000_000


def file(path: Path, at: float, *names: str) -> None:
    """Write a file at a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.full((2, 8), at, np.float32) for name in names}, path)
    os.utime(path, (START + at, START + at))


def tokens(output: Path, at: float, name: str = "") -> Path:
    path = output / (name or f"{output.name}_emb.safetensors")
    file(path, at, "clip_l", "clip_g")
    return path


def lora(folder: Path, at: float) -> None:
    file(folder / LORA, at, "unet.mid.lora_A.weight", "unet.mid.lora_B.weight")


def saved(output: Path, step: int, at: float) -> Path:
    """Save a checkpoint, as the advanced scripts of diffusers do: their tokens are written over."""
    folder = output / f"checkpoint-{step}"
    lora(folder, at)
    tokens(output, at + 0.02)
    (folder / "random_states_0.pkl").write_bytes(b"")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return an output directory with two checkpoints, a minute apart."""
    folder = tmp_path / "out"
    saved(folder, 100, 0)
    saved(folder, 200, 70)
    return folder


def test_the_newest_has_its_tokens(output: Path) -> None:
    """They are part of it; an earlier one's are gone, and it says so."""
    first, second = sorted(looked(output), key=lambda it: it.step)
    assert (first.name, second.name) == ("checkpoint-100", "checkpoint-200")
    assert isinstance(second.verdict, Whole)
    assert second.verdict.weights.kind == "lora"
    paths = [it.path for it in second.verdict.weights.files]
    assert paths == [f"checkpoint-200/{LORA}", "out_emb.safetensors"]
    assert told(first) == (
        "out_emb.safetensors holds other tokens than it was trained with: it was written again with"
        f" checkpoint-200/{LORA}"
    )


def test_each_is_whole_in_its_time(tmp_path: Path) -> None:
    """As a daemon sees it that looks between two saves; other tokens are other weights."""
    output = tmp_path / "out"
    digests = set()
    for number in range(3):
        folder = saved(output, 100 * (number + 1), 70.0 * number)
        verdict = look_once(folder, "live").verdict
        assert isinstance(verdict, Whole)
        digests.add(verdict.digest)
    assert len(digests) == 3
    assert [it[2] for it in seen(output).values()].count("lora") == 1


@pytest.mark.parametrize("mode", ["auto", "copy"])
def test_what_was_kept_has_its_own_tokens(output: Path, tmp_path: Path, mode: StageMode) -> None:
    """They are kept beside the LoRA, whatever the trainer writes later."""
    found = staging_kit.seen(output / "checkpoint-200")
    with desk(tmp_path / "staged", mode) as at:
        held = at.keep(found)
        (output / "out_emb.safetensors").unlink()
        saved(output, 300, 140)
        assert intact(held, found)
        kept = {it.relative_to(held.path).as_posix() for it in Path(held.path).rglob("*.safe*")}
    assert kept == {f"checkpoint-200/{LORA}", "out_emb.safetensors"}


def test_tokens_that_are_written_over_in_place_are_kept_as_they_were(
    output: Path, tmp_path: Path
) -> None:
    """A pin would follow them: they are copied, or their blocks shared."""
    found = staging_kit.seen(output / "checkpoint-200")
    with desk(tmp_path / "staged", "auto") as at:
        held = at.keep(found)
        assert held.how in {"reflink", "copy"}
        with (output / "out_emb.safetensors").open("r+b") as over:
            over.write(b"another")
        assert intact(held, found)


def test_the_final_tokens_are_the_final_ones(output: Path) -> None:
    """At its end the script writes the LoRA and the tokens once more, without a step."""
    lora(output, 90)
    tokens(output, 91)
    assert f"it was written again with {LORA}" in seen(output)["checkpoint-200"][2]


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (69.0, "out_emb.safetensors, with the tokens that it was trained with, is older"),
        (131.0, "out_emb.safetensors holds other tokens than it was trained with"),
    ],
)
def test_tokens_of_another_time_are_not_its_own(output: Path, at: float, words: str) -> None:
    """Older ones, and those that came much later, though no other LoRA shows why."""
    tokens(output, at)
    assert words in seen(output)["checkpoint-200"][2]


def test_one_checkpoint_that_is_named_has_them_too(output: Path) -> None:
    """`clipwatch score checkpoint-200`: what lies beside it is not passed over."""
    assert told(look_once(output / "checkpoint-200", "live")) == "lora"
    (output / "out_emb.safetensors").rename(output / "renamed_emb.safetensors")
    assert "which these are is not known (renamed_emb.safetensors, beside it)" in told(
        look_once(output / "checkpoint-200", "live")
    )


def test_a_renamed_folder_changes_nothing(output: Path) -> None:
    """Its tokens keep the name that they had."""
    renamed = output.rename(output.parent / "kept")
    assert seen(renamed)["checkpoint-200"][2] == "lora"
    tokens(renamed, 70.02, "other_emb.safetensors")
    assert "which these are is not known" in seen(renamed)["checkpoint-200"][2]


def test_tokens_of_both_encoders_of_sdxl_are_one_checkpoint(tmp_path: Path) -> None:
    """textual_inversion_sdxl.py writes two files a save."""
    for name in ("-steps-4", ""):
        for second in ("", "_2"):
            file(tmp_path / f"learned_embeds{second}{name}.safetensors", 0, "<circ>")
    assert seen(tmp_path) == {
        "learned_embeds-steps-4.safetensors": (4, "step", "embeddings"),
        "learned_embeds.safetensors": (
            *(4, "step"),
            "it holds the same weights as learned_embeds-steps-4.safetensors",
        ),
    }
    verdict = look_once(tmp_path / "learned_embeds-steps-4.safetensors", "live").verdict
    assert isinstance(verdict, Whole)
    assert [it.path for it in verdict.weights.files] == [
        "learned_embeds-steps-4.safetensors",
        "learned_embeds_2-steps-4.safetensors",
    ]
