"""Evaluations that end when their difference to another is known: in the loop, judged, told."""

from __future__ import annotations

import errno
import json
import queue
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clipwatch.cli import main
from clipwatch.domain.decided import Decision, Reference
from clipwatch.domain.events import EvaluationCompleted, ImageScore
from clipwatch.domain.state import Evaluation, State
from clipwatch.executors.base import Executor
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from clipwatch.journal import Journal, logfile
from clipwatch.journal.projection import read_state, state_of
from clipwatch.judging.base import Judgement, Question
from clipwatch.judging.parts import decision
from clipwatch.kit.errors import ClipwatchError, LogLocked, SettingsError
from clipwatch.loop import early
from clipwatch.prompts import stratified
from clipwatch.results.listing import listing
from clipwatch.results.reading import read_images, series_of
from clipwatch.settings import Settings
from clipwatch.statistics.scale import COSINE
from clipwatch.tasks.rescore import checkpoints
from clipwatch_adapters.shared.numbers import Names, scalars
from loop_kit import states, until
from report_kit import Parsed
from world import World, checkpoint, settings

PROMPTS = 200
BATCH = 8


class Obedient:
    """An evaluator that makes its images in order, batch by batch, until it hears of no more.

    `score` gives prompt, image index and step a score; `dies` may end it after so many batches.
    """

    def __init__(
        self, receive: Callable[[Reply], None], score: Callable[[str, int, int], float]
    ) -> None:
        self._receive, self._score = receive, score
        self._requests: queue.SimpleQueue[Evaluate | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.alive, self.silent_seconds = True, 0.0
        self.dies: int | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def evaluate(self, request: Evaluate) -> None:
        """Queue the request."""
        self._requests.put(request)

    def kept(self, *, enough: bool = False) -> None:
        """Go on, or come to the end."""
        self._answers.put(enough)

    def kill(self) -> None:
        """End the thread."""
        self.alive = False
        self._requests.put(None)
        self._answers.put(True)

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            self._receive(Loaded({"device": "script"}))
            self._receive(self._made(request))

    def _made(self, request: Evaluate) -> Reply:
        step = 0 if request.kind == "base" else int(Path(request.path).name.rpartition("-")[2])
        protocol, done = request.protocol, set(request.done)
        order = [it.id for it in stratified(protocol.prompts)]
        assert request.stratified
        todo = sorted(
            ((prompt.id, index, seed) for prompt, index, seed in protocol.images()),
            key=lambda it: (order.index(it[0]), it[1]),
        )
        todo = [it for it in todo if it[:2] not in done]
        for count, at in enumerate(range(0, len(todo), BATCH)):
            if self.dies is not None and count == self.dies:
                self.alive = False
                return Failed("internal", "by the test")
            images = (
                ImageScore(id_, index, seed, {"": self._score(id_, index, step)})
                for id_, index, seed in todo[at : at + BATCH]
            )
            self._receive(Scored(tuple(images)))
            if self._answers.get(timeout=120):
                break
        return Finished(0, 1.0)


def noise(text: str, spread: float) -> float:
    """Return some luck, the same in every run of the test."""
    return random.Random(text).gauss(0.0, spread)


MEANS = {0: 0.2, 100: 0.3, 200: 0.3005, 300: 0.33, 400: 0.31, 500: 0.33}


def score(prompt: str, index: int, step: int) -> float:
    """Return what an image scores: prompts differ, and a little by step and by image."""
    alike = noise(prompt, 0.03) * (1.0 if step else 0.5)
    return (
        MEANS[step] + alike + noise(f"{prompt} {step}", 0.008) + noise(f"{prompt} {index}.", 0.002)
    )


def world_of(folder: Path, **changes: object) -> World:
    """Return a run of 200 prompts that decides by a difference."""
    folder.mkdir(exist_ok=True)
    (folder / "many.txt").write_text("\n".join(f"prompt {n}" for n in range(PROMPTS)))
    told = {"prompts": str(folder / "many.txt"), "decide": "difference", "baseline": True}
    world = World(folder, **{**told, **changes})

    def executor(settings: Settings) -> Executor:
        return LocalExecutor(settings, lambda receive: Obedient(receive, score))

    world.executor = executor
    return world


def come(world: World, *steps: int) -> None:
    """Have checkpoints come one after the other, each evaluated before the next."""
    for step in steps:
        checkpoint(world.output, step, step)
        assert world.once() == 0


def result(world: World, step: int) -> tuple[Evaluation, EvaluationCompleted]:
    """Return what was scored last of a step."""
    found = [it for it in world.run.evaluations.values() if it.step == step]
    assert found[-1].completed
    return found[-1], found[-1].completed


def decided(world: World, step: int) -> Decision:
    """Return how a step compares with its reference."""
    found = result(world, step)[1].decision
    assert found
    return found


def test_each_ends_when_it_is_known(tmp_path: Path) -> None:
    """Base and first are whole; then one that is as good, one above, which is whole, one below."""
    world = world_of(tmp_path)
    come(world, 100, 200, 300, 400, 500)
    for step in (0, 100):
        evaluation, completed = result(world, step)
        assert evaluation.reference is None
        assert completed.clip.n == PROMPTS
        assert (completed.decision, completed.estimate) == (None, None)
    first = result(world, 100)[0].id
    assert [decided(world, it).finding for it in (200, 300, 400, 500)] == [
        "within",
        "above",
        "below",
        "within",
    ]
    assert [decided(world, it).reference for it in (200, 300)] == [Reference(first)] * 2
    best = result(world, 300)[0].id
    assert [decided(world, it).reference for it in (400, 500)] == [Reference(best)] * 2
    for step in (200, 400, 500):
        found, clip = decided(world, step), result(world, step)[1].clip
        assert 32 <= found.prompts <= clip.n < found.prompts + BATCH
        assert clip.n < PROMPTS / 2
    assert result(world, 300)[1].clip.n == PROMPTS
    assert decided(world, 300).prompts < PROMPTS / 2
    assert result(world, 300)[1].estimate is None


def test_the_mean_is_told_for_all_prompts(tmp_path: Path) -> None:
    """It lies near it, says of what it is made, and reaches trackers as such."""
    world = world_of(tmp_path)
    come(world, 100, 200)
    evaluation, completed = result(world, 200)
    estimate, clip = completed.estimate, completed.clip
    assert estimate
    assert estimate.on == (result(world, 100)[0].id, result(world, 0)[0].id)
    ids = [it.id for it in world.settings.protocol.prompts]
    whole = sum(score(it, 0, 200) for it in ids) / PROMPTS
    assert abs(clip.mean - whole) < 0.003  # where a plain mean of as many has an error of 0.004
    assert estimate.plain[""] != clip.mean
    assert clip.low is not None
    assert clip.high is not None
    assert clip.low < whole < clip.high
    assert estimate.effective[""] > 1.5 * clip.n
    series = series_of(world.run, evaluation.protocol, tmp_path / "state")
    assert [it.part for it in series.results] == [it.step == 200 for it in series.results]
    numbers = scalars(Names.of(series), series.results[-1])
    assert numbers["clip/mean"] == clip.mean
    assert numbers["clip_count/images"] == clip.n
    assert numbers["clip_count/effective"] == estimate.effective[""]
    assert numbers["clip_decision/verdict"] == 0.0
    assert numbers["clip_decision/prompts"] == decided(world, 200).prompts
    whole_ones = scalars(Names.of(series), series.results[0])
    assert not {it for it in whole_ones if "effective" in it or "decision" in it}
    for compared in (completed.against_base, completed.against_best):
        assert compared
        assert compared.stopped
        assert compared.n_prompts == clip.n


def test_it_is_told_wherever_results_are(tmp_path: Path) -> None:
    """What is said, `status`, `best` and `compare` name the verdict and the estimate."""
    world = world_of(tmp_path)
    come(world, 100, 200, 400)
    said = [line for line in world.said if "checkpoint-200" in line]
    assert any("estimated for all prompts from" in line for line in said)
    assert any("within 0.005 of checkpoint-100 after" in line for line in said)
    told = "\n".join(listing({"run": world.run}, world.clock(), width=120))
    assert "within @100" in told
    state = str(world.settings.paths.state_dir)
    ranked = CliRunner().invoke(main, ["best", "--state-dir", state])
    assert ranked.exit_code == 0
    assert "@200 within @100" in ranked.output
    compared = CliRunner().invoke(main, ["compare", "@100", "@200", "--json", "--state-dir", state])
    assert compared.exit_code == 0, compared.output
    found = json.loads(compared.output)
    assert found["stopped"] is True
    assert found["n_prompts"] == result(world, 200)[1].clip.n
    assert found["verdict"] == "inconclusive"
    spoken = CliRunner().invoke(main, ["compare", "@0", "@200", "--state-dir", state])
    assert "ended when such a difference was known" in spoken.output
    shown = json.loads(CliRunner().invoke(main, ["status", "--json", "--state-dir", state]).output)
    (row,) = [it for it in shown["runs"][0]["checkpoints"] if it["step"] == 200]
    assert row["decision"]["finding"] == "within"
    assert row["estimate"]["effective"][""] > row["clip"]["n"]


@pytest.mark.parametrize("changes", [{}, {"num_validation_images": 2}, {"device": "cpu,cpu"}])
def test_it_goes_on_where_it_was_killed(tmp_path: Path, changes: dict[str, object]) -> None:
    """With the images that are there, and the same reference though a better one came meanwhile.

    Also with several images of each prompt, and with two slots.
    """
    world = world_of(tmp_path, max_attempts=1, **changes)
    come(world, 100)
    checkpoint(world.output, 200, 200)

    def dying(settings: Settings) -> Executor:
        def begin(receive: Callable[[Reply], None]) -> Obedient:
            one = Obedient(receive, score)
            one.dies = 1
            return one

        return LocalExecutor(settings, begin)

    usual, world.executor = world.executor, dying
    assert world.once() == 1
    world.executor = usual
    begun = next(it for it in world.run.evaluations.values() if it.step == 200)
    assert 0 < len(begun.done) < 32 * world.settings.protocol.images_per_prompt + 2 * BATCH
    assert begun.reference == Reference(result(world, 100)[0].id)
    come(world, 300)  # newest first: it is whole before the other goes on
    found, completed = decided(world, 200), result(world, 200)[1]
    assert found.reference == begun.reference
    assert found.finding == "within"
    assert completed.clip.n < PROMPTS * world.settings.protocol.images_per_prompt / 2
    assert completed.images == completed.clip.n - len(begun.done)  # each once


@pytest.mark.parametrize(("against", "whole"), [("base", [0, 100]), ("@100", [0, 100])])
def test_another_reference_makes_none_whole_for_being_above(
    tmp_path: Path, against: str, whole: list[int]
) -> None:
    """Against the base, or one that is named, all end early once something tells their mean."""
    world = world_of(tmp_path, decide_against=against)
    come(world, 100, 300, 500)
    made = [it for it in (0, 100, 300, 500) if result(world, it)[1].clip.n == PROMPTS]
    assert made == whole
    reference = result(world, 0 if against == "base" else 100)[0].id
    for step in (300, 500):
        assert decided(world, step).finding == "above"
        assert decided(world, step).reference == Reference(reference)


def test_a_step_of_another_run_is_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same log and protocol; one that is not there is told, and all images are made."""
    asked: list[str] = []

    def read(journal: Journal, beginning: str = "") -> State:
        asked.append(beginning)
        return state_of(journal, beginning)

    monkeypatch.setattr(early, "state_of", read)
    one = world_of(tmp_path / "one")
    come(one, 100)
    name = one.run.name
    shared = {
        "state_dir": str(one.settings.paths.state_dir),
        "pretrained_model_name_or_path": str(tmp_path / "one" / "base"),
        "prompts": str(tmp_path / "one" / "many.txt"),
    }
    two = world_of(tmp_path / "two", decide_against=f"{name}@100", **shared)
    come(two, 300, 400)
    (run,) = [it for it in read_state(two.log).values() if it.name != name]
    found = [it.completed for it in run.evaluations.values() if it.step == 400][-1]
    assert found
    assert found.decision
    assert found.decision.reference.run == name
    assert found.decision.finding == "above"
    assert any(f"above {name}'s checkpoint-100 after" in line for line in two.said)
    three = world_of(tmp_path / "two", decide_against="@700", **shared)
    come(three, 500)
    assert any("@700 has no score by the same protocol" in line for line in three.said)
    assert set(asked) == {name}  # a log may hold hundreds, and the loop waits


@pytest.mark.parametrize("against", ["best", "{}@100"])
def test_a_log_that_cannot_be_had_as_one_begins_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: str
) -> None:
    """Locked just then it is told once, and goes on; and no further file is opened for it."""
    world = world_of(tmp_path)
    come(world, 100)
    world = world_of(tmp_path, decide_against=against.format(world.run.name))
    connect = logfile.connect_read_only
    beginning: set[int] = set()  # threads
    tries: list[str] = []

    def begin(*asked: Any) -> early.Early | None:
        beginning.add(threading.get_ident())
        found = early.early(*asked)
        beginning.clear()
        return found

    def connected(path: Path) -> sqlite3.Connection:
        if threading.get_ident() in beginning:
            raise OSError(errno.EMFILE, "Too many open files")
        return connect(path)

    def reading(journal: Journal, *asked: Any, **more: Any) -> tuple[ImageScore, ...]:
        tries.append(asked[1])
        if len(tries) < 3:
            raise LogLocked(f"{journal.path}: another program keeps it locked")
        return read_images(journal, *asked, **more)

    monkeypatch.setattr("clipwatch.loop.run_log.PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("clipwatch.loop.dealing.early", begin)
    monkeypatch.setattr(logfile, "connect_read_only", connected)
    monkeypatch.setattr("clipwatch.loop.early.read_images", reading)
    with world.live():
        checkpoint(world.output, 200, 200)
        until(lambda: states(world).get(200) == "published")
    first = result(world, 100)[0].id
    assert decided(world, 200).reference == Reference(first)
    assert tries == [first] * 3
    assert len([line for line in world.said if "keeps it locked" in line]) == 1


def test_nobody_knows_a_worth_or_a_reference(tmp_path: Path) -> None:
    """What cannot be is refused in a line that names the key."""
    for told, key in (
        ({"precision": 0.01}, "precision"),
        ({"decide_against": "base", "baseline": False}, "decide_against"),
        ({"decide_against": "yesterday"}, "decide_against"),
        ({"decide_against": "@best"}, "decide_against"),
    ):
        with pytest.raises(SettingsError) as error:
            settings(tmp_path, decide="difference", **told)
        assert key in str(error.value).replace("-", "_")
    assert settings(tmp_path, decide="mean", precision=0.01).evaluating.early
    assert not settings(tmp_path).evaluating.early


def test_what_ended_early_is_on_the_page_and_gets_later_scores(tmp_path: Path) -> None:
    """With its estimate and its verdict, beside those that are whole; none of them is the best."""
    world = world_of(tmp_path)
    come(world, 100, 200)
    page, state = tmp_path / "page.html", str(world.settings.paths.state_dir)
    made = CliRunner().invoke(main, ["report", "-o", str(page), "--state-dir", state])
    assert made.exit_code == 0, made.output
    (curve,) = Parsed(page.read_text(encoding="utf-8")).json["data"]["curves"]
    assert [it["step"] for it in curve["checkpoints"]] == [0, 100, 200]
    clip = result(world, 200)[1].clip
    assert (curve["checkpoints"][2]["mean"], curve["checkpoints"][2]["n"]) == (clip.mean, clip.n)
    assert [it["mark"] for it in curve["checkpoints"]] == ["", "best", ""]
    assert any("@200 is within 0.005 of @100" in line for line in curve["skipped"])
    assert [it.step for it in checkpoints(world.run)] == [0, 100, 200]


def test_a_part_that_nobody_could_judge_is_not_ranked(tmp_path: Path) -> None:
    """Its prompts are as few, and chosen by what they said."""
    world = world_of(tmp_path)
    judge = world.judge

    class Failing:
        """Cannot tell of one of them."""

        def judge(self, question: Question) -> Judgement:
            if question.evaluation.startswith("checkpoint-200/"):
                raise ClipwatchError("by the test")
            return judge.judge(question)

        def close(self) -> None:
            """Hold nothing."""

    world.judge = Failing()
    come(world, 100, 200)
    completed = result(world, 200)[1]
    assert completed.decision is None
    assert completed.clip.n < PROMPTS
    state = str(world.settings.paths.state_dir)
    ranked = json.loads(CliRunner().invoke(main, ["best", "--json", "--state-dir", state]).output)
    assert (ranked["n_checkpoints"], ranked["n_prompts"]) == (1, PROMPTS)


def test_without_a_reference_nothing_is_decided() -> None:
    """Nor without a difference that matters."""
    reference = Reference("checkpoint-1/a/b")
    assert decision(None, None, (), 1, 0.005, COSINE) is None
    assert decision(reference, None, (), 1, 0.005, COSINE) is None


def test_the_next_waits_for_what_it_is_compared_with(tmp_path: Path) -> None:
    """Checkpoints that wait together are as those that come one by one, however slow the judge."""
    world = world_of(tmp_path)
    judge, held = world.judge, threading.Event()

    class Slow:
        """Takes a while over each result."""

        def judge(self, question: Question) -> Judgement:
            held.wait(0.3)
            return judge.judge(question)

        def close(self) -> None:
            """Hold nothing."""

    world.judge = Slow()
    for step in (200, 500, 300):
        checkpoint(world.output, step, step)
    assert world.once() == 0
    made = {it.step: it.completed for it in world.run.evaluations.values()}
    assert {step: it and it.clip.n == PROMPTS for step, it in made.items()} == {
        0: True,
        500: True,
        300: False,
        200: False,
    }
    assert [decided(world, it).finding for it in (300, 200)] == ["within", "below"]
