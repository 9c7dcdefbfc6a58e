"""What trainers call an architecture, by SimpleTuner's name for it."""

from __future__ import annotations

import re
from typing import Final

from clipwatch.settings.simpletuner.tables import table, versions

NOISE: Final = frozenset(("sd1x", "sd2x", "sdxl"))
"""Families with a schedule of noise, whose samplers are interchangeable."""

EMBEDDED: Final = frozenset(("flux", "flux2"))
"""Families that are told their guidance, and have classifier-free guidance beside it."""

_WORDS: Final = (
    ("flux2", "flux2"),
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
        called: The name of the base, which may tell the variant: dev, schnell, turbo.
    """
    found = table(versions()[-1]).family(known) if known else None
    if found is None:
        return ""
    squeezed = re.sub("[^a-z0-9]", "", called.lower())
    told = (it for it in found.flavours if re.sub("[^a-z0-9]", "", it) in squeezed)
    flavour = found.flavour(max(told, key=len, default=found.default))
    return flavour.model if flavour else ""
