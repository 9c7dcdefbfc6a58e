"""What trainers call an architecture, by SimpleTuner's name for it where it has one."""

from __future__ import annotations

import re
from typing import Final

from clipwatch.settings.trainers.left import GUIDANCE, NEGATIVE, SIZE, defaults, size
from clipwatch.settings.usual import table as usual_table
from clipwatch.settings.values import Given

NOISE: Final = frozenset(("sd1x", "sd2x", "sdxl"))
"""Families with a schedule of noise, whose samplers are interchangeable."""

EMBEDDED: Final = frozenset(("flux", "flux_kontext", "flux2"))
"""Families that are told their guidance, and have classifier-free guidance beside it."""

_WORDS: Final = (
    ("flux2", "flux2"),
    ("fluxkontext", "flux_kontext"),
    ("flux", "flux"),
    ("qwen", "qwen_image"),
    ("zimage", "z_image"),
    ("chroma", "chroma"),
    ("lumina", "lumina2"),
    ("hidream", "hidream"),
    ("sana", "sana"),
    ("pixart", "pixart_sigma"),
    ("auraflow", "auraflow"),
    ("kolors", "kolors"),
    ("sd3", "sd3"),
    ("stablediffusion3", "sd3"),
    ("sdxl", "sdxl"),
    ("stablediffusionxl", "sdxl"),
    ("sdv2", "sd2x"),
    ("sd2", "sd2x"),
    ("stablediffusionv2", "sd2x"),
    ("stablediffusion2", "sd2x"),
    ("sdv1", "sd1x"),
    ("sd1", "sd1x"),
    ("stablediffusionv1", "sd1x"),
    ("stablediffusion1", "sd1x"),
)
"""In this order; blanks and signs between the words of a name do not count."""


_BASES: Final = {
    "sd1x": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3": "stabilityai/stable-diffusion-3.5-medium",
    "flux": "black-forest-labs/FLUX.1-dev",
    "flux_kontext": "black-forest-labs/FLUX.1-Kontext-dev",
    "flux2": "black-forest-labs/FLUX.2-dev",
    "qwen_image": "Qwen/Qwen-Image",
    "z_image": "Tongyi-MAI/Z-Image",
    "chroma": "lodestones/Chroma1-HD",
}
_VARIANTS: Final = ("schnell", "turbo", "edit", "klein", "krea", "distill", "lightning", "2512")


_PIPELINES: Final = {
    "sd1x": "StableDiffusionPipeline",
    "sd2x": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
    "flux_kontext": "FluxPipeline",
    "flux2": "Flux2Pipeline",
    "qwen_image": "QwenImagePipeline",
    "z_image": "ZImagePipeline",
    "chroma": "ChromaPipeline",
    "lumina2": "Lumina2Pipeline",
    "hidream": "HiDreamImagePipeline",
    "sana": "SanaPipeline",
    "pixart_sigma": "PixArtSigmaPipeline",
    "auraflow": "AuraFlowPipeline",
    "kolors": "KolorsPipeline",
}
_TRUE: Final = {"QwenImagePipeline": 4.0}
"""The default of true_cfg_scale, where that is all of the guidance."""


def family(*called: object) -> str:
    """Return the family that the first telling name means, "" for none that is known."""
    for name in called:
        squeezed = re.sub("[^a-z0-9]", "", str(name or "").lower())
        for word, found in _WORDS:
            if word in squeezed:
                return found
    return ""


def usual_base(known: str, called: str) -> str:
    """Return the Hub id that a family is mostly trained from, "" where none is known.

    Args:
        known: As of `family`.
        called: The name of the base, which may tell that it is a variant.
    """
    variant = any(word in called.lower() for word in _VARIANTS)
    return "" if variant else _BASES.get(known, "")


def usual_sampling(known: str) -> dict[str, Given]:
    """Return size, guidance and no negative prompt, as diffusers' pipeline of a family has them.

    For trainers that say nothing of their own; nothing for a family that is not known.
    """
    pipeline = _PIPELINES.get(known, "")
    usual = usual_table()["pipelines"].get(pipeline)
    if usual is None:
        return {}
    side, guidance = usual["side"], usual.get("guidance", _TRUE.get(pipeline))
    its = {SIZE: size(side, side), GUIDANCE: guidance, NEGATIVE: ""}
    return defaults(f"diffusers' {pipeline}", its)
