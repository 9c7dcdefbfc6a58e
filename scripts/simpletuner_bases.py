"""Tiny base pipelines for runs of the real trainer: every family in one function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from transformers import AutoTokenizer

from clipwatch.demo.models import CLIP

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
import embedding_parts as parts
import tiny_new_families

LATENTS = 16
"""Channels of the latents of most flow-matching families."""


def write(family: str, folder: Path) -> None:
    """Write a family's pipeline with weights drawn from a fixed seed, in bf16."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = BASES[family]()
        for model in (it for it in pipeline.components.values() if isinstance(it, torch.nn.Module)):
            draw(model.eval())
            model.to(torch.bfloat16)
    pipeline.save_pretrained(folder, safe_serialization=True)


def write_parts(folder: Path) -> None:
    """Write another SDXL's denoiser flat as `other`, and its VAE below `sdxl-vae/vae`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        pipeline = sdxl()
        for model in (pipeline.unet, pipeline.vae):
            draw(model)
            model.to(torch.bfloat16)
    pipeline.unet.save_pretrained(folder / "other")
    pipeline.vae.save_pretrained(folder / "sdxl-vae" / "vae")


def draw(model: torch.nn.Module) -> None:
    """Give every weight one of two values, so that files pack to a bit for each.

    They are large enough for a text to show in the picture.
    """
    for name, tensor in model.named_parameters():
        sign = torch.randint(0, 2, tensor.shape) * 2.0 - 1
        if tensor.dim() > 1:
            tensor.data = sign * tensor[0].numel() ** -0.5
            if name == "decoder.conv_out.weight":
                tensor.data /= 2  # or half of the pixels would be black or white
        elif "pad_token" in name or name.endswith("bias"):
            tensor.data = sign * 0.02


def clip_tokens() -> Any:
    return AutoTokenizer.from_pretrained(CLIP, model_max_length=77)


def llama_tokens() -> Any:
    names = ["<unk>", "<s>", "</s>", "▁", *parts.LETTERS]
    vocabulary = {name: at for at, name in enumerate(names)}
    return transformers.LlamaTokenizer(vocab=vocabulary, merges=[], pad_token=names[2])


def clip_text(width: int = 32, *, projected: bool = False) -> Any:
    tokens = clip_tokens()
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=4,
        num_hidden_layers=3,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config)


def vae(channels: int = 4, **more: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=2,
        sample_size=64,
        **{"scaling_factor": 0.5, "force_upcast": False} | more,
    )


def flow_vae(channels: int = LATENTS) -> Any:
    return vae(channels, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609)


def betas(kind: str) -> Any:
    """Return a sampler of Stable Diffusion's noise schedule, with what its files say beside."""
    sampler = getattr(diffusers, kind)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    sampler.register_to_config(clip_sample=False, set_alpha_to_one=False)
    return sampler


flow = diffusers.FlowMatchEulerDiscreteScheduler


def sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip_text(),
        text_encoder_2=clip_text(projected=True),
        tokenizer=clip_tokens(),
        tokenizer_2=clip_tokens(),
        unet=parts.unet(
            cross_attention_dim=64,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,  # six sizes of 8, and the pooled text
        ),
        scheduler=betas("EulerDiscreteScheduler"),
    )


def sd1x() -> Any:
    return diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip_text(),
        tokenizer=clip_tokens(),
        unet=parts.unet(cross_attention_dim=32, attention_head_dim=4),
        scheduler=betas("PNDMScheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=LATENTS,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=LATENTS,
            pos_embed_max_size=16,
        ),
        scheduler=flow(shift=3.0),
        vae=flow_vae(),
        text_encoder=clip_text(projected=True),
        tokenizer=clip_tokens(),
        text_encoder_2=clip_text(projected=True),
        tokenizer_2=clip_tokens(),
        text_encoder_3=parts.t5(width=64),  # as wide as the two CLIP encoders beside each other
        tokenizer_3=parts.t5_tokens(),
    )


def flux() -> Any:
    return diffusers.FluxPipeline(
        scheduler=flow(shift=3.0, use_dynamic_shifting=True),
        vae=flow_vae(),
        text_encoder=clip_text(),
        tokenizer=clip_tokens(),
        text_encoder_2=parts.t5(),
        tokenizer_2=parts.t5_tokens(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=4 * LATENTS,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    )


def pixart() -> Any:
    sampler = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    # or the trainer's ddim clips, and what lies at the bound falls to this side or that
    sampler.register_to_config(clip_sample=False)
    return diffusers.PixArtSigmaPipeline(
        tokenizer=parts.t5_tokens(),
        text_encoder=parts.t5(),
        vae=vae(),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=32,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            norm_elementwise_affine=False,
        ),
        scheduler=sampler,
    )


def sana() -> Any:
    levels, widths = 6, (8, 8, 8, 8, 8, 32)
    return diffusers.SanaPipeline(
        tokenizer=parts.gemma_tokens(),
        text_encoder=parts.gemma(),
        vae=diffusers.AutoencoderDC(
            latent_channels=32,
            attention_head_dim=2,
            encoder_block_types=("ResBlock",) * levels,
            decoder_block_types=("ResBlock",) * levels,
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
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
            in_channels=32,
            out_channels=32,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=16,
        ),
        scheduler=flow(shift=7.0),
    )


def lumina2() -> Any:
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4,
            patch_size=2,
            in_channels=LATENTS,
            hidden_size=32,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(8, 4, 4),
            cap_feat_dim=16,
        ),
        scheduler=flow(shift=6.0),
        vae=flow_vae(),
        text_encoder=parts.gemma(),
        tokenizer=parts.gemma_tokens(),
    )


def auraflow() -> Any:
    return diffusers.AuraFlowPipeline(
        tokenizer=llama_tokens(),
        text_encoder=parts.t5("UMT5"),
        vae=vae(),
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
        scheduler=flow(shift=1.73),
    )


def chroma() -> Any:
    return diffusers.ChromaPipeline(
        scheduler=flow(shift=3.0),
        vae=flow_vae(),
        text_encoder=parts.t5(),
        tokenizer=parts.t5_tokens(),
        transformer=diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=4 * LATENTS,
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


def qwen_image() -> Any:
    return diffusers.QwenImagePipeline(
        scheduler=flow(
            use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=12,
            z_dim=LATENTS,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.0] * LATENTS,
            latents_std=[1.0] * LATENTS,
        ),
        text_encoder=parts.qwen_vl(),
        tokenizer=parts.qwen_tokens(),
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=4 * LATENTS,
            out_channels=LATENTS,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    )


def z_image() -> Any:
    return diffusers.ZImagePipeline(
        scheduler=flow(shift=6.0),
        vae=flow_vae(),
        text_encoder=parts.qwen3(),
        tokenizer=parts.qwen_tokens(),
        transformer=diffusers.ZImageTransformer2DModel(
            all_patch_size=(2,),
            all_f_patch_size=(1,),
            in_channels=LATENTS,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 32, 32],
        ),
    )


BASES: dict[str, Callable[[], Any]] = {
    "sdxl": sdxl,
    "sd1x": sd1x,
    "sd3": sd3,
    "flux": flux,
    "pixart": pixart,
    "sana": sana,
    "lumina2": lumina2,
    "auraflow": auraflow,
    "chroma": chroma,
    "qwen_image": qwen_image,
    "z_image": z_image,
    "kolors": tiny_new_families.kolors,
}
"""The trainer's name of a family → its pipeline, not yet drawn."""
