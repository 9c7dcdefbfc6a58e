"""A vision-language model that answers the prompts' questions about the images of a checkpoint."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import evaluator_kit as kit
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.domain.questions import Question
from clipwatch.evaluator import evaluation, tensors
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.scorers.base import Answerer, make, measured
from clipwatch.evaluator.scorers.questions import WORD
from clipwatch.evaluator.scorers.vision_language import VisionLanguage, spellings
from clipwatch.evaluator.store import Store
from clipwatch.executors.messages import Reply, Working
from clipwatch.models.kinds import ScorerKind
from clipwatch.models.scorers import OURS, kind_of
from clipwatch.statistics.scale import COSINE
from clipwatch.testing.scorers import ScorerContract
from tiny_encoders import picture
from tiny_vlms import write_vlm

pytestmark = kit.QUIET

CIRCLES = Prompt(
    "circles",
    "two red circles",
    questions=(
        Question("How many circles are in the image?", "two", "count"),
        Question("Are the circles red?", "Yes", "attribute"),
        Question("Are there any circles in the image?", "Yes", "object"),
    ),
)
SQUARE = Prompt("square", "a square", questions=(Question("Is there a square?", "Yes", "object"),))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-VL."""
    return write_vlm(tmp_path_factory.mktemp("qwen"))


def spec(model: Path) -> ScorerSpec:
    return ScorerSpec("questions", str(model), kind="questions")


def pictures(count: int) -> torch.Tensor:
    found = [picture(seed, (32, 32)) for seed in range(count)]
    return torch.stack([torch.from_numpy(np.array(it)) for it in found])


class TestQuestions(ScorerContract):
    """A tiny model that is asked one question about each picture."""

    @pytest.fixture
    def spec(self, model: Path) -> ScorerSpec:
        """See ScorerContract."""
        return spec(model)


def test_each_question_is_asked_of_its_own_picture(model: Path) -> None:
    """What counts is the right answer's probability; a prompt's score is their mean."""
    assert kind_of("questions").asks
    scorer = make(spec(model), "cpu", Store(None), "")
    assert isinstance(scorer, Answerer)
    images, prompts = pictures(3), (SQUARE, CIRCLES, SQUARE)
    found = scorer.answers(images, prompts)
    assert [len(it) for it in found] == [1, 3, 1]
    plain = VisionLanguage(spec(model), "cpu", Store(None), "")
    for place, (prompt, answers) in enumerate(zip(prompts, found, strict=True)):
        for question, value in zip(prompt.questions, answers, strict=True):
            asked = [(0, f"{question.text} {WORD}", question.answer)]
            assert value == plain.probabilities(images[place : place + 1], asked)[0]
    assert found[0] != found[2]
    told = measured("q", scorer, images, prompts)
    assert [score for score, _ in told] == [fmean(it) for it in found]
    assert [it for _, it in told] == found


def test_a_text_alone_has_no_questions(model: Path) -> None:
    """Nor may a prompt lack them: nothing is guessed."""
    scorer = make(spec(model), "cpu", Store(None), "")
    with pytest.raises(EvaluationError, match="a text has none"):
        scorer.score(pictures(1), ["a square"])
    with pytest.raises(EvaluationError, match="'q' did not answer every question"):
        measured("q", scorer, pictures(1), [replace(SQUARE, questions=())])


class Forgetful:
    """A scorer that leaves a question out, or answers beyond its scale."""

    commit = told = ""

    def __init__(self, *answers: float) -> None:
        self._answers = answers

    def prepare(self, _: object) -> int:
        """Read nothing."""
        return 0

    def score(self, *_: object) -> list[float]:
        """It is not asked for this."""
        raise AssertionError

    def answers(self, _: object, prompts: tuple[Prompt, ...]) -> list[tuple[float, ...]]:
        """Say the same of each."""
        return [self._answers for _ in prompts]


def test_what_is_not_answered_is_no_zero() -> None:
    """It is told as a failure of the scorer."""
    for answers in ((), (0.5, 0.5)):
        with pytest.raises(EvaluationError, match="did not answer every question"):
            measured("q", Forgetful(*answers), pictures(1), [SQUARE])
    assert measured("q", Forgetful(0.5), pictures(1), [SQUARE]) == [(0.5, (0.5,))]


def asking(world: Path, model: Path) -> EvaluationProtocol:
    how = kit.protocol(world / "base", prompts=(CIRCLES, SQUARE), images_per_prompt=2)
    return replace(how, scorers=(*how.scorers, spec(model)))


def test_an_evaluation_keeps_each_answer(world: Path, model: Path, evaluator: Evaluator) -> None:
    """Of every image, by the scorer's name, whatever else scores; a batch changes nothing."""
    made = asking(world, model)
    found = kit.scores_of(evaluator, kit.request(world / "lora", "lora", made))
    assert len(found) == 4
    for it in found:
        prompt = {"circles": CIRCLES, "square": SQUARE}[it.prompt_id]
        answers = it.answers["questions"]
        assert it.answers.keys() == {"questions"}
        assert len(answers) == len(prompt.questions)
        assert it.scores["questions"] == fmean(answers)
        assert all(0 <= each <= 1 for each in answers)
    again = kit.scores_of(evaluator, kit.request(world / "lora", "lora", made, batch_size=1))
    for one, other in zip(found, again, strict=True):
        assert one.answers["questions"] == pytest.approx(other.answers["questions"], abs=1e-3)


def test_who_is_asked_much_gives_signs_of_life(
    world: Path, model: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch with many questions may take longer than any silence that is borne."""
    monkeypatch.setattr(evaluation, "_WORKING_SECONDS", 0.0)
    monkeypatch.setattr(tensors, "WORKING_SECONDS", 0.0)
    asks = asking(world, model)
    said = []
    for made in (replace(asks, scorers=asks.scorers[:1]), asks):
        heard: list[Reply] = []
        evaluator.evaluate(kit.request(world / "lora", "lora", made), heard.append)
        said.append(sum(isinstance(it, Working) for it in heard))
    passes = asks.images_per_prompt * sum(len(it.questions) for it in asks.prompts)
    assert said[1] >= said[0] + passes


def test_a_kind_says_whether_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scorer of another package that does the one and says the other is refused in a line."""
    monkeypatch.setitem(sys.modules, "forgetful", SimpleNamespace(made=lambda *_: Forgetful(0.5)))
    quiet = ScorerKind("forgetful:made", lambda *_: COSINE)
    monkeypatch.setitem(OURS, "forgetful", quiet)
    kind_of.cache_clear()
    with pytest.raises(EvaluationError, match="its kind does not ask the prompts' questions, and"):
        make(ScorerSpec("", "", kind="forgetful"), "cpu", Store(None), "")
    kind_of.cache_clear()
    monkeypatch.setitem(OURS, "forgetful", replace(quiet, asks=True))
    assert isinstance(make(ScorerSpec("", "", kind="forgetful"), "cpu", Store(None), ""), Answerer)
    kind_of.cache_clear()


def test_a_number_may_be_answered_in_digits(model: Path) -> None:
    """Its spellings exclude each other, so their probabilities add up."""
    assert spellings("Two") == ["Two", "two", "2"]
    asked = VisionLanguage(spec(model), "cpu", Store(None), "").probabilities
    question = f"How many circles are in the image? {WORD}"
    each = asked(pictures(1), [(0, question, it) for it in ("two", "Two", "2")], as_written=True)
    assert asked(pictures(1), [(0, question, "two")])[0] == pytest.approx(sum(each))
