"""Stable Diffusion in its authors' form, as sd-scripts and OneTrainer save whole models.

After diffusers' scripts/convert_diffusers_to_original_stable_diffusion.py and _sdxl.py, the reverse
of what is read; test_whole_files.py holds its names against a real file of sd-scripts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

import diffusers
import torch
import transformers

import embedding_parts as parts

State = dict[str, torch.Tensor]

SCHEDULE: Final = (
    *("alphas_cumprod", "alphas_cumprod_prev", "betas", "log_one_minus_alphas_cumprod"),
    *("posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("posterior_variance", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
)
"""What OneTrainer saves beside the weights."""


def sd(seed: int, words: int = 0) -> Any:
    """Return SD 1 in its real topology, of the widths of the run directories.

    Args:
        seed: Of its weights.
        words: Of its vocabulary; 0 for all of the tokenizer.
    """
    torch.manual_seed(seed)
    tokenizer = parts.clip_tokens()
    return diffusers.StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=transformers.CLIPTextModel(_clip(words or len(tokenizer))),
        tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            block_out_channels=(32,) * 4, cross_attention_dim=32, norm_num_groups=8, sample_size=8
        ),
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(seed: int) -> Any:
    """Return SDXL in its real topology, but for the depth of its transformers."""
    torch.manual_seed(seed)
    tokenizer = parts.clip_tokens()
    config = _clip(len(tokenizer))
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=transformers.CLIPTextModel(config),
        text_encoder_2=transformers.CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            attention_head_dim=(2, 4, 4),
            cross_attention_dim=64,
            norm_num_groups=2,
            sample_size=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )


def _clip(words: int) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=words,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
    )


def _vae() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=8,
        sample_size=64,
    )


def original(pipeline: Any) -> State:
    """Return all weights of a pipeline under their authors' names."""
    weights = pipeline.unet.state_dict()
    found = {f"model.diffusion_model.{_unet(name, weights)}": it for name, it in weights.items()}
    for name, it in pipeline.vae.state_dict().items():
        attention = "attentions" in name and it.dim() == 2
        found[f"first_stage_model.{_in_vae(name)}"] = it[..., None, None] if attention else it
    second = hasattr(pipeline, "text_encoder_2")
    start = "conditioner.embedders.0" if second else "cond_stage_model"
    for name, it in pipeline.text_encoder.state_dict().items():
        found[f"{start}.transformer.text_model.{name.removeprefix('text_model.')}"] = it
    if second:
        towers = open_clip(pipeline.text_encoder_2.state_dict())
        found |= {f"conditioner.embedders.1.model.{name}": it for name, it in towers.items()}
    return {name: it.detach().clone().contiguous() for name, it in found.items()}


_UNET: Final = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^add_embedding\.linear_1\.", "label_emb.0.0."),
    (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^mid_block\.attentions\.0\.", "middle_block.1."),
)
_RESNET: Final = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)


def _unet(name: str, names: Collection[str]) -> str:
    for ours, theirs in _UNET:
        name = re.sub(ours, theirs, name)
    if match := re.match(r"mid_block\.resnets\.(\d)(.*)", name):
        return _resnet(f"middle_block.{2 * int(match[1])}{match[2]}")
    match = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)(\..*)", name)
    if not match:
        return name
    side, block, kind, layer, rest = match.groups()
    at = 3 * int(block) + int(layer) + (side == "down")
    into = "input" if side == "down" else "output"
    match kind:
        case "attentions":
            return f"{into}_blocks.{at}.1{rest}"
        case "downsamplers":
            return f"input_blocks.{3 * int(block) + 3}.0.op{rest.removeprefix('.conv')}"
        case "upsamplers":  # behind the attention, if there is one
            attends = f"up_blocks.{block}.attentions.0.norm.weight" in names
            return f"output_blocks.{3 * int(block) + 2}.{1 + attends}{rest}"
    return _resnet(f"{into}_blocks.{at}.0{rest}")


def _resnet(name: str) -> str:
    for ours, theirs in _RESNET:
        name = re.sub(ours, theirs, name)
    return name


_VAE: Final = (
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"down_blocks\.(\d)\.resnets\.(\d)\.", r"down.\1.block.\2."),
    (r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample."),
)
_ATTENTION: Final = (
    (r"group_norm\.", "norm."),
    (r"to_([qkv])\.", r"\1."),
    (r"to_out\.0\.", "proj_out."),
)


def _in_vae(name: str) -> str:
    for ours, theirs in _VAE + (_ATTENTION if "attentions" in name else ()):
        name = re.sub(ours, theirs, name)
    if match := re.search(r"up_blocks\.(\d)\.(\w+)\.(\d)\.", name):  # the other way round
        block = f"up.{3 - int(match[1])}"
        part = f"block.{match[3]}" if match[2] == "resnets" else "upsample"
        name = name.replace(match[0], f"{block}.{part}.")
    return name


_OPEN_CLIP: Final = (
    (r"^text_model\.", ""),
    (r"^embeddings\.token_embedding\.", "token_embedding."),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight", "text_projection"),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"layer_norm([12])", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn\.out_proj", "attn.out_proj"),
    (r"self_attn\.[qkv]_proj\.(\w+)", r"attn.in_proj_\1"),
)


def open_clip(state: State) -> State:
    """Return a text tower's weights in the names of OpenCLIP, with the scale that it has."""
    found: dict[str, list[torch.Tensor]] = {"logit_scale": [torch.tensor(4.6)]}
    for half in "qkv":  # in this order
        for name, it in state.items():
            its = name
            for ours, theirs in _OPEN_CLIP:
                its = re.sub(ours, theirs, its)
            joined = "in_proj" in its
            if joined and f".{half}_proj." in name:
                found.setdefault(its, []).append(it)
            elif not joined:
                found[its] = [it.T if its == "text_projection" else it]
    return {name: it[0] if len(it) == 1 else torch.cat(it) for name, it in found.items()}
