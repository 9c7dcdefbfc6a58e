"""The demo's models: a tiny CLIP to score with, and an untrained pipeline to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

_DATA: Final = Path(__file__).with_name("models")

CLIP: Final = _DATA / "clip"
"""Folder of the tiny CLIP with its tokenizer and preprocessor, as transformers reads it.

Texts of up to 16 tokens, pictures of any size (brought to 32x32), 64 numbers for each. Weights
are stored as fp16: pass ``dtype=torch.float32`` when loading.
"""

VAE: Final = _DATA / "vae"
"""Folder of the tiny VAE, as diffusers reads it: 32x32 pictures to 4x16x16 latents and back."""


def write_base_pipeline(folder: Path, *, seed: int = 0) -> None:
    """Write a Stable Diffusion pipeline for the shapes world whose UNet is untrained.

    VAE and text encoder are the trained ones of the demo; the UNet's 1,001,828 weights are drawn
    anew, equal for equal seeds. All weights are float32 safetensors, about 5.5 MB together.
    The global random state of torch is left as it was.
    """
    import torch
    from diffusers import AutoencoderKL, StableDiffusionPipeline
    from transformers import AutoTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, text_encoder = _unet(), _text_encoder()
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(VAE),
        text_encoder=text_encoder,
        tokenizer=AutoTokenizer.from_pretrained(CLIP),
        unet=unet,
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)


def _text_encoder() -> Any:
    """Return the CLIP's text tower, float32."""
    from transformers import CLIPModel, CLIPTextModel

    clip = CLIPModel.from_pretrained(CLIP).float()
    encoder = CLIPTextModel(clip.config.text_config)
    inner = getattr(encoder, "text_model", encoder)  # transformers 4 has one more level
    inner.load_state_dict(clip.text_model.state_dict())
    return encoder.eval()


def _unet() -> Any:
    """Return an untrained UNet for latents of 4x16x16 and texts of 16x64, float32."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def _scheduler() -> Any:
    """Return DDIM with velocity prediction and no signal left at the last timestep."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
    )
