"""What all prompts of a file ask for, where the settings say otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.settings import Settings, load
from trainer_files import base, put

PROMPTS = (
    "a cat --w 512 --h 768 --s 4 --l 7.5 --n bad\na dog --w 512 --h 768 --s 4 --l 7.5 --n bad\n"
)


def noted(folder: Path, **keys: object) -> list[str]:
    """Return what is said of the prompts of a training script of one's own."""
    told = {"evaluation_type": "clip", "output_dir": "out", "prompts": "p.txt", "device": "cpu"}
    model = {"pretrained_model_name_or_path": base(folder, "base")}
    put(folder, "clipwatch.json", told | model | keys)
    return noted_in(load(folder / "clipwatch.json", environ={}, cwd=folder))


def noted_in(settings: Settings) -> list[str]:
    return [it for it in settings.remarks if it.startswith("p.txt: all its prompts")]


def test_what_is_asked_for_in_vain_is_told(tmp_path: Path) -> None:
    """In one line with the keys to set; what holds anyway is not in it."""
    put(tmp_path, "p.txt", PROMPTS)
    (line,) = noted(tmp_path)
    assert line == (
        "p.txt: all its prompts ask for --w 512, --h 768, --s 4, --n 'bad', and the settings do "
        "not: set validation_resolution, validation_num_inference_steps, "
        "validation_negative_prompt to follow"
    )


def test_what_is_set_is_followed(tmp_path: Path) -> None:
    """Sizes are multiples of sixteen; an embedded scale may be either of two."""
    put(tmp_path, "p.txt", PROMPTS.replace("512", "500"))
    size, steps = "500x768", 4
    keys = {"validation_resolution": size, "validation_num_inference_steps": steps}
    assert noted(tmp_path, **keys, validation_negative_prompt="bad") == []
    (line,) = noted(tmp_path, **keys, validation_negative_prompt="bad", validation_guidance=3)
    assert "--l 7.5" in line
    more = {"validation_guidance": 3, "validation_guidance_real": 7.5}
    assert noted(tmp_path, **keys, validation_negative_prompt="bad", **more) == []


@pytest.mark.parametrize("content", ["a cat\na dog\n", "a cat --s 4\na dog --s 5\n"])
def test_prompts_that_ask_for_nothing_alike(content: str, tmp_path: Path) -> None:
    """There is nothing to follow."""
    put(tmp_path, "p.txt", content)
    assert noted(tmp_path) == []


def test_what_the_base_model_and_other_keys_come_to_counts(tmp_path: Path) -> None:
    """Without a configuration size and guidance are the base's, and a seed has two keys."""
    put(tmp_path, "p.txt", "\n".join(f"{it} --w 1024 --h 1024 --l 5 --d 7" for it in ("a", "b")))
    put(tmp_path, "sdxl/model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    flags = {
        "output_dir": "out",
        "pretrained_model_name_or_path": "sdxl",
        "prompts": "p.txt",
        "device": "cpu",
    }
    seeded = load(None, flags=flags | {"seed": 7}, environ={}, cwd=tmp_path)
    assert noted_in(seeded) == []
    (line,) = noted_in(load(None, flags=flags, environ={}, cwd=tmp_path))
    assert "ask for --d 7, and the settings do not: set validation_seed to follow" in line
