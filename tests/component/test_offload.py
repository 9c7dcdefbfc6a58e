"""Parts that wait in host memory, and quantised bases, in the whole evaluator."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

import evaluator_kit as kit
from clipwatch.evaluator.evaluate import Evaluator
from evaluator_kit import QUIET

pytestmark = QUIET

KINDS = ("full", "lora", "pipeline")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two checkpoints of each kind."""
    return kit.write_world(tmp_path_factory.mktemp("world"))


def scores(evaluator: Evaluator, world: Path, name: str, **changes: object) -> list[float]:
    """Evaluate a checkpoint, or "base"."""
    how = kit.protocol(world / "base", **changes)
    kind = name.removeprefix("other-")
    request = kit.request(world / name, kind, how)
    if kind == "base":
        request = structs.replace(request, files=())
    return [it.score for it in kit.scores_of(evaluator, request)]


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.thorough
def test_where_parts_wait_changes_no_score(world: Path, offload: str) -> None:
    """Nor does what was evaluated before, of whatever kind."""
    plain, waiting = Evaluator(), Evaluator()
    names = ["base", "full", "lora", "other-full", "pipeline", "other-lora", "full", "base"]
    for name in names:
        expected = scores(plain, world, name)
        assert scores(waiting, world, name, offload=offload) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("precision", ["int8-quanto", "int8-torchao", "nf4-bnb"])
@pytest.mark.thorough
def test_a_quantised_base_under_a_lora(
    world: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scores are the same each time, near those on the whole base, and the LoRA acts."""
    evaluator = Evaluator()
    # PEFT cannot train a convolution that quanto stores
    monkeypatch.setattr(kit, "LAYERS", ["to_q", "to_v", "to_out.0", "time_emb_proj"])
    for seed, name in enumerate(("lora", "other-lora"), start=1):
        kit.write_lora(world / "base", world / name, seed=seed)

    def quantised(name: str) -> list[float]:
        return scores(evaluator, world, name, base_precision=precision)

    base, lora, other = quantised("base"), quantised("lora"), quantised("other-lora")
    assert quantised("lora") == pytest.approx(lora, abs=1e-6)
    assert quantised("base") == pytest.approx(base, abs=1e-6)
    assert lora not in (base, other)
    whole = scores(Evaluator(), world, "lora")
    assert lora == pytest.approx(whole, abs=0.2)
    assert lora != pytest.approx(whole, abs=1e-6)
    for name in ("full", "pipeline"):
        how = kit.protocol(world / "base", base_precision=precision)
        failed = kit.failure(evaluator, kit.request(world / name, name, how))
        assert failed.kind == "weights"
        assert 'set "base_precision": "none"' in failed.reason
