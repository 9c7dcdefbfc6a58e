"""Held-out losses from the evaluator to the tracker: fixed, paired, and never in anybody's way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import embedding_kit
import evaluator_kit as kit
from clipwatch.domain.losses import TIMES, Captioned, Example, LossMeasured, LossProtocol, LossSets
from clipwatch.evaluator import losses
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation import denoising
from clipwatch.executors.messages import Failed, Finished, Loaded, Measured, Scored
from clipwatch.loop.narration import narrate, story
from clipwatch.results import reading
from clipwatch.results.table import table
from clipwatch.results.told import as_json
from clipwatch.testing.scripted import usual
from clipwatch_adapters.shared.numbers import Names, scalars
from loop_kit import states
from world import World, checkpoint

if TYPE_CHECKING:
    from clipwatch.executors.messages import Evaluate, Reply

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.write_world(tmp_path_factory.mktemp("heldout"))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> LossSets:
    """Return three images that are held out and two that are trained on, of odd sizes."""
    folder = tmp_path_factory.mktemp("images")
    found = []
    for number, size in enumerate(((40, 64), (64, 32), (33, 33), (50, 50), (90, 45))):
        random = torch.Generator().manual_seed(number)
        pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=random)
        path = folder / f"{number}.png"
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)
        found.append(Captioned(str(path), f"picture {number}"))
    return LossSets(tuple(found[:3]), tuple(found[3:]))


def measured(evaluator: Evaluator, request: Evaluate) -> Measured:
    """Evaluate; return the losses, which come after Loaded and before any score."""
    first, second, *rest, last = kit.replies_of(evaluator, request)
    assert isinstance(first, Loaded)
    assert isinstance(second, Measured)
    assert all(isinstance(it, Scored) for it in rest)
    assert isinstance(last, Finished)
    assert last.phases["loss"] > 0
    return second


def asked(world: Path, sets: LossSets, name: str = "full", **changes: Any) -> Evaluate:
    """Return a request for losses alone: all images are done."""
    kind = "base" if name == "base" else name.rpartition("-")[2]
    changes = {"protocol": kit.protocol(world / "base"), "losses": sets, **changes}
    how = changes.pop("protocol")
    done = tuple((prompt.id, index) for prompt, index, _ in how.images())
    return kit.request(world / name, kind, how, **{"done": done, **changes})


def near(one: Measured, other: Measured) -> bool:
    """Whether both have the same losses, as far as float32 goes."""
    return all(
        torch.allclose(torch.tensor(getattr(one, it)), torch.tensor(getattr(other, it)), rtol=1e-5)
        for it in ("held", "trained")
    )


def test_a_loss_is_fixed_by_image_noise_and_time(
    world: Path, sets: LossSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights give the same losses, in any process and batch; others give others."""
    evaluator = Evaluator()
    first = measured(evaluator, asked(world, sets))
    plan = first.protocol
    assert plan is not None
    assert [it.caption for it in (*plan.held, *plan.trained)] == [f"picture {n}" for n in range(5)]
    assert (plan.seed, plan.width, plan.height, plan.times) == (0, 32, 32, TIMES)
    assert [len(row) for row in (*first.held, *first.trained)] == [len(TIMES)] * 5
    other = measured(evaluator, asked(world, sets, "other-full"))
    assert other.protocol == plan
    assert not near(first, other)
    monkeypatch.setattr(losses, "BATCH", 2)
    assert near(measured(evaluator, asked(world, sets)), first)
    assert near(measured(Evaluator(), asked(world, sets)), first)
    seeded = asked(world, sets, protocol=kit.protocol(world / "base", seed=1))
    assert not near(measured(evaluator, seeded), first)


@pytest.mark.thorough
def test_images_are_scored_as_without_losses(world: Path, sets: LossSets) -> None:
    """Whatever is measured before them, and from one checkpoint to the next."""
    with_losses, without = Evaluator(), Evaluator()
    for name in ("full", "lora", "other-lora"):
        request = asked(world, sets, name, done=())
        plain = kit.scores_of(without, asked(world, sets, name, losses=None, done=()))
        assert kit.same(kit.scores_of(with_losses, request), plain)


def test_a_lora_without_strength_has_the_bases_loss(world: Path, sets: LossSets) -> None:
    """And at its own strength another one."""
    evaluator = Evaluator()
    base = measured(evaluator, asked(world, sets, "base"))
    weak = asked(world, sets, "lora", protocol=kit.protocol(world / "base").at(0.0))
    assert near(measured(evaluator, weak), base)
    assert not near(measured(evaluator, asked(world, sets, "lora")), base)


def test_guidance_and_prompts_play_no_part(world: Path, sets: LossSets) -> None:
    """The loss is of a prediction, not of a picture."""
    evaluator = Evaluator()
    plain = measured(evaluator, asked(world, sets))
    how = kit.protocol(world / "base", guidance=9.0, negative_prompt="ugly", inference_steps=3)
    assert near(measured(evaluator, asked(world, sets, protocol=how)), plain)


@pytest.mark.thorough
def test_latents_are_kept_while_the_vae_is_the_same(
    world: Path, sets: LossSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image is encoded anew for each checkpoint; another VAE encodes all of them."""
    made: list[int] = []
    encoded = denoising.encoded

    def counted(*it: Any) -> torch.Tensor:
        made.append(1)
        return encoded(*it)

    monkeypatch.setattr(denoising, "encoded", counted)
    (own,) = (world / "other-pipeline" / "vae").glob("*.safetensors")
    weights = load_file(own)
    save_file({name: it * 1.01 for name, it in weights.items()}, own)
    evaluator = Evaluator()
    for name, count in (("full", 5), ("lora", 1), ("other-pipeline", 5)):
        made.clear()
        found = measured(evaluator, asked(world, sets, name))
        assert len(made) == count
    assert near(found, measured(Evaluator(), asked(world, sets, "other-pipeline")))


def test_where_memory_is_short_fewer_images_are_predicted_at_once(
    world: Path, sets: LossSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to one; then it is told, and the images are scored all the same."""
    plain = measured(Evaluator(), asked(world, sets))
    predict, most = denoising.losses, 1

    def cramped(pipeline: Any, how: Any, captions: Any, *more: Any) -> Any:
        if len(captions) > most:
            raise torch.OutOfMemoryError
        return predict(pipeline, how, captions, *more)

    monkeypatch.setattr(denoising, "losses", cramped)
    assert near(measured(Evaluator(), asked(world, sets)), plain)
    most = 0
    assert "OutOfMemoryError" in measured(Evaluator(), asked(world, sets)).problem


def test_other_models_leave_memory_before_there_is_no_loss(
    world: Path, sets: LossSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another run that are kept beside, as for pictures."""
    evaluator, others = Evaluator(), ["another pipeline"]
    plain, predict = measured(evaluator, asked(world, sets)), denoising.losses

    def cramped(*it: Any) -> Any:
        if others:
            raise torch.OutOfMemoryError
        return predict(*it)

    def let_go() -> bool:
        there = bool(others)
        others.clear()
        return there

    monkeypatch.setattr(denoising, "losses", cramped)
    monkeypatch.setattr(evaluator.models, "let_go", let_go)
    assert near(measured(evaluator, asked(world, sets)), plain)


def broken(sets: LossSets, folder: Path) -> dict[str, LossSets]:
    """Return what may be wrong with images, by what is said of it."""
    (folder / "text.png").write_text("no image")
    twice = folder / "twice.png"
    twice.write_bytes(Path(sets.held[0].path).read_bytes())
    held = sets.held[0]
    return {
        "gone.png cannot be read as an image": LossSets(
            (replace(held, path=str(folder / "gone.png")),)
        ),
        "text.png cannot be read as an image: its format is not known: mend it": LossSets(
            (replace(held, path=str(folder / "text.png")),)
        ),
        "twice.png is held out as well, under another name": replace(
            sets, trained=(replace(held, path=str(twice)),)
        ),
    }


def test_what_is_wrong_with_an_image_is_told_and_ends_nothing(
    world: Path, sets: LossSets, tmp_path: Path
) -> None:
    """In one line; the checkpoint has its scores."""
    evaluator = Evaluator()
    for said, wrong in broken(sets, tmp_path).items():
        found = measured(evaluator, asked(world, wrong))
        assert said in found.problem
        assert "\n" not in found.problem
        assert found.protocol is None
    assert measured(evaluator, asked(world, sets)).protocol


@pytest.mark.thorough
@pytest.mark.parametrize("family", ["StableDiffusion3Pipeline", "ChromaPipeline"])
def test_a_family_has_a_loss_or_is_told(family: str, sets: LossSets, tmp_path: Path) -> None:
    """From files on the disk, as the others; what has none is scored all the same."""
    embedding_kit.write_pipeline(family, tmp_path)
    request = kit.request(tmp_path, "base", kit.protocol(tmp_path), losses=sets)
    found = measured(Evaluator(), request)
    assert bool(found.protocol) == (family in denoising.FORMS)
    assert found.problem.startswith("" if found.protocol else "ChromaPipeline has no held-out loss")


def test_captions_are_encoded_once_for_all_checkpoints(
    world: Path, sets: LossSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As prompts are, from one process to the next."""
    how = {"cache_dir": str(tmp_path)}
    measured(Evaluator(), asked(world, sets, **how))
    made = embedding_kit.count_calls(monkeypatch)
    measured(Evaluator(), asked(world, sets, "other-full", **how))
    assert made == []


# --- the daemon's side, with a scripted evaluator -------------------------------------------------

HELD = tuple(Example(f"{number:016x}", f"picture {number}") for number in range(8))
TRAINED = tuple(Example(f"{number:016x}", f"picture {number}") for number in range(50, 58))
PLAN = LossProtocol(HELD, TRAINED, 0, 32, 32)


def step_of(request: Evaluate) -> int:
    return 0 if request.kind == "base" else int(Path(request.path).name.rpartition("-")[2])


def rows(level: float, spread: float) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(level + spread * number + 0.001 * time for time in range(6)) for number in range(8)
    )


def with_losses(request: Evaluate, held: float, trained: float) -> list[Reply]:
    first, *others = usual(request)
    found = Measured(PLAN, rows(held, 0.01), rows(trained, 0.012), seconds=2.0)
    return [first, found, *others]


def holding(folder: Path) -> dict[str, object]:
    """Return settings with a held-out set and some of the training's."""
    for name in ("held", "trained"):
        (folder / name).mkdir()
        for number in range(8):
            (folder / name / f"{number}.png").write_bytes(b"")
            (folder / name / f"{number}.txt").write_text(f"{name} {number}")
    return {"holdout": str(folder / "held"), "train_sample": str(folder / "trained")}


def test_losses_go_into_the_log_and_to_trackers(tmp_path: Path) -> None:
    """With the images that they are of; told in a line, in JSON, and by name to every tracker."""
    world = World(tmp_path, **holding(tmp_path))
    checkpoint(world.output, 100)
    world.script = lambda request: with_losses(request, 1.0, 0.5)
    assert world.once() == 0
    (request,) = world.requests
    assert request.losses is not None
    assert {it.caption for it in request.losses.held} == {f"held {n}" for n in range(8)}
    (event,) = (it.event for it in world.logged if isinstance(it.event, LossMeasured))
    assert event.protocol == PLAN
    assert story(event) == (
        "checkpoint-100: held-out loss 1.0375, 0.5445 on images of the training, gap +0.4930;"
        " 16 images in 2 s"
    )
    (evaluation,) = world.run.evaluations.values()
    series = reading.series_of(world.run, evaluation.protocol, world.log.parent)
    numbers = scalars(Names.of(series), series.results[0])
    assert {it: numbers[it] for it in numbers if it.startswith("loss")} == pytest.approx(
        {
            "loss/heldout": 1.0375,
            "loss/heldout_low_noise": 1.0355,
            "loss/heldout_mid_noise": 1.0375,
            "loss/heldout_high_noise": 1.0395,
            "loss/trained": 0.5445,
            "loss/gap": 0.493,
        }
    )
    assert evaluation.finished is not None
    told = as_json({"run": world.run}, evaluation.finished, {})["runs"][0]["checkpoints"]
    assert told[-1]["losses"]["loss/heldout"] == pytest.approx(1.0375)


def test_losses_are_measured_once(tmp_path: Path) -> None:
    """An attempt that goes on after a failure does not ask for what is in the log."""
    world = World(tmp_path, **holding(tmp_path))
    checkpoint(world.output, 100)
    cut = True

    def script(request: Evaluate) -> list[Reply]:
        nonlocal cut
        cut, before = False, cut
        found = with_losses(request, 1.0, 0.5)
        return [*found[:3], Failed("killed", "signal 9")] if before else found

    world.script = script
    assert world.once() == 0
    assert [it.losses is None for it in world.requests] == [False, True]
    (evaluation,) = world.run.evaluations.values()
    assert evaluation.losses is not None
    assert evaluation.losses.by == PLAN.digest


def test_a_loss_that_ends_the_evaluator_is_left_out(tmp_path: Path) -> None:
    """The next attempt scores the checkpoint without it, and says so."""
    world = World(tmp_path, **holding(tmp_path))
    checkpoint(world.output, 100)

    def script(request: Evaluate) -> list[Reply]:
        first, *others = usual(request)
        return [first, *([Failed("killed", "signal 9")] if request.losses else others)]

    world.script = script
    assert world.once() == 0
    assert [it.losses is None for it in world.requests] == [False, True]
    assert states(world) == {100: "published"}
    lines = [line for it in world.logged for line in narrate(it.event)]
    told = "no held-out loss: the evaluator failed before it was measured (signal 9)"
    assert f"checkpoint-100: {told}" in lines


def test_why_there_is_no_loss_is_told(tmp_path: Path) -> None:
    """In the log and by the daemon; the score is published."""
    world = World(tmp_path, **holding(tmp_path))
    checkpoint(world.output, 100)

    def script(request: Evaluate) -> list[Reply]:
        first, *others = usual(request)
        return [first, Measured(problem="FooPipeline has no held-out loss here"), *others]

    world.script = script
    assert world.once() == 0
    assert states(world) == {100: "published"}
    lines = [line for it in world.logged for line in narrate(it.event)]
    assert "checkpoint-100: no held-out loss: FooPipeline has no held-out loss here" in lines


def test_other_images_begin_another_curve(tmp_path: Path) -> None:
    """What cannot be compared stands under another name, in trackers and in the terminal."""
    world = World(tmp_path, **holding(tmp_path))
    changed = replace(PLAN, seed=1)

    def script(request: Evaluate) -> list[Reply]:
        first, found, *others = with_losses(request, 1.0, 0.5)
        assert isinstance(found, Measured)
        plan = PLAN if step_of(request) == 100 else changed
        return [first, Measured(plan, found.held, found.trained), *others]

    world.script = script
    for step in (100, 200):
        checkpoint(world.output, step, step)
        assert world.once() == 0
    protocol = next(iter(world.run.scored))
    one, other = reading.series_of(world.run, protocol, world.log.parent).results
    assert "loss/heldout" in one.losses
    assert set(other.losses) & set(one.losses) == set()
    apart = f"loss_{changed.digest[:8]}/heldout"
    assert apart in other.losses
    head, *_, first, second = table(world.run, 200).splitlines()
    assert "held out" in head
    assert apart in head
    assert (first, second) == ("loss/heldout ▄", f"{apart} ▄")


def test_overfitting_is_advised_once(tmp_path: Path) -> None:
    """Held-out images get worse while the training's get better, for two checkpoints."""
    world = World(tmp_path, **holding(tmp_path))
    course = {100: (1.0, 0.9), 200: (0.8, 0.7), 300: (0.9, 0.5), 400: (1.0, 0.4), 500: (1.1, 0.3)}
    world.script = lambda request: with_losses(request, *course[step_of(request)])
    for step in course:
        checkpoint(world.output, step, step)
        assert world.once() == 0
    (advice,) = (it for it in world.run.advice if it.kind == "overfit")
    assert advice.step == 400
    assert "lowest at step 200" in advice.text
    assert "gap to images of the training grew by 0.5" in advice.text
