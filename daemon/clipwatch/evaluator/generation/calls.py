"""What a diffusers pipeline is called with: a protocol's settings under each class's own names.

Pure. SimpleTuner's rules, and what cannot be had, are told to its users in docs/families.md.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clipwatch.evaluator.generation.calls_rules import (
    AS_ASKED,
    ORDERS,
    SIMPLETUNER,
    Order,
    Rule,
    Star,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipwatch.domain.protocol import EvaluationProtocol

_KLEIN: Final = "Flux2KleinPipeline"
_TRUE_BESIDE: Final = frozenset({"FluxPipeline", _KLEIN})
"""Distilled models that may have true guidance as well; in SimpleTuner from some step on, which is
sent for no other family (helpers/training/validation.py)."""

_ALWAYS: Final = frozenset({"LongCatImagePipeline"})
"""Those that have one empty negative prompt for a whole batch when there is none, and fail."""

_ONE_CLIP: Final = frozenset({"StableDiffusionPipeline"})
"""Those that read prompts from CLIP alone, and from its last layer."""

_EULER: Final = ("", "euler")


@dataclass(frozen=True, slots=True)
class Guidance:
    """What becomes of a denoiser's predictions before the pipeline guides with them.

    Attributes:
        order: How the pipeline asks for them.
        pairs: There is a negative one.
        star, still: See Rule.
        unguided: First steps without guidance.
    """

    order: Order
    pairs: bool = True
    star: Star = ""
    still: int = 0
    unguided: int = 0


def rule_of(kind: type, protocol: EvaluationProtocol) -> Rule:
    """Return what the protocol's rules say of a pipeline class."""
    return SIMPLETUNER.get(kind.__name__, Rule()) if protocol.rules == "simpletuner" else Rule()


def call_arguments(kind: type, protocol: EvaluationProtocol, prompts: list[str]) -> dict[str, Any]:
    """Return what a pipeline of this class is called with, as far as it takes it."""
    rule, skip = rule_of(kind, protocol), protocol.skip_layers
    negative = negative_of(kind, protocol)
    wanted: dict[str, Any] = {
        "prompt": prompts,
        "negative_prompt": None if negative is None else [negative] * len(prompts),
        "num_inference_steps": protocol.inference_steps,
        "width": protocol.width,
        "height": protocol.height,
        "guidance_rescale": protocol.guidance_rescale or None,
        "max_sequence_length": text_length(kind, protocol),
        "complex_human_instruction": protocol.instruction.splitlines() or None,
        "clip_skip": skipped(kind, protocol) or None,
        **_guidance(kind, protocol, rule),
    }
    if skip is not None:
        wanted |= {
            "skip_guidance_layers": list(skip.layers),
            "skip_layer_guidance_scale": skip.scale,
            "skip_layer_guidance_start": skip.start,
            "skip_layer_guidance_stop": skip.stop,
        }
    if rule.to_zero and protocol.scheduler in _EULER:
        wanted["sigmas"] = [*np.linspace(1.0, 0.0, protocol.inference_steps)]
    taken = {key: it for key, it in wanted.items() if key in parameters(kind) and it is not None}
    return {**taken, **AS_ASKED.get(kind.__name__, {}), **rule.arguments}


def skipped(kind: type, protocol: EvaluationProtocol) -> int:
    """Return how many of CLIP's last layers are left out."""
    return protocol.clip_skip - 1 if kind.__name__ in _ONE_CLIP else 0


def text_length(kind: type, protocol: EvaluationProtocol) -> int | None:
    """Return the tokens that prompts are padded or cut to; None for the pipeline's default."""
    return protocol.text_length or rule_of(kind, protocol).text_length


def negative_of(kind: type, protocol: EvaluationProtocol) -> str | None:
    """Return the negative prompt; None to leave it to the pipeline, or where it has no effect."""
    negative, ours = protocol.negative_prompt, protocol.rules == "simpletuner"
    if kind.__name__ in _TRUE_BESIDE and true_guidance(kind, protocol) <= 1:
        return None
    if ours or kind.__name__ in _ALWAYS:
        return negative
    if _is_true(kind):
        return negative or " "  # without one Qwen-Image has no guidance
    return negative or None


def encoded_negative(kind: type) -> bool:
    """Whether a class takes a negative prompt only when it is encoded already."""
    known = parameters(kind)
    return "negative_prompt_embeds" in known and "negative_prompt" not in known


def true_guidance(kind: type, protocol: EvaluationProtocol) -> float:
    """Return the scale of true guidance, at most 1 for none, of a class of distilled models.

    SimpleTuner takes validation_guidance for FLUX.2 klein's (helpers/models/flux2/model.py).
    """
    real = protocol.guidance_real
    return protocol.guidance if real <= 1 and kind.__name__ == _KLEIN else real


def guidance_of(kind: type, protocol: EvaluationProtocol) -> Guidance | None:
    """Return what to do with predictions; None for nothing."""
    name, rule = kind.__name__, rule_of(kind, protocol)
    if rule.star and protocol.guidance > rule.threshold:
        pairs = _scale(protocol, rule) > (0 if rule.excess else 1)
        return Guidance(ORDERS[name], pairs, rule.star, rule.still)
    if protocol.no_cfg_until and name in _TRUE_BESIDE and true_guidance(kind, protocol) > 1:
        return Guidance(ORDERS[name], unguided=protocol.no_cfg_until)
    return None


def differences(kind: type, protocol: EvaluationProtocol) -> str:
    """Return what the protocol asks for and a pipeline of this class has not, "" for nothing."""
    known = parameters(kind)
    true = "true_cfg_scale" in known or kind.__name__ == _KLEIN
    instructed = "complex_human_instruction" in known and not protocol.instruction
    found = {
        rule_of(kind, protocol).differs: True,
        "no skip-layer guidance": protocol.skip_layers and "skip_guidance_layers" not in known,
        "no clip_skip": protocol.clip_skip > 1 and not skipped(kind, protocol),
        "no guidance_rescale": protocol.guidance_rescale and "guidance_rescale" not in known,
        "no true guidance": protocol.guidance_real > 1 and not true,
        "another complex_human_instruction": protocol.rules == "simpletuner" and instructed,
    }
    return "; ".join(text for text, holds in found.items() if text and holds)


def _guidance(kind: type, protocol: EvaluationProtocol, rule: Rule) -> dict[str, float | None]:
    real = true_guidance(kind, protocol)
    if kind.__name__ == _KLEIN:
        return {"guidance_scale": real}
    if _is_true(kind):
        fallback = None if protocol.rules == "simpletuner" else protocol.guidance
        return {"true_cfg_scale": real if real > 1 else fallback}
    return {
        "guidance_scale": _scale(protocol, rule),
        "true_cfg_scale": real if real > 1 else None,
    }


def _scale(protocol: EvaluationProtocol, rule: Rule) -> float:
    scale = protocol.guidance if protocol.guidance > rule.threshold else 0.0
    return max(scale - 1, 0.0) if rule.excess else scale


def _is_true(kind: type) -> bool:
    """Whether all guidance of a class is true_cfg_scale, as Qwen-Image's is."""
    known = parameters(kind)
    true = known.get("true_cfg_scale")
    return true is not None and ("guidance_scale" not in known or true.default > 1)


def parameters(kind: type) -> Mapping[str, inspect.Parameter]:
    """Return what a pipeline class is called with, by name."""
    return inspect.signature(kind.__call__).parameters
