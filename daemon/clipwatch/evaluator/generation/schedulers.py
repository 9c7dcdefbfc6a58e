"""Samplers by the names that SimpleTuner's validation_noise_scheduler takes, and LCM's."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from clipwatch.evaluator.failures import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipwatch.domain.protocol import EvaluationProtocol

DIFFUSION: Final = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "lcm": "LCMScheduler",
}
FLOW_MATCHING: Final = {
    "euler": "FlowMatchEulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}


def sampler(protocol: EvaluationProtocol, scheduler: Any) -> Any:
    """Return the sampler that a protocol asks for, built from the config of the pipeline's own.

    Args:
        protocol: Names a key of DIFFUSION or, for a flow-matching pipeline, of FLOW_MATCHING; with
            "" the pipeline's own class stays.
        scheduler: The diffusers scheduler that the pipeline was loaded with.

    Raises:
        EvaluationError: The name is unknown or does not suit the model ("model").
    """
    import diffusers

    own, config = type(scheduler).__name__, dict(scheduler.config)
    class_name, changes = plan(protocol, own, config)
    if (class_name, changes) == (own, {}):
        return scheduler
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


def plan(
    protocol: EvaluationProtocol, own: str, config: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the class in diffusers and what it changes in `config`.

    The changes to a sampler that is named are SimpleTuner's (setup_scheduler in its
    helpers/training/validation.py, 4.10.1): timestep spacing, prediction type and zero terminal SNR
    of its settings, no learned variance, flow sigmas with its shift unless the shift is dynamic.

    Args:
        protocol: What is asked for.
        own: The class of the pipeline's own sampler.
        config: Its config.

    Raises:
        EvaluationError: The name is unknown or does not suit the model ("model").
    """
    flow, name = is_flow(own, config), protocol.scheduler
    asked: dict[str, Any] = {}
    if not flow and protocol.prediction_type:
        asked["prediction_type"] = protocol.prediction_type
    if not flow and name and protocol.zero_snr is not None:  # one that is kept has its own
        asked["rescale_betas_zero_snr"] = protocol.zero_snr
    shift = config.get("shift", config.get("flow_shift", 1.0))
    if protocol.flow_shift is not None and not config.get("use_dynamic_shifting"):
        shift = protocol.flow_shift
    if not name:
        if flow and "shift" in config:
            asked["shift"] = shift
        return own, {key: it for key, it in asked.items() if config.get(key) != it}
    names = FLOW_MATCHING if flow else DIFFUSION
    if name not in names:
        what = "a flow-matching model" if flow else "this model"
        raise EvaluationError(
            "model",
            f"sampler {name!r} does not suit {what}",
            fix=f"choose one of {', '.join(names)}",
        )
    changes = asked | {"timestep_spacing": protocol.timestep_spacing or "trailing"}
    if flow:
        changes |= {
            "use_flow_sigmas": True,
            "prediction_type": "flow_prediction",
            "flow_shift": shift,
            "shift": shift,
        }
    else:
        if protocol.rules != "simpletuner":
            # latents reach beyond -1..1, which ddim and ddpm would clip unless told otherwise
            changes["clip_sample"] = config.get("clip_sample", False)
        if str(config.get("variance_type")).startswith("learned"):
            changes["variance_type"] = "fixed_small"
    return names[name], changes
