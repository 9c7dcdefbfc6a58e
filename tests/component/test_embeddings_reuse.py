"""What is encoded is taken again where all that made it is the same, and only there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

import embedding_kit
import evaluator_kit as kit
import real_world
from clipwatch.demo.models import CLIP
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator import store as embeddings_store
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation import embeddings
from clipwatch.evaluator.generation.joins import JOINS
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.evaluator.store import Store

if TYPE_CHECKING:
    from clipwatch.executors.messages import Evaluate

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of write_world, and a LoRA of UNet and text encoder."""
    folder = tmp_path_factory.mktemp("world")
    kit.write_world(folder)
    kit.write_lora(folder / "base", folder / "text-lora", seed=3, text=True)
    return folder


@pytest.fixture
def world(source: Path, tmp_path: Path) -> Path:
    """A copy of one's own, times of change included."""
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return embedding_kit.count_calls(monkeypatch)


def asked(world: Path, name: str = "full", **changes: Any) -> Evaluate:
    """Return the request to evaluate a checkpoint of the world, everything kept beside it."""
    how = kit.protocol(world / "base", **changes)
    kind = name.rpartition("-")[2]
    return kit.request(world / name, kind, how, cache_dir=str(world / "cache"), batch_size=1)


# --- what is the same ----------------------------------------------------------------------------


def test_all_prompts_are_encoded_with_the_first(world: Path, calls: list[str]) -> None:
    """Whatever the batches, each prompt is encoded once, with its negative prompt."""
    kit.scores_of(Evaluator(), asked(world, images_per_prompt=3))
    assert len(calls) == 2 * len(kit.PROMPTS)


@pytest.mark.parametrize(
    "changes", [{"inference_steps": 3}, {"seed": 5}, {"width": 64}, {"guidance": 4.5}]
)
@pytest.mark.thorough(but=1)
def test_what_does_not_count(world: Path, calls: list[str], changes: dict[str, Any]) -> None:
    """Steps, seeds, sizes and the strength of guidance are not encoded."""
    kit.scores_of(Evaluator(), asked(world))
    calls.clear()
    kit.scores_of(Evaluator(), asked(world, **changes))
    assert not calls


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.thorough
def test_little_memory(
    world: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    """Without room in memory prompts come from the disk; without either, from the text encoder."""
    expected = kit.scores_of(Evaluator(), replace_cache(asked(world), None))
    monkeypatch.setattr(embeddings, "MEMORY_BYTES", 0)
    calls.clear()
    evaluator = Evaluator()
    request = asked(world) if cache else replace_cache(asked(world), None)
    for _ in range(2):
        assert kit.same(kit.scores_of(evaluator, request), expected)
    images = 2 * len(kit.PROMPTS)
    assert len(calls) == (2 * len(kit.PROMPTS) if cache else 2 * 2 * images)


def replace_cache(request: Evaluate, cache: str | None) -> Evaluate:
    return msgspec.structs.replace(request, cache_dir=cache)


# --- what is not ---------------------------------------------------------------------------------


def rewrite(name: str) -> Any:
    """Return what puts a file of other bytes in the place of one of the base's."""

    def change(world: Path, _: pytest.MonkeyPatch) -> None:
        path = world / "base" / name
        if path.suffix == ".safetensors":
            save_file(load_file(path), path.with_suffix(".new"), {"format": "pt", "made": "anew"})
            path.with_suffix(".new").replace(path)
        else:
            path.write_text(f"{path.read_text(encoding='utf-8')}\n", encoding="utf-8")

    return change


def other_library(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings_store, "version", lambda package: f"{package} of tomorrow")


def other_cleaner(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = None if find_spec("ftfy") else object()
    monkeypatch.setattr(embeddings_store, "find_spec", lambda _: found)


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": (replace(kit.PROMPTS[0], text="one red square"), kit.PROMPTS[1])},
        {"negative_prompt": "bad"},
        {"guidance": 1.0},
        {"dtype": "bf16"},
        {"base_variant": "fp16"},
        rewrite("text_encoder/model.safetensors"),
        rewrite("text_encoder/config.json"),
        rewrite("tokenizer/tokenizer.json"),
        other_library,
        other_cleaner,
    ],
    ids=[
        *("prompt", "negative", "guidance", "dtype", "variant", "weights", "config", "tokenizer"),
        *("library", "cleaner"),
    ],
)
@pytest.mark.thorough
def test_each_part_of_the_key_counts(
    world: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """Another prompt, precision, encoder, tokenizer or library: it is encoded again, and right."""
    kit.scores_of(Evaluator(), asked(world))
    calls.clear()
    changes = change if isinstance(change, dict) else {}
    if not changes:
        change(world, monkeypatch)
    if "base_variant" in changes:
        for path in [*(world / "base").rglob("*.safetensors")]:
            path.with_suffix(".fp16.safetensors").hardlink_to(path)
    found = kit.scores_of(Evaluator(), asked(world, **changes))
    assert calls
    fresh = kit.scores_of(Evaluator(), replace_cache(asked(world, **changes), None))
    assert kit.same(found, fresh)


@pytest.mark.thorough
def test_trained_text_encoders_are_apart(world: Path, calls: list[str]) -> None:
    """A LoRA with a text encoder, and a whole pipeline, are encoded anew and leave nothing."""
    names = ["full", "text-lora", "lora", "text-lora", "pipeline", "other-full"]
    fresh = {
        name: kit.scores_of(Evaluator(), replace_cache(asked(world, name), None)) for name in names
    }
    evaluator = Evaluator()
    for name in names:
        calls.clear()
        before = {path.name for path in (world / "cache").glob("*")}
        assert kit.same(kit.scores_of(evaluator, asked(world, name)), fresh[name])
        own = name in {"text-lora", "pipeline"}
        assert bool(calls) == (own or name == names[0])
        after = {path.name for path in (world / "cache").glob("*")}
        assert (after == before) == (name != names[0])
    assert not kit.same(fresh["text-lora"], fresh["lora"], kit.NEAR)


@pytest.mark.thorough
def test_trained_component_is_a_text_encoder(world: Path, calls: list[str]) -> None:
    """Text encoders that are checkpoints themselves are each encoded with."""
    evaluator = Evaluator()
    found = []
    for scale in (1.0, 1.5):
        folder = world / f"x{scale}"
        shutil.copytree(world / "base" / "text_encoder", folder / "text_encoder")
        file = folder / "text_encoder" / "model.safetensors"
        save_file({name: it * scale for name, it in load_file(file).items()}, file)
        request = kit.request(
            folder, "full", kit.protocol(world / "base"), component="text_encoder"
        )
        calls.clear()
        found.append(kit.scores_of(evaluator, replace_cache(request, str(world / "cache"))))
        assert calls
        assert kit.same(found[-1], kit.scores_of(Evaluator(), request))
    assert not kit.same(found[0], found[1], kit.NEAR)
    assert len([*(world / "cache").iterdir()]) == len(kit.PROMPTS)  # the scorer's own


def test_pipeline_is_left_as_it_was(world: Path) -> None:
    """After an evaluation the pipeline has its text encoder, and knows the class of it."""
    evaluator = Evaluator()
    kit.scores_of(evaluator, asked(world))
    *_, generator = (it.model for it in evaluator.models.held.values())
    pipeline = generator._pipeline
    assert type(pipeline.text_encoder).__name__ == "CLIPTextModel"
    assert pipeline.config["text_encoder"] == ("transformers", "CLIPTextModel")


def test_text_encoders_leave_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are on the device only to encode, and are neither in sight nor moved in between."""
    pipeline = embedding_kit.FAMILIES["QwenImagePipeline"]()
    encoder = pipeline.text_encoder
    moves: list[str] = []
    monkeypatch.setattr(encoder, "to", moves.append)
    monkeypatch.setitem(JOINS, "QwenImagePipeline", lambda rows, _: rows)
    it = embeddings.PromptEncoder(pipeline, "cuda:7", {})
    it.begin(["one", "two"], Store(None), own=False)
    here = torch.device("cpu")  # what the pipeline takes for its own device
    expected = {"one": ["cpu"], "two": [], "bad": ["cuda:7", "cpu"], "worse": ["cuda:7", "cpu"]}
    with it.away(), torch.inference_mode():
        for text, wanted in expected.items():
            assert pipeline.text_encoder is None
            moves.clear()
            pipeline.encode_prompt([text], device=here)
            assert moves == wanted
    assert pipeline.text_encoder is encoder
    monkeypatch.setattr(embeddings, "MEMORY_BYTES", 0)  # they will be needed for each batch
    it.begin(["three", "four"], Store(None), own=False)
    with it.away(), torch.inference_mode():
        moves.clear()
        for text in ("three", "four"):
            pipeline.encode_prompt([text], device=here)
        assert moves == ["cuda:7"]


# --- the scorer ----------------------------------------------------------------------------------


def gradient(kind: str) -> torch.Tensor:
    """Return Pillow's gradient, (256, 256, 3) uint8."""
    made: Image.Image = getattr(Image, f"{kind}_gradient")("L")
    return torch.from_numpy(np.array(made.convert("RGB")))


def test_text_features_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process scores the same without encoding a text; another model does encode."""
    shutil.copytree(CLIP, tmp_path / "clip")
    made: list[int] = []
    encode = CLIPModel.get_text_features

    def counted(self: Any, **inputs: Any) -> Any:
        made.append(len(inputs["input_ids"]))
        return encode(self, **inputs)

    monkeypatch.setattr(CLIPModel, "get_text_features", counted)
    images = torch.stack([gradient("radial"), gradient("linear")])
    texts = ["one red circle", "two"]

    def scores(folder: Path | None, digest: str = "one") -> list[float]:
        made.clear()
        scorer = DualEncoder(ScorerSpec("", str(tmp_path / "clip")), "cpu", Store(folder), digest)
        return scorer.score(images, texts)

    expected = pytest.approx(scores(None), abs=kit.AGAIN)
    assert scores(tmp_path / "cache") == expected
    assert made == [1, 1]
    assert scores(tmp_path / "cache") == expected
    assert made == []
    for digest in ("other", "", ""):  # of unknown content nothing is kept
        assert scores(tmp_path / "cache", digest) == expected
        assert made == [1, 1]


@pytest.mark.thorough
def test_a_text_is_scored_whatever_its_neighbours() -> None:
    """A cosine is the same whichever texts were encoded before and beside it."""
    image = gradient("radial")[None]
    texts = [f"{number} red circles" for number in range(9)]
    alone = [
        DualEncoder(ScorerSpec("", str(CLIP)), "cpu").score(image, [text])[0] for text in texts
    ]
    together = DualEncoder(ScorerSpec("", str(CLIP)), "cpu")
    together.score(image.expand(9, -1, -1, -1), texts)
    later = [together.score(image, [text])[0] for text in texts]
    assert later == pytest.approx(alone, abs=kit.AGAIN)


# --- the daemon ----------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_state_directory_has_them(project: Path, base: Path) -> None:
    """`clipwatch start` keeps each prompt's encoding and text features in the state directory."""
    real_world.guarded(project / "output", base, 100)
    ended = real_world.clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    kept = [*(project / "state" / "embeddings").iterdir()]
    assert len(kept) == 2 * len(real_world.PROMPTS)
    assert real_world.open_to_others(project / "state") == []
