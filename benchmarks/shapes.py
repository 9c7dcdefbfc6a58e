"""Models of real architecture with random weights: they cost what real ones cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model_state_dict
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from clipwatch.demo.models import CLIP, write_base_pipeline

TEXT_LENGTH: Final = 77
CLIPS: Final[dict[str, dict[str, dict[str, int]]]] = {
    "vit-b-32": {
        "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "patch_size": 32,
            "image_size": 224,
        },
    },
    "vit-l-14-336": {
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "image_size": 336,
        },
    },
}
"""OpenAI's two CLIP models by the sizes of their towers; "demo" is the tiny trained one."""

PIPELINES: Final = {"demo": 32, "sd15": 512, "sdxl": 1024}
"""Shape of a pipeline -> its usual side in pixels."""

LORA_LAYERS: Final = ("to_q", "to_k", "to_v", "to_out.0")


def clip_folder(place: Path, name: str) -> Path:
    """Return the folder of a CLIP by its name in CLIPS, made if it is not there; or "demo"."""
    if name == "demo":
        return CLIP
    folder = place / name
    if _is_made(folder):
        return folder
    torch.manual_seed(0)
    sizes = CLIPS[name]
    config = CLIPConfig(
        text_config=sizes["text_config"] | _text_sizes(),
        vision_config=sizes["vision_config"],
        projection_dim=sizes["text_config"]["hidden_size"],
    )
    CLIPModel(config).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    side = sizes["vision_config"]["image_size"]
    processor = json.loads((CLIP / "preprocessor_config.json").read_text(encoding="utf-8"))
    processor |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return _made(folder)


def pipeline_folder(place: Path, shape: str, dtype: torch.dtype) -> Path:
    """Return the folder of a base pipeline of one of PIPELINES, made if it is not there."""
    folder = place / f"{shape}-{str(dtype).rpartition('.')[2]}"
    if not _is_made(folder):
        if shape == "demo":
            write_base_pipeline(folder)
        else:
            torch.manual_seed(0)
            made = _sd15() if shape == "sd15" else _sdxl()
            made.to(dtype=dtype).save_pretrained(folder)
        _made(folder)
    return folder


def full_checkpoint(base: Path, number: int) -> Path:
    """Return a folder with `unet/`: the base's weights, moved a little, made if not there."""
    folder = base.with_name(f"{base.name}-full-{number}")
    if not _is_made(folder):
        unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", dtype="auto")
        noise = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in unet.parameters():
                weight.mul_(1 + 0.05 * torch.randn((), generator=noise).item())
        unet.save_pretrained(folder / "unet")
        _made(folder)
    return folder


def lora_checkpoint(base: Path, number: int) -> Path:
    """Return a folder with a LoRA of rank 8 of the base's attention, made if not there."""
    folder = base.with_name(f"{base.name}-lora-{number}")
    if not _is_made(folder):
        unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", dtype="auto")
        unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=list(LORA_LAYERS)))
        noise = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for name, weight in unet.named_parameters():
                if "lora_" in name:
                    weight.copy_(0.3 * torch.randn(weight.shape, generator=noise))
        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers=get_peft_model_state_dict(unet)
        )
        _made(folder)
    return folder


def _is_made(folder: Path) -> bool:
    """Whether a folder is whole; what an interrupted run left of it is removed."""
    if (folder / ".made").exists():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _made(folder: Path) -> Path:
    (folder / ".made").touch()
    return folder


def _tokenizer() -> Any:
    """Return the demo's tokenizer for texts of CLIP's length."""
    return AutoTokenizer.from_pretrained(CLIP, model_max_length=TEXT_LENGTH)


def _text_sizes() -> dict[str, int]:
    """Return what all of CLIP's text towers share, with the ids of the demo's tokenizer."""
    tokenizer = _tokenizer()
    return {
        "max_position_embeddings": TEXT_LENGTH,
        "num_hidden_layers": 12,
        "vocab_size": 49408,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vae(scale: float) -> Any:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=PIPELINES["sd15"],
        scaling_factor=scale,
    )


def _sd15() -> Any:
    text = CLIPTextConfig(
        **CLIPS["vit-l-14-336"]["text_config"] | _text_sizes(), projection_dim=768
    )
    return StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(text),
        tokenizer=_tokenizer(),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    first = CLIPTextConfig(
        **CLIPS["vit-l-14-336"]["text_config"] | _text_sizes(), projection_dim=768
    )
    large = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20}
    second = CLIPTextConfig(
        **large | _text_sizes() | {"num_hidden_layers": 32}, projection_dim=1280, hidden_act="gelu"
    )
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(0.13025),
        text_encoder=CLIPTextModel(first),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )
