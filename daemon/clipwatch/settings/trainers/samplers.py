"""What trainers call a sampler, by clipwatch's name for it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from clipwatch.settings.trainers.left import SAMPLER, SPACING
from clipwatch.settings.values import Given

_KNOWN: Final = MappingProxyType(
    {
        "ddim": "ddim",
        "ddpm": "ddpm",
        "euler": "euler",
        "euler_a": "euler-a",
        "dpmsolver++": "dpm++",
        "dpm++": "dpm++",
        "dpm++_2m": "dpm++",
        "dpmpp": "dpm++",
        "unipc": "unipc",
        "lcm": "lcm",
        "ddimscheduler": "ddim",
        "ddpmscheduler": "ddpm",
        "eulerdiscretescheduler": "euler",
        "eulerancestraldiscretescheduler": "euler-a",
        "dpmsolvermultistepscheduler": "dpm++",
        "unipcmultistepscheduler": "unipc",
        "lcmscheduler": "lcm",
    }
)
"""sd-scripts', ai-toolkit's, OneTrainer's and EveryDream2's names, and diffusers' classes."""

_LEADING = ("ddim", "ddpm")


def named(given: Given, *, spaced: bool) -> tuple[dict[str, Given], tuple[str, ...]]:
    """Return the keys of a sampler, and a line where clipwatch has none of that name.

    Args:
        given: As the trainer calls it.
        spaced: The trainer takes its steps as diffusers' class of the sampler has them by default.
    """
    written = str(given.value).lower().removeprefix("k_")
    if known := _KNOWN.get(written):
        keys = {SAMPLER: given.but(known)}
        if spaced:
            spacing = "leading" if known in _LEADING else "linspace"
            keys[SPACING] = given.but(spacing, f"of {known}")
        return keys, ()
    told = f"clipwatch has no sampler {given.value!r}, and uses the base model's own"
    return {SAMPLER: given.but("pipeline")}, (given.told(f"{told}: set {SAMPLER} for another"),)
