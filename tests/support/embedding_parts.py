"""Parts of tiny random pipelines, tokenizers of single letters among them; nothing is fetched."""

from __future__ import annotations

from string import ascii_letters, digits, punctuation
from typing import Any

import diffusers
import transformers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from clipwatch.demo.models import CLIP

CHAT = "{% for it in messages %}{{ it.role }}: {{ it.content }}\n{% endfor %}assistant: "
LETTERS = ascii_letters + digits + punctuation


def clip_text(*, projected: bool = False, length: int = 16) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(CLIP)),
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=length,
        projection_dim=32,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(config)


def clip_tokens() -> Any:
    return AutoTokenizer.from_pretrained(CLIP)


def t5(kind: str = "T5", width: int = 32) -> Any:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=200, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return getattr(transformers, f"{kind}EncoderModel")(config)


def t5_tokens() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return transformers.T5TokenizerFast(
        vocab=pieces + [(letter, -3.0) for letter in LETTERS], extra_ids=0
    )


def gemma() -> Any:
    config = transformers.Gemma2Config(
        vocab_size=200,
        hidden_size=16,
        head_dim=8,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_hidden_layers=2,
        query_pre_attn_scalar=8,
    )
    return transformers.Gemma2Model(config)


def gemma_tokens() -> Any:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n"]
    names = [*special, *LETTERS]
    return transformers.GemmaTokenizer(vocab={name: at for at, name in enumerate(names)})


def qwen_tokens() -> Any:
    names = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    tokenizer = transformers.Qwen2Tokenizer(vocab={name: at for at, name in enumerate(names)})
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen_vl() -> Any:
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 1e6,
            },
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def qwen3_config(layers: int) -> Any:
    return transformers.Qwen3Config(
        vocab_size=300,
        hidden_size=16,
        head_dim=8,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )


def qwen3() -> Any:
    return transformers.Qwen3Model(qwen3_config(2))


def qwen3_vl(layers: int) -> Any:
    return transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_parameters": {
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=296,
        video_token_id=297,
        vision_start_token_id=298,
        vision_end_token_id=299,
    )


def mistral(layers: int) -> Any:
    return transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": 300,
            "hidden_size": 16,
            "head_dim": 8,
            "intermediate_size": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 30,
            "patch_size": 6,
        },
        image_token_index=1,
    )


def vae(channels: int = 4, levels: int = 3, **more: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=1,
        **more,
    )


def flow_vae(channels: int = 4, levels: int = 3) -> Any:
    return vae(
        channels,
        levels,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )


def flux_2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def qwen_vae() -> Any:
    return diffusers.AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def flux_2_transformer(**more: Any) -> Any:
    return diffusers.Flux2Transformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,  # three layers of the text encoder
        axes_dims_rope=(4, 4, 4, 4),
        **more,
    )


def unet(**more: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        **more,
    )


def flow() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler()
