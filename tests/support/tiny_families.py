"""Tiny random pipelines of the families that diffusers has had for long; nothing is fetched."""

from __future__ import annotations

from typing import Any

import diffusers

import embedding_parts as parts


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
        transformer=sana_transformer(sample_size=16),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )


def sana_transformer(**more: Any) -> Any:
    return diffusers.SanaTransformer2DModel(
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
        **more,
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
        vae=parts.qwen_vae(),
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
        transformer=z_image_transformer(),
    )


def z_image_transformer(**more: Any) -> Any:
    return diffusers.ZImageTransformer2DModel(
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
        **more,
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
