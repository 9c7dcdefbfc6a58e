"""Base models stay loaded by their last use, as memory allows; none leaves a trace in another."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel

import evaluator_kit as kit
from clipwatch.demo.models import CLIP, write_base_pipeline
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.evaluator import resident
from clipwatch.evaluator.batching import SHARE
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation import attention
from clipwatch.evaluator.generation.attention import use_attention
from clipwatch.evaluator.generation.pipeline import Generator
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.executors.messages import Evaluate, Finished, Reply, Scored, Working
from clipwatch.models.kinds import ScorerKind
from clipwatch.models.memory import batch_bytes
from clipwatch.models.scorers import OURS
from clipwatch.statistics.scale import COSINE

pytestmark = kit.QUIET

BASE, SCORER = "loading base model", "loading scorer"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two base models a and b, two LoRAs of each, text encoder and all, and a scorer for b."""
    folder = tmp_path_factory.mktemp("bases")
    for seed, name in enumerate("ab"):
        write_base_pipeline(folder / name, seed=seed)
        for number in (1, 2):
            kit.write_lora(folder / name, folder / f"{name}{number}", seed=number, text=True)
    shutil.copytree(CLIP, folder / "clip")
    return folder


def how(bases: Path, base: str, **changes: Any) -> EvaluationProtocol:
    """Return a protocol of a base model; those of b have another scorer."""
    scorer = CLIP if base == "a" else bases / "clip"
    return kit.protocol(bases / base, scorers=(ScorerSpec("", str(scorer)),), **changes)


def asked(bases: Path, lora: str, **changes: Any) -> Evaluate:
    """Ask for the images of a LoRA."""
    return kit.request(bases / lora, "lora", how(bases, lora[0]), **changes)


class Heard:
    """What an evaluator says: what it loads, and the scores of the last request."""

    def __init__(self) -> None:
        self.evaluator = Evaluator()
        self.replies: list[Reply] = []

    def evaluate(self, request: Evaluate) -> list[Any]:
        """Evaluate what goes well; return the scored images."""
        before = len(self.replies)
        self.evaluator.evaluate(request, self.replies.append)
        said = self.replies[before:]
        assert isinstance(said[-1], Finished), said[-1]
        return [image for it in said if isinstance(it, Scored) for image in it.images]

    def loaded(self, what: str) -> int:
        """Return how often something was loaded."""
        return sum(isinstance(it, Working) and it.doing.startswith(what) for it in self.replies)


def hold_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no memory left beside what is loaded."""
    monkeypatch.setattr(resident, "free_bytes", lambda *_: 0.0)


@pytest.mark.thorough
def test_bases_that_take_turns_are_loaded_once(bases: Path, tmp_path: Path) -> None:
    """Eight evaluations, two bases, four adapters: the pixels of fresh evaluators each time."""
    heard, turns = Heard(), ("a1", "b1", "a2", "b2")
    fresh = {}
    for lora in turns:
        request = asked(bases, lora, images=tmp_path / lora)
        fresh[lora] = Heard().evaluate(request), kit.saved_images(request.protocol, tmp_path / lora)
    for one, other in (("a1", "a2"), ("a1", "b1")):  # or nothing that follows would tell anything
        assert not kit.same_pictures(fresh[one][1], fresh[other][1])
    for number, lora in enumerate(turns * 2):
        request = asked(bases, lora, images=tmp_path / str(number))
        scores = heard.evaluate(request)
        assert kit.same(scores, fresh[lora][0])
        made = kit.saved_images(request.protocol, tmp_path / str(number))
        assert kit.same_pictures(made, fresh[lora][1])
    assert (heard.loaded(BASE), heard.loaded(SCORER)) == (2, 2)


def test_where_there_is_no_room_the_other_goes(
    bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn loads its base and its scorer, as there is one of both in memory."""
    hold_little(monkeypatch)
    heard = Heard()
    for lora in ("a1", "a2", "b1", "a1"):
        heard.evaluate(asked(bases, lora))
    assert (heard.loaded(BASE), heard.loaded(SCORER)) == (3, 3)


@pytest.mark.thorough
def test_the_one_used_last_stays_where_there_is_room_for_two(
    bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three bases, the first of which is used once more before the third one comes."""
    shutil.copytree(bases / "a", tmp_path / "c")
    heard = Heard()
    shared = (ScorerSpec("", str(CLIP)),)
    turn = {
        name: kit.request(folder, "base", kit.protocol(folder, scorers=shared), batch_size=1)
        for name, folder in (("a", bases / "a"), ("b", bases / "b"), ("c", tmp_path / "c"))
    }
    free = [1e12]
    monkeypatch.setattr(resident, "free_bytes", lambda *_: free[0])
    for name in ("a", "b", "a"):
        heard.evaluate(turn[name])
    free[0] = batch_bytes(turn["c"].protocol, 1) / SHARE + 1  # but for a pipeline
    heard.evaluate(turn["c"])
    free[0] = 1e12
    assert heard.loaded(BASE) == 3
    heard.evaluate(turn["a"])
    assert heard.loaded(BASE) == 3
    heard.evaluate(turn["b"])
    assert heard.loaded(BASE) == 4


class Bright:
    """A scorer without files: how bright an image is."""

    commit = told = ""

    def __init__(self, *_: Any) -> None:
        """It has no model."""

    def prepare(self, _: Any) -> int:
        """Read no prompt."""
        return 0

    def score(self, images: torch.Tensor, _: Any) -> list[float]:
        """Return the mean of each image's bytes, 255 being 1."""
        return [it / 255 for it in images.double().mean(dim=(1, 2, 3)).tolist()]


def test_a_scorer_without_files_sends_no_other_model_away(
    bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nothing, as far as anybody can tell; nor does it go while there is room."""
    monkeypatch.setitem(sys.modules, "bright", SimpleNamespace(Bright=Bright))
    monkeypatch.setitem(OURS, "bright", ScorerKind("bright:Bright", lambda *_: COSINE))
    monkeypatch.setattr(resident, "free_bytes", lambda *_: 1e12)
    heard, plain = Heard(), how(bases, "a")
    light = replace(plain, scorers=(*plain.scorers, ScorerSpec("light", "", kind="bright")))
    heard.evaluate(asked(bases, "b1"))
    heard.evaluate(kit.request(bases / "a1", "lora", light))
    kinds = [type(it.model) for it in heard.evaluator.models.held.values()]
    assert (kinds.count(Generator), kinds.count(Bright)) == (2, 1)
    heard.evaluate(asked(bases, "b1"))
    assert (heard.loaded(BASE), heard.loaded(SCORER)) == (2, 3)
    assert Bright in [type(it.model) for it in heard.evaluator.models.held.values()]


@pytest.mark.parametrize(
    ("whose", "where"),
    [(Generator, "load"), (Generator, "generate"), (DualEncoder, "score")],
)
def test_others_go_before_memory_is_short(
    bases: Path, monkeypatch: pytest.MonkeyPatch, whose: type, where: str
) -> None:
    """An attempt that lacks memory is made once more, alone, with the batch that it had."""
    heard = Heard()
    original = getattr(whose, where)
    failed: list[str] = []

    def tight(model: Any, *arguments: Any) -> Any:
        kinds = [type(it.model) for it in heard.evaluator.models.held.values()]
        if kinds.count(Generator) > 1:
            failed.append(where)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(model, *arguments)

    heard.evaluate(asked(bases, "a1"))
    monkeypatch.setattr(whose, where, tight)
    scores = heard.evaluate(asked(bases, "b1"))
    assert failed == [where]
    assert len(scores) == 4
    finished = heard.replies[-1]
    assert isinstance(finished, Finished)
    assert finished.made == {"vae": "whole"}
    monkeypatch.undo()
    assert kit.same(Heard().evaluate(asked(bases, "b1")), scores)
    before = heard.loaded(BASE)
    heard.evaluate(asked(bases, "a1"))
    assert heard.loaded(BASE) == before + 1  # it had to go


def test_what_scoring_sent_away_meanwhile_is_room_for_generating(
    bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lack memory at once, and the second thread is first: pictures are decoded whole."""
    heard, original = Heard(), Generator.generate
    heard.evaluate(asked(bases, "a1"))
    failed: list[bool] = []

    def late(generator: Generator, *arguments: Any) -> Any:
        if not failed:
            failed.append(heard.evaluator.models.let_go())
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(generator, *arguments)

    monkeypatch.setattr(Generator, "generate", late)
    heard.evaluate(asked(bases, "b1"))
    finished = heard.replies[-1]
    assert isinstance(finished, Finished)
    assert (failed, finished.made) == ([True], {"vae": "whole"})


def test_memory_that_one_alone_lacks_is_a_failure(
    bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is there to go: it is told as it was, and tried no further here."""
    tries = []

    def none(*_: Any) -> None:
        tries.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Generator, "load", none)
    evaluator = Evaluator()
    assert kit.failure(evaluator, asked(bases, "a1")).kind == "memory"
    assert tries == [1]


def test_runs_with_other_folders_share_what_is_loaded(bases: Path, tmp_path: Path) -> None:
    """Each run's prompts are kept in its own folder, and nothing is loaded for that."""
    heard = Heard()
    one, two = tmp_path / "one", tmp_path / "two"
    heard.evaluate(asked(bases, "a1", cache_dir=str(one)))
    kept = sorted(one.iterdir())
    assert kept
    other = replace(how(bases, "a"), prompts=(Prompt("green", "three green crosses"),))
    heard.evaluate(kit.request(bases / "a", "base", other, cache_dir=str(two)))
    assert (heard.loaded(BASE), heard.loaded(SCORER)) == (1, 1)
    assert sorted(one.iterdir()) == kept
    assert {it.name for it in two.iterdir()}.isdisjoint(it.name for it in kept)
    assert [*two.iterdir()]


def test_attention_is_that_of_the_request_whatever_others_had() -> None:
    """Diffusers has one for the process, and each pipeline one of its own as soon as it is set."""
    sizes: dict[str, Any] = dict.fromkeys(("patch_size", "num_layers", "num_single_layers"), 1)
    sizes |= {"in_channels": 4, "attention_head_dim": 16, "num_attention_heads": 2}
    sizes |= {"joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": (4, 4, 8)}
    one, other = (
        SimpleNamespace(components={"transformer": FluxTransformer2DModel(**sizes)}) for _ in "12"
    )

    def own(pipeline: Any) -> set[str]:
        parts = pipeline.components["transformer"].attn_processors.values()
        return {it._attention_backend or attention._active() for it in parts}

    use_attention(one, "_native_math")
    use_attention(other, "native")
    assert (own(one), own(other)) == ({"_native_math"}, {"native"})
    use_attention(one, "native")
    assert own(one) == own(other) == {"native"}
