"""What readers of trainers' files hand over, in the keys of clipwatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from clipwatch.settings.values import Given

BASE: Final = "pretrained_model_name_or_path"
SIZE: Final = "validation_resolution"
STEPS: Final = "validation_num_inference_steps"
GUIDANCE: Final = "validation_guidance"
REAL: Final = "validation_guidance_real"
NEGATIVE: Final = "validation_negative_prompt"
SEED: Final = "validation_seed"
SAMPLER: Final = "validation_noise_scheduler"
SPACING: Final = "inference_scheduler_timestep_spacing"
PROMPTS: Final = "prompts"
CLIP_SKIP: Final = "clip_skip"

Keys = Mapping[str, Given]


@dataclass(frozen=True, slots=True)
class Left:
    """What one trainer's files tell, before anything of it is looked for.

    Attributes:
        trainer: The name of its layout, "" where nothing is this trainer's.
        keys: Values by clipwatch's keys, all but the next two.
        base: What was trained, as the trainer has it: a Hub id, a path, or the name of a file.
        prompts: The path of its own prompt file, as the trainer has it.
        family: SimpleTuner's name for the architecture, "" for an unknown one.
        trained: The size of the training's pictures, which is meant where no prompts of its own
            are used: its samples tell nothing then.
        sides: Width and height of a sample for which its prompt says none, in pixels.
        both: Prompts may have two scales, of which `scale` is classifier-free guidance.
        remarks: A line each.
    """

    trainer: str = ""
    keys: Keys = field(default_factory=lambda: MappingProxyType({}))
    base: Given | None = None
    prompts: Given | None = None
    family: str = ""
    trained: Given | None = None
    sides: tuple[int, int] = (512, 512)
    both: bool = False
    remarks: tuple[str, ...] = ()


def defaults(whose: str, values: Mapping[str, Any]) -> dict[str, Given]:
    """Return what a trainer does where nothing is said; None says nothing here either."""
    return {
        name: Given(value, f"default of {whose}", name, trainers=True)
        for name, value in values.items()
        if value is not None
    }


def size(width: object, height: object) -> str:
    """Return a size as `validation_resolution` takes it."""
    return f"{width}x{height}"
