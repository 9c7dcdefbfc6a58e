"""Questions about a prompt's picture: how they are read, what they change, what answers come to."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gmean

from clipwatch.cli import main
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.protocol import Prompt, ScorerSpec
from clipwatch.domain.questions import Question, are_answered
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.domain.written import decode, encode
from clipwatch.journal import Journal, log_file
from clipwatch.judging.base import Question as Ask
from clipwatch.judging.log_judge import judge
from clipwatch.judging.questions import answered
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import problem
from clipwatch.prompts import read
from clipwatch.prompts.questions import written
from clipwatch.results.answers import geometric, question_means, skill_tables
from clipwatch.results.reading import read_images
from clipwatch.settings.scorers import named
from results_kit import Log, call, protocol
from world import settings

TEXT = (
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda text: text and not problem(text))
)
SKILL = st.one_of(st.just(""), TEXT)
QUESTIONS = st.lists(st.builds(Question, TEXT, TEXT, SKILL), max_size=6).map(tuple)
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=8)

GIRAFFES = (
    Question("How many giraffes are in the image?", "four", "count"),
    Question("Is the fence pink?", "Yes", "attribute"),
)
LINE = {
    "prompt": "four giraffes in front of a pink fence",
    "atom_count": 5,
    "vqa_list": [["How many giraffes are in the image?", "four"], ["Is the fence pink?", "Yes"]],
    "skills": ["count", "attribute"],
}
ASKING = ScorerSpec("questions", "some/model", kind="questions")


def lines(folder: Path, *found: Any, name: str = "geneval2.jsonl") -> Path:
    """Write a file of JSON lines."""
    file = folder / name
    file.write_text("".join(f"{json.dumps(it)}\n" for it in found))
    return file


def test_a_file_in_the_form_of_geneval_2(tmp_path: Path) -> None:
    """Questions and skills in their order; what else stands there is left alone."""
    plain = {"prompt": "a cat", "vqa_list": [["How many cats are there?", 1]]}
    listed = read(lines(tmp_path, LINE, plain, "a text"))
    assert [it.questions for it in listed.prompts] == [
        GIRAFFES,
        (Question("How many cats are there?", "1"),),
        (),
    ]
    assert listed.notes == ()
    whole = tmp_path / "library.json"
    whole.write_text(json.dumps({"prompts": [LINE]}))
    assert read(whole).prompts == listed.prompts[:1]


def test_skills_of_another_program_are_its_own(tmp_path: Path) -> None:
    """Where no question stands beside them, and they are no list."""
    file = lines(tmp_path, {"prompt": "a cat", "skills": "drawing"})
    assert [it.questions for it in read(file).prompts] == [()]


@given(st.lists(QUESTIONS, min_size=1, max_size=4))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[Question, ...]]
) -> None:
    """Whatever words there are, in any script; and so `prompts --json` is a library."""
    prompts = [{"prompt": f"number {n}", **written(it)} for n, it in enumerate(asked)]
    file = lines(tmp_path_factory.mktemp("asked"), *prompts)
    assert [it.questions for it in read(file).prompts] == asked


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"vqa_list": "Is it red?"}, '"vqa_list" must be a list of pairs'),
        ({"vqa_list": [["Is it red?"]]}, '"vqa_list" must be a list of pairs'),
        ({"vqa_list": [["Is it red?", " "]]}, '"vqa_list" must be a list of pairs'),
        ({"vqa_list": [["Is it red?", True]]}, '"vqa_list" must be a list of pairs'),
        ({"vqa_list": [["Is it \x07?", "Yes"]]}, '"vqa_list" must be a list of pairs'),
        ({"skills": ["count"]}, '"vqa_list" must be a list of pairs'),
        ({"vqa_list": [["Is it red?", "Yes"]] * 101}, '"vqa_list" has 101 questions, more'),
        ({"vqa_list": [["Is it red?", "Yes"]], "skills": []}, '"skills" has 0 for 1 questions'),
        ({"vqa_list": [["Is it red?", "Yes"]], "skills": ["a" * 81]}, '"skills" names'),
        ({"vqa_list": [["Is it red?", "Yes"]], "skills": [None]}, '"skills" must be a list'),
        ({"vqa_list": [["Is it red?", "Yes"]], "skills": "colour"}, '"skills" must be a list'),
    ],
)
def test_what_is_no_question_is_refused(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    """With file and line, and what to do."""
    file = lines(tmp_path, LINE, {"prompt": "a cat", **wrong})
    with pytest.raises(SettingsError) as error:
        read(file)
    assert str(error.value).startswith(f"{file}:2: {told}")
    assert "write them as GenEval 2 does" in str(error.value)


def test_a_listing_is_a_library(tmp_path: Path) -> None:
    """`clipwatch prompts --json` keeps questions, and says nothing of those that are not there."""
    file = lines(tmp_path, LINE, "a cat")
    said = CliRunner().invoke(main, ["prompts", "--library", str(file), "--json"])
    again = tmp_path / "again.json"
    again.write_text(said.stdout)
    assert read(again).prompts == read(file).prompts
    assert "vqa_list" not in json.loads(said.stdout)["prompts"][1]


def test_protocols_without_questions_are_as_before() -> None:
    """Nothing is written of what is not there; with questions another protocol is meant."""
    made = protocol(2)
    assert all("questions" not in it for it in made.written()["prompts"])
    asked = replace(made, prompts=(replace(made.prompts[0], questions=GIRAFFES), made.prompts[1]))
    other = replace(GIRAFFES[0], answer="five")
    another = replace(made, prompts=(replace(made.prompts[0], questions=(other,)), made.prompts[1]))
    assert len({made.digest, asked.digest, another.digest}) == 3
    for it in (made, asked):
        event = ProtocolDefined(it.digest, it)
        read_back = decode(*encode(event))
        assert isinstance(read_back, ProtocolDefined)
        assert read_back == event
        assert read_back.protocol.digest == it.digest


def test_a_scorer_asks_the_questions_that_are_kept(tmp_path: Path) -> None:
    """Of prompts with questions that nobody asks the protocol knows none, as before there were any.

    Where one prompt has none a scorer that asks is refused, with what to do.
    """
    file = lines(tmp_path, LINE)
    bare = settings(tmp_path, prompts=str(file)).protocol
    assert [it.questions for it in bare.prompts] == [()]
    asking = {"scorers": '{"questions": "questions:some/model"}'}
    made = settings(tmp_path, prompts=str(file), **asking).protocol
    assert [it.questions for it in made.prompts] == [GIRAFFES]
    assert made.scorers[1] == ASKING
    lines(tmp_path, LINE, "a cat")
    with pytest.raises(SettingsError) as error:
        settings(tmp_path, prompts=str(file), **asking)
    told = str(error.value)
    assert told.startswith("--scorers: asks the prompts' questions, and 1 of 2 have none")
    assert "GenEval 2" in told
    assert "\n" not in told
    with pytest.raises(SettingsError, match="which are not kept with images"):
        named("more=questions:some/model", tmp_path)


def images(answers: dict[str, list[tuple[float, ...]]]) -> list[ImageScore]:
    """Return images of prompts with these answers, one entry an image."""
    return [
        ImageScore(prompt, index, 0, {"": 0.1, "q": sum(it) / len(it)}, answers={"q": it})
        for prompt, rows in answers.items()
        for index, it in enumerate(rows)
    ]


def asked(prompt: str, *skills: str) -> Prompt:
    """Return a prompt with a question for each skill."""
    return Prompt(prompt, prompt, questions=tuple(Question("?", "Yes", it) for it in skills))


def test_skills_are_summed_up_over_all_questions() -> None:
    """Every answer of a skill counts alike, as in GenEval 2; the interval counts prompts."""
    prompts = [asked("a", "count", "count", "colour"), asked("b", "count", ""), asked("c", "")]
    found = images(
        {"a": [(0.1, 0.3, 1.0), (0.5, 0.7, 0.0)], "b": [(0.9, 0.2), (0.5, 0.2)], "c": [(0.4,)] * 2}
    )
    told = answered(found, prompts)["q"]
    assert [*told.skills] == ["colour", "count"]
    count = told.skills["count"]
    values = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.5])
    assert math.isclose(count.mean, values.mean())
    assert (count.n, count.prompts) == (6, 2)
    # clusters of 4 and 2, by hand
    sums = np.array([(values[:4] - values.mean()).sum(), (values[4:] - values.mean()).sum()])
    assert count.se is not None
    assert math.isclose(count.se, float(np.sqrt(2 * (sums**2).sum()) / 6))
    whole = [gmean(it.answers["q"]) for it in found]
    assert math.isclose(told.geometric.mean, float(np.mean(whole)))
    assert told.geometric.n == 6
    assert question_means(found, "q")["a"] == pytest.approx([0.3, 0.5, 0.5])
    assert answered([ImageScore("a", 0, 0, {"": 0.1})], prompts) == {}


@given(SHARES)
def test_the_geometric_mean_is_scipys(values: list[float]) -> None:
    """Also where an answer is impossible: then the prompt is missed as a whole."""
    with np.errstate(divide="ignore"):
        assert math.isclose(geometric(values), gmean(values), rel_tol=1e-9, abs_tol=1e-300)
    assert min(values) - 1e-12 <= geometric(values) <= sum(values) / len(values) + 1e-12


def test_answers_without_a_skill_have_no_part_in_one() -> None:
    """And scorers are kept apart."""
    prompts = {"a": (Question("?", "Yes", ""), Question("?", "Yes", "verb"))}
    found = images({"a": [(0.1, 0.3)]})
    assert skill_tables(found, "q", prompts) == {"verb": {"a": [0.3]}}
    assert skill_tables(found, "other", prompts) == {}


MADE = protocol(
    prompts=2,
    scorers=(ScorerSpec("", "clip"), ASKING),
)
MADE = replace(
    MADE,
    prompts=(
        replace(MADE.prompts[0], questions=GIRAFFES),
        replace(MADE.prompts[1], questions=(replace(GIRAFFES[0], answer="two"),)),
    ),
)
ANSWERS = {"p0000": (0.25, 0.75), "p0001": (0.5,)}


def run(folder: Path) -> Log:
    """Return a log with two checkpoints about which questions were asked."""
    log = Log(folder)
    log.start("one", MADE)
    means = {it: [sum(its) / len(its)] for it, its in ANSWERS.items()}
    for step in (100, 200):
        name = f"checkpoint-{step}"
        log.add("one", "one", CheckpointCompleted(step, name, "/c", "lora", "", (), "w" * 8))
        table = {"p0000": [0.3], "p0001": [0.2 + step / 10000]}
        log.score(
            *("one", step, table, MADE),
            others={"questions": means},
            answers=lambda prompt, _: {"questions": ANSWERS[prompt]},
        )
    return log


def test_the_log_keeps_each_answer_and_the_state_only_what_they_come_to(tmp_path: Path) -> None:
    """What a run holds in memory does not grow with questions or prompts."""
    run(tmp_path)
    with Journal(log_file(tmp_path), read_only=True) as journal:
        events = list(journal.read())
        state = evolve({}, ((it.run, it.event, it.time) for it in events))
        short = evolve({}, ((it.run, it.event, it.time) for it in journal.landmarks()))
        assert short == state
        (known,) = (it for it in state["one"].evaluations.values() if it.step == 100)
        read_back = read_images(journal, "one", known.id)
    assert {it.prompt_id: it.answers["questions"] for it in read_back} == ANSWERS
    assert known.completed
    told = known.completed.answered["questions"]
    assert {name: it.mean for name, it in told.skills.items()} == {
        "attribute": 0.75,
        "count": 0.375,
    }
    assert known.done == frozenset()


def test_the_judge_finds_what_answers_come_to(tmp_path: Path) -> None:
    """The same as is told of the images themselves."""
    run(tmp_path)
    found = Checkpoint(200, "checkpoint-200", "/c", "whole", digest="w" * 8)
    id_ = evaluation_id(found, MADE.digest)
    said = judge(Ask(str(log_file(tmp_path)), "one", id_, None, None, 3, {}, 1000))
    with Journal(log_file(tmp_path), read_only=True) as journal:
        expected = answered(read_images(journal, "one", id_), MADE.prompts)
    assert said.answered == expected
    assert said.answered["questions"].skills["count"].n == 2


def test_status_tells_of_skills(tmp_path: Path) -> None:
    """The newest checkpoint's, the weakest first, and with --json each one's."""
    log = run(tmp_path)
    said = call(log.folder, "status")
    assert "right answers by questions at step 200: count 0.38, attribute 0.75" in said.stdout
    listed = json.loads(call(log.folder, "status", "--json").stdout)["runs"][0]["checkpoints"]
    skills = [it["answered"]["questions"]["skills"] for it in listed]
    assert [it["attribute"]["mean"] for it in skills] == [0.75, 0.75]


def test_an_image_without_answers_is_written_as_before() -> None:
    """Not a byte more stands in the log."""
    image = ImageScore("a", 0, 1, {"": 0.5})
    kind, text = encode(ImagesScored("e", (image,)))
    assert "answers" not in text
    assert decode(kind, text) == ImagesScored("e", (image,))
    kind, text = encode(EvaluationCompleted("e", {"": USUAL_SUMMARY}))
    assert decode(kind, text) == EvaluationCompleted("e", {"": USUAL_SUMMARY})


USUAL_SUMMARY = answered(images({"a": [(0.5,)]}), [asked("a", "x")])["q"].geometric


def test_what_others_answered_is_looked_at() -> None:
    """Others may lack an answer, have one too many, or one that is no number."""
    scores = {"": 0.3, "q": 0.5}
    assert are_answered(scores, {"q": (0.75, 0.25)}, GIRAFFES)
    assert are_answered(scores, {}, ())
    infinite = (math.inf, -math.inf)
    for wrong in ((0.5,), (0.5, 0.5, 0.5), (0.5, math.nan), (), infinite, (0.75, 0.5)):
        assert not are_answered(scores, {"q": wrong}, GIRAFFES)


def test_what_asks_is_answered_by_who_scores() -> None:
    """Questions stand in a protocol as somebody asks them: no answer is a lost one."""
    scores = {"": 0.3, "q": 0.5}
    assert not are_answered(scores, {}, GIRAFFES)
    assert not are_answered(scores, {"other": (0.5, 0.5)}, GIRAFFES)
    assert not are_answered(scores, {"q": ()}, ())
