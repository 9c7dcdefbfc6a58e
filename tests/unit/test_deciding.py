"""With what an evaluation is compared while it is made, and which are made wholly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clipwatch.domain.decided import Decision, Reference
from clipwatch.domain.deciding import (
    BASE,
    BEST,
    is_part,
    is_whole,
    named_reference,
    reference_of,
    worth_of,
)
from clipwatch.domain.events import EvaluationCompleted
from clipwatch.domain.kinds import Finding
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.state import BASE_NAME, Evaluation, Run
from clipwatch.results.ranking import Ranking
from clipwatch.results.sentences import about_best
from clipwatch.statistics import Summary
from clipwatch.statistics.scale import COSINE, Scale
from protocols import PROTOCOL

P = "protocol"
HOW = replace(PROTOCOL, prompts=tuple(Prompt(str(n), f"prompt {n}") for n in range(10)))


def evaluation(step: int, mean: float, n: int = 20, **more: Any) -> Evaluation:
    """Return a scored evaluation of n images; step 0 is the base."""
    clip, name = (
        Summary(mean, mean, mean, 0.0, n, n // 2),
        f"checkpoint-{step}" if step else BASE_NAME,
    )
    known = Evaluation(f"{name}/d/p", name, step, "d", P, "scored", clip=clip)
    decision = Decision(Reference("x"), "within", n // 2, 0.0, -0.001, 0.001, 0.005)
    completed = EvaluationCompleted(known.id, {"": clip}, decision=decision if n < 20 else None)
    return replace(known, completed=completed, **more)


def run(*evaluations: Evaluation) -> Run:
    ids = [it.id for it in evaluations if it.state == "scored"]
    known = {it.id: it for it in evaluations}
    return Run("r", "/out", P, (), {}, protocols={P: HOW}, evaluations=known, scored={P: ids})


def test_parts_and_wholes() -> None:
    """By the images of its protocol; one that precision ended is no part, as its mean is plain."""
    made = run(evaluation(1, 0.3), evaluation(2, 0.3, 12))
    first, second = made.evaluations.values()
    assert (is_whole(made, first), is_part(made, first)) == (True, False)
    assert (is_whole(made, second), is_part(made, second)) == (False, True)
    ended = replace(second, completed=EvaluationCompleted(second.id, {}))
    assert not is_part(made, ended)
    assert is_part(made, replace(ended, reference=Reference("x")))  # and nobody could judge it
    assert not is_whole(made, replace(first, clip=None))


def test_each_part_is_named() -> None:
    """Beside those that are ranked, also where nobody could judge it."""
    best, known, unknown = evaluation(1, 0.3), evaluation(2, 0.3, 12), evaluation(3, 0.3, 12)
    assert unknown.completed
    unknown = replace(unknown, completed=replace(unknown.completed, decision=None))
    made, summary = run(best, known, unknown), Summary(0.3, 0.3, 0.3, 0.0, 20, 10)
    means, ranked = (0.3, 0.3, 0.3), ((best, summary),)
    ranking = Ranking(
        made, best, means, (), (best,), ranked, {}, 10, COSINE, parts=(known, unknown)
    )
    said = " ".join(about_best(ranking))
    assert "2 more ended" in said
    assert "are not ranked: @2 within x, @3." in said
    assert "the only one that was scored on all prompts" in said


@pytest.mark.parametrize("against", [BEST, BASE])
def test_the_first_is_made_wholly(against: str) -> None:
    """The base tells too little of the others; a part tells nothing of all prompts."""
    for others in ((), (evaluation(0, 0.1),), (evaluation(0, 0.1), evaluation(1, 0.3, 12))):
        assert reference_of(run(*others), P, "checkpoint-9/d/p", against) is None


def test_the_best_is_the_highest_of_those_that_are_whole() -> None:
    """Neither the base nor an estimate, whatever its mean, nor the evaluation itself."""
    made = run(evaluation(0, 0.9), evaluation(1, 0.3), evaluation(2, 0.4), evaluation(3, 0.5, 12))
    assert reference_of(made, P, "checkpoint-9/d/p", BEST) == Reference("checkpoint-2/d/p")
    assert reference_of(made, P, "checkpoint-9/d/p", BASE) == Reference(f"{BASE_NAME}/d/p")
    assert reference_of(made, P, "checkpoint-2/d/p", BEST) == Reference("checkpoint-1/d/p")
    without = run(evaluation(1, 0.3))
    assert reference_of(without, P, "checkpoint-9/d/p", BASE) is None


def test_what_was_chosen_stands() -> None:
    """A better one that came meanwhile changes nothing."""
    begun = replace(evaluation(9, 0.0), state="running", clip=None, reference=Reference("old"))
    made = run(evaluation(1, 0.3), begun)
    assert reference_of(made, P, begun.id, BEST) == Reference("old")


def test_images_that_came_without_a_reference_decide_nothing() -> None:
    """Their order may be any, as before the setting, or from parts: it is made wholly."""
    made: dict[str, Any] = {"state": "running", "clip": None, "done": frozenset({("1", 0)})}
    before = evaluation(9, 0.0, **made)
    parts = evaluation(9, 0.0, **made, reference=Reference("old"), source="/parts/1-of-2.jsonl")
    for begun in (before, parts):
        for against in (BEST, BASE):
            known = run(evaluation(0, 0.1), evaluation(1, 0.3), begun)
            assert reference_of(known, P, begun.id, against) is None
    failed = evaluation(9, 0.0, state="failed", clip=None)  # without an image
    known = run(evaluation(1, 0.3), failed)
    assert reference_of(known, P, failed.id, BEST) == Reference("checkpoint-1/d/p")


def test_a_step_is_named_with_its_run_or_without() -> None:
    """The last one of a step counts; a run's beginning is enough where one run has it."""
    again = replace(evaluation(1, 0.4), id="checkpoint-1/e/p")
    state = {"r": run(evaluation(1, 0.3), again), "other-1": run(evaluation(5, 0.3))}
    assert named_reference(state, "r", P, "@1") == Reference("checkpoint-1/e/p")
    assert named_reference(state, "r", P, "other@5") == Reference("checkpoint-5/d/p", "other-1")
    assert named_reference(state, "r", P, "r@1") == Reference("checkpoint-1/e/p")
    for unknown in ("@5", "other@1", "nobody@1"):
        assert named_reference(state, "r", P, unknown) is None
    assert named_reference(state, "r", "another", "@1") is None


def test_what_matters() -> None:
    """The setting, else the scorer's own, also for one that gives no advice."""
    scale = Scale(-1.0, 1.0, worth=0.01)
    assert worth_of({"": 0.02}, scale) == 0.02
    assert worth_of({}, scale) == worth_of({"": None}, scale) == 0.01
    assert worth_of({}, COSINE) is None


def test_one_that_nobody_could_tell_is_no_reference() -> None:
    """Made wholly as no prompt decided: the highest of many such would be the luckiest."""
    first, other = evaluation(1, 0.3), evaluation(2, 0.4)
    assert other.completed
    expect: dict[Finding, str] = {"open": "checkpoint-1/d/p", "above": "checkpoint-2/d/p"}
    for finding, expected in expect.items():
        said = Decision(Reference(first.id), finding, 10, 0.1, -0.1, 0.3, 0.005)
        told = replace(other, completed=replace(other.completed, decision=said))
        assert reference_of(run(first, told), P, "checkpoint-9/d/p", BEST) == Reference(expected)
