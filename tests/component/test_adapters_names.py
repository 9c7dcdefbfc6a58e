"""Whatever a trainer calls a module, it is found, or told; a translation loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from hypothesis import given
from hypothesis import strategies as st

import evaluator_kit as kit
import tiny_families
from clipwatch.evaluator.generation.adapters.foreign import foreign_names
from clipwatch.evaluator.generation.adapters.lora import Layer, place
from clipwatch.evaluator.generation.adapters.names import Names, Place
from clipwatch.evaluator.generation.adapters.translation import translate

pytestmark = kit.QUIET

RANK, ALPHA = 2, 5.0


@pytest.fixture(scope="module")
def flux() -> Any:
    """FLUX with tiny text encoders and a transformer of one block each, of the real width.

    Its weights are on no device: only names and shapes matter here.
    """
    pipeline = tiny_families.flux()
    with init_empty_weights():
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    pipeline.register_modules(transformer=transformer)
    return pipeline


@pytest.fixture(scope="module")
def sdxl() -> Any:
    """SDXL with tiny text encoders and a UNet of the real shape, on no device."""
    pipeline = tiny_families.stable_diffusion_xl()
    with init_empty_weights():
        unet = UNet2DConditionModel(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    pipeline.register_modules(unet=unet)
    return pipeline


def kohya(module: str, out: int, into: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a module's tensors as sd-scripts saves them."""
    noise = torch.Generator().manual_seed(seed)
    return {
        f"{module}.lora_down.weight": torch.randn(RANK, into, generator=noise),
        f"{module}.lora_up.weight": torch.randn(out, RANK, generator=noise),
        f"{module}.alpha": torch.tensor(ALPHA),
    }


def change(layer: Layer) -> torch.Tensor:
    """Return what a layer adds to a weight."""
    alpha = layer.rank if layer.alpha is None else layer.alpha
    return torch.Tensor(alpha / layer.rank * layer.up.float() @ layer.down.float())


def test_a_component_may_stand_before_pefts_prefix(sdxl: Any) -> None:
    """As diffusers' save_lora_weights writes a PEFT model that was handed to it (LCM)."""
    module = "down_blocks.1.resnets.0.conv1"
    found = Names(sdxl).find(f"unet.base_model.model.{module}")
    assert found == Place("unet", module)


WIDTH = 3072
FLUX = {
    "lora_unet_double_blocks_0_img_attn_qkv": (3 * WIDTH, WIDTH),
    "lora_unet_double_blocks_0_img_attn_proj": (WIDTH, WIDTH),
    "lora_unet_single_blocks_0_linear1": (3 * WIDTH + 4 * WIDTH, WIDTH),
    "lora_te1_text_model_encoder_layers_0_self_attn_q_proj": (32, 32),
    "lora_te3_encoder_block_0_layer_0_SelfAttention_q": (32, 32),
}
"""As sd-scripts names them: FLUX's own names, CLIP's, and T5's, which diffusers leaves out."""


def test_a_flux_lora_of_kohya_is_placed_whole_with_its_t5(flux: Any) -> None:
    """Diffusers drops T5 without a word; here all act, split as FLUX's layers are in diffusers."""
    tensors: dict[str, torch.Tensor] = {}
    for number, (module, shape) in enumerate(FLUX.items()):
        tensors |= kohya(module, *shape, seed=number)
    with_t5 = dict(tensors)
    found = place(Names(flux), flux, with_t5)
    assert {it.component for it in found} == {"transformer", "text_encoder", "text_encoder_2"}
    qkv = (
        ALPHA
        / RANK
        * (
            tensors["lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight"]
            @ tensors["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"]
        )
    )
    for part, name in enumerate(("to_q", "to_k", "to_v")):
        layer = found[Place("transformer", f"transformer_blocks.0.attn.{name}")]
        expected = qkv[part * WIDTH : (part + 1) * WIDTH]
        assert (change(layer) - expected).abs().max() <= 1e-4
    t5 = found[Place("text_encoder_2", "encoder.block.0.layer.0.SelfAttention.q")]
    expected = (
        ALPHA
        / RANK
        * (
            tensors["lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight"]
            @ tensors["lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight"]
        )
    )
    assert torch.allclose(change(t5), expected)
    assert len(found) == 3 + 1 + 4 + 1 + 1


def test_what_diffusers_leaves_out_is_named(flux: Any) -> None:
    """The same file, left to diffusers alone: it says nothing of T5, we do."""
    tensors: dict[str, torch.Tensor] = {}
    for number, (module, shape) in enumerate(FLUX.items()):
        tensors |= kohya(module, *shape, seed=number)
    with pytest.raises(ValueError, match=r"of 5 modules .* leaves out 1 module \(lora_te3_enc"):
        translate(flux, tensors)


def test_an_sdxl_lora_in_sgm_names_has_its_alphas(sdxl: Any) -> None:
    """Blocks are numbered otherwise there; alpha comes beside the tensors, under odd names."""
    module = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    other = "lora_unet_output_blocks_0_1_proj_in"
    tensors = {**kohya(module, 640, 640, 1), **kohya(other, 1280, 1280, 2)}
    found = place(Names(sdxl), sdxl, tensors)
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    layer = found[Place("unet", path)]
    assert layer.alpha == ALPHA
    assert torch.equal(layer.up, tensors[f"{module}.lora_up.weight"])
    (rest,) = (it for it in found if it.path != path)
    assert rest == Place("unet", "up_blocks.0.attentions.0.proj_in")
    assert found[rest].alpha == ALPHA


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_our_map_of_a_unet_is_that_of_diffusers(sdxl: Any, family: str) -> None:
    """Each weight, read as one of a whole UNet of the real shape, comes to where the map says."""
    unet = sdxl.unet
    if family == "sd":
        with init_empty_weights():
            unet = UNet2DConditionModel(cross_attention_dim=768)
    ours = foreign_names("UNet2DConditionModel", [path for path, _ in unet.named_modules()])
    weighted = {
        path for path, it in unet.named_modules() if getattr(it, "weight", None) is not None
    }
    theirs = {name: joint.paths[0] for name, joint in ours.items() if joint.paths[0] in weighted}
    marks = dict(enumerate(theirs))
    state = {
        f"model.diffusion_model.{name}.{part}": torch.tensor(float(mark))
        for mark, name in marks.items()
        for part in ("weight", "bias")
    }
    found = convert_ldm_unet_checkpoint(state, dict(unet.config))
    seen = {
        name.removesuffix(".weight"): theirs[marks[int(mark)]]
        for name, mark in found.items()
        if name.endswith(".weight")
    }
    assert {path: path for path in seen} == seen
    assert seen.keys() == weighted


@pytest.mark.parametrize(
    "module", ["lora_unet_input_blocks_77_1_proj_in", "diffusion_model.input_blocks.1.1.proj_in"]
)
def test_a_name_that_nobody_knows_is_told(sdxl: Any, module: str) -> None:
    """It is the file's own name that is told."""
    with pytest.raises(ValueError, match="1 module"):
        place(Names(sdxl), sdxl, kohya(module, 640, 640))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unet.mid_block.resnets.0.conv1", ("unet", "mid_block.resnets.0.conv1")),
        ("diffusion_model.mid_block.resnets.0.conv1", ("unet", "mid_block.resnets.0.conv1")),
        ("base_model.model.mid_block.resnets.0.conv1", ("unet", "mid_block.resnets.0.conv1")),
        ("mid_block.resnets.0.conv1", ("unet", "mid_block.resnets.0.conv1")),
        ("lycoris_mid_block_resnets_0_conv1", ("unet", "mid_block.resnets.0.conv1")),
        ("lora_unet_mid_block_resnets_0_conv1", ("unet", "mid_block.resnets.0.conv1")),
        ("text_encoder.encoder.layers.0.mlp.fc1", ("text_encoder", "encoder.layers.0.mlp.fc1")),
        (
            "text_encoder.text_model.encoder.layers.0.mlp.fc1",
            ("text_encoder", "encoder.layers.0.mlp.fc1"),
        ),
        (
            "lora_te2_text_model_encoder_layers_0_mlp_fc1",
            ("text_encoder_2", "text_model.encoder.layers.0.mlp.fc1"),
        ),
        ("unet.mid_block.resnets.9.conv1", None),
        ("text_encoder_3.encoder.layers.0.mlp.fc1", None),
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q", None),
        ("lora_unet_", None),
        ("", None),
    ],
)
def test_names_are_found(sdxl: Any, name: str, expected: tuple[str, str] | None) -> None:
    """In diffusers' way, ComfyUI's, PEFT's, kohya's and LyCORIS's, of any version of CLIP."""
    found = Names(sdxl).find(name)
    if found is None or expected is None:
        assert found is expected
    else:
        assert found.component == expected[0]
        assert found.path.removeprefix("text_model.") == expected[1].removeprefix("text_model.")


def test_every_module_is_found_by_every_name(sdxl: Any) -> None:
    """Each of a real UNet's modules has a flat name of its own."""
    names = Names(sdxl)
    for path, _ in sdxl.unet.named_modules():
        if path:
            for name in (f"unet.{path}", path, f"lycoris_{path.replace('.', '_')}"):
                assert names.find(name) == Place("unet", path)


@pytest.mark.thorough
@given(st.text(max_size=30) | st.from_regex(r"(lora_unet_|unet\.|lycoris_)[a-z0-9_.]{0,20}"))
def test_no_name_upsets_the_search(sdxl: Any, name: str) -> None:
    """Any text is a module's name, or none."""
    found = Names(sdxl).find(name)
    assert found is None or found.path
