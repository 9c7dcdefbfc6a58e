"""What an adapter's file is, told by its names alone: read, or discarded with what it is."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.layouts.adapter_file import (
    acting,
    adapter_config,
    kind_of,
    lora_part,
    lycoris_part,
)
from clipwatch.layouts.files import Unsupported
from clipwatch.layouts.learned import learned_in

LAYER = "mid_block.attentions.0.proj_in"
FLAT = LAYER.replace(".", "_")


def pair(*names: str) -> list[str]:
    return [f"{name}.{half}.weight" for name in names for half in ("lora_A", "lora_B")]


KINDS = {
    "diffusers": (pair(f"unet.{LAYER}"), "lora"),
    "an earlier diffusers": (
        [f"unet.{LAYER}.lora.{half}.weight" for half in ("down", "up")],
        "lora",
    ),
    "attention processors": (
        [f"unet.a.attn1.processor.to_out_lora.{half}.weight" for half in ("down", "up")],
        "lora",
    ),
    "a text encoder's": (
        [f"text_encoder.a.q_proj.lora_linear_layer.{half}.weight" for half in ("down", "up")],
        "lora",
    ),
    "DoRA": ([*pair(f"unet.{LAYER}"), f"unet.{LAYER}.lora_magnitude_vector"], "lora"),
    "comfyui": ([*pair("diffusion_model.a.b"), "diffusion_model.a.b.alpha"], "lora"),
    "comfyui, model": (pair("model.diffusion_model.a.b"), "lora"),
    "peft": (pair("base_model.model.a.b"), "lora"),
    "kohya": (
        [f"lora_unet_{FLAT}.{it}" for it in ("lora_down.weight", "lora_up.weight", "alpha")],
        "lora",
    ),
    "with the losses' heads": (
        [*pair("transformer.a.b"), "transformer.crepa_projector.1.weight"],
        "lora",
    ),
    "locon": ([f"lycoris_{FLAT}.{it}" for it in ("lora_down.weight", "lora_up.weight")], "lycoris"),
    "tucker": (
        [
            f"lora_unet_{FLAT}.{it}"
            for it in ("lora_down.weight", "lora_up.weight", "lora_mid.weight")
        ],
        "lycoris",
    ),
    "kohya's DoRA": (
        [f"lora_unet_{FLAT}.{it}" for it in ("lora_down.weight", "lora_up.weight", "dora_scale")],
        "lycoris",
    ),
    "loha": ([f"lora_unet_{FLAT}.hada_w1_a"], "lycoris"),
    "lokr": ([f"lycoris_{FLAT}.lokr_w1", f"lycoris_{FLAT}.lokr_w2_a"], "lycoris"),
    "lokr in Tucker form": ([f"lycoris_{FLAT}.lokr_w1", f"lycoris_{FLAT}.lokr_t2"], "lycoris"),
    "ComfyUI's DoRA": (
        [f"diffusion_model.{LAYER}.{it}" for it in ("lora_A.weight", "dora_scale")],
        "lycoris",
    ),
    "lokr of ai-toolkit": (
        [f"transformer.{LAYER}.lokr_w1", f"transformer.{LAYER}.lokr_w2"],
        "lycoris",
    ),
    "full": ([f"lycoris_{FLAT}.diff", f"lycoris_{FLAT}.diff_b"], "lycoris"),
    "norm": ([f"lycoris_{FLAT}.w_norm"], "lycoris"),
    "oft": ([f"lycoris_{FLAT}.oft_blocks"], "lycoris"),
    "glora": ([f"lycoris_{FLAT}.a1.weight"], "lycoris"),
    "ia3": ([f"lycoris_{FLAT}.weight", f"lycoris_{FLAT}.on_input"], "lycoris"),
}


KOHYAS, BOTH = ["emb_params"], ["clip_l", "clip_g"]
WORDS: dict[str, tuple[list[str], dict[str, str], set[tuple[str, str]]]] = {
    "tok.safetensors": (KOHYAS, {}, {("tok", "")}),
    "tok-step00000500.safetensors": (KOHYAS, {}, {("tok", "")}),
    "tok-v2-000003.safetensors": (BOTH, {}, {("tok-v2", "clip_l"), ("tok-v2", "clip_g")}),
    "tok_000000500.safetensors": (KOHYAS, {}, {("tok", "")}),
    "tok-save-50-0-50.safetensors": (["emp_params"], {}, {("tok", "")}),
    "2026-11-28_00-00-46-save-50-0-50.safetensors": (
        ["emp_params"],
        {"ot_config": '{"embedding": {"placeholder": "<x>"}}'},
        {("<x>", "")},
    ),
    "learned_embeds-steps-2.safetensors": (["my toy"], {}, {("my toy", "")}),
    "learned_embeds_2.safetensors": (["my toy"], {}, {("my toy", "2")}),
    "out/out_emb.safetensors": (
        ["text_encoders_0", "text_encoders_1"],
        {},
        {("<s{}>", "clip_l"), ("<s{}>", "clip_g")},
    ),
    "lora.safetensors": (
        [*pair("unet.a"), "bundle_emb.a.b.clip_l", "bundle_emb.c.string_to_param.*"],
        {},
        {("a.b", "clip_l"), ("c", "")},
    ),
    "other.safetensors": (pair("unet.a"), {}, set()),
}
"""File → its tensors and metadata, and the words in it, each with its encoder."""


@pytest.mark.parametrize("file", WORDS)
def test_words_that_were_learned(file: str) -> None:
    """They are those of the trainers' own loaders."""
    names, metadata, words = WORDS[file]
    found = learned_in(names, metadata, file)
    assert {(it.word, it.encoder) for it in found.values()} == words
    alone = found.keys() == set(names)
    assert kind_of(names, metadata, file) == ("embeddings" if alone else "lora")


@pytest.mark.parametrize("name", ["last", "at-step00000002", "epoch-000001", "adapter_model"])
def test_a_name_that_every_training_has_is_no_word(name: str) -> None:
    """The word "at" would be in every prompt."""
    with pytest.raises(Unsupported, match="nothing tells by which word a prompt names them"):
        learned_in(["emb_params"], {}, f"{name}.safetensors")


def test_tokens_among_a_lora_are_not_called_by_its_name() -> None:
    """ai-toolkit's NAME_LoRA file has them, and their word is elsewhere."""
    names = [*pair("unet.a"), "emb_params"]
    with pytest.raises(Unsupported, match="nothing tells by which word a prompt names them"):
        learned_in(names, {}, "style_LoRA_000000500.safetensors")


def test_onetrainers_oft_is_read_without_lycoris(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told from PEFT's by the metadata, and computed without that package."""
    monkeypatch.setattr("clipwatch.layouts.adapter_file.find_spec", lambda _: None)
    assert kind_of(["lora_unet_a.oft_R.weight"], {"ot_revision": "23df383"}) == "lycoris"


@pytest.mark.parametrize(("names", "kind"), KINDS.values(), ids=KINDS)
def test_what_is_read(names: list[str], kind: str) -> None:
    """Every form of LoRA and LyCORIS is told by its names."""
    assert kind_of(names, {}) == kind


OTHERS = {
    "a ControlNet's LoRA": (pair("controlnet.a"), {}, "ControlNet"),
    "its LoHa": (["controlnet.a.hada_w1_a"], {}, "ControlNet"),
    "PixArt's": (pair("controlnet_blocks.0.a"), {}, "ControlNet"),
    "textual inversion": (["emb_params"], {}, "textual inversion"),
    "of two encoders": (["clip_g", "clip_l"], {}, "textual inversion"),
    "of an encoder's output": (["bundle_emb.a.t5_out"], {}, "output (bundle_emb.a.t5_out)"),
    "bundled": ([*pair("unet.a"), "bundle_emb.<a>.qwen"], {}, "learned tokens (bundle_emb)"),
    "AnyFlow": (
        [
            *pair("transformer.a"),
            "transformer.time_text_embed.delta_timestep_embedder.linear_1.weight",
        ],
        {},
        "further embeddings",
    ),
    "T-LoRA": (["lycoris_a.lambda_layer", "lycoris_a.q_layer.weight"], {}, "T-LoRA"),
    "biases": ([*pair("unet.a"), "unet.a.lora_A.bias"], {}, "biases"),
    "PEFT's OFT": (["unet.a.oft_R.weight"], {}, "(oft_R): neither OneTrainer's nor PEFT's"),
    "SingLoRA": ([f"unet.{it}.lora_A.weight" for it in "ab"], {}, "SingLoRA"),
    "PiSSA": (
        pair("unet.a"),
        {"lora_adapter_metadata": json.dumps({"unet.init_lora_weights": "pissa_niter_4"})},
        "'pissa_niter_4' had changed",
    ),
    "a model": (["conv_in.weight"], {}, "1 tensor of no form that is known, as conv_in.weight"),
    "escapes": (["\x1b[2J"], {}, "as \\x1b[2J"),
    "broken metadata": (
        pair("unet.a"),
        {"lora_adapter_metadata": "{not json"},
        "lora_adapter_metadata in its metadata is no JSON object but '{not json': its alphas",
    ),
    "a broken LyCORIS config": (
        ["lycoris_a.lokr_w1", "lycoris_a.lokr_w2", "lycoris_a.alpha"],
        {"lycoris_config": "[]"},
        "lycoris_config in its metadata is no JSON object but '[]': how it acts (bypass_mode)",
    ),
    "nothing under LyCORIS": (["a"], {"lycoris_config": "{}"}, "no form that is known"),
}


@pytest.mark.parametrize(("names", "metadata", "words"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_is_named(names: list[str], metadata: dict[str, str], words: str) -> None:
    """The reason says what lies there, in one printable line."""
    with pytest.raises(Unsupported) as told:
        kind_of(names, metadata)
    assert words in str(told.value)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 250


def test_what_no_picture_is_made_with_is_left_out() -> None:
    """Heads of additional losses and ComfyUI's marks; an embedding that acts is not among them."""
    idle = ["v_pred", "ztsnr", "crepa_projector.0.weight", "transformer.urepa_projector.1.bias"]
    assert acting([*idle, "conv_in.weight", "my_crepa_projector.weight"]) == [
        "conv_in.weight",
        "my_crepa_projector.weight",
    ]


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2))
def test_no_names_and_no_metadata_upset_it(name: str, metadata: dict[str, str]) -> None:
    """Any file is of a kind, or told."""
    for split in (lora_part, lycoris_part):
        assert split(name) is None or name.startswith(split(name)[0][:1])  # type: ignore[index]
    with suppress(Unsupported):
        assert kind_of([name], metadata) in {"lora", "lycoris"}


@given(st.text(max_size=40) | st.sampled_from(["[]", "null", "1", "[" * 5000, '{"a": NaN}']))
def test_metadata_of_any_kind_is_a_config_or_refused(text: str) -> None:
    """What is no JSON object is none, and told in one short line."""
    said, found = "", {}
    try:
        found = adapter_config({"lora_adapter_metadata": text})
    except Unsupported as told:
        said = str(told)
    assert said or isinstance(found, dict)
    assert not said or said.endswith(": its alphas are unknown")
    assert len(said) < 1100  # 80 characters, each of which may be told as ten
    assert said.isprintable()


@pytest.mark.parametrize("text", ["[]", "null", "1", "", "[" * 5000, "{"])
def test_metadata_that_is_no_object_is_refused(text: str) -> None:
    """By its name, whatever else it is."""
    with pytest.raises(Unsupported, match="lora_adapter_metadata in its metadata is no JSON obj"):
        adapter_config({"lora_adapter_metadata": text})
