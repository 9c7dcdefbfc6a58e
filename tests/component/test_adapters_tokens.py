"""Learned tokens, in every form: prompts are encoded as with diffusers' own loader."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapter_kit as forms
import evaluator_kit as kit
import tiny_families
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.domain.sighting import Unusable, Whole
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import adapters
from clipwatch.executors.messages import Evaluate, Failed
from clipwatch.layouts import look_once

pytestmark = kit.QUIET

WIDTH = 32
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    """Pipelines by family; every test leaves one as it was."""
    torch.manual_seed(0)
    return {
        "sd": tiny_families.stable_diffusion(),
        "sdxl": tiny_families.stable_diffusion_xl(),
        "flux": tiny_families.flux(),
    }


def drawn(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed))


def encoded(pipeline: Any, text: str) -> list[torch.Tensor]:
    """Return all that a pipeline makes of a prompt."""
    found = pipeline.encode_prompt([text], **ARGUMENTS[type(pipeline).__name__])
    return [it for it in found if isinstance(it, torch.Tensor)]


ARGUMENTS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {
        "device": "cpu",
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
    },
    "StableDiffusionXLPipeline": {"device": "cpu", "do_classifier_free_guidance": False},
    "FluxPipeline": {"prompt_2": None, "device": "cpu", "max_sequence_length": 24},
}

L, G = ("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")
S = "<s0>", "<s1>"


def each(seed: int, place: tuple[str, str]) -> list[tuple[str, Any, tuple[str, str]]]:
    """Return a word of its own for each row."""
    return [(word, drawn(2, seed)[row], place) for row, word in enumerate(S)]


CASES: dict[str, tuple[str, dict[str, State], str, list[tuple[str, Any, tuple[str, str]]]]] = {
    "kohya": (
        "sd",
        {"tokk-step00000002.safetensors": {"emb_params": drawn(2, 1)}},
        "a tokk dog",
        [("tokk", drawn(2, 1), L)],
    ),
    "kohya of an epoch": (
        "sd",
        {"tokk-000002.safetensors": {"emb_params": drawn(1, 1)}},
        "a tokk dog",
        [("tokk", drawn(1, 1), L)],
    ),
    "kohya sdxl": (
        "sdxl",
        {"tokk.safetensors": {"clip_l": drawn(3, 1), "clip_g": drawn(3, 2)}},
        "a tokk dog",
        [("tokk", drawn(3, 1), L), ("tokk", drawn(3, 2), G)],
    ),
    "diffusers": (
        "sd",
        {"learned_embeds-steps-4.safetensors": {"<circ>": drawn(1, 3)}},
        "a<circ>s, <circ>",
        [("<circ>", drawn(1, 3), L)],
    ),
    "diffusers sdxl": (
        "sdxl",
        {
            "learned_embeds-steps-4.safetensors": {"<circ>": drawn(2, 3)},
            "learned_embeds_2-steps-4.safetensors": {"<circ>": drawn(2, 4)},
        },
        "a <circ> dog",
        [("<circ>", drawn(2, 3), L), ("<circ>", drawn(2, 4), G)],
    ),
    "advanced": (
        "sdxl",
        {"out_emb.safetensors": {"clip_l": drawn(2, 5), "clip_g": drawn(2, 6)}},
        "a <s0><s1> dog, <s1>",
        [*each(5, L), *each(6, G)],
    ),
    "advanced flux": (
        "flux",
        {"out_emb.safetensors": {"clip_l": drawn(2, 5), "t5": drawn(2, 6)}},
        "a <s0><s1> dog",
        [*each(5, L), *each(6, G)],
    ),
    "advanced flux without t5": (
        "flux",
        {"out_emb.safetensors": {"clip_l": drawn(2, 5)}},
        "a <s0><s1> dog",
        each(5, L),
    ),
    "one token alone": (
        "sd",
        {"any.safetensors": {"<circ>": drawn(1, 3)[0]}},
        "a <circ> dog",
        [("<circ>", drawn(1, 3), L)],
    ),
}
"""Family, files, a prompt, and what diffusers is to load: word, embedding, where."""


@pytest.mark.parametrize("case", CASES)
def test_prompts_are_encoded_as_diffusers_does(
    pipelines: dict[str, Any], tmp_path: Path, case: str
) -> None:
    """And the base's encoders and tokenizers are bit by bit what they were, afterwards."""
    family, files, prompt, theirs = CASES[case]
    pipeline = pipelines[family]
    for name, state in files.items():
        save_file({key: it.clone().contiguous() for key, it in state.items()}, tmp_path / name)
    reference = deepcopy(pipeline)
    for word, embedding, (encoder, tokenizer) in theirs:
        reference.load_textual_inversion(
            embedding.clone(),
            token=word,
            text_encoder=getattr(reference, encoder),
            tokenizer=getattr(reference, tokenizer),
        )
    expected = encoded(reference, prompt)
    before, kept = encoded(pipeline, prompt), traces(pipeline)
    first, *more = (tmp_path / name for name in files)
    adapter = adapters.apply(pipeline, first, *more, alpha=None)
    found = encoded(pipeline, prompt)
    assert adapter.components == sorted({place[0] for *_, place in theirs})
    assert adapter.words == list(dict.fromkeys(word for word, *_ in theirs))
    adapter.remove()
    assert [torch.equal(*pair) for pair in zip(found, expected, strict=True)].count(False) == 0
    after = encoded(pipeline, prompt)
    assert [torch.equal(*pair) for pair in zip(after, before, strict=True)].count(False) == 0
    assert not all(torch.equal(*pair) for pair in zip(found, before, strict=True))
    now = traces(pipeline)
    assert now[:2] == kept[:2]
    assert all(torch.equal(*pair) for pair in zip(now[2], kept[2], strict=True))


def traces(pipeline: Any) -> tuple[dict[str, int], dict[str, int], list[torch.Tensor]]:
    """Return which objects a pipeline and its encoders have, and their embeddings."""
    encoders = [it for name, it in pipeline.components.items() if name.startswith("text_")]
    parameters = {
        f"{number}.{name}": id(it)
        for number, encoder in enumerate(encoders)
        for name, it in encoder.named_parameters(remove_duplicate=False)
    }
    tables = [it.get_input_embeddings().weight.detach().clone() for it in encoders]
    return {name: id(it) for name, it in vars(pipeline).items()}, parameters, tables


def test_a_word_of_a_files_name_is_a_whole_word(pipelines: dict[str, Any], tmp_path: Path) -> None:
    """No trainer's token was called so: letters within another word do not mean it."""
    pipeline = pipelines["sd"]
    save_file({"emb_params": drawn(2, 1)}, tmp_path / "tokk.safetensors")
    before = encoded(pipeline, "a tokken dog")
    adapter = adapters.apply(pipeline, tmp_path / "tokk.safetensors", alpha=None)
    assert torch.equal(encoded(pipeline, "a tokken dog")[0], before[0])
    assert not torch.equal(encoded(pipeline, "a tokk, dog")[0], before[0])
    adapter.remove()


# --- with a LoRA ---------------------------------------------------------------------------------

LAYER = "lora_unet_mid_block_attentions_0_proj_in"


def lora(rank: int = 2) -> State:
    noise = torch.Generator().manual_seed(9)
    return {
        f"{LAYER}.lora_down.weight": torch.randn(rank, 16, 1, 1, generator=noise),
        f"{LAYER}.lora_up.weight": torch.randn(16, rank, 1, 1, generator=noise),
        f"{LAYER}.alpha": torch.tensor(float(rank)),
    }


def test_tokens_that_are_bundled_with_a_lora(pipelines: dict[str, Any], tmp_path: Path) -> None:
    """OneTrainer's: both act, each by itself, and both are taken out."""
    pipeline = pipelines["sd"]
    state = {**lora(), "bundle_emb.<my.word>.clip_l": drawn(2, 7)}
    save_file(state, tmp_path / "a.safetensors")
    save_file({"<my.word>": drawn(2, 7)}, tmp_path / "learned_embeds.safetensors")
    save_file(lora(), tmp_path / "b.safetensors")
    text = "a <my.word> dog"
    before = encoded(pipeline, text)[0], unet(pipeline)
    adapter = adapters.apply(pipeline, tmp_path / "a.safetensors", alpha=None)
    both = encoded(pipeline, text)[0], unet(pipeline)
    assert adapter.components == ["text_encoder", "unet"]
    adapter.remove()
    for number, name in enumerate(("learned_embeds", "b")):
        adapter = adapters.apply(pipeline, tmp_path / f"{name}.safetensors", alpha=None)
        found = encoded(pipeline, text)[0], unet(pipeline)
        adapter.remove()
        assert torch.equal(found[number], both[number])
        assert torch.equal(found[1 - number], before[1 - number])
    after = encoded(pipeline, text)[0], unet(pipeline)
    assert all(map(torch.equal, after, before))
    assert not any(map(torch.equal, both, before))


def unet(pipeline: Any) -> torch.Tensor:
    return forms.weight_of(pipeline.unet, "mid_block.attentions.0.proj_in")


# --- all or nothing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "file", "state", "words"),
    [
        ("sd", "tokk", {"clip_l": 1, "clip_g": 1}, "it holds 'tokk' twice"),
        ("sd", "tokk", {"clip_l": 1, "t5": 1}, "tokk.safetensors: t5 is for t5, and the base"),
        ("sdxl", "tokk", {"emb_params": 1}, "is for a model with one text encoder"),
        ("sdxl", "learned_embeds", {"<c>": 1}, "is for a model with one text encoder"),
        ("sd", "q", {"emb_params": 1}, "'q' is a token that its tokenizer has already"),
        ("sd", "a", {**lora(), "bundle_emb.w.t5": 1}, "bundle_emb.w.t5 is for t5"),
        ("sd", "a", {**lora(), "bundle_emb.w.clip_l_out": 1}, "bundle_emb.w.clip_l_out"),
        ("sd", "a", {"bundle_emb.w.clip_l": 1, "x.y": 1}, "1 tensor of no form that is known"),
        ("sd", "wide", {"emb_params": torch.zeros(1, 48)}, "'wide' has vectors of 48 for 32"),
    ],
)
def test_what_cannot_be_used_is_named(
    pipelines: dict[str, Any],
    tmp_path: Path,
    family: str,
    file: str,
    state: Mapping[str, Any],
    words: str,
) -> None:
    """And nothing of the file is in the pipeline then."""
    made = {name: it if isinstance(it, torch.Tensor) else drawn(1, 8) for name, it in state.items()}
    path = tmp_path / f"{file}.safetensors"
    save_file(made, path)
    kept = traces(pipelines[family])
    with pytest.raises(EvaluationError) as told:
        adapters.apply(pipelines[family], path, alpha=None)
    assert told.value.kind == "weights"
    assert words in str(told.value)
    assert traces(pipelines[family])[:2] == kept[:2]


def test_a_word_of_onetrainer_is_that_of_its_config(tmp_path: Path) -> None:
    """Its saves have no name of their own; without the config nothing tells the word."""
    path = tmp_path / "2026-11-28_00-00-46-save-50-0-50.safetensors"
    save_file({"emp_params": drawn(1, 1)}, path)
    seen = look_once(path, "live").verdict
    assert isinstance(seen, Unusable)
    assert "nothing tells by which word a prompt names them" in seen.reason
    config = json.dumps({"embedding": {"placeholder": "<mine>"}})
    save_file({"emp_params": drawn(1, 1)}, path, {"ot_config": config})
    torch.manual_seed(0)
    pipeline = tiny_families.stable_diffusion()
    assert adapters.apply(pipeline, path, alpha=None).words == ["<mine>"]


# --- an evaluation -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base_pipeline(folder)
    return folder


def test_one_checkpoint_after_the_other(base: Path, tmp_path: Path) -> None:
    """Scores do not know what was in the pipeline before; prompts without the word are told."""
    (size,) = {
        it.shape[1]
        for name, it in load_file(base / "text_encoder/model.safetensors").items()
        if name.endswith("token_embedding.weight")
    }
    paths = []
    for number in (1, 2):
        state = {"<circ>": torch.randn(2, size, generator=torch.Generator().manual_seed(number))}
        paths.append(tmp_path / f"learned_embeds-steps-{number}.safetensors")
        save_file(state, paths[-1])
    named = replace(kit.protocol(base), prompts=(Prompt("a", "a <circ>"), Prompt("b", "a dog")))
    evaluator = Evaluator()

    def request(path: Path, how: EvaluationProtocol) -> Evaluate:
        seen = look_once(path, "live").verdict
        assert isinstance(seen, Whole)
        assert seen.weights.kind == "embeddings"
        return kit.request(tmp_path, "embeddings", how, files=seen.weights.files)

    def scores(path: Path) -> list[float]:
        return [it.score for it in kit.scores_of(evaluator, request(path, named))]

    first, second, again = (scores(it) for it in (paths[0], paths[1], paths[0]))
    assert first == again != second
    *_, failed = kit.replies_of(evaluator, request(paths[0], kit.protocol(base)))
    assert isinstance(failed, Failed)
    assert "none of the prompts names what was learned: '<circ>'" in failed.reason
