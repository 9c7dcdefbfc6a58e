"""Samplers by the names that SimpleTuner's validation_noise_scheduler takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from clipwatch.evaluator.failures import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DIFFUSION: Final = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}
FLOW_MATCHING: Final = {
    "euler": "FlowMatchEulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}


def replace_scheduler(name: str, scheduler: Any) -> Any:
    """Return the sampler called `name`, built from the config of the pipeline's own.

    Args:
        name: A key of DIFFUSION or, for a flow-matching pipeline, of FLOW_MATCHING; "" returns the
            pipeline's own.
        scheduler: The diffusers scheduler that the pipeline was loaded with.

    Raises:
        EvaluationError: The name is unknown or does not suit the model ("model").
    """
    if not name:
        return scheduler
    import diffusers

    config = dict(scheduler.config)
    class_name, changes = plan(name, config, flow=is_flow(type(scheduler).__name__, config))
    kind = getattr(diffusers, class_name)
    known = inspect.signature(kind.__init__).parameters
    return kind.from_config(config, **{key: changes[key] for key in changes if key in known})


def is_flow(class_name: str, config: Mapping[str, Any]) -> bool:
    """Whether a scheduler belongs to a flow-matching model, which needs samplers of its own."""
    return (
        class_name.startswith("FlowMatch")
        or bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
    )


def plan(name: str, config: Mapping[str, Any], *, flow: bool) -> tuple[str, dict[str, Any]]:
    """Return the class in diffusers and what it changes in `config`.

    The changes are SimpleTuner's: trailing timesteps, no learned variance, flow sigmas with the
    model's shift.

    Raises:
        EvaluationError: The name is unknown or does not suit the model ("model").
    """
    names = FLOW_MATCHING if flow else DIFFUSION
    if name not in names:
        what = "a flow-matching model" if flow else "this model"
        raise EvaluationError(
            "model", f"sampler {name!r} does not suit {what}; choose one of {', '.join(names)}"
        )
    changes: dict[str, Any] = {"timestep_spacing": "trailing"}
    if flow:
        changes |= {
            "use_flow_sigmas": True,
            "prediction_type": "flow_prediction",
            "flow_shift": config.get("flow_shift", config.get("shift", 1.0)),
            "shift": config.get("shift", config.get("flow_shift", 1.0)),
        }
    else:
        # latents reach beyond -1..1, which ddim and ddpm would clip unless told otherwise
        changes["clip_sample"] = config.get("clip_sample", False)
        if str(config.get("variance_type")).startswith("learned"):
            changes["variance_type"] = "fixed_small"
    return names[name], changes
