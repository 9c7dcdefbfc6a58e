"""What the scores of an evaluation say beside those before it: intervals, comparisons, advice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.delivered import advice_id
from clipwatch.domain.events import EvaluationCompleted, Event, ImageScore, ImagesScored
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.executors.messages import Evaluate, Finished, Loaded, Reply, Scored
from clipwatch.judging.advice import worths
from clipwatch.judging.base import Judgement, Question
from clipwatch.judging.log_judge import judge
from clipwatch.kit.errors import ClipwatchError
from clipwatch.models.scorers import scale_of
from clipwatch.statistics.scale import Scale
from clipwatch.statistics.sequential import MINIMUM
from world import World, checkpoint

SHAPES = [f"prompt {number}" for number in range(40)]


def scoring(
    value: Callable[[str, int], float],
    look: Callable[[str], str] = lambda _: "",
    others: Mapping[str, Callable[[str, int], float]] = MappingProxyType({}),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[Evaluate], list[Reply]]:
    """Return a script by which each image scores `value(prompt id, step)`, and by further scorers.

    `environment` is what the evaluator tells of itself.
    """

    def script(request: Evaluate) -> list[Reply]:
        step = 0 if request.kind == "base" else int(Path(request.path).name.rpartition("-")[2])
        done = set(request.done)
        images = tuple(
            ImageScore(
                prompt.id,
                index,
                seed,
                {
                    "": value(prompt.id, step),
                    **({name: other(prompt.id, step) for name, other in others.items()}),
                },
                look=look(prompt.id),
            )
            for prompt, index, seed in request.protocol.images()
            if (prompt.id, index) not in done
        )
        return [Loaded({"device": "script", **environment}), Scored(images), Finished(0, 1.0)]

    return script


def noise(id_: str, step: int, spread: float = 0.01) -> float:
    """Return the luck of an image, the same in every run of the test."""
    return random.Random(f"{id_} {step}").gauss(0.0, spread)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def prompts(world: World, **changes: object) -> None:
    """Give the run 40 prompts, and settings anew."""
    (world.folder / "many.txt").write_text("\n".join(SHAPES))
    told = World(world.folder, prompts="many.txt", **changes)
    world.settings = told.settings


def completed(world: World) -> dict[int, EvaluationCompleted]:
    """Return step -> what was written down of its evaluation."""
    run = world.run
    return {it.step: it.completed for it in run.evaluations.values() if it.completed}


def advice(world: World) -> list[tuple[int, str]]:
    """Return (step, kind) of all advice."""
    return [(it.step, it.kind) for it in world.run.advice]


def train(world: World, steps: list[int]) -> None:
    """Evaluate checkpoints one after the other, as they come in a training."""
    for step in steps:
        checkpoint(world.output, step, step / 1000)
        assert world.once() == 0


def test_every_checkpoint_is_compared_with_the_base_and_the_best(world: World) -> None:
    """The base model is scored first; differences are prompt by prompt, with their intervals."""
    prompts(world, baseline=True)
    world.script = scoring(lambda id_, step: 0.2 + step / 10_000 + noise(id_, step))
    train(world, [100, 300, 200])
    found = completed(world)
    assert [request.kind for request in world.requests] == ["base", "lora", "lora", "lora"]
    assert (found[0].against_base, found[0].against_best) == (None, None)
    clip = found[100].clip
    assert clip.prompts == 40
    assert clip.low is not None
    assert clip.high is not None
    assert clip.low < clip.mean < clip.high
    names = {step: done.evaluation for step, done in found.items()}
    for step, best in ((300, 100), (200, 100)):
        base, other = found[step].against_base, found[step].against_best
        assert base is not None
        assert other is not None
        assert (base.a, base.b, other.a) == (names[0], names[step], names[best])
        assert base.delta == pytest.approx(found[step].clip.mean - found[0].clip.mean, abs=1e-9)
        assert other.delta == pytest.approx(found[step].clip.mean - found[best].clip.mean, abs=1e-9)
    assert found[300].against_base is not None
    assert found[300].against_base.verdict == "better"
    assert found[100].against_best is None
    assert world.rows()[0][0] == 0  # the base model's point is published, as step 0


def test_what_fell_is_told_with_the_step_to_go_back_to(world: World) -> None:
    """A regression is called at the second checkpoint in a row that shows it, once a fall."""
    prompts(world)
    means = {100: 0.25, 200: 0.29, 250: 0.26, 300: 0.26, 400: 0.26}
    world.script = scoring(lambda id_, step: means[step] + noise(id_, step))
    train(world, list(means))
    assert advice(world) == [(300, "regressed")]
    text = world.run.advice[0].text
    assert "go back to step 200" in text
    assert f"checkpoint-300: regressed: {text}" in world.said
    kinds = [type(it.event).__name__ for it in world.logged if it.stream.startswith("evaluation")]
    assert kinds[kinds.index("AdviceGiven") - 1] == "EvaluationCompleted"


def test_a_fall_is_told_again_after_a_recovery(world: World) -> None:
    """What was told of is no reason to be silent about the next fall, also of a further one."""
    prompts(world)
    means = [0.29, 0.25, 0.25, 0.25, 0.30, 0.29, 0.27, 0.27, 0.24, 0.24]
    world.script = scoring(lambda id_, step: means[step // 100 - 1] + noise(id_, step))
    train(world, [100 * place for place in range(1, 11)])
    assert advice(world) == [(300, "regressed"), (800, "regressed"), (1000, "regressed")]
    for best, told in zip((100, 500, 500), world.run.advice, strict=True):
        assert f"go back to step {best}," in told.text


def test_a_small_fall_is_none_that_matters(world: World) -> None:
    """However sure it is that the mean fell, by less than `worth` it is not told."""
    prompts(world, **{"advice.worth": 0.05})
    means = {100: 0.25, 200: 0.29, 250: 0.26, 300: 0.26, 400: 0.26}
    world.script = scoring(lambda id_, step: means[step] + noise(id_, step))
    train(world, list(means))
    assert advice(world) == []


@pytest.mark.parametrize(("mean", "kind"), [(0.15, "low"), (0.33, "saturated")])
def test_low_and_saturated_means_are_told(world: World, mean: float, kind: str) -> None:
    """A low one after the third checkpoint, a high one at once; the text has the bound."""
    prompts(world)
    world.script = scoring(lambda id_, step: mean + step / 1e6 + noise(id_, step, 0.03))
    train(world, [100, 200, 300, 400])
    assert advice(world) == [(300 if kind == "low" else 100, kind)]
    assert ("0.22" if kind == "low" else "0.3,") in world.run.advice[0].text


def test_a_mean_that_is_not_surely_high_is_not_saturated(world: World) -> None:
    """The interval decides, not the bare mean."""
    prompts(world)
    world.script = scoring(lambda id_, step: 0.305 + noise(id_, step, 0.03))
    train(world, [100, 200])
    assert all(done.clip.mean > 0.30 > (done.clip.low or 1) for done in completed(world).values())
    assert advice(world) == []


def test_another_scorer_has_no_bounds_of_its_mean(world: World) -> None:
    """0.22 and 0.30 are OpenAI's ViT-L/14: another model's cosines lie elsewhere."""
    prompts(world, pretrained_evaluation_model_name_or_path="laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
    world.script = scoring(lambda id_, step: 0.1 + noise(id_, step, 0.03))
    train(world, [100, 200, 300, 400])
    assert advice(world) == []
    assert (world.settings.advice.low, world.settings.advice.saturated) == (None, None)


SIGLIP = {"scorers": {"siglip": "google/siglip"}}
FALL = {100: 0.29, 200: 0.29, 300: 0.26, 400: 0.26, 500: 0.26}


def test_a_further_scorer_advises_in_its_own_scale(world: World) -> None:
    """It sees a fall that the first one does not see; its advice has its name, text and id."""
    prompts(world, **SIGLIP)
    world.script = scoring(
        lambda id_, step: 0.27 + noise(id_, step),
        others={"siglip": lambda id_, step: FALL[step] - 0.2 + noise(id_, step)},
        environment={"scorer_scale": "100", "scorer_scale.siglip": "117.33"},
    )
    train(world, list(FALL))
    (told,) = world.run.advice
    assert (told.step, told.kind, told.scorer) == (400, "regressed", "siglip")
    assert told.text.startswith("by siglip, the last two checkpoints are 0.0")
    assert "where 0.0043 matters: people go back to step" in told.text
    assert advice_id(told).endswith("/regressed/siglip")


def test_the_first_and_a_further_scorer_both_advise_once(world: World) -> None:
    """One kind by each, told apart, though both are about one evaluation."""
    prompts(world, **SIGLIP)
    world.script = scoring(
        lambda id_, step: FALL[step] + noise(id_, step),
        others={"siglip": lambda id_, step: FALL[step] - 0.2 + noise(id_, step)},
        environment={"scorer_scale.siglip": "117.33"},
    )
    train(world, list(FALL))
    assert [(it.step, it.scorer) for it in world.run.advice] == [(400, ""), (400, "siglip")]
    assert len({advice_id(it) for it in world.run.advice}) == 2


@pytest.mark.parametrize(
    ("worth", "told"),
    [
        ({"siglip": 0.05}, [""]),
        ({"siglip": None}, [""]),
        ({"clip": 0.05}, ["siglip"]),
        ({"clip": None, "siglip": 0.004}, ["siglip"]),
        (0.05, ["siglip"]),
    ],
)
def test_worth_is_set_for_each_scorer(world: World, worth: object, told: list[str]) -> None:
    """A number of its own, or null for no advice by it; a number alone is the first one's."""
    prompts(world, **SIGLIP, **{"advice.worth": worth})
    world.script = scoring(
        lambda id_, step: FALL[step] + noise(id_, step),
        others={"siglip": lambda id_, step: FALL[step] - 0.2 + noise(id_, step)},
        environment={"scorer_scale.siglip": "117.33"},
    )
    train(world, list(FALL))
    assert [it.scorer for it in world.run.advice] == told


def test_a_further_scorer_of_unknown_scale_gives_no_advice(world: World) -> None:
    """Nobody knows what would matter in it; an older evaluator tells no scale."""
    prompts(world, **SIGLIP)
    world.script = scoring(
        lambda id_, step: 0.27 + noise(id_, step),
        others={"siglip": lambda id_, step: FALL[step] + noise(id_, step)},
    )
    train(world, list(FALL))
    assert world.run.advice == ()


def scales(environment: Mapping[str, str]) -> dict[str, Scale]:
    """Return what evaluations with this environment tell of a CLIP and another dual encoder."""
    return {name: scale_of(ScorerSpec(name, "a/model"), environment) for name in ("", "other")}


@given(scale=st.floats(1e-3, 1e6), own=st.none() | st.floats(1e-6, 1))
def test_what_matters_is_half_a_logit_unless_it_is_set(scale: float, own: float | None) -> None:
    """0.005 for CLIP's scale of 100, and for a first scorer that tells none."""
    found = worths({}, scales({"scorer_scale.other": f"{scale:.6g}"}))
    assert found[""] == 0.005
    assert found["other"] * scale == pytest.approx(0.5, rel=0.06)
    named = worths({"other": own, "gone": 1.0}, scales({"scorer_scale": "100"}))
    assert named == ({"": 0.005} if own is None else {"": 0.005, "other": own})


def test_a_collapse_is_told_when_pictures_were_different_before(world: World) -> None:
    """Black for every prompt: told, unless the first pictures were like that already."""
    prompts(world, baseline=True)
    world.script = scoring(
        lambda id_, step: 0.25 + noise(id_, step),
        lambda id_: f"{random.Random(id_).getrandbits(64):016x}",
    )
    train(world, [100])
    black = scoring(lambda id_, step: 0.25 + noise(id_, step), lambda _: "0" * 16)
    world.script = black
    train(world, [200, 300])
    assert advice(world) == [(200, "collapsed")]
    assert "black or of one colour" in world.run.advice[0].text


def test_pictures_that_were_never_different_are_no_collapse(world: World) -> None:
    """An untrained model from scratch makes noise that looks the same."""
    prompts(world, baseline=True)
    world.script = scoring(lambda id_, step: 0.25 + noise(id_, step), lambda _: "0" * 16)
    train(world, [100, 200])
    assert advice(world) == []


def test_a_late_result_of_an_early_checkpoint_gives_no_advice(world: World) -> None:
    """Advice is about where the training is now."""
    prompts(world)
    means = {100: 0.25, 300: 0.29, 200: 0.20}
    world.script = scoring(lambda id_, step: means[step] + noise(id_, step))
    train(world, [100, 300, 200])
    assert advice(world) == []


def test_an_evaluation_ends_when_its_mean_is_known(world: World) -> None:
    """With `precision` the evaluator is told that it is enough, and the rest is never made."""
    (world.folder / "many.txt").write_text("\n".join(f"prompt {n}" for n in range(400)))
    told = World(world.folder, prompts="many.txt", precision=0.01)
    world.settings = told.settings
    made: list[int] = []

    def script(request: Evaluate) -> list[Reply]:
        assert request.stratified
        images = [
            ImageScore(prompt.id, index, seed, {"": 0.3 + noise(prompt.id, 0, 0.03)})
            for prompt, index, seed in request.protocol.images()
        ]
        done = len(request.done)
        batches = [Scored(tuple(images[at : at + 8])) for at in range(done, 200, 8)]
        made.append(len(batches) * 8)
        return [Loaded({"device": "script"}), *batches, Finished(0, 1.0)]

    world.script = script
    checkpoint(world.output, 100)
    assert world.once() == 0
    clip = completed(world)[100].clip
    assert MINIMUM <= clip.n == clip.prompts == 200
    assert made == [200]


def test_too_few_images_are_no_result_without_precision(world: World) -> None:
    """An evaluator that ends early by itself has failed."""
    world.script = lambda request: [
        Loaded({}),
        Scored((ImageScore(next(request.protocol.images())[0].id, 0, 1, {"": 0.3}),)),
        Finished(0, 1.0),
    ]
    checkpoint(world.output, 100)
    assert world.once() == 1
    assert completed(world) == {}
    assert "only 1 images were scored" in str(world.said)


def test_results_are_judged_in_their_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that is slow over the base model keeps nothing from being compared with it."""
    prompts(world, baseline=True)
    world.script = scoring(lambda id_, step: 0.2 + step / 10_000 + noise(id_, step))
    checkpoint(world.output, 100)
    asked: list[str] = []

    def slow(question: Question) -> Judgement:
        asked.append(question.evaluation)
        deadline = time.monotonic() + 60
        while world.run.name and len([it for it in world.logged if _images(it.event)]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return judge(question)

    monkeypatch.setattr("world.judge", slow)
    assert world.once() == 0
    assert [name.partition("/")[0] for name in asked] == ["base-model", "checkpoint-100"]
    assert completed(world)[100].against_base is not None


def _images(event: Event) -> bool:
    return isinstance(event, ImagesScored)


def test_the_base_and_the_best_are_never_too_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of very many checkpoints only the newest are looked back on, and these two."""
    monkeypatch.setattr("clipwatch.judging.answer.MOST_POINTS", 1)
    prompts(world, baseline=True)
    means = {0: 0.2, 100: 0.28, 200: 0.25, 300: 0.24, 400: 0.26}
    world.script = scoring(lambda id_, step: means[step] + noise(id_, step))
    train(world, [100, 200, 300, 400])
    found = completed(world)
    base, best = found[400].against_base, found[400].against_best
    assert base is not None
    assert best is not None
    assert (base.a, best.a) == (found[0].evaluation, found[100].evaluation)


def test_without_a_judgement_the_mean_is_written_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken scipy costs the interval, not the result."""

    def broken(_: Question) -> None:
        raise ClipwatchError("it could not be judged: no scipy")

    monkeypatch.setattr("world.judge", broken)
    checkpoint(world.output, 100)
    assert world.once() == 0
    clip = completed(world)[100].clip
    assert (clip.n, clip.low) == (4, None)
    assert "checkpoint-100: no interval, no advice: it could not be judged: no scipy" in world.said


def test_the_daemon_imports_neither_numpy_nor_scipy() -> None:
    """They would double its memory; the judge has them in a process of its own."""
    code = (
        "import sys, clipwatch.loop.supervisor\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted({'numpy', 'scipy', 'torch'} & loaded))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
