"""Pictures from a pipeline of any family, as the protocol asks for them."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from clipwatch.evaluator.generation.calls import (
    call_arguments,
    differences,
    encoded_negative,
    guidance_of,
    negative_of,
    rule_of,
)
from clipwatch.evaluator.generation.guidance import guided
from clipwatch.evaluator.generation.joins import apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clipwatch.domain.protocol import EvaluationProtocol
    from clipwatch.evaluator.generation.calls_rules import Rule

_log = logging.getLogger(__name__)


def pictures(
    pipeline: Any,
    protocol: EvaluationProtocol,
    prompts: Sequence[str],
    noise: list[torch.Generator],
) -> torch.Tensor | None:
    """Have a pipeline make an image for each prompt, each from its own noise.

    Returns:
        (prompts, 3, height, width) in 0..1 on the pipeline's device; None if it makes no
        images.

    Raises:
        ValueError: The pipeline refuses its arguments.
    """
    kind = type(pipeline)
    tell(kind.__name__, differences(kind, protocol))
    if not apart(kind.__name__):
        return _made(pipeline, protocol, list(prompts), noise)
    found = []
    for prompt, its in groupby(zip(prompts, noise, strict=True), key=lambda it: it[0]):
        own = [generator for _, generator in its]
        found.append(_made(pipeline, protocol, [prompt] * len(own), own))
    images = [it for it in found if it is not None]
    return torch.cat(images) if len(images) == len(found) else None


@cache
def tell(name: str, what: str) -> None:
    """Say once in which way a pipeline class is not called as it was asked to."""
    if what:
        _log.warning("%s: %s; see docs/families.md", name, what)


def called(pipeline: Any, protocol: EvaluationProtocol, prompts: list[str], **more: Any) -> Any:
    """Return what a pipeline gives for prompts when it is called as a protocol asks.

    Args:
        pipeline: As it was opened.
        protocol: How to sample.
        prompts: Their texts.
        **more: Further arguments, which count before the protocol's.
    """
    kind = type(pipeline)
    arguments = call_arguments(kind, protocol, prompts)
    if encoded_negative(kind) and (negative := negative_of(kind, protocol)) is not None:
        arguments["negative_prompt_embeds"] = pipeline.encode_prompt([negative] * len(prompts))[0]
    if hasattr(pipeline, "resolutions"):  # to which Kandinsky 5 would change the size
        pipeline.resolutions = [(protocol.width, protocol.height)]
    denoiser = getattr(pipeline, "transformer", None)
    with guided(denoiser, guidance_of(kind, protocol)), _obeying(pipeline, rule_of(kind, protocol)):
        return pipeline(**arguments | more)


@torch.no_grad()
def _made(
    pipeline: Any, protocol: EvaluationProtocol, prompts: list[str], noise: list[torch.Generator]
) -> torch.Tensor | None:
    # "pt" rather than "pil": the conversion to bytes turns NaN into black pixels
    output = called(pipeline, protocol, prompts, generator=noise, output_type="pt")
    images = getattr(output, "images", getattr(output, "image", None))
    if not isinstance(images, torch.Tensor):
        return None
    if type(pipeline).__name__ == "IFPipeline":  # whose tensors alone are in -1..1
        images = (images / 2 + 0.5).clamp(0, 1)
    return images[:, :3]  # without Qwen-Image 2.1's transparency


@contextmanager
def skipping(encoders: Iterable[Any], layers: int) -> Iterator[None]:
    """Have texts read from before CLIP's last `layers`, negative ones too; 0 changes nothing.

    diffusers' `clip_skip` leaves those as they are, unlike sd-scripts and A1111, and looks for the
    last norm in `text_model`, which transformers 5.23 has no more.
    """

    def asked(_: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        own.append(not named.get("output_hidden_states"))  # else diffusers chooses
        return given, named | {"output_hidden_states": True}

    def chosen(encoder: Any, _: Any, found: Any) -> Any:
        if own.pop():
            norm = getattr(encoder, "text_model", encoder).final_layer_norm
            found.last_hidden_state = norm(found.hidden_states[-1 - layers])
        return found

    own: list[bool] = []
    clips = [it for it in encoders if layers]
    bare = [it for it in clips if not hasattr(it, "text_model")]
    with ExitStack() as hooks:
        for it in clips:
            hooks.enter_context(it.register_forward_pre_hook(asked, with_kwargs=True))
            hooks.enter_context(it.register_forward_hook(chosen))
        for it in bare:
            vars(it)["text_model"] = it  # not as a part of itself
        try:
            yield
        finally:
            for it in bare:
                del vars(it)["text_model"]


@contextmanager
def _obeying(pipeline: Any, rule: Rule) -> Iterator[None]:
    """Have a pipeline's own texts and what it tells its denoiser be the rule's for one call."""
    before = {name: getattr(pipeline, name) for name in (*rule.wording, *rule.attributes)}
    texts = {name: before[name].replace(*change) for name, change in rule.wording.items()}
    for name, value in {**texts, **rule.attributes}.items():
        setattr(pipeline, name, value)

    def told(_: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return given, named | dict(rule.denoiser)

    def exact(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        times = (pipeline.current_timestep, 1000 * pipeline.guidance_scale)
        known = zip(given[:-1], times, strict=False)  # distilled models alone know the guidance
        return (*(torch.full_like(it, time, dtype=torch.float32) for it, time in known), given[-1])

    def normed(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        states, eps = given[0], pipeline.transformer.config.norm_eps
        return (torch.nn.functional.layer_norm(states, states.shape[-1:], eps=eps), *given[1:])

    try:
        with ExitStack() as hooks:
            if rule.denoiser:
                hook = pipeline.transformer.register_forward_pre_hook(told, with_kwargs=True)
                hooks.enter_context(hook)
            if rule.cross_norm:
                for block in pipeline.transformer.transformer_blocks:
                    hooks.enter_context(block.attn2.register_forward_pre_hook(normed))
            if rule.exact:
                embedding = pipeline.transformer.time_text_embed
                hooks.enter_context(embedding.register_forward_pre_hook(exact))
            yield
    finally:
        for name, value in before.items():
            setattr(pipeline, name, value)
