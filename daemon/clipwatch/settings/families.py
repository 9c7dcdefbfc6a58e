"""What follows from the trainer's model_family: the base model and the sampler of its validation.

Source: the model classes of SimpleTuner 4.8.0, for families whose pipeline diffusers exports too.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from clipwatch.settings.values import Given


@dataclass(frozen=True, slots=True)
class Family:
    """A text-to-image family.

    Attributes:
        default: The flavour that is taken when none is named, "" where one must be.
        repositories: Flavour → Hub id of its pipeline.
        scheduler: The trainer's validation sampler where stock diffusers has it, else "".
    """

    default: str = ""
    repositories: dict[str, str] = field(default_factory=dict)
    scheduler: str = ""


FAMILIES: dict[str, Family] = {
    "auraflow": Family("v0.3", {"v0.3": "terminusresearch/auraflow-v0.3"}),
    "chroma": Family("base", {"base": "lodestones/Chroma1-Base"}),
    "cosmos": Family("2b", {"2b": "nvidia/Cosmos-Predict2-2B-Text2Image"}),
    "cosmos3": Family("nano", {"nano": "nvidia/Cosmos3-Nano"}),
    "deepfloyd": Family(scheduler="ddpm"),
    "ernie": Family("base", {"base": "baidu/ERNIE-Image"}),
    "flux": Family(
        "krea",
        {
            "dev": "black-forest-labs/flux.1-dev",
            "fluxbooru": "terminusresearch/fluxbooru-v0.3",
            "krea": "black-forest-labs/flux.1-krea-dev",
            "libreflux": "jimmycarter/LibreFlux-SimpleTuner",
            "schnell": "black-forest-labs/flux.1-schnell",
        },
    ),
    "flux2": Family("klein-9b", {"klein-9b": "black-forest-labs/FLUX.2-klein-base-9B"}),
    "hidream": Family(
        "full",
        {
            "dev": "HiDream-ai/HiDream-I1-Dev",
            "fast": "HiDream-ai/HiDream-I1-Fast",
            "full": "HiDream-ai/HiDream-I1-Full",
        },
    ),
    "ideogram": Family("fp8", {"fp8": "ideogram-ai/ideogram-4-fp8"}),
    "kandinsky5_image": Family(
        "t2i-lite-sft", {"t2i-lite-sft": "kandinskylab/Kandinsky-5.0-T2I-Lite-sft-Diffusers"}
    ),
    "kolors": Family("1.0", {"1.0": "terminusresearch/kwai-kolors-1.0"}, "euler"),
    "krea2": Family("raw", {"raw": "krea/Krea-2-Raw"}),
    "longcat_image": Family("final", {"final": "meituan-longcat/LongCat-Image"}),
    "lumina2": Family("2.0", {"2.0": "Alpha-VLLM/Lumina-Image-2.0"}),
    "omnigen": Family("v1", {"v1": "Shitao/OmniGen-v1-diffusers"}),
    "pixart": Family(
        "900M-1024-v0.6",
        {
            "600M-1024": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            "600M-2048": "PixArt-alpha/PixArt-Sigma-XL-2-2K-MS",
            "600M-512": "PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
            "900M-1024-v0.6": "terminusresearch/pixart-900m-1024-ft-v0.6",
        },
        "ddim",
    ),
    "qwen_image": Family("v2.0", {"v1.0": "Qwen/Qwen-Image", "v2.0": "Qwen/Qwen-Image-2512"}),
    "sana": Family(
        "sana1.5-4.8b-1024",
        {"sana1.5-4.8b-1024": "Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers"},
    ),
    "sd1x": Family(
        "dreamshaper",
        {
            "1.4": "CompVis/stable-diffusion-v1-4",
            "1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "dreamshaper": "Lykon/dreamshaper-8",
        },
        "ddim",
    ),
    "sd2x": Family(scheduler="euler"),
    "sd3": Family(
        "medium",
        {
            "large": "stabilityai/stable-diffusion-3.5-large",
            "medium": "stabilityai/stable-diffusion-3.5-medium",
        },
    ),
    "sdxl": Family(
        "base-1.0",
        {
            "base-0.9": "stabilityai/stable-diffusion-xl-base-0.9",
            "base-1.0": "stabilityai/stable-diffusion-xl-base-1.0",
        },
        "ddim",
    ),
    # ostris-de-turbo has another transformer than the pipeline of its base model
    "z_image": Family(
        "turbo-ostris-v2",
        {"turbo": "TONGYI-MAI/Z-Image-Turbo", "turbo-ostris-v2": "TONGYI-MAI/Z-Image-Turbo"},
    ),
    "z_image_omni": Family("base", {"base": "TONGYI-Lab/Z-Image-Base"}),
}

REFUSED: dict[str, str] = {
    **dict.fromkeys(("ace_step", "heartmula", "minimaxmusic"), "it makes sound"),
    **dict.fromkeys(
        (
            *("hunyuanvideo", "infinitetalk", "kandinsky5_video", "longcat_video", "ltxvideo"),
            *("ltxvideo2", "minimaxh3", "sanavideo", "wan", "wan_s2v"),
        ),
        "it makes video",
    ),
    "stable_cascade": "the trainer's part of it, the prior, makes no pixels",
}
"""Families that CLIP cannot score, with the reason."""

_ALIASES = {"pixart_sigma": "pixart", "cosmos2image": "cosmos"}


def canonical(name: str) -> str:
    """Return the key in these tables for a family in any of the trainer's spellings."""
    plain = name.lower().replace("-", "_")
    return _ALIASES.get(plain, plain)


def check(family: Given, flavour: Given) -> None:
    """Refuse what cannot make images from text alone.

    Raises:
        SettingsError: A family of sounds or video, or a flavour that edits images.
    """
    if reason := REFUSED.get(canonical(family.value)):
        raise family.error(f"{family.value!r} is not a text-to-image family: {reason}")
    if flavour.value == "kontext" or flavour.value.startswith("edit"):
        raise flavour.error(f"{flavour.value!r} edits images, and clipwatch has only prompts")


def repository(family: Given, flavour: Given, missing: Given) -> Given:
    """Return the family's base model, with its source, for want of one in `missing`.

    Raises:
        SettingsError: Nothing is known for this family and flavour; says which key to set.
    """
    advice = f'set "{missing.key}" to the diffusers pipeline that is trained'
    if not family.value:
        raise missing.error(f"is missing, and so is model_family: {advice}")
    known = FAMILIES.get(canonical(family.value))
    if known is None:
        near = difflib.get_close_matches(canonical(family.value), FAMILIES, n=1)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise family.error(f"no base model is known for {family.value!r}{guess}: {advice}")
    name = flavour.value or known.default
    if not name:
        raise family.error(f"{family.value!r} has no default base model: {advice}")
    if name not in known.repositories:
        flavours = ", ".join(known.repositories) or "none"
        raise flavour.error(f"{name!r} has no known base model (known: {flavours}): {advice}")
    source = f"{flavour.source} (model_flavour)" if flavour.value else f"default for {family.value}"
    return Given(known.repositories[name], source, missing.key, missing.file)


def scheduler(family: Given) -> Given:
    """Return the sampler of the trainer's validation for the family; "" for the pipeline's own."""
    known = FAMILIES.get(canonical(family.value), Family())
    source = f"default for {family.value}" if known.scheduler else "default"
    return Given(known.scheduler, source, "validation_noise_scheduler", family.file)
