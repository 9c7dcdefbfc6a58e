"""Pictures of every family: alike whatever stands beside them, and by the rules that were asked."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import embedding_kit
import evaluator_kit as kit
from clipwatch.domain.protocol import SkipLayers
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation import calling, embeddings
from clipwatch.evaluator.generation.calling import pictures
from clipwatch.evaluator.store import Store

pytestmark = kit.QUIET

HOW = kit.protocol(Path("/base"), negative_prompt="bad, ugly")
TEXTS = ("red", "two blue squares on a black background", "red")


def made(pipeline: Any, how: Any = HOW, texts: tuple[str, ...] = TEXTS[:1]) -> torch.Tensor:
    noise = [torch.Generator().manual_seed(len(text)) for text in texts]
    found = pictures(pipeline, how, texts, noise)
    assert found is not None
    assert found.shape[:2] == (len(texts), 3)
    return found


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether pictures are the same to a level."""
    return bool((one - other).abs().max() < 1.01 / 255)


@pytest.mark.parametrize("family", ["CogView4Pipeline", "Kandinsky5T2IPipeline"])
def test_neighbours_do_not_change_a_picture(family: str) -> None:
    """Families that attend to a batch's padding have each prompt in a call of its own."""
    pipeline = embedding_kit.stirred(family)
    together = made(pipeline, texts=TEXTS)
    for text, picture in zip(TEXTS, together, strict=True):
        assert close(made(pipeline, texts=(text,))[0], picture)


def test_a_negative_prompt_is_encoded_where_it_has_to_be() -> None:
    """FLUX.2 klein takes none as text; without one it has its own, the empty one."""
    pipeline = embedding_kit.stirred("Flux2KleinPipeline")
    without = made(pipeline, replace(HOW, negative_prompt=""))
    assert close(made(pipeline, replace(HOW, negative_prompt="", rules="simpletuner")), without)
    assert not close(made(pipeline), without)


@pytest.mark.parametrize("family", ["Flux2Pipeline", "Kandinsky5T2IPipeline"])
def test_a_pipeline_is_as_before_when_rules_are_done(family: str) -> None:
    """Texts and a denoiser's arguments are SimpleTuner's for a call, and diffusers' in the next."""
    pipeline = embedding_kit.stirred(family)
    before = {name: it for name, it in vars(pipeline).items() if isinstance(it, str | int)}
    plain = made(pipeline)
    theirs = made(pipeline, replace(HOW, rules="simpletuner"))
    assert not torch.equal(plain, theirs)
    assert close(made(pipeline), plain)
    assert {name: vars(pipeline)[name] for name in before} == before
    assert not pipeline.transformer._forward_pre_hooks


def test_flux_is_told_the_time_exactly() -> None:
    """SimpleTuner's FLUX has times in fp32; diffusers' rounds them to bf16."""
    pipeline = embedding_kit.stirred("FluxPipeline").to(torch.bfloat16)
    seen: list[tuple[torch.Tensor, ...]] = []
    pipeline.transformer.time_text_embed.register_forward_hook(
        lambda _, given, __: seen.append(given)
    )
    how = replace(HOW, inference_steps=3)
    made(pipeline, replace(how, rules="simpletuner"))
    assert [float(given[0]) for given in seen] == pipeline.scheduler.timesteps.tolist()
    seen.clear()
    made(pipeline, how)
    assert [float(given[0]) for given in seen] != pipeline.scheduler.timesteps.tolist()


def test_sana_attends_to_the_text_with_normalised_states() -> None:
    """SimpleTuner's Sana normalises them, diffusers' does not; the next call is diffusers'."""
    pipeline = embedding_kit.stirred("SanaPipeline")
    seen: list[torch.Tensor] = []
    pipeline.transformer.transformer_blocks[0].attn2.register_forward_hook(
        lambda _, given, __: seen.append(given[0])
    )
    made(pipeline, replace(HOW, rules="simpletuner"))
    assert float(seen[0].mean(-1).abs().max()) < 1e-5
    seen.clear()
    made(pipeline)
    assert float(seen[0].mean(-1).abs().max()) > 1e-3


@pytest.mark.thorough
def test_prompts_are_kept_apart_by_rules(tmp_path: Path) -> None:
    """What was encoded behind one system message is not taken for the other."""
    embedding_kit.write_pipeline("Flux2Pipeline", tmp_path)
    evaluator = Evaluator()
    for rules in ("", "simpletuner", ""):
        how = kit.protocol(tmp_path, rules=rules)
        request = kit.request(tmp_path, "base", how, cache_dir=str(tmp_path / "cache"))
        fresh = kit.scores_of(Evaluator(), kit.request(tmp_path, "base", how))
        assert kit.same(kit.scores_of(evaluator, request), fresh)


def test_texts_are_as_long_as_asked() -> None:
    """Kolors' pipeline does not hand on the length that it is called with."""
    pipeline = embedding_kit.stirred("KolorsPipeline")
    encoder = embeddings.PromptEncoder(pipeline, "cpu", {})
    encoder.begin(["red"], Store(None), own=False)
    for length, found in ((None, 256), (77, 77)):
        with encoder.away(length), torch.inference_mode():
            embedded = pipeline.encode_prompt(["red"], do_classifier_free_guidance=False)[0]
            assert embedded.shape[1] == found


def test_deepfloyds_pixels_are_those_that_it_would_show() -> None:
    """Its tensors are in -1..1, others' in 0..1."""
    pipeline = embedding_kit.stirred("IFPipeline")
    found = made(pipeline, replace(HOW, negative_prompt=""))
    shown = pipeline(
        [TEXTS[0]],
        num_inference_steps=HOW.inference_steps,
        guidance_scale=HOW.guidance,
        generator=[torch.Generator().manual_seed(len(TEXTS[0]))],
    ).images[0]
    expected = torch.from_numpy(np.asarray(shown) / np.float32(255)).permute(2, 0, 1)
    assert close(found[0], expected)


def test_what_is_not_had_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """In a line with the class, however many batches there are."""
    calling.tell.cache_clear()
    pipeline = embedding_kit.stirred("ChromaPipeline")
    how = replace(HOW, skip_layers=SkipLayers((7,)))
    with caplog.at_level(logging.INFO, "clipwatch"):
        for _ in range(2):
            made(pipeline, how)
    assert [it.getMessage() for it in caplog.records] == [
        "ChromaPipeline: no skip-layer guidance; see docs/families.md"
    ]
