"""Configurations for simpletuner_runs.py: each shows what a key or a family does."""

from __future__ import annotations

from typing import Any

PROMPT = "one red circle on a black background"
SEED = 8884812088936472095
STEPS = 10
SIZE = 64

PROMPTS = {
    "circle": PROMPT,
    "crosses": {"prompt": "two green crosses on a white background", "adapter_strength": 0.25},
}

COMMON: dict[str, Any] = {
    "model_type": "lora",
    "lora_rank": 4,
    "lora_dropout": 0.0,  # the trainer validates with dropout on
    "resolution": SIZE,
    "resolution_type": "pixel",
    "minimum_image_size": 16,
    "train_batch_size": 1,
    "gradient_checkpointing": False,
    "mixed_precision": "bf16",
    "vae_dtype": "fp32",  # which it has on a CPU whatever is asked for
    "optimizer": "adamw_bf16",
    "learning_rate": 0.01,
    "lr_scheduler": "constant_with_warmup",
    "lr_warmup_steps": 0,
    "max_train_steps": STEPS,
    "num_train_epochs": 0,
    "seed": 42,
    "checkpoint_step_interval": STEPS,
    "report_to": "none",
    "validation_step_interval": STEPS,
    "validation_prompt": PROMPT,
    "validation_disable_unconditional": True,
    "validation_resolution": f"{SIZE}x{SIZE}",
    "validation_num_inference_steps": 8,
    "validation_guidance": 3.0,
    "validation_seed": SEED,
    "disable_benchmark": True,
}

FULL: dict[str, Any] = {"model_type": "full", "learning_rate": 0.001}
FAST: dict[str, Any] = {"learning_rate": 0.1}
"""For pictures that would not show ten steps of the usual rate."""


def lycoris(algo: str) -> dict[str, Any]:
    """Return the keys of a LyCORIS run; the object goes into a file of its own."""
    return {
        "lora_type": "lycoris",
        "lycoris_config": {
            "algo": algo,
            "multiplier": 1.0,
            "linear_dim": 4,
            "linear_alpha": 2,
            "factor": 4,
            "apply_preset": {"target_module": ["Attention"]},
        },
    }


RUNS: dict[str, dict[str, Any]] = {
    # what the trainer's keys do, on the family with the most of them
    "sdxl-full": {"model_family": "sdxl", **FULL},
    "sdxl-vpred": {
        "model_family": "sdxl",
        **FULL,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
    },
    "sdxl-spacing": {
        "model_family": "sdxl",
        "validation_noise_scheduler": "euler",
        "inference_scheduler_timestep_spacing": "leading",
    },
    "sdxl-lora": {"model_family": "sdxl"},
    "sdxl-fp32": {"model_family": "sdxl", "mixed_precision": "no"},
    "sdxl-dropout": {"model_family": "sdxl", "lora_dropout": 0.1},
    "sdxl-no-negative": {"model_family": "sdxl", "validation_negative_prompt": ""},
    "sdxl-strength": {"model_family": "sdxl", "validation_adapter_strength": 0.5},
    "sdxl-parts": {
        "model_family": "sdxl",
        "pretrained_unet_model_name_or_path": "bases/other",
        "pretrained_unet_subfolder": "none",
        "pretrained_vae_model_name_or_path": "bases/sdxl-vae",
    },
    "sdxl-images": {"model_family": "sdxl", "num_validation_images": 3},
    "sdxl-prompts": {
        "model_family": "sdxl",
        "validation_prompt": None,
        "user_prompt_library": "prompts.json",
    },
    "sdxl-ema": {
        "model_family": "sdxl",
        "use_ema": True,
        "ema_decay": 0.5,
        "ema_validation": "ema_only",
    },
    "sdxl-comfy": {"model_family": "sdxl", "lora_format": "comfyui", "lora_alpha": 8},
    "sdxl-lokr": {"model_family": "sdxl", **lycoris("lokr"), "validation_lycoris_strength": 1.3},
    "sdxl-loha": {"model_family": "sdxl", **lycoris("loha")},
    "sdxl-euler-a": {"model_family": "sdxl", "validation_noise_scheduler": "euler-a"},
    "sdxl-unipc": {"model_family": "sdxl", "validation_noise_scheduler": "unipc"},
    "sdxl-dpm": {"model_family": "sdxl", "validation_noise_scheduler": "dpm++"},
    "sdxl-ddpm": {"model_family": "sdxl", "validation_noise_scheduler": "ddpm"},
    # the families
    "pixart-full": {"model_family": "pixart", **FULL},
    "sd3-lora": {"model_family": "sd3"},
    "sd3-full": {"model_family": "sd3", **FULL},
    "sd3-skip": {
        "model_family": "sd3",
        "validation_guidance_skip_layers": "[1]",  # of a list the trainer takes the last alone
        "flow_schedule_shift": 5.0,
    },
    "sd3-euler": {
        "model_family": "sd3",
        "validation_noise_scheduler": "euler",
        "flow_schedule_shift": 2.0,
    },
    "sd3-unipc": {"model_family": "sd3", "validation_noise_scheduler": "unipc"},
    "flux-lora": {"model_family": "flux"},
    "flux-real": {"model_family": "flux", "validation_guidance_real": 3.0},
    "lumina2-lora": {"model_family": "lumina2"},
    "auraflow-lora": {"model_family": "auraflow", "learning_rate": 1.0},
    # its pipeline rounds timesteps to bf16, which leaves these as they are: 1000 and 500
    "chroma-lora": {
        "model_family": "chroma",
        "flow_schedule_shift": 1.0,
        "validation_num_inference_steps": 2,
    },
    "qwen-lora": {
        "model_family": "qwen_image",
        "model_flavour": "v1.0",
        **FAST,
        "validation_num_inference_steps": 24,
    },
    "qwen-real": {
        "model_family": "qwen_image",
        "model_flavour": "v1.0",
        **FAST,
        "validation_guidance_real": 12.0,
        "validation_num_inference_steps": 24,
    },
    "z-image-lora": {"model_family": "z_image", "model_flavour": "base", **FAST},
    "kolors-lora": {"model_family": "kolors"},
    "sd1x-lora": {"model_family": "sd1x"},
    "sana-lora": {
        "model_family": "sana",
        "sana_complex_human_instruction": '["Name shapes and colours.", "Prompt: "]',
    },
    # those in which the trainer stops by itself
    "sdxl-dora": {"model_family": "sdxl", "use_dora": True},
    "sd3-auto": {"model_family": "sd3", "flow_schedule_auto_shift": True},
    "pixart-lora": {"model_family": "pixart"},
}

OTHER_VAE = ("sdxl", "pixart", "kolors")
"""Families whose VAE the trainer takes from the Hub unless it is told."""

HUB = {"auraflow": "terminusresearch/auraflow-v0.3"}
"""Repositories from which the trainer takes a text encoder, whatever the base model is."""
