"""`rank` in rounds: in the loop, with a scripted evaluator, over kills and second calls."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clipwatch.cli import main
from clipwatch.cli.rank import images_of, raced
from clipwatch.domain.decided import EvaluationOutdone
from clipwatch.domain.events import EvaluationReopened, ImageScore, ImagesScored
from clipwatch.domain.state import Evaluation
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from clipwatch.prompts import stratified
from clipwatch.results.named import present
from clipwatch.results.ranking import rank
from clipwatch.results.results import open_results
from clipwatch.results.sentences import about_best
from clipwatch.results.view import rows
from loop_kit import states
from world import World, checkpoint, settings

PROMPTS = 64
ROUNDS = (32, 48, PROMPTS)
MEANS = {0: 0.2, 100: 0.2, 200: 0.3, 300: 0.302, 400: 0.25, 530: 0.298, 600: 0.35}
BATCH = 8


def noise(text: str, spread: float) -> float:
    """Return some luck, the same in every run of the test."""
    return random.Random(text).gauss(0.0, spread)


def scored(request: Evaluate, *, most: int | None = None) -> list[Reply]:
    """Make the images that are asked for in their order, or `most` of them and then no more."""
    step = 0 if request.kind == "base" else int(Path(request.path).name.rpartition("-")[2])
    order = {it.id: place for place, it in enumerate(stratified(request.protocol.prompts))}
    todo = [it for it in request.protocol.images() if (it[0].id, it[1]) not in set(request.done)]
    images = [
        ImageScore(it.id, index, seed, {"": score(it.id, index, step)})
        for it, index, seed in sorted(todo, key=lambda it: (order[it[0].id], it[1]))
    ][:most]
    batches = (tuple(images[at : at + BATCH]) for at in range(0, len(images), BATCH))
    end: Reply = Finished(0, 1.0) if most is None else Failed("internal", "by the test")
    return [Loaded({"device": "script"}), *map(Scored, batches), end]


def score(prompt: str, index: int, step: int) -> float:
    """Return what an image scores: prompts differ, and a little by step and by image."""
    alike = noise(prompt, 0.03) + noise(f"{prompt} {step}", 0.008)
    return MEANS[step] + alike + noise(f"{prompt} {index}.", 0.002)


def world_of(folder: Path, *steps: int, race: bool = True, **changes: Any) -> World:
    """Return a run of 64 prompts in whose folder these steps lie, as `rank` has it."""
    folder.mkdir(exist_ok=True)
    (folder / "many.txt").write_text("\n".join(f"prompt {n}" for n in range(PROMPTS)))
    told = {"prompts": str(folder / "many.txt"), "baseline": True, "max_attempts": 1}
    world = World(folder, **{**told, **changes})
    world.settings = raced(world.settings) if race else world.settings
    world.script = scored
    for step in steps:
        checkpoint(world.output, step, step)
    return world


def of(world: World, step: int) -> Evaluation:
    return next(it for it in world.run.evaluations.values() if it.step == step)


def made(world: World) -> dict[int, int]:
    """Return step → images in the log; none is there twice."""
    steps = {it.id: it.step for it in world.run.evaluations.values()}
    told = (it.event for it in world.logged)
    images = Counter(
        (steps[it.evaluation], image.prompt_id, image.index)
        for it in told
        if isinstance(it, ImagesScored)
        for image in it.images
    )
    assert set(images.values()) <= {1}
    return dict(Counter(step for step, *_ in images))


ALL = (100, 200, 300, 400, 530)
EXPECTED = {0: 64, 100: 32, 200: 64, 300: 64, 400: 32, 530: 48}


def test_who_is_surely_not_the_best_is_made_no_further(tmp_path: Path) -> None:
    """Round by round: all to 32 prompts, who is left to 48, the rest to the end."""
    world = world_of(tmp_path, *ALL)
    assert world.once() == 0
    assert made(world) == EXPECTED
    asked = [(PROMPTS - len(it.done)) for it in world.requests]
    assert asked == [PROMPTS, *[32] * 5, *[16] * 3, *[16] * 2]
    assert states(world) == {
        0: "published",
        100: "discarded",
        200: "published",
        300: "published",
        400: "discarded",
        530: "discarded",
    }
    best = of(world, 300)
    for step in (100, 400, 530):
        told = of(world, step).outdone
        assert told
        assert (told.prompts, told.of) == (EXPECTED[step], PROMPTS)
        assert told.by in (best.id, of(world, 200).id)
        assert told.delta == pytest.approx(MEANS[step] - 0.301, abs=0.01)
    assert any(
        line.startswith("checkpoint-100: surely not the best after 32 of 64 prompts, 0.")
        for line in world.said
    )
    assert any("5 checkpoints: 2 published, 3 left out" in line for line in world.said)
    assert any("; 64 images, 16 of them in " in line for line in world.said)


@pytest.mark.thorough
def test_a_second_call_makes_nothing_and_start_makes_the_rest(tmp_path: Path) -> None:
    """Neither image nor event; without the race what was left out goes on with what it has."""
    world = world_of(tmp_path, *ALL)
    assert world.once() == 0
    known = len(world.logged)
    world = world_of(tmp_path)
    assert world.once() == 0
    assert world.requests == []
    again = [it.event for it in world.logged[known:]]
    assert not [it for it in again if isinstance(it, EvaluationReopened | EvaluationOutdone)]
    world = world_of(tmp_path, race=False)
    assert world.once() == 0
    assert made(world) == dict.fromkeys((0, *ALL), PROMPTS)
    assert {it.state for it in world.run.evaluations.values()} == {"scored"}
    assert world_of(tmp_path).once() == 0
    assert made(world) == dict.fromkeys((0, *ALL), PROMPTS)


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("fatal", [1, 4, 6, 9, 10])
def test_it_comes_to_the_same_over_kills(tmp_path: Path, fatal: int) -> None:
    """Wherever an evaluator ends amid a round, and the daemon with it."""
    world = world_of(tmp_path, *ALL)
    count = 0

    def dying(request: Evaluate) -> list[Reply]:
        nonlocal count
        count += 1
        return scored(request, most=None if count != fatal else 8)

    world.script = dying
    world.once()
    world = world_of(tmp_path)
    assert world.once() == 0
    found = made(world)
    # nobody waited for who had failed: beside the others one may have come further than with it
    assert {step for step, images in found.items() if images == PROMPTS} >= {0, 200, 300}
    assert all(EXPECTED[step] <= images for step, images in found.items())
    assert set(found.values()) <= set(ROUNDS)
    assert [of(world, step).state for step in (100, 400)] == ["outdone"] * 2


def test_one_that_comes_later_is_told_from_the_others(tmp_path: Path) -> None:
    """By the prompts of the rounds; a better one is made wholly, and the best from then on."""
    world = world_of(tmp_path, *ALL)
    assert world.once() == 0
    known = len(world.logged)
    world = world_of(tmp_path, 600)
    assert world.once() == 0
    assert made(world) == {**EXPECTED, 600: PROMPTS}
    assert [PROMPTS - len(it.done) for it in world.requests] == [32, 16, 16]
    again = [it.event for it in world.logged[known:]]
    assert not [it for it in again if isinstance(it, EvaluationReopened)]


def test_one_that_is_named_alone_is_made_wholly(tmp_path: Path) -> None:
    """It is the best of itself; what else is there is left as it is."""
    world = world_of(tmp_path, *ALL)
    assert world.once() == 0
    world = world_of(tmp_path, layout_only="checkpoint-100")
    assert world.once() == 0
    assert made(world) == {**EXPECTED, 100: PROMPTS}
    assert (of(world, 100).state, of(world, 400).state) == ("scored", "outdone")
    world = world_of(tmp_path, layout_only="checkpoint-530", race=False)
    assert world.once() == 0
    assert made(world) == {**EXPECTED, 100: PROMPTS, 530: PROMPTS}
    assert (of(world, 530).state, of(world, 400).state) == ("scored", "outdone")
    assert world.run.checkpoints["checkpoint-400"].state == "whole"


@pytest.mark.thorough
@pytest.mark.parametrize("changes", [{"num_validation_images": 2}, {"device": "cpu,cpu"}])
def test_several_images_and_slots_change_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A prompt counts with all of its images; a round is shared out."""
    world = world_of(tmp_path, *ALL, **changes)
    assert world.once() == 0
    each = world.settings.protocol.images_per_prompt
    assert made(world) == {step: images * each for step, images in EXPECTED.items()}


@pytest.mark.thorough
def test_several_strengths_are_as_many_contenders(tmp_path: Path) -> None:
    """Each strength of each is one; the scores say nothing of the strength here."""
    world = world_of(tmp_path, 100, 300, strengths=[0.5, 1.0])
    assert world.once() == 0
    found = {(it.step, it.protocol): it.state for it in world.run.evaluations.values()}
    both = world.run.present
    assert [found[100, it] for it in both] == ["outdone"] * 2
    assert [found[300, it] for it in both] == ["scored"] * 2
    assert images_of(world.run, {"checkpoint-100", "checkpoint-300"}, world.settings) == (192, 256)
    assert [row.outdone is not None for row in rows(world.run)] == [False, True, True, False, False]


def test_it_is_told_wherever_results_are(tmp_path: Path) -> None:
    """`best`, `status` and the page; the intervals know what the race has spent."""
    world = world_of(tmp_path, *ALL)
    assert world.once() == 0
    state = str(world.settings.paths.state_dir)
    with open_results(world.log) as results:
        run = next(iter(results.state.values()))
        ranking = rank(results, run, present(run))
        said = list(about_best(ranking))
        alone = rank(results, run, present(run), among={"checkpoint-200", "checkpoint-300"})
    assert [it.step for it in ranking.outdone] == [100, 400, 530]
    assert (
        "3 more are surely not the best, and not made to the end: @100, @400 after 32; @530 after "
        "48 of 64 prompts." in said
    )
    assert alone.outdone == ()
    (wide,), (plain,) = ranking.differences.values(), alone.differences.values()
    assert wide[1] < plain[1] < plain[2] < wide[2]
    called = CliRunner().invoke(main, ["best", "--json", "--state-dir", state])
    found = json.loads(called.output)
    assert [(it["step"], it["prompts"], it["of"]) for it in found["outdone"]] == [
        (100, 32, 64),
        (400, 32, 64),
        (530, 48, 64),
    ]
    shown = json.loads(CliRunner().invoke(main, ["status", "--json", "--state-dir", state]).output)
    (row,) = [it for it in shown["runs"][0]["checkpoints"] if it["step"] == 530]
    assert row["reason"].startswith("surely not the best after 48 of 64 prompts, 0.0")
    assert row["outdone"]["prompts"] == 48
    page = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", "-o", str(page), "--state-dir", state])
    assert done.exit_code == 0, done.output
    assert "surely not the best after 48 of 64 prompts" in page.read_text(encoding="utf-8")


def test_what_else_ends_evaluations_goes_before(tmp_path: Path) -> None:
    """So do further scorers, by whom another one may be the best."""
    plain = settings(tmp_path)
    assert raced(plain).evaluating.race
    for changes in ({"precision": 0.01}, {"decide": "difference"}):
        asked = settings(tmp_path, **changes)
        assert raced(asked) is asked
    protocol = plain.protocol
    two = replace(protocol, scorers=protocol.scorers * 2)
    assert not raced(replace(plain, protocol=two)).evaluating.race
