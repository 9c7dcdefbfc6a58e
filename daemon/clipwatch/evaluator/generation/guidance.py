"""Predictions of a denoiser, changed before the pipeline that asked for them guides with them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipwatch.evaluator.generation.calls import Guidance
    from clipwatch.evaluator.generation.calls_rules import Star


def guided(denoiser: Any, how: Guidance | None) -> AbstractContextManager[object]:
    """Have a denoiser's predictions be those of SimpleTuner's pipeline for one call of diffusers'.

    diffusers' own guidance, negative + scale * (positive - negative) or positive + scale *
    (positive - negative), then gives what SimpleTuner's does, with the same operations.
    """
    if how is None:
        return nullcontext()
    handle: AbstractContextManager[object] = denoiser.register_forward_hook(
        _Steps(how), with_kwargs=True
    )
    return handle


class _Steps:
    """Counts the steps of a denoiser, which is asked twice in each, or once for both."""

    def __init__(self, how: Guidance) -> None:
        self._how = how
        self._step = 0
        self._positive: torch.Tensor | None = None  # of this step, where the negative comes apart

    def __call__(
        self, _: object, __: object, named: Mapping[str, Any], output: Any
    ) -> tuple[Any, ...] | None:
        if named.get("skip_layers") is not None:  # a third prediction, and none of these two
            return None
        found = output[0]
        if isinstance(found, list):
            return (list(self._changed(torch.stack(found)).unbind()), *output[1:])
        return (self._changed(found), *output[1:])

    def _changed(self, found: torch.Tensor) -> torch.Tensor:
        how, step = self._how, self._step
        if how.pairs and how.order == "apart":
            if self._positive is None:
                self._positive = found
                return torch.zeros_like(found) if step < how.still else found
            positive, self._positive = self._positive, None
            self._step += 1
            return changed(positive, found, how, step)[1]
        self._step += 1
        if not how.pairs:
            return torch.zeros_like(found) if step < how.still else found
        first, second = found.chunk(2)
        if how.order == "negative first":
            positive, negative = changed(second, first, how, step)
            return torch.cat([negative, positive])
        return torch.cat(changed(first, second, how, step))


def changed(
    positive: torch.Tensor, negative: torch.Tensor, how: Guidance, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both predictions as the guidance of a step is to see them.

    CFG-Zero* (arXiv:2503.18886) scales the negative one to the positive one, image by image.

    Args:
        positive: (images, ...).
        negative: The same, of the same dtype.
        how: Says which of them changes.
        step: From 0.
    """
    if step < how.still:
        return torch.zeros_like(positive), torch.zeros_like(negative)
    if step < how.unguided:
        return positive, positive
    if not how.star:
        return positive, negative
    scale = _scale(positive.flatten(1), negative.flatten(1), how.star).to(negative.dtype)
    return positive, negative * scale.view(-1, *[1] * (negative.dim() - 1))


def _scale(positive: torch.Tensor, negative: torch.Tensor, star: Star) -> torch.Tensor:
    """Return the factor for each row of the negative predictions."""
    if star == "norms":
        positive, negative = positive.float(), negative.float()
        return _norms(positive) / _norms(negative).clamp_min(torch.finfo(torch.float32).eps)
    product = (positive * negative).sum(1)
    if star == "cosine":
        return (product / (_norms(positive) * _norms(negative) + 1e-8)).clamp(0, 1)
    return product / (negative.square().sum(1) + 1e-8)


def _norms(rows: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.vector_norm(rows, dim=1)
    return found
