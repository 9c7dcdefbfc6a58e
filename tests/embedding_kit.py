"""A tiny random pipeline of each family whose prompts are encoded once; made without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import diffusers
import torch

import embedding_parts as parts
from clipwatch.evaluator import embeddings
from clipwatch.protocol import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

PROMPTS = (
    Prompt("short", "red"),
    Prompt("long", "two blue squares on a black background, seen from far above"),
    Prompt("middle", "one green circle"),
)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that names every call of a text encoder's forward from here on.

    Of pipelines that are covered, and loaded from here on.
    """
    made: list[str] = []

    def counted(pipeline: Any) -> dict[str, torch.nn.Module]:
        found = text_encoders(pipeline)
        for name, model in found.items():
            model.register_forward_hook(lambda *_, name=name: made.append(name))
        return found

    text_encoders = embeddings.text_encoders
    monkeypatch.setattr(embeddings, "text_encoders", counted)
    return made


def write_pipeline(family: str, folder: Path, *, seed: int = 0) -> str:
    """Write a family's pipeline with weights drawn from the seed; return its denoiser's name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = FAMILIES[family]()
        for model in (it for it in pipeline.components.values() if isinstance(it, torch.nn.Module)):
            _stir(model.eval())
    pipeline.save_pretrained(folder, safe_serialization=True)
    return "unet" if hasattr(pipeline, "unet") else "transformer"


def _stir(model: torch.nn.Module) -> None:
    """Draw weights large enough that a text shows in the picture."""
    for name, tensor in model.named_parameters():
        if tensor.dim() > 1:
            torch.nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5)
        elif "pad_token" in name or name.endswith("bias"):
            torch.nn.init.normal_(tensor, std=0.02)


# --- families ------------------------------------------------------------------------------------


def stable_diffusion() -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip_text(),
        tokenizer=parts.clip_tokens(),
        unet=parts.unet(cross_attention_dim=32, attention_head_dim=4),
        scheduler=diffusers.DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=parts.vae(),
        text_encoder=parts.clip_text(),
        text_encoder_2=parts.clip_text(projected=True),
        tokenizer=parts.clip_tokens(),
        tokenizer_2=parts.clip_tokens(),
        unet=parts.unet(
            cross_attention_dim=64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,  # six sizes of 8, and the pooled text
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )


def stable_diffusion_3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=8,
            caption_projection_dim=64,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=4,
        ),
        scheduler=parts.flow(),
        vae=parts.flow_vae(),
        text_encoder=parts.clip_text(projected=True),
        tokenizer=parts.clip_tokens(),
        text_encoder_2=parts.clip_text(projected=True),
        tokenizer_2=parts.clip_tokens(),
        text_encoder_3=parts.t5(width=64),  # as wide as the two CLIP encoders beside each other
        tokenizer_3=parts.t5_tokens(),
    )


def flux() -> Any:
    return diffusers.FluxPipeline(
        scheduler=parts.flow(),
        vae=parts.flow_vae(1),
        text_encoder=parts.clip_text(),
        tokenizer=parts.clip_tokens(),
        text_encoder_2=parts.t5(),
        tokenizer_2=parts.t5_tokens(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def pixart_sigma() -> Any:
    return diffusers.PixArtSigmaPipeline(
        tokenizer=parts.t5_tokens(),
        text_encoder=parts.t5(),
        vae=parts.vae(levels=4),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=32,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            norm_elementwise_affine=False,
        ),
        scheduler=diffusers.DDIMScheduler(),
    )


def sana() -> Any:
    levels = 6
    return diffusers.SanaPipeline(
        tokenizer=parts.gemma_tokens(),
        text_encoder=parts.gemma(),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock",) * levels,
            decoder_block_types=("ResBlock",) * levels,
            encoder_block_out_channels=(4,) * levels,
            decoder_block_out_channels=(4,) * levels,
            encoder_qkv_multiscales=((),) * levels,
            decoder_qkv_multiscales=((),) * levels,
            encoder_layers_per_block=(1,) * levels,
            decoder_layers_per_block=(1,) * levels,
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )


def lumina2() -> Any:
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4,
            patch_size=2,
            in_channels=4,
            hidden_size=8,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            cap_feat_dim=16,
        ),
        scheduler=parts.flow(),
        vae=parts.flow_vae(),
        text_encoder=parts.gemma(),
        tokenizer=parts.gemma_tokens(),
    )


def qwen_image() -> Any:
    return diffusers.QwenImagePipeline(
        scheduler=parts.flow(),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=24,
            z_dim=4,
            dim_mult=[1, 2, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=parts.qwen_vl(),
        tokenizer=parts.qwen_tokens(),
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    )


def z_image() -> Any:
    return diffusers.ZImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flow_vae(16),
        text_encoder=parts.qwen3(),
        tokenizer=parts.qwen_tokens(),
        transformer=diffusers.ZImageTransformer2DModel(
            all_patch_size=(2,),
            all_f_patch_size=(1,),
            in_channels=16,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[512, 32, 32],
        ),
    )


def chroma() -> Any:
    return diffusers.ChromaPipeline(
        scheduler=parts.flow(),
        vae=parts.flow_vae(1),
        text_encoder=parts.t5(),
        tokenizer=parts.t5_tokens(),
        transformer=diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
    )


def aura_flow() -> Any:
    return diffusers.AuraFlowPipeline(
        tokenizer=parts.t5_tokens(),
        text_encoder=parts.t5("UMT5"),
        vae=parts.vae(),
        transformer=diffusers.AuraFlowTransformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            out_channels=4,
            pos_embed_max_size=256,
        ),
        scheduler=parts.flow(),
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "FluxPipeline": flux,
    "PixArtSigmaPipeline": pixart_sigma,
    "SanaPipeline": sana,
    "Lumina2Pipeline": lumina2,
    "QwenImagePipeline": qwen_image,
    "ZImagePipeline": z_image,
    "ChromaPipeline": chroma,
    "AuraFlowPipeline": aura_flow,
}
