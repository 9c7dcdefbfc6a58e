"""The sampler gets what SimpleTuner's guidance makes of the denoiser's own predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import embedding_kit
import evaluator_kit as kit
from clipwatch.domain.protocol import SkipLayers
from clipwatch.evaluator.generation.calling import pictures

pytestmark = kit.QUIET

SCALE, STEPS = 3.5, 4
Formula = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten(1)


def shaped(factor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return factor.view(-1, *[1] * (like.dim() - 1))


def plain(positive: torch.Tensor, negative: torch.Tensor, _: int) -> torch.Tensor:
    return negative + SCALE * (positive - negative)


def projection(still: int) -> Formula:
    """models/sd3, z_image, krea2: optimized_scale, zero_steps."""

    def formula(positive: torch.Tensor, negative: torch.Tensor, step: int) -> torch.Tensor:
        if step < still:
            return torch.zeros_like(positive)
        dot = (rows(positive) * rows(negative)).sum(1)
        factor = shaped(dot / (rows(negative) ** 2).sum(1), negative)
        return plain(positive, negative * factor, step)

    return formula


def cosine(positive: torch.Tensor, negative: torch.Tensor, step: int) -> torch.Tensor:
    """models/auraflow: optimized_scale."""
    if step == 0:
        return torch.zeros_like(positive)
    factor = torch.cosine_similarity(rows(positive), rows(negative)).clamp(0, 1)
    return plain(positive, negative * shaped(factor, negative), step)


def norms(positive: torch.Tensor, negative: torch.Tensor, step: int) -> torch.Tensor:
    """models/ernie: the ratio of the norms."""
    if step == 0:
        return torch.zeros_like(positive)
    factor = rows(positive).norm(dim=1) / rows(negative).norm(dim=1)
    return plain(positive, negative * shaped(factor, negative), step)


def late(positive: torch.Tensor, negative: torch.Tensor, step: int) -> torch.Tensor:
    """models/flux, flux2: no_cfg_until_timestep."""
    return positive if step < 2 else plain(positive, negative, step)


class Watch:
    """Keeps what a pipeline's denoiser predicts, as it does, and what its sampler is given."""

    def __init__(self, pipeline: Any) -> None:
        self.asked: list[torch.Tensor] = []
        self.skipped: list[torch.Tensor] = []  # with layers left out
        self.given: list[torch.Tensor] = []
        self._step = pipeline.scheduler.step
        pipeline.scheduler.step = self._keep_given
        pipeline.transformer.register_forward_hook(self._keep_asked, with_kwargs=True)

    def _keep_given(self, *arguments: Any, **named: Any) -> Any:
        self.given.append(arguments[0].clone())
        return self._step(*arguments, **named)

    def _keep_asked(self, _: Any, __: Any, named: Any, output: Any) -> None:
        found = torch.stack(output[0]) if isinstance(output[0], list) else output[0]
        kept = self.asked if named.get("skip_layers") is None else self.skipped
        kept.append(found.clone())

    def both(self, step: int, order: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the positive and the negative prediction of a step."""
        if order == "apart":
            return self.asked[2 * step], self.asked[2 * step + 1]
        first, second = self.asked[step].chunk(2)
        return (first, second) if order == "positive first" else (second, first)


def run(family: str, **changes: Any) -> Watch:
    """Make two images of a tiny pipeline of the family as SimpleTuner does."""
    pipeline = embedding_kit.stirred(family)
    usual = {"guidance": SCALE, "negative_prompt": "bad, ugly", "inference_steps": STEPS}
    how = kit.protocol(Path("/base"), rules="simpletuner", **usual | changes)
    watch = Watch(pipeline)
    noise = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    with torch.inference_mode():
        assert pictures(pipeline, how, ["red", "two blue squares"], noise) is not None
    assert len(watch.given) == STEPS
    assert len(pipeline.transformer._forward_hooks) == 1  # the one that watched
    return watch


@pytest.mark.parametrize(
    ("family", "order", "formula", "changes"),
    [
        ("StableDiffusion3Pipeline", "negative first", projection(1), {}),
        ("AuraFlowPipeline", "negative first", cosine, {}),
        ("ErnieImagePipeline", "negative first", norms, {}),
        ("ZImagePipeline", "positive first", projection(1), {}),
        ("Krea2Pipeline", "apart", projection(2), {}),
        ("FluxPipeline", "apart", late, {"guidance_real": SCALE, "no_cfg_until": 2}),
        ("FluxPipeline", "apart", plain, {"guidance_real": SCALE}),
        ("Flux2KleinPipeline", "apart", late, {"no_cfg_until": 2}),
        ("ChromaPipeline", "apart", plain, {"no_cfg_until": 2}),
    ],
)
def test_guidance_is_simpletuners(
    family: str, order: str, formula: Formula, changes: dict[str, Any]
) -> None:
    """In every step, for each image of a batch; and the denoiser is as before when it is done."""
    watch = run(family, **changes)
    for step, found in enumerate(watch.given):
        expected = formula(*watch.both(step, order), step)
        sign = -1 if family == "ZImagePipeline" else 1  # it predicts the other way
        torch.testing.assert_close(found, sign * expected.reshape(found.shape))


def test_skipped_layers_make_no_prediction_of_the_two() -> None:
    """SD 3's third prediction is left as it is, and does not count as a step."""
    watch = run("StableDiffusion3Pipeline", skip_layers=SkipLayers((0,), 2.0, 0.1, 0.7))
    assert len(watch.skipped) == 2  # of steps 1 and 2
    for step, found in enumerate(watch.given):
        positive, negative = watch.both(step, "negative first")
        expected = projection(1)(positive, negative, step)
        if step in (1, 2):
            expected += 2.0 * (positive - watch.skipped[step - 1])
        torch.testing.assert_close(found, expected)


def test_first_steps_stand_still_without_guidance_too() -> None:
    """Krea 2 at a scale of 1, where there is no negative prediction."""
    watch = run("Krea2Pipeline", guidance=1.0)
    assert len(watch.asked) == STEPS
    for step, found in enumerate(watch.given):
        expected = watch.asked[step] if step > 1 else torch.zeros_like(found)
        torch.testing.assert_close(found, expected)
