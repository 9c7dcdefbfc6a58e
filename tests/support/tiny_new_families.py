"""Tiny random pipelines of the families that came to diffusers of late; nothing is fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import pytest
import sentencepiece
import torch
import transformers
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig

import embedding_parts as parts
import tiny_families


def flux_2() -> Any:
    return diffusers.Flux2Pipeline(
        scheduler=parts.flow(),
        vae=parts.flux_2_vae(),
        text_encoder=transformers.Mistral3ForConditionalGeneration(parts.mistral(30)),
        tokenizer=parts.qwen_tokens(),
        transformer=parts.flux_2_transformer(),
    )


def flux_2_klein() -> Any:
    return diffusers.Flux2KleinPipeline(
        scheduler=parts.flow(),
        vae=parts.flux_2_vae(),
        text_encoder=transformers.Qwen3ForCausalLM(parts.qwen3_config(27)),
        tokenizer=parts.qwen_tokens(),
        transformer=parts.flux_2_transformer(guidance_embeds=False),
    )


def krea_2() -> Any:
    return diffusers.Krea2Pipeline(
        scheduler=parts.flow(),
        vae=parts.qwen_vae(),
        text_encoder=transformers.Qwen3VLModel(parts.qwen3_vl(2)),
        tokenizer=parts.qwen_tokens(),
        text_encoder_select_layers=(0, 1, 2),
        transformer=diffusers.Krea2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=16,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
        ),
    )


def hidream() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    return diffusers.HiDreamImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flow_vae(levels=1),  # its images are of 128 x 128 latents
        text_encoder=parts.clip_text(projected=True, length=128),
        tokenizer=parts.clip_tokens(),
        text_encoder_2=parts.clip_text(projected=True, length=128),
        tokenizer_2=parts.clip_tokens(),
        text_encoder_3=parts.t5(),
        tokenizer_3=parts.t5_tokens(),
        text_encoder_4=transformers.LlamaForCausalLM(config),
        tokenizer_4=parts.qwen_tokens(),
        transformer=diffusers.HiDreamImageTransformer2DModel(
            patch_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=[32, 16],
            text_emb_dim=64,
            num_routed_experts=2,
            num_activated_experts=1,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(128, 128),
            llama_layers=(0, 1),
        ),
    )


def ernie_image() -> Any:
    return diffusers.ErnieImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flux_2_vae(),
        text_encoder=transformers.Mistral3Model(parts.mistral(2)),
        tokenizer=parts.qwen_tokens(),
        transformer=diffusers.ErnieImageTransformer2DModel(
            hidden_size=16,
            num_attention_heads=2,
            num_layers=1,
            ffn_hidden_size=16,
            in_channels=4,
            out_channels=4,
            text_in_dim=16,
            rope_axes_dim=(4, 2, 2),
        ),
    )


def ideogram_4() -> Any:
    def transformer() -> Any:
        return diffusers.Ideogram4Transformer2DModel(
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=13 * 16,  # it reads 13 of 36 layers
            mrope_section=(2, 1, 1),
        )

    return diffusers.Ideogram4Pipeline(
        scheduler=parts.flow(),
        vae=parts.flux_2_vae(),
        text_encoder=transformers.Qwen3VLModel(parts.qwen3_vl(36)),
        tokenizer=parts.qwen_tokens(),
        transformer=transformer(),
        unconditional_transformer=transformer(),
    )


def cogview_4() -> Any:
    config = transformers.GlmConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        pad_token_id=0,
        eos_token_id=0,
    )
    return diffusers.CogView4Pipeline(
        tokenizer=parts.qwen_tokens(),
        text_encoder=transformers.GlmModel(config),
        vae=parts.vae(),
        transformer=diffusers.CogView4Transformer2DModel(
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=4,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, time_shift_type="linear"
        ),
    )


def kandinsky_5() -> Any:
    return diffusers.Kandinsky5T2IPipeline(
        vae=parts.flow_vae(levels=4),
        text_encoder=parts.qwen_vl(),
        tokenizer=parts.qwen_tokens(),
        text_encoder_2=parts.clip_text(length=77),
        tokenizer_2=parts.clip_tokens(),
        scheduler=parts.flow(),
        transformer=diffusers.Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=32,
            time_dim=8,
            out_visual_dim=4,
            patch_size=(1, 2, 2),
            model_dim=16,
            ff_dim=16,
            num_text_blocks=1,
            num_visual_blocks=1,
            axes_dims=(2, 2, 4),
            visual_cond=False,
            attention_type="regular",
        ),
    )


def kolors() -> Any:
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=150,
        hidden_size=32,
        ffn_hidden_size=32,
        kv_channels=8,
        num_attention_heads=4,
        add_bias_linear=False,
        add_qkv_bias=True,
        multi_query_attention=True,
        multi_query_group_num=2,
        original_rope=True,
    )
    encoder = ChatGLMModel(config)
    for tensor in encoder.parameters():
        torch.nn.init.ones_(tensor)  # it leaves norms as memory was
    return diffusers.KolorsPipeline(
        vae=parts.vae(),
        text_encoder=encoder,
        tokenizer=ChatGLMTokenizer(f"{_vocabulary().name}/tokenizer.model"),
        unet=parts.unet(
            cross_attention_dim=32,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,  # six sizes of 8, and the pooled text
        ),
        scheduler=diffusers.EulerDiscreteScheduler(),
    )


@cache
def _vocabulary() -> TemporaryDirectory[str]:
    """Return a folder with a tokenizer.model, which is read again when the tokenizer is saved."""
    folder = TemporaryDirectory()
    with (Path(folder.name) / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([parts.LETTERS, "two blue squares on black"] * 20),
            model_writer=file,
            vocab_size=120,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return folder


def omnigen() -> Any:
    pytest.importorskip("torchvision", reason="OmniGen's processor needs torchvision")
    return diffusers.OmniGenPipeline(
        vae=parts.vae(levels=4),  # its processor counts on a factor of 8
        tokenizer=parts.qwen_tokens(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            invert_sigmas=True, num_train_timesteps=1
        ),
        transformer=diffusers.OmniGenTransformer2DModel(
            hidden_size=16,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=32,
            num_layers=1,
            pad_token_id=0,
            vocab_size=300,
            in_channels=4,
            time_step_dim=4,
            rope_scaling={"long_factor": [1, 2], "short_factor": [1, 2]},
        ),
    )


def z_image_omni() -> Any:
    return diffusers.ZImageOmniPipeline(
        scheduler=parts.flow(),
        vae=parts.flow_vae(16),
        text_encoder=parts.qwen3(),
        tokenizer=parts.qwen_tokens(),
        siglip=None,
        siglip_processor=None,
        transformer=tiny_families.z_image_transformer(siglip_feat_dim=16),
    )


def longcat_image() -> Any:
    return diffusers.LongCatImagePipeline(
        scheduler=parts.flow(),
        vae=parts.flow_vae(16),
        text_encoder=parts.qwen_vl(),
        tokenizer=parts.qwen_tokens(),
        text_processor=parts.qwen_tokens(),
        transformer=diffusers.LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=[4, 4, 8],
        ),
    )


def qwen_image_21() -> Any:
    pytest.importorskip("torchvision", reason="Qwen3-VL's processor needs torchvision")
    tokenizer = parts.qwen_tokens()
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    tokenizer.add_tokens([f"<|{name}|>" for name in names], special_tokens=True)
    return diffusers.QwenImage21Pipeline(
        scheduler=parts.flow(),
        vae=diffusers.AutoencoderKLQwenImage21(
            base_dim=24,
            decoder_base_dim=24,
            z_dim=4,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=transformers.Qwen3VLForConditionalGeneration(parts.qwen3_vl(2)),
        processor=transformers.Qwen3VLProcessor(
            image_processor=transformers.Qwen2VLImageProcessor(),
            tokenizer=tokenizer,
            video_processor=transformers.Qwen3VLVideoProcessor(),
            chat_template=parts.CHAT,
        ),
        transformer=diffusers.QwenImage21Transformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=16,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def deepfloyd() -> Any:
    return diffusers.IFPipeline(
        tokenizer=parts.t5_tokens(),
        text_encoder=parts.t5(),
        unet=diffusers.UNet2DConditionModel(
            sample_size=32,
            in_channels=3,
            out_channels=6,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            cross_attention_dim=32,
            encoder_hid_dim=32,
            attention_head_dim=4,
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
            cross_attention_norm="group_norm",
            resnet_time_scale_shift="scale_shift",
            norm_num_groups=2,
        ),
        scheduler=diffusers.DDPMScheduler(variance_type="learned_range", thresholding=True),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
