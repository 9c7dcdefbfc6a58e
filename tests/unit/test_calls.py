"""What each family's pipeline is called with: by diffusers' defaults, and as SimpleTuner does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import pytest

import embedding_kit
import evaluator_kit as kit
from clipwatch.domain.protocol import EvaluationProtocol, SkipLayers
from clipwatch.evaluator.generation.calls import (
    Guidance,
    call_arguments,
    differences,
    guidance_of,
    negative_of,
)
from clipwatch.evaluator.generation.calls_rules import ORDERS, SIMPLETUNER
from clipwatch.evaluator.generation.joins import JOINS, apart

COMMON = {"prompt": ["a", "b"], "num_inference_steps": 2, "width": 32, "height": 32}
BAD = {"negative_prompt": ["bad", "bad"]}
NONE = {"negative_prompt": ["", ""]}
DOWN = {"sigmas": [1.0, 0.0]}


def asked(**changes: Any) -> EvaluationProtocol:
    return kit.protocol(Path("/base"), **{"guidance": 4.5} | changes)


def called(name: str, **changes: Any) -> dict[str, Any]:
    """Return what the class is called with beside what all are called with."""
    found = call_arguments(getattr(diffusers, name), asked(**changes), ["a", "b"])
    assert found.items() >= COMMON.items()
    return {key: it for key, it in found.items() if key not in COMMON}


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("StableDiffusionPipeline", {}, {"guidance_scale": 4.5}),
        ("StableDiffusionPipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5} | BAD),
        ("StableDiffusion3Pipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5} | BAD),
        ("FluxPipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5}),
        (
            "FluxPipeline",
            {"guidance_real": 2.0},
            {"guidance_scale": 4.5, "true_cfg_scale": 2.0},
        ),
        ("Flux2KleinPipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5}),
        ("QwenImagePipeline", {}, {"true_cfg_scale": 4.5, "negative_prompt": [" ", " "]}),
        ("QwenImage21Pipeline", {"negative_prompt": "bad"}, {"true_cfg_scale": 4.5} | BAD),
        ("ZImagePipeline", {}, {"guidance_scale": 4.5}),
        ("Ideogram4Pipeline", {}, {"guidance_scale": 4.5, "guidance_schedule": None}),
        (
            "LongCatImagePipeline",
            {},
            {"guidance_scale": 4.5, "enable_prompt_rewrite": False} | NONE,
        ),
        ("ErnieImagePipeline", {}, {"guidance_scale": 4.5, "use_pe": False}),
        ("OmniGenPipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5}),
        (
            "StableDiffusionXLPipeline",
            {"guidance_rescale": 0.7},
            {"guidance_scale": 4.5, "guidance_rescale": 0.7},
        ),
        (
            "StableDiffusion3Pipeline",
            {"skip_layers": SkipLayers((7, 8), 2.5, 0.05, 0.3), "text_length": 77},
            {
                "guidance_scale": 4.5,
                "max_sequence_length": 77,
                "skip_guidance_layers": [7, 8],
                "skip_layer_guidance_scale": 2.5,
                "skip_layer_guidance_start": 0.05,
                "skip_layer_guidance_stop": 0.3,
            },
        ),
        ("StableDiffusionPipeline", {"clip_skip": 2}, {"guidance_scale": 4.5, "clip_skip": 1}),
        ("FluxPipeline", {"clip_skip": 2}, {"guidance_scale": 4.5}),
        (
            "SanaPipeline",
            {"instruction": "one\ntwo"},
            {"guidance_scale": 4.5, "complex_human_instruction": ["one", "two"]},
        ),
    ],
)
def test_settings_reach_the_pipeline(
    name: str, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Each under the name by which the class heeds it, and nothing that it does not take."""
    assert called(name, **changes) == expected


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        # models/sdxl: "" is encoded like any text, where diffusers has zeros instead
        ("StableDiffusionXLPipeline", {}, {"guidance_scale": 4.5} | NONE),
        # models/sd3: check_user_config, t5_max_length
        (
            "StableDiffusion3Pipeline",
            {},
            {"guidance_scale": 4.5, "max_sequence_length": 154} | NONE,
        ),
        (
            "StableDiffusion3Pipeline",
            {"text_length": 77},
            {"guidance_scale": 4.5, "max_sequence_length": 77} | NONE,
        ),
        # models/auraflow: check_user_config
        ("AuraFlowPipeline", {}, {"guidance_scale": 4.5, "max_sequence_length": 120} | NONE),
        # models/kandinsky5_image: check_user_config
        ("Kandinsky5T2IPipeline", {}, {"guidance_scale": 4.5, "max_sequence_length": 256} | NONE),
        # models/kolors: _encode_prompts, max_seq_len
        ("KolorsPipeline", {}, {"guidance_scale": 4.5, "max_sequence_length": 77} | NONE),
        # models/deepfloyd: _encode_prompts leaves encode_prompt's clean_caption=False
        ("IFPipeline", {}, {"guidance_scale": 4.5, "clean_caption": False} | NONE),
        # models/flux: convert_negative_text_embed_for_pipeline
        ("FluxPipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5}),
        (
            "FluxPipeline",
            {"negative_prompt": "bad", "guidance_real": 3.0},
            {"guidance_scale": 4.5, "true_cfg_scale": 3.0} | BAD,
        ),
        # models/flux2: check_user_config takes validation_guidance for true guidance
        ("Flux2KleinPipeline", {}, {"guidance_scale": 4.5}),
        ("Flux2KleinPipeline", {"guidance_real": 3.0}, {"guidance_scale": 3.0}),
        # models/qwen_image: update_pipeline_call_kwargs; else the class's own scale, 4.0
        ("QwenImagePipeline", {}, {"max_sequence_length": 1024} | NONE),
        (
            "QwenImagePipeline",
            {"guidance_real": 3.0},
            {"true_cfg_scale": 3.0, "max_sequence_length": 1024} | NONE,
        ),
        ("QwenImage21Pipeline", {}, NONE),
        ("QwenImage21Pipeline", {"guidance_real": 3.0}, {"true_cfg_scale": 3.0} | NONE),
        # models/z_image/pipeline.py: negative + scale * (positive - negative), above 1 only
        ("ZImagePipeline", {}, {"guidance_scale": 3.5} | NONE | DOWN),
        ("ZImagePipeline", {"guidance": 1.0}, {"guidance_scale": 0.0} | NONE | DOWN),
        ("ZImagePipeline", {"scheduler": "unipc"}, {"guidance_scale": 3.5} | NONE),
        # models/z_image_omni/pipeline.py: as diffusers', above 1 only
        ("ZImageOmniPipeline", {}, {"guidance_scale": 4.5} | NONE | DOWN),
        ("ZImageOmniPipeline", {"guidance": 1.0}, {"guidance_scale": 0.0} | NONE | DOWN),
        # models/krea2/pipeline.py
        ("Krea2Pipeline", {}, {"guidance_scale": 3.5} | NONE),
        ("Krea2Pipeline", {"guidance": 0.5}, {"guidance_scale": 0.0} | NONE),
        # families without a word of their own: models/{pixart,lumina2,chroma,hidream}
        ("PixArtSigmaPipeline", {}, {"guidance_scale": 4.5} | NONE),
        ("Lumina2Pipeline", {"negative_prompt": "bad"}, {"guidance_scale": 4.5} | BAD),
        ("ChromaPipeline", {}, {"guidance_scale": 4.5} | NONE),
        ("HiDreamImagePipeline", {}, {"guidance_scale": 4.5} | NONE),
    ],
)
def test_simpletuners_rules(name: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What its validation sends, in diffusers' words; the file of SimpleTuner stands above."""
    assert called(name, rules="simpletuner", **changes) == expected


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("StableDiffusionXLPipeline", {}, None),
        ("StableDiffusion3Pipeline", {"guidance": 1.0}, None),
        ("StableDiffusion3Pipeline", {}, Guidance("negative first", True, "projection", 1)),
        ("AuraFlowPipeline", {}, Guidance("negative first", True, "cosine", 1)),
        ("ErnieImagePipeline", {}, Guidance("negative first", True, "norms", 1)),
        ("ZImagePipeline", {}, Guidance("positive first", True, "projection", 1)),
        ("ZImagePipeline", {"guidance": 1.0}, None),
        ("Krea2Pipeline", {}, Guidance("apart", True, "projection", 2)),
        ("Krea2Pipeline", {"guidance": 1.0}, Guidance("apart", False, "projection", 2)),
        ("Krea2Pipeline", {"guidance": 0.0}, None),
        ("FluxPipeline", {"no_cfg_until": 2}, None),
        ("FluxPipeline", {"no_cfg_until": 2, "guidance_real": 3.0}, Guidance("apart", unguided=2)),
        ("Flux2KleinPipeline", {"no_cfg_until": 2}, Guidance("apart", unguided=2)),
        ("QwenImagePipeline", {"no_cfg_until": 2, "guidance_real": 3.0}, None),
    ],
)
def test_what_becomes_of_predictions(
    name: str, changes: dict[str, Any], expected: Guidance | None
) -> None:
    """SimpleTuner's pipelines have CFG-Zero* by default; true guidance sets in late in two."""
    kind = getattr(diffusers, name)
    assert guidance_of(kind, asked(rules="simpletuner", **changes)) == expected
    late = expected if expected and expected.unguided else None
    assert (
        guidance_of(kind, asked(**changes)) == late
    )  # what diffusers would not do is SimpleTuner's


def test_a_negative_prompt_that_is_only_taken_encoded() -> None:
    """FLUX.2 klein's is told for itself: none without guidance, and diffusers' own for none."""
    kind = diffusers.Flux2KleinPipeline
    assert negative_of(kind, asked(negative_prompt="bad")) == "bad"
    assert negative_of(kind, asked(negative_prompt="bad", guidance=1.0)) is None
    assert negative_of(kind, asked()) is None
    assert negative_of(kind, asked(rules="simpletuner")) == ""


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("StableDiffusion3Pipeline", {"skip_layers": SkipLayers((7,))}, ""),
        ("ChromaPipeline", {"skip_layers": SkipLayers((7,))}, "no skip-layer guidance"),
        ("FluxPipeline", {"guidance_rescale": 0.5}, "no guidance_rescale"),
        ("FluxPipeline", {"clip_skip": 2}, "no clip_skip"),
        ("Flux2Pipeline", {"guidance_real": 3.0}, "no true guidance"),
        ("Flux2KleinPipeline", {"guidance_real": 3.0}, ""),
        ("SanaPipeline", {}, ""),
        ("SanaPipeline", {"rules": "simpletuner"}, "another complex_human_instruction"),
        ("SanaPipeline", {"rules": "simpletuner", "instruction": "one"}, ""),
        ("ZImageOmniPipeline", {}, ""),
        (
            "ZImageOmniPipeline",
            {"rules": "simpletuner", "guidance_rescale": 0.5},
            "its transformer places text and image otherwise; no guidance_rescale",
        ),
    ],
)
def test_what_cannot_be_had_is_told(name: str, changes: dict[str, Any], told: str) -> None:
    """In a few words, and only where it was asked for."""
    assert differences(getattr(diffusers, name), asked(**changes)) == told


def test_unknown_classes_are_called_with_what_they_take() -> None:
    """Nothing is known of a class, and it has one argument."""

    class Unknown:
        def __call__(self, prompt: str) -> None: ...

    assert call_arguments(Unknown, asked(), ["a"]) == {"prompt": ["a"]}
    assert apart("Unknown")


def test_the_tables_name_classes_that_are_there_and_tested() -> None:
    """All of them are diffusers', and each whose prompts are kept has a tiny pipeline here."""
    assert all(hasattr(diffusers, name) for name in {*ORDERS, *SIMPLETUNER, *JOINS})
    assert JOINS.keys() == embedding_kit.FAMILIES.keys()
    assert embedding_kit.PLAIN.keys().isdisjoint(JOINS)
    for name, rule in SIMPLETUNER.items():
        known = inspect.signature(getattr(diffusers, name).__call__).parameters
        assert rule.arguments.keys() <= known.keys()
        assert not rule.star or name in ORDERS
