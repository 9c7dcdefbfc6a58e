"""LoRAs of other trainers, in their names and forms: each weight changes as computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import evaluator_kit as kit
import tiny_families
import tiny_new_families
from clipwatch.evaluator.generation import adapters
from trained_forms import ALPHA, RANK, State

pytestmark = kit.QUIET

EXACT = 1e-6
FAMILIES: dict[str, Callable[[], Any]] = {
    "sd": tiny_families.stable_diffusion,
    "sdxl": tiny_families.stable_diffusion_xl,
    "sd3": tiny_families.stable_diffusion_3,
    "flux": tiny_families.flux,
    "flux2": tiny_new_families.flux_2,
    "lumina": tiny_families.lumina2,
    "qwen": tiny_families.qwen_image,
    "z_image": tiny_families.z_image,
}


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    """Pipelines by family, made when one is asked for; every test leaves one as it was."""
    return {}


def pipeline_of(pipelines: dict[str, Any], family: str) -> Any:
    if family not in pipelines:
        torch.manual_seed(0)
        pipelines[family] = FAMILIES[family]()
    return pipelines[family]


# --- names ---------------------------------------------------------------------------------------

SWAPPED = "swapped: "
"""Before a module whose halves stand the other way round in the file."""


def blocks(at: str, *leaves: str) -> list[str]:
    return [f"{at}.{leaf}" for leaf in leaves]


QKV = ("to_q", "to_k", "to_v")
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
SELF = "transformer_blocks.0.attn1.to_q"
DOUBLE, SINGLE = "transformer_blocks.0", "single_transformer_blocks.0"

UNET = {
    "time_embed_0": ["unet.time_embedding.linear_1"],
    "time_embed_2": ["unet.time_embedding.linear_2"],
    "input_blocks_0_0": ["unet.conv_in"],
    "input_blocks_1_0_in_layers_2": ["unet.down_blocks.0.resnets.0.conv1"],
    "input_blocks_1_0_emb_layers_1": ["unet.down_blocks.0.resnets.0.time_emb_proj"],
    "input_blocks_1_0_out_layers_3": ["unet.down_blocks.0.resnets.0.conv2"],
    "middle_block_0_in_layers_2": ["unet.mid_block.resnets.0.conv1"],
    "middle_block_1_proj_in": ["unet.mid_block.attentions.0.proj_in"],
    f"middle_block_1_{SELF.replace('.', '_')}": [f"unet.mid_block.attentions.0.{SELF}"],
    "middle_block_2_out_layers_3": ["unet.mid_block.resnets.1.conv2"],
    "out_2": ["unet.conv_out"],
}
UNET |= {  # of one layer a block, and attention in the inner ones
    "input_blocks_2_0_op": ["unet.down_blocks.0.downsamplers.0.conv"],
    "input_blocks_3_0_skip_connection": ["unet.down_blocks.1.resnets.0.conv_shortcut"],
    "input_blocks_3_1_proj_in": ["unet.down_blocks.1.attentions.0.proj_in"],
    f"output_blocks_0_1_{SELF.replace('.', '_')}": [f"unet.up_blocks.0.attentions.0.{SELF}"],
    "output_blocks_1_0_in_layers_2": ["unet.up_blocks.0.resnets.1.conv1"],
    "output_blocks_1_1_proj_out": ["unet.up_blocks.0.attentions.1.proj_out"],
    "output_blocks_1_2_conv": ["unet.up_blocks.0.upsamplers.0.conv"],
    "output_blocks_2_0_emb_layers_1": ["unet.up_blocks.1.resnets.0.time_emb_proj"],
    "output_blocks_3_0_out_layers_3": ["unet.up_blocks.1.resnets.1.conv2"],
}

FLUX = {
    "img_in": ["transformer.x_embedder"],
    "txt_in": ["transformer.context_embedder"],
    "time_in_in_layer": ["transformer.time_text_embed.timestep_embedder.linear_1"],
    "time_in_out_layer": ["transformer.time_text_embed.timestep_embedder.linear_2"],
    "vector_in_in_layer": ["transformer.time_text_embed.text_embedder.linear_1"],
    "vector_in_out_layer": ["transformer.time_text_embed.text_embedder.linear_2"],
    "double_blocks_0_img_attn_qkv": blocks(f"transformer.{DOUBLE}.attn", *QKV),
    "double_blocks_0_txt_attn_qkv": blocks(f"transformer.{DOUBLE}.attn", *ADDED),
    "double_blocks_0_img_attn_proj": [f"transformer.{DOUBLE}.attn.to_out.0"],
    "double_blocks_0_txt_attn_proj": [f"transformer.{DOUBLE}.attn.to_add_out"],
    "double_blocks_0_img_mod_lin": [f"transformer.{DOUBLE}.norm1.linear"],
    "double_blocks_0_txt_mod_lin": [f"transformer.{DOUBLE}.norm1_context.linear"],
    "double_blocks_0_img_mlp_0": [f"transformer.{DOUBLE}.ff.net.0.proj"],
    "double_blocks_0_img_mlp_2": [f"transformer.{DOUBLE}.ff.net.2"],
    "double_blocks_0_txt_mlp_0": [f"transformer.{DOUBLE}.ff_context.net.0.proj"],
    "double_blocks_0_txt_mlp_2": [f"transformer.{DOUBLE}.ff_context.net.2"],
    "single_blocks_0_linear1": [
        *blocks(f"transformer.{SINGLE}.attn", *QKV),
        f"transformer.{SINGLE}.proj_mlp",
    ],
    "single_blocks_0_linear2": [f"transformer.{SINGLE}.proj_out"],
    "single_blocks_0_modulation_lin": [f"transformer.{SINGLE}.norm.linear"],
    "final_layer_linear": ["transformer.proj_out"],
    "final_layer_adaLN_modulation_1": [f"{SWAPPED}transformer.norm_out.linear"],
}
FLUX_2 = {
    "img_in": ["transformer.x_embedder"],
    "double_stream_modulation_img_lin": ["transformer.double_stream_modulation_img.linear"],
    "double_blocks_0_img_attn_qkv": blocks(f"transformer.{DOUBLE}.attn", *QKV),
    "double_blocks_0_txt_attn_proj": [f"transformer.{DOUBLE}.attn.to_add_out"],
    "double_blocks_0_img_mlp_0": [f"transformer.{DOUBLE}.ff.linear_in"],
    "double_blocks_0_txt_mlp_2": [f"transformer.{DOUBLE}.ff_context.linear_out"],
    "single_blocks_0_linear1": [f"transformer.{SINGLE}.attn.to_qkv_mlp_proj"],
    "single_blocks_0_linear2": [f"transformer.{SINGLE}.attn.to_out"],
    "final_layer_adaLN_modulation_1": [f"{SWAPPED}transformer.norm_out.linear"],
}
SD_3 = {
    "x_embedder_proj": ["transformer.pos_embed.proj"],
    "context_embedder": ["transformer.context_embedder"],
    "t_embedder_mlp_0": ["transformer.time_text_embed.timestep_embedder.linear_1"],
    "y_embedder_mlp_2": ["transformer.time_text_embed.text_embedder.linear_2"],
    "joint_blocks_0_x_block_attn_qkv": blocks(f"transformer.{DOUBLE}.attn", *QKV),
    "joint_blocks_0_context_block_attn_qkv": blocks(f"transformer.{DOUBLE}.attn", *ADDED),
    "joint_blocks_0_x_block_attn_proj": [f"transformer.{DOUBLE}.attn.to_out.0"],
    "joint_blocks_0_x_block_adaLN_modulation_1": [f"transformer.{DOUBLE}.norm1.linear"],
    "joint_blocks_0_context_block_adaLN_modulation_1": [  # of the last block, as there is one
        f"{SWAPPED}transformer.{DOUBLE}.norm1_context.linear"
    ],
    "joint_blocks_0_x_block_mlp_fc1": [f"transformer.{DOUBLE}.ff.net.0.proj"],
    "joint_blocks_0_x_block_mlp_fc2": [f"transformer.{DOUBLE}.ff.net.2"],
    "final_layer_linear": ["transformer.proj_out"],
    "final_layer_adaLN_modulation_1": [f"{SWAPPED}transformer.norm_out.linear"],
}
LUMINA = {
    "layers_0_attention_qkv": blocks("transformer.layers.0.attn", *QKV),
    "layers_0_attention_out": ["transformer.layers.0.attn.to_out.0"],
    "noise_refiner_0_feed_forward_w1": ["transformer.noise_refiner.0.feed_forward.linear_1"],
    "context_refiner_0_feed_forward_w3": ["transformer.context_refiner.0.feed_forward.linear_3"],
    "layers_0_adaLN_modulation_1": ["transformer.layers.0.norm1.linear"],
}
Z_IMAGE = {
    "layers_0_attention_qkv": blocks("transformer.layers.0.attention", *QKV),
    "layers_0_attention_out": ["transformer.layers.0.attention.to_out.0"],
    "layers_0_feed_forward_w1": ["transformer.layers.0.feed_forward.w1"],
    "noise_refiner_0_attention_to_q": ["transformer.noise_refiner.0.attention.to_q"],
    "layers_0_adaLN_modulation_0": ["transformer.layers.0.adaLN_modulation.0"],
}
QWEN = {
    "transformer_blocks_0_attn_to_q": ["transformer.transformer_blocks.0.attn.to_q"],
    "transformer_blocks_0_txt_mod_1": ["transformer.transformer_blocks.0.txt_mod.1"],
    "transformer_blocks_0_img_mlp_net_2": ["transformer.transformer_blocks.0.img_mlp.net.2"],
}
DENOISERS = {
    "sd": UNET,
    "sdxl": UNET | {"label_emb_0_2": ["unet.add_embedding.linear_2"]},
    "sd3": SD_3,
    "flux": FLUX,
    "flux2": FLUX_2,
    "lumina": LUMINA,
    "qwen": QWEN,
    "z_image": Z_IMAGE,
}
CLIP, T5 = "encoder.layers.0.self_attn.q_proj", "encoder.block.0.layer.0.SelfAttention.q"
TEXTS = {
    "sd": {"lora_te_text_model_": f"text_encoder.{CLIP}"},
    "sdxl": {
        "lora_te1_text_model_": f"text_encoder.{CLIP}",
        "lora_te2_text_model_": f"text_encoder_2.text_model.{CLIP}",
    },
    "sd3": {
        "lora_te1_text_model_": f"text_encoder.text_model.{CLIP}",
        "lora_te2_text_model_": f"text_encoder_2.text_model.{CLIP}",
        "lora_te3_": f"text_encoder_3.{T5}",
    },
    "flux": {
        "lora_te1_text_model_": f"text_encoder.{CLIP}",
        "lora_te3_": f"text_encoder_2.{T5}",
    },
}
"""kohya's, before the name of the layer."""

COMFY = {
    "diffusion_model.input_blocks.3.1.proj_in": ["unet.down_blocks.1.attentions.0.proj_in"],
    "diffusion_model.output_blocks.1.2.conv": ["unet.up_blocks.0.upsamplers.0.conv"],
    f"text_encoders.clip_l.transformer.text_model.{CLIP}": [f"text_encoder.{CLIP}"],
    f"text_encoders.clip_g.transformer.text_model.{CLIP}": [f"text_encoder_2.text_model.{CLIP}"],
}
"""As OneTrainer writes SDXL for ComfyUI."""


def weight_in(pipeline: Any, place: str) -> torch.Tensor:
    """Return the weight of a module, what an adapter of PEFT adds to it among it."""
    component, _, path = place.removeprefix(SWAPPED).partition(".")
    layer = pipeline.components[component].get_submodule(path)
    if hasattr(layer, "base_layer"):
        (name,) = layer.lora_A
        return torch.Tensor(layer.base_layer.weight + layer.get_delta_weight(name)).detach()
    return torch.Tensor(layer.weight.detach().clone())


def whole_weight(pipeline: Any, places: list[str]) -> torch.Tensor:
    """Return the weight of a layer that is several here, as its file has it."""
    return torch.cat([turned(weight_in(pipeline, it), it) for it in places])


def turned(weight: torch.Tensor, place: str) -> torch.Tensor:
    return torch.cat(weight.chunk(2)[::-1]) if place.startswith(SWAPPED) else weight


def pairs(pipeline: Any, names: Mapping[str, list[str]], seed: int) -> dict[str, State]:
    """Return a trained pair and an alpha for each layer of a file."""
    noise = torch.Generator().manual_seed(seed)
    found: dict[str, State] = {}
    for name, places in names.items():
        outputs, *inputs = whole_weight(pipeline, places).shape
        point = [1] * (len(inputs) - 1)
        found[name] = {
            "lora_down.weight": torch.randn(RANK, *inputs, generator=noise) * 0.1,
            "lora_up.weight": torch.randn(outputs, RANK, *point, generator=noise),
            "alpha": torch.tensor(ALPHA),
        }
    return found


def flattened(layers: Mapping[str, State]) -> State:
    return {
        f"{name}.{leaf}": it for name, tensors in layers.items() for leaf, it in tensors.items()
    }


def kohya(family: str) -> dict[str, list[str]]:
    """Return the layers by the names of sd-scripts and musubi."""
    names = {f"lora_unet_{name}": places for name, places in DENOISERS[family].items()}
    for start, place in TEXTS.get(family, {}).items():
        layer = CLIP if place.endswith(CLIP) else T5
        names[f"{start}{layer.replace('.', '_')}"] = [place]
    return names


@pytest.mark.parametrize("family", DENOISERS)
@pytest.mark.thorough(but=3)
def test_every_weight_changes_by_what_kohyas_file_says(
    pipelines: dict[str, Any], tmp_path: Path, family: str
) -> None:
    """alpha/r x up x down, for layers that are several here in their rows, T5's among them."""
    pipeline = pipeline_of(pipelines, family)
    names = kohya(family)
    layers = pairs(pipeline, names, 1)
    save_file(flattened(layers), tmp_path / "a.safetensors")
    check(pipeline, tmp_path / "a.safetensors", names, layers)


@pytest.mark.parametrize("leaves", [("lora_down", "lora_up"), ("lora_A", "lora_B")])
def test_comfyuis_names(pipelines: dict[str, Any], tmp_path: Path, leaves: tuple[str, str]) -> None:
    """With dots, and of both text encoders."""
    pipeline = pipeline_of(pipelines, "sdxl")
    layers = pairs(pipeline, COMFY, 2)
    state = {
        name.replace("lora_down", leaves[0]).replace("lora_up", leaves[1]): it
        for name, it in flattened(layers).items()
    }
    save_file(state, tmp_path / "a.safetensors")
    check(pipeline, tmp_path / "a.safetensors", COMFY, layers)


def check(
    pipeline: Any, path: Path, names: Mapping[str, list[str]], layers: Mapping[str, State]
) -> None:
    """Make sure that a file of pairs changes what it names by what it says, and nothing else."""
    before = {name: whole_weight(pipeline, places) for name, places in names.items()}
    states = {name: it.clone() for name, it in states_of(pipeline).items()}
    adapter = adapters.apply(pipeline, path, alpha=None)
    after = {name: whole_weight(pipeline, places) for name, places in names.items()}
    adapted = {
        f"{component}.{path}"
        for component, model in pipeline.components.items()
        if isinstance(model, torch.nn.Module)
        for path, layer in model.named_modules()
        if hasattr(layer, "base_layer")
    }
    adapter.remove()
    assert adapted == {it.removeprefix(SWAPPED) for places in names.values() for it in places}
    for name, tensors in layers.items():
        up, down = (tensors[f"lora_{half}.weight"].flatten(1) for half in ("up", "down"))
        expected = (ALPHA / RANK * up @ down).reshape(before[name].shape)
        assert expected.abs().max() > 0.05
        assert (after[name] - before[name] - expected).abs().max() <= EXACT, name
    assert all(torch.equal(states[name], it) for name, it in states_of(pipeline).items())


def states_of(pipeline: Any) -> State:
    return {
        f"{component}.{name}": it
        for component, model in pipeline.components.items()
        if isinstance(model, torch.nn.Module)
        for name, it in model.state_dict().items()
    }
