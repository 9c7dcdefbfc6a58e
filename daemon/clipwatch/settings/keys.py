"""The one table of keys: validation, `--print-settings` and docs/settings.md follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from clipwatch.settings import readers as read
from clipwatch.settings.values import Size


@dataclass(frozen=True, slots=True)
class Key:
    """A key that clipwatch evaluates.

    Attributes:
        name: In files; CLIPWATCH_<NAME> in the environment, --<name> with dashes as a flag.
        read: Makes the typed value.
        default: Typed; None where it depends on other keys.
        meaning: One line for a person.
        blank: The empty text is a value; elsewhere it counts as not given.
        secret: Its value is never shown.
    """

    name: str
    read: read.Reader
    default: Any
    meaning: str
    blank: bool = False
    secret: bool = False


STAGES = ("auto", "reflink", "pin", "copy", "off")

_TRAINER = (
    # what is watched, and how the trainer names it
    Key("output_dir", read.text, None, "folder of the checkpoints; required"),
    Key("checkpoint_step_interval", read.whole(0), None, "steps between two checkpoints"),
    Key("checkpoints_total_limit", read.whole(-1), None, "checkpoints that it keeps; 0 for all"),
    Key("logging_dir", read.text, "logs", "TensorBoard folder, below output_dir unless absolute"),
    Key("report_to", read.tracker_names, (), "trackers: names, a comma list, all or none"),
    Key("tracker_project_name", read.text, "simpletuner", "the tracker's project", blank=True),
    Key("tracker_run_name", read.text, "simpletuner-testing", "the tracker's run", blank=True),
    # the model
    Key("model_family", read.optional, "", "the trainer's name for the architecture"),
    Key("model_flavour", read.optional, "", "the family's variant; chooses the base model"),
    Key("model_type", read.text, "", "full or lora, as the trainer says"),
    Key("lora_type", read.text, "", "standard or lycoris, as the trainer says"),
    Key("pretrained_model_name_or_path", read.optional, None, "base model: folder or Hub id"),
    Key("revision", read.optional, "", "the base model's revision on the Hub", blank=True),
    Key("variant", read.optional, "", "the base model's weight variant, as fp16", blank=True),
    Key("pretrained_unet_model_name_or_path", read.optional, None, "another unet"),
    Key("pretrained_unet_subfolder", read.text, "unet", "where in it; none for the top"),
    Key("pretrained_transformer_model_name_or_path", read.optional, None, "another transformer"),
    Key("pretrained_transformer_subfolder", read.text, "transformer", "where in it; none for top"),
    Key("pretrained_vae_model_name_or_path", read.optional, None, "another VAE", blank=True),
    Key("pretrained_gemma_model_name_or_path", read.optional, None, "another Gemma text encoder"),
    Key("qwen_text_encoder_model_name_or_path", read.optional, None, "another Qwen text encoder"),
    Key("lora_alpha", read.number, None, "of a LoRA whose file tells none"),
    Key("lora_rank", read.whole(1), 16, "lora_alpha's default"),
    Key("mixed_precision", read.one_of("no", "fp16", "bf16", "fp8"), "bf16", "sets dtype auto"),
    Key("base_model_precision", read.text, "no_change", "sets base_precision"),
    Key("base_model_default_dtype", read.one_of("bf16", "fp32"), "bf16", "sets dtype auto, too"),
    Key("vae_dtype", read.one_of("default", "fp32", "fp16", "bf16"), "bf16", "of the VAE"),
    Key("use_ema", read.flag, False, "the trainer keeps averaged weights"),
    Key(
        "ema_validation",
        read.one_of("none", "ema_only", "comparison"),
        "comparison",
        "ema_only scores the averaged weights",
    ),
    Key("attention_mechanism", read.text, "diffusers", "sageattention excludes CLIP scores"),
    Key("sageattention_usage", read.text, "inference", "when the trainer uses SageAttention"),
    # the scores
    Key("evaluation_type", read.one_of("clip", "none"), "none", "must be clip"),
    Key(
        "pretrained_evaluation_model_name_or_path",
        read.text,
        "openai/clip-vit-large-patch14-336",
        "CLIP model or one like it: folder or Hub id",
    ),
    # the images
    Key("validation_prompt_library", read.image_library, None, "true adds the built-in prompts"),
    Key("user_prompt_library", read.optional, None, "prompt file: JSON library or text"),
    Key("validation_prompt", read.text, None, "one more prompt, with the id validation"),
    Key("num_validation_images", read.whole(1), 1, "images for each prompt; all count"),
    Key(
        "validation_negative_prompt",
        read.text,
        "blurry, cropped, ugly",
        "what images should not show",
        blank=True,
    ),
    Key("validation_num_inference_steps", read.whole(1), 30, "denoising steps"),
    Key("validation_guidance", read.real(0), 7.5, "classifier-free guidance scale"),
    Key("validation_guidance_real", read.real(0), 1.0, "true guidance of distilled models"),
    Key("validation_no_cfg_until_timestep", read.whole(0), 2, "steps before it sets in"),
    Key("validation_guidance_rescale", read.real(0), 0.0, "against overexposure"),
    Key("validation_guidance_skip_layers", read.layers, (), 'skip-layer guidance: "[7, 8, 9]"'),
    Key("validation_guidance_skip_layers_start", read.real(0), 0.01, "from this share of steps"),
    Key("validation_guidance_skip_layers_stop", read.real(0), 0.2, "to this share of steps"),
    Key("validation_guidance_skip_scale", read.real(0), 2.8, "how strong"),
    Key(
        "deepfloyd_validation_pipeline_mode",
        read.one_of("auto", "trained-stage", "full-pipeline"),
        "auto",
        "of deepfloyd: stage I alone, or as the first of several",
    ),
    Key("deepfloyd_validation_stage1_num_inference_steps", read.whole(1), None, "of stage I"),
    Key("deepfloyd_validation_stage1_guidance", read.real(0), None, "of stage I"),
    Key("tokenizer_max_length", read.whole(0), None, "tokens of a prompt that are read"),
    Key("sana_complex_human_instruction", read.instruction, None, "before each prompt", blank=True),
    Key("validation_adapter_strength", read.number, 1.0, "of a LoRA"),
    Key("validation_lycoris_strength", read.number, 1.0, "of a LyCORIS network"),
    Key("validation_resolution", read.sizes, (Size(256, 256),), "512 or 1024x768, multiples of 16"),
    Key("validation_noise_scheduler", read.scheduler, None, "sampler, by the trainer's name"),
    Key("prediction_type", read.prediction, "", "what the model predicts"),
    Key("rescale_betas_zero_snr", read.flag, False, "noise schedule that ends in noise alone"),
    Key(
        "inference_scheduler_timestep_spacing",
        read.one_of("leading", "linspace", "trailing"),
        "trailing",
        "of the sampler",
    ),
    Key("flow_schedule_shift", read.real(0), 3.0, "of a flow-matching sampler"),
    Key("flow_schedule_auto_shift", read.flag, False, "leaves flow_schedule_shift out"),
    Key(
        "validation_seed",
        read.whole(-1, read.LARGEST_SEED),
        None,
        "seed of the images; 0 is a seed",
    ),
    Key("seed", read.whole(-1, read.LARGEST_SEED), None, "stands in for validation_seed"),
)

_OWN = (
    Key("working_dir", read.text, None, "the trainer's working directory"),
    Key("state_dir", read.text, None, "where clipwatch keeps its log and images"),
    Key("simpletuner_path", read.text, None, "where SimpleTuner is installed"),
    Key("simpletuner_version", read.version, None, "whose defaults hold, as 4.10.1"),
    Key(
        "prompts",
        read.text,
        None,
        "file, core, compositional:N, hf:NAME or simpletuner; replaces all other",
    ),
    Key("seeds", read.one_of("per-prompt", "trainer"), "per-prompt", "trainer: one for all"),
    Key("max_prompts", read.whole(1), None, "most prompts to use, spread over the categories"),
    Key("weights", read.one_of("live", "ema"), None, "which of the trainer's weights"),
    Key("dtype", read.one_of("auto", "fp32", "bf16", "fp16"), "auto", "of the generation"),
    Key("base_precision", read.precision, None, "how the base is quantised, or none"),
    Key("offload", read.one_of("none", "model", "group"), "none", "what waits in host memory"),
    Key("scorer_revision", read.text, "", "the CLIP model's revision on the Hub", blank=True),
    Key("device", read.device, "auto", "auto, cpu, cuda, cuda:N, a UUID or mps"),
    Key("give_way", read.flag, True, "let the training have processor and disk first"),
    Key("share_gpu", read.flag, False, "use a GPU that others compute on"),
    Key("gpu_memory_gib", read.real(0, above=True), None, "most GPU memory to take"),
    Key("batch_size", read.batch_size, "auto", "images generated at once; auto finds out"),
    Key("baseline", read.flag, True, "score the base model, too, as step 0"),
    Key("precision", read.real(0, above=True), None, "end an evaluation at this half interval"),
    Key("attention", read.backend, "", "native or a diffusers attention backend", blank=True),
    Key("watch", read.one_of("auto", "events", "poll"), "auto", "how changes are noticed"),
    Key("rescan_seconds", read.real(0, above=True), 5.0, "time between two looks at the folder"),
    Key("settle_seconds", read.real(0), 10.0, "an unmarked checkpoint's time without change"),
    Key("stage", read.one_of(*STAGES), "auto", "how a checkpoint is kept from rotation"),
    Key("stage_limit", read.whole(1), 2, "checkpoints kept from rotation at once"),
    Key("stall_seconds", read.real(0, above=True), 1800.0, "silence before an evaluator is ended"),
    Key("keep_images", read.whole(-1), 20, "newest evaluations with images; -1 all, 0 none"),
    Key("max_attempts", read.whole(1), 3, "tries before an evaluation is given up"),
    Key(
        "health_address", read.address, None, "HOST:PORT of health and metrics, or off", blank=True
    ),
    Key("drain_seconds", read.real(0), 0.0, "time to finish evaluations when asked to stop"),
    Key("exit_when_done", read.ends, None, "end with the training", blank=True),
    # what is told without being asked
    Key("advice.low", read.number, None, "mean below which a model is called poor"),
    Key("advice.saturated", read.number, None, "mean above which differences say little"),
    Key("advice.after", read.whole(1), 3, "checkpoints before a low mean is told"),
    Key("advice.worth", read.worth, None, "a difference of means that matters, by scorer"),
    Key("advice.stretch", read.whole(1), 1000, "steps without a gain of worth: a plateau"),
    Key("advice.webhook", read.text, None, "address that gets advice as JSON", secret=True),
    Key("advice.apprise", read.addresses, (), "Apprise addresses that get advice", secret=True),
)

KEYS: dict[str, Key] = {key.name: key for key in (*_TRAINER, *_OWN)}
"""Every key by its name, "advice.low" for one in an object.

The objects of trackers ("wandb": {...}) and "scorers" hold names of the user's and come on top.
"""

TRAINER_KEYS = frozenset(key.name for key in _TRAINER)
"""Those that are also read from the top level of the trainer's config.json."""
