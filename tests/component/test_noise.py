"""From which noise images start: one's own seed, or the trainer's one generator for a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from msgspec import structs
from PIL import Image

import evaluator_kit as kit
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation.noise import Noise, full_size, tasks_of
from clipwatch.evaluator.images import image_name
from evaluator_kit import QUIET

pytestmark = QUIET

EACH = 3


def asked(base: Path, **changes: object) -> EvaluationProtocol:
    """Return a protocol with the trainer's seeds and three images of each prompt."""
    usual = {"seeds": "trainer", "seed": 11, "images_per_prompt": EACH}
    return kit.protocol(base, **usual | changes)


def trainers_pictures(base: Path, how: EvaluationProtocol) -> list[np.ndarray]:
    """Generate as the trainer does: for each prompt one generator and several images at once."""
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    if how.scheduler == "ddpm":
        pipeline.scheduler = DDPMScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing="trailing"
        )
    found = []
    for prompt in how.prompts:
        found += pipeline(
            prompt.text,
            num_images_per_prompt=how.images_per_prompt,
            num_inference_steps=how.inference_steps,
            guidance_scale=how.guidance,
            width=how.width,
            height=how.height,
            generator=torch.Generator().manual_seed(how.seed),
        ).images
    return [np.asarray(image, int) for image in found]


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("sampler", "batch"), [("", 6), ("", 3), ("", 4), ("", 2), ("ddpm", 6), ("ddpm", 4)]
)
def test_the_trainers_seed_makes_the_trainers_pictures(
    base: Path, tmp_path: Path, sampler: str, batch: int
) -> None:
    """All images of a prompt, also the later ones, and where noise is drawn at every step."""
    how = asked(base, scheduler=sampler)
    request = kit.request(base, "base", how, images=tmp_path, batch_size=batch)
    kit.scores_of(Evaluator(), structs.replace(request, files=()))
    expected = trainers_pictures(base, how)
    for (prompt, index, seed), picture in zip(how.images(), expected, strict=True):
        found = np.asarray(Image.open(tmp_path / image_name(prompt.id, index)), int)
        assert seed == how.seed
        assert np.abs(found - picture).max() <= 1


def test_what_is_done_is_not_reported_again(base: Path) -> None:
    """A prompt that a kill left half done is made from its first image on, and gone on with."""
    how = asked(base)
    request = structs.replace(kit.request(base, "base", how, batch_size=2), files=())
    whole = kit.scores_of(Evaluator(), request)
    done = tuple((it.prompt_id, it.index) for it in whole[:4])
    rest = kit.scores_of(Evaluator(), structs.replace(request, done=done))
    assert [(it.prompt_id, it.index) for it in rest] == [
        (it.prompt_id, it.index) for it in whole[4:]
    ]
    assert [it.score for it in rest] == pytest.approx([it.score for it in whole[4:]], abs=1e-4)


def test_own_seeds_differ_and_do_not_hang_together(base: Path) -> None:
    """By default every image has a seed and a generator of its own, whatever was made before."""
    how = kit.protocol(base, images_per_prompt=EACH)
    tasks = tasks_of(how, set())
    assert len({seed for _, _, seed in tasks}) == len(tasks)
    noise = Noise(how)
    first = [torch.randn(4, generator=it) for it in noise.of(tasks)]
    noise.made(noise.of(tasks[:2]))
    later = [torch.randn(4, generator=it) for it in noise.of(tasks[2:])]
    assert all(torch.equal(*pair) for pair in zip(first[2:], later, strict=True))
    done = {("red", 1), ("blue", 0)}
    left = [task for task in tasks if (task[0].id, task[1]) not in done]
    assert tasks_of(how, done) == left


@pytest.mark.parametrize(
    ("size", "full"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 6), (64, 63)]
)
def test_a_prompts_images_share_a_batch(base: Path, size: int, full: int) -> None:
    """If they fit; with seeds of their own they need not."""
    assert full_size(size, asked(base)) == full
    assert full_size(size, kit.protocol(base, images_per_prompt=EACH)) == size
