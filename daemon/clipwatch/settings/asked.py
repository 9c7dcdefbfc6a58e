"""The settings in parts: what the trainer's validation and the training are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from clipwatch.domain.kinds import Dtype, Offload, Seeds, Spacing, TrainedWeights
from clipwatch.settings import derived
from clipwatch.settings import readers as read
from clipwatch.settings.keys import own, trainers
from clipwatch.settings.values import Size


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, as far as pictures or costs follow from it."""

    simpletuner_path: str | None = own(
        "simpletuner_path", None, "where SimpleTuner is installed", read.text
    )
    simpletuner_version: str | None = own(
        "simpletuner_version", None, "whose defaults hold, as 4.10.1", read.version
    )
    checkpoint_step_interval: int | None = trainers(
        "checkpoint_step_interval", None, "steps between two checkpoints", read.whole(0)
    )
    checkpoints_total_limit: int | None = trainers(
        "checkpoints_total_limit", None, "checkpoints that it keeps; 0 for all", read.whole(-1)
    )
    model_family: str = trainers(
        "model_family", "", "the trainer's name for the architecture", read.optional
    )
    model_flavour: str = trainers(
        "model_flavour", "", "the family's variant; chooses the base model", read.optional
    )
    model_type: str = trainers("model_type", "", "full or lora, as the trainer says")
    lora_type: str = trainers("lora_type", "", "standard or lycoris, as the trainer says")
    lora_rank: int = trainers("lora_rank", 16, "lora_alpha's default", read.whole(1))
    mixed_precision: Literal["no", "fp16", "bf16", "fp8"] = trainers(
        "mixed_precision", "bf16", "sets dtype auto"
    )
    base_model_precision: str = trainers("base_model_precision", "no_change", "sets base_precision")
    base_model_default_dtype: Literal["bf16", "fp32"] = trainers(
        "base_model_default_dtype", "bf16", "sets dtype auto, too"
    )
    use_ema: bool = trainers("use_ema", False, "the trainer keeps averaged weights")
    ema_validation: Literal["none", "ema_only", "comparison"] = trainers(
        "ema_validation", "comparison", "ema_only scores the averaged weights"
    )
    attention_mechanism: str = trainers(
        "attention_mechanism", "diffusers", "sageattention excludes CLIP scores"
    )
    sageattention_usage: str = trainers(
        "sageattention_usage", "inference", "when the trainer uses SageAttention"
    )


@dataclass(frozen=True, slots=True)
class Components:
    """Parts of the pipeline that are not the base model's own; None for its own."""

    unet: str | None = trainers(
        "pretrained_unet_model_name_or_path", None, "another unet", read.optional
    )
    unet_subfolder: str = trainers(
        "pretrained_unet_subfolder", "unet", "where in it; none for the top"
    )
    transformer: str | None = trainers(
        "pretrained_transformer_model_name_or_path", None, "another transformer", read.optional
    )
    transformer_subfolder: str = trainers(
        "pretrained_transformer_subfolder", "transformer", "where in it; none for top"
    )
    vae: str | None = trainers(
        "pretrained_vae_model_name_or_path", None, "another VAE", read.optional, blank=True
    )
    gemma: str | None = trainers(
        "pretrained_gemma_model_name_or_path", None, "another Gemma text encoder", read.optional
    )
    qwen: str | None = trainers(
        "qwen_text_encoder_model_name_or_path", None, "another Qwen text encoder", read.optional
    )


@dataclass(frozen=True, slots=True)
class Prompting:
    """Which prompts are used; what they are stands in the protocol."""

    builtin: bool = trainers(
        "validation_prompt_library", None, "true adds the built-in prompts", read.image_library
    )
    user_library: str | None = trainers(
        "user_prompt_library", None, "prompt file: JSON library or text", read.optional
    )
    prompt: str | None = trainers(
        "validation_prompt", None, "one more prompt, with the id validation", read.text
    )
    prompts: str | None = own(
        "prompts",
        None,
        "file, core, compositional:N, hf:NAME or simpletuner; replaces all other",
        read.text,
    )
    max_prompts: int | None = own(
        "max_prompts", None, "most prompts to use, spread over the categories", read.whole(1)
    )


@dataclass(frozen=True, slots=True)
class Scoring:
    """By whose numbers checkpoints are compared."""

    evaluation_type: Literal["clip", "none"] = trainers("evaluation_type", "none", "must be clip")
    scorer: str = trainers(
        "pretrained_evaluation_model_name_or_path",
        "openai/clip-vit-large-patch14-336",
        "CLIP model or one like it: folder or Hub id",
    )
    scorer_revision: str = own(
        "scorer_revision", "", "the CLIP model's revision on the Hub", blank=True
    )
    references: str | None = own(
        "references", None, "folder of a subject's images: likeness to them is scored", read.text
    )
    training_images: str | None = own(
        "training_images", None, "folder of what was trained on: copies of it are told", read.text
    )
    likeness_model: str = own(
        "likeness_model", "facebook/dinov2-base", "what sees likeness and copies: folder or Hub id"
    )


@dataclass(frozen=True, slots=True)
class Sampling:
    """What pictures are made with, in the trainer's terms: the protocol follows from it."""

    size: Size = trainers(
        "validation_resolution",
        (Size(256, 256),),
        "512 or 1024x768, multiples of 16",
        read.sizes,
        flag="--size",
    )
    general_seed: int | None = trainers(
        "seed", None, "stands in for validation_seed", read.whole(-1, read.LARGEST_SEED)
    )
    flow_auto_shift: bool = trainers(
        "flow_schedule_auto_shift", False, "leaves flow_schedule_shift out"
    )
    skip_layers: tuple[int, ...] = trainers(
        "validation_guidance_skip_layers", (), 'skip-layer guidance: "[7, 8, 9]"', read.layers
    )
    skip_start: float = trainers(
        "validation_guidance_skip_layers_start", 0.01, "from this share of steps", read.real(0)
    )
    skip_stop: float = trainers(
        "validation_guidance_skip_layers_stop", 0.2, "to this share of steps", read.real(0)
    )
    skip_scale: float = trainers("validation_guidance_skip_scale", 2.8, "how strong", read.real(0))
    adapter_strength: float = trainers("validation_adapter_strength", 1.0, "of a LoRA", read.number)
    lycoris_strength: float = trainers(
        "validation_lycoris_strength", 1.0, "of a LyCORIS network", read.number
    )
    strengths: tuple[float, ...] = own(
        "strengths", (), "of an adapter, each scored: [0.6, 0.8, 1.0]", read.strengths
    )
    stage1_mode: Literal["auto", "trained-stage", "full-pipeline"] = trainers(
        "deepfloyd_validation_pipeline_mode",
        "auto",
        "of deepfloyd: stage I alone, or as the first of several",
    )
    stage1_steps: int | None = trainers(
        "deepfloyd_validation_stage1_num_inference_steps", None, "of stage I", read.whole(1)
    )
    stage1_guidance: float | None = trainers(
        "deepfloyd_validation_stage1_guidance", None, "of stage I", read.real(0)
    )


@dataclass(frozen=True, slots=True)
class Pictures:
    """What the protocol takes as it stands: each field is the protocol's of the same name."""

    images_per_prompt: int = trainers(
        "num_validation_images", 1, "images for each prompt; all count", read.whole(1)
    )
    seed: int = trainers(
        "validation_seed",
        None,
        "seed of the images; 0 is a seed",
        read.whole(-1, read.LARGEST_SEED),
    )
    seeds: Seeds = own("seeds", "per-prompt", "trainer: one for all")
    negative_prompt: str = trainers(
        "validation_negative_prompt",
        "blurry, cropped, ugly",
        "what images should not show",
        blank=True,
    )
    inference_steps: int = trainers(
        "validation_num_inference_steps", 30, "denoising steps", read.whole(1), flag="--steps"
    )
    guidance: float = trainers(
        "validation_guidance",
        7.5,
        "classifier-free guidance scale",
        read.real(0),
        flag="--guidance",
    )
    guidance_real: float = trainers(
        "validation_guidance_real", 1.0, "true guidance of distilled models", read.real(0)
    )
    no_cfg_until: int = trainers(
        "validation_no_cfg_until_timestep", 2, "steps before it sets in", read.whole(0)
    )
    guidance_rescale: float = trainers(
        "validation_guidance_rescale", 0.0, "against overexposure", read.real(0)
    )
    scheduler: str = trainers(
        "validation_noise_scheduler", None, "sampler, by the trainer's name", read.scheduler
    )
    prediction_type: str = trainers(
        "prediction_type", "", "what the model predicts", read.prediction
    )
    zero_snr: bool = trainers(
        "rescale_betas_zero_snr", False, "noise schedule that ends in noise alone"
    )
    timestep_spacing: Literal[Spacing, ""] = trainers(
        "inference_scheduler_timestep_spacing",
        "trailing",
        "of the sampler",
        read.one_of(*get_args(Spacing)),
        becomes=lambda value: "" if value == "trailing" else value,
    )
    flow_shift: float | None = trainers(
        "flow_schedule_shift", 3.0, "of a flow-matching sampler", read.real(0)
    )
    text_length: int | None = trainers(
        "tokenizer_max_length", None, "tokens of a prompt that are read", read.whole(0)
    )
    instruction: str = trainers(
        "sana_complex_human_instruction",
        None,
        "before each prompt",
        read.instruction,
        blank=True,
        becomes=derived.or_blank,
    )
    clip_skip: int = own("clip_skip", 1, "CLIP's layer for prompts: 1 the last", read.whole(1))
    base_model: str = trainers(
        "pretrained_model_name_or_path",
        None,
        "base model: folder or Hub id",
        read.optional,
        flag="--base-model",
    )
    base_revision: str = trainers(
        "revision", "", "the base model's revision on the Hub", read.optional, blank=True
    )
    base_variant: str = trainers(
        "variant", "", "the base model's weight variant, as fp16", read.optional, blank=True
    )
    lora_alpha: float | None = trainers(
        "lora_alpha", None, "of a LoRA whose file tells none", read.number
    )
    weights: TrainedWeights = own("weights", None, "which of the trainer's weights")
    dtype: Dtype = own("dtype", "auto", "of the generation", read.one_of("auto", *get_args(Dtype)))
    vae_dtype: Literal[Dtype, ""] = trainers(
        "vae_dtype", "bf16", "of the VAE", read.one_of("default", *get_args(Dtype))
    )
    base_precision: str = own(
        "base_precision", None, "how the base is quantised, or none", read.precision
    )
    offload: Offload = own("offload", "none", "what waits in host memory")
