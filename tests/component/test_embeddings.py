"""Every family's images are those of plain prompts, though its prompts are encoded only once."""

from __future__ import annotations

import logging
import shutil
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import pytest
import torch
from diffusers import DiffusionPipeline, PixArtAlphaPipeline

import embedding_kit
import evaluator_kit as kit
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation import embeddings
from clipwatch.evaluator.generation.calling import pictures
from clipwatch.evaluator.generation.opening import left_out, read_index
from clipwatch.evaluator.generation.pipeline import to_bytes
from clipwatch.evaluator.store import Store

PROMPTS = embedding_kit.PROMPTS

pytestmark = kit.QUIET


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return embedding_kit.count_calls(monkeypatch)


def plain_images(folder: Path, how: EvaluationProtocol, **parts: Any) -> list[bytes]:
    """Generate the protocol's images with diffusers and plain prompts."""
    absent = left_out(read_index(folder))
    pipeline = DiffusionPipeline.from_pretrained(str(folder), **absent | parts)
    pipeline.set_progress_bar_config(disable=True)
    tasks = list(how.images())
    found = pictures(
        pipeline,
        how,
        [prompt.text for prompt, _, _ in tasks],
        [torch.Generator().manual_seed(seed) for _, _, seed in tasks],
    )
    assert found is not None
    return [image.numpy().tobytes() for image in to_bytes(found)]


@pytest.mark.parametrize("family", embedding_kit.FAMILIES | embedding_kit.PLAIN)
@pytest.mark.thorough(but=1)
def test_images_are_those_of_plain_prompts(tmp_path: Path, calls: list[str], family: str) -> None:
    """The base model and a checkpoint of every family give diffusers' pictures.

    Only the base has its prompts encoded, where the family allows that; a new process has not.
    """
    denoiser = embedding_kit.write_pipeline(family, tmp_path / "base")
    embedding_kit.write_pipeline(family, tmp_path / "second", seed=1)
    shutil.copytree(tmp_path / "second" / denoiser, tmp_path / "it" / denoiser)
    how = kit.protocol(
        tmp_path / "base",
        prompts=PROMPTS,
        images_per_prompt=1,
        negative_prompt="bad, ugly",
        text_length=256 if family == "Ideogram4Pipeline" else None,  # it pads to 2048
    )
    more: dict[str, Any] = {
        "images": tmp_path / "images",
        "cache_dir": str(tmp_path / "cache"),
        "batch_size": 3,
    }
    asked = {
        "base": kit.request(tmp_path / "nowhere", "base", how, **more),
        "second": kit.request(tmp_path / "it", "full", how, component=denoiser, **more),
    }
    evaluator = Evaluator()
    for name, evaluates in [("base", evaluator), ("second", evaluator), ("second", Evaluator())]:
        calls.clear()
        kit.scores_of(evaluates, asked[name])
        assert bool(calls) == (name == "base" and family in embedding_kit.FAMILIES)
        index = read_index(tmp_path / name)
        kind = getattr(diffusers, index[denoiser][1])
        other = kind.from_pretrained(tmp_path / name / denoiser)
        expected = plain_images(tmp_path / "base", how, **{denoiser: other})
        assert kit.same_pictures(kit.saved_images(how, tmp_path / "images"), expected)
        assert not any(kit.same_pictures([one], [two]) for one, two in pairwise(expected))


@pytest.mark.parametrize("family", ["StableDiffusionXLPipeline", "QwenImagePipeline"])
@pytest.mark.thorough(but=1)
def test_guidance_and_negative_prompt(tmp_path: Path, calls: list[str], family: str) -> None:
    """Guidance 0, 1 and more, with a negative prompt and with none, give diffusers' pictures."""
    denoiser = embedding_kit.write_pipeline(family, tmp_path)
    evaluator = Evaluator()
    found = []
    for guidance in (0.0, 1.0, 3.0):
        for negative in ("", "bad, ugly"):
            how = kit.protocol(
                tmp_path,
                prompts=PROMPTS,
                images_per_prompt=1,
                guidance=guidance,
                negative_prompt=negative,
            )
            request = kit.request(
                tmp_path, "full", how, component=denoiser, images=tmp_path / "images", batch_size=3
            )
            files = tuple(file for file in request.files if file.path.startswith(denoiser))
            for again in (False, True):
                calls.clear()
                kit.scores_of(evaluator, msgspec.structs.replace(request, files=files))
                assert not (again and calls)
                pictures = kit.saved_images(how, tmp_path / "images")
                assert kit.same_pictures(pictures, plain_images(tmp_path, how))
            found.append(pictures)
    plain, *unguided, guided, warned = found
    assert all(kit.same_pictures(it, plain) for it in unguided)  # there a negative has no effect
    assert not any(kit.same_pictures(*it) for it in combinations([plain, guided, warned], 2))


def test_several_images_a_prompt_at_once() -> None:
    """A call for several images a prompt is left to the pipeline, whose masks are in its order."""
    pipeline = embedding_kit.FAMILIES["ChromaPipeline"]()
    how = {"negative_prompt": "bad", "num_images_per_prompt": 2, "device": torch.device("cpu")}
    texts = [prompt.text for prompt in PROMPTS]
    with torch.inference_mode():
        expected = pipeline.encode_prompt(texts, **how)
        encoder = embeddings.PromptEncoder(pipeline, "cpu", {})
        encoder.begin(texts, Store(None), own=False)
        with encoder.away():
            found = pipeline.encode_prompt(texts, **how)
    assert len(found) == len(expected) == 6
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_other_pipelines_run_from_plain_prompts(
    tmp_path: Path, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A class of which nothing is known gives diffusers' pictures, and that is said once."""
    embeddings.tell_uncovered.cache_clear()
    parts = embedding_kit.FAMILIES["PixArtSigmaPipeline"]().components
    PixArtAlphaPipeline(**parts).save_pretrained(tmp_path)
    how = kit.protocol(tmp_path, prompts=PROMPTS, images_per_prompt=1)
    request = kit.request(tmp_path, "pipeline", how, images=tmp_path / "images")
    with caplog.at_level(logging.INFO, "clipwatch"):
        for _ in range(2):
            kit.scores_of(Evaluator(), request)
            found = kit.saved_images(how, tmp_path / "images")
            assert kit.same_pictures(found, plain_images(tmp_path, how))
    assert [record.getMessage() for record in caplog.records] == [
        "PixArtAlphaPipeline: its prompts are encoded anew for every batch"
    ]
    assert not calls  # of encoders that this module has in hand
