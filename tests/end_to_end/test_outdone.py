"""What `rank` let go of, met by the other commands: losses, further scorers, strengths, pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import pytest

from clipwatch.domain.decided import EvaluationOutdone
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
)
from clipwatch.domain.further import (
    EvaluationRescored,
    FurtherScore,
    ImagesRescored,
    ScorerAdded,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol, ScorerSpec
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.journal import log_file
from clipwatch.results.named import present
from clipwatch.results.ranking import rank
from clipwatch.results.results import open_results
from clipwatch.statistics.intervals import describe
from clipwatch.statistics.scores import Scores
from loss_kit import measure
from results_kit import Log, answer, call, first, protocol, shifted
from score_tables import noisy

MADE = protocol(48)
SEEN = 32


def id_of(step: int, made: EvaluationProtocol = MADE, weights: str = "w") -> str:
    found = Checkpoint(step, f"checkpoint-{step}", "/c", "whole", digest=weights * 8)
    return evaluation_id(found, made.digest)


def let_go(
    log: Log,
    step: int,
    scores: Scores,
    by: str,
    made: EvaluationProtocol = MADE,
    weights: str = "w",
) -> None:
    """Have a step outdone after 32 prompts; its losses were measured before these."""
    name, id_ = f"checkpoint-{step}", id_of(step, made, weights)
    whole = CheckpointCompleted(step, name, "/c", "lora", "unet", (), weights * 8)
    images = tuple(ImageScore(it, 0, 0, {"": row[0]}) for it, row in first(scores, SEEN).items())
    losses = [it(id_)] if (it := log.losses.get(("r", step))) else []
    log.add("r", "r", whole)
    log.add(
        "r",
        evaluation_stream("r", id_),
        EvaluationStarted(id_, name, step, weights * 8, made.digest, {}),
        *losses,
        ImagesScored(id_, images),
        EvaluationOutdone(id_, by, SEEN, len(made.prompts), -0.1),
    )


@pytest.fixture
def levels() -> Mapping[int, float]:
    """Return the loss of each step: the lowest is that of one that is outdone."""
    return {100: 0.5, 200: 0.9, 300: 0.8, 400: 0.7}


@pytest.fixture
def log(tmp_path: Path, levels: Mapping[int, float]) -> Log:
    """Return a log in which 100 was outdone by 400, as `rank` has it where losses are measured."""
    log = Log(tmp_path / "state")
    log.start("r", MADE)
    tables = noisy(48, [0.0, 0.1, 0.11, 0.12]).values()
    for (step, level), scores in zip(levels.items(), tables, strict=True):
        measure(log, "r", step, level)
        if step == 100:
            let_go(log, step, scores, id_of(400))
        else:
            log.score("r", step, scores, MADE)
    return log


def test_by_losses_nobody_is_outdone(log: Log) -> None:
    """They were measured before the images, and are whole: the lowest may be of who was let go."""
    found = answer(log.folder, "best")
    assert [it["step"] for it in found["outdone"]] == [100]
    assert (found["n_checkpoints"], found["loss"]["n_checkpoints"]) == (3, 4)
    assert found["loss"]["best"]["step"] == 100
    assert "outdone" not in found["loss"]
    alone = answer(log.folder, "best", "--scorer", "loss")
    assert alone == {"run": "r", "unit": "step", **found["loss"], "circumstances": []}
    said = call(log.folder, "best", "--scorer", "loss").stdout
    assert "surely not the best" not in said
    front = call(log.folder, "best", "--against", "loss").stdout
    assert "1 checkpoint that was not made to the end cannot be placed." in front
    beside = call(log.folder, "best", "--scorer", "loss", "--against", "loss").stdout
    assert "cannot be placed" not in beside


def test_a_race_that_let_nobody_go_has_used_up_its_part(tmp_path: Path) -> None:
    """It could have: what is said of all that are left is as wide as where one was let go of."""
    log = Log(tmp_path)
    log.start("r", MADE)
    for step, scores in zip((1, 2, 3), noisy(48, [0.0, 0.01, 0.02]).values(), strict=True):
        log.score("r", step, scores, MADE)
    with open_results(log_file(log.folder)) as results:
        run = results.state["r"]
        plain, raced = (rank(results, run, present(run), raced=it) for it in (False, True))
    assert raced.best.id == plain.best.id
    assert raced.outdone == plain.outdone == ()
    for id_, (delta, low, high) in plain.differences.items():
        found = raced.differences[id_]
        assert found[0] == delta
        assert found[1] < low
        assert found[2] > high


def test_one_alone_has_a_loss(tmp_path: Path) -> None:
    """Others have scores, so it is not the only one with these."""
    log = Log(tmp_path)
    log.start("r", MADE)
    for step, scores in zip((1, 2), noisy(48, [0.0, 0.1]).values(), strict=True):
        if step == 1:
            measure(log, "r", step, 1.0)
        log.score("r", step, scores, MADE)
    said = call(tmp_path, "best", "--scorer", "loss").stdout
    assert "1 more checkpoint without a loss on these images cannot be ranked." in said
    assert said.endswith("It is the only one with a loss on these images.\n")


def test_the_best_by_loss_is_compared_with_though_it_was_outdone(log: Log) -> None:
    """By name as by @best, whose interval knows of how many it is the lowest."""
    found = answer(log.folder, "compare", "400", "@best", "--scorer", "loss")
    assert (found["b"], found["picked_of"], found["verdict"]) == ("r@100", 4, "better")
    assert found["delta"] == pytest.approx(-0.2, abs=0.01)
    plain = answer(log.folder, "compare", "400", "100", "--scorer", "loss")
    assert (plain["verdict"], plain["picked_of"]) == ("better", None)
    assert plain["among_all"]["n_checkpoints"] == 4
    refused = call(log.folder, "compare", "400", "100")
    told = "checkpoint-100 was let go of after 32 of 48 prompts, as surely not the best"
    rest = "clipwatch rank --full makes the rest"
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {told}: {rest}\n")


def test_by_further_scorers_it_cannot_be_ranked(tmp_path: Path) -> None:
    """It has no such scores: that is told, and nothing of its being outdone."""
    log = Log(tmp_path)
    log.start("r", MADE)
    log.add("r", "r", ScorerAdded(ScorerSpec("late", "some/model"), ""))
    low, *others = noisy(48, [0.0, 0.1, 0.11]).values()
    let_go(log, 1, low, id_of(3))
    for step, scores in zip((2, 3), others, strict=True):
        log.score("r", step, scores, MADE)
        id_, theirs = id_of(step), shifted(scores, -0.1 * step)
        images = tuple(FurtherScore(it, 0, row[0]) for it, row in theirs.items())
        told = EvaluationRescored(id_, "late", describe(theirs))
        log.add("r", evaluation_stream("r", id_), ImagesRescored(id_, "late", images), told)
    said = call(tmp_path, "best", "--scorer", "late").stdout
    assert "@2 has the highest mean of 2 checkpoints on 48 prompts that all have" in said
    assert "1 more checkpoint without such scores cannot be ranked." in said
    assert "surely" not in said
    plain = answer(tmp_path, "best")
    found = answer(tmp_path, "best", "--scorer", "late")
    assert ("outdone" in plain, "outdone" in found) == (True, False)
    refused = call(tmp_path, "best", "--scorer", "siglip")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "has no scores of 'siglip'" in refused.stderr


def test_earlier_weights_of_what_is_outdone_are_no_best(log: Log) -> None:
    """Neither for `best` nor for @best: these are of other weights than lie there now."""
    scores = noisy(48, [0.0], seed=5)["0"]
    log.score("r", 500, shifted(scores, 0.5), MADE, weights="o")
    let_go(log, 500, scores, id_of(400))
    assert answer(log.folder, "best")["best"]["step"] == 400
    found = answer(log.folder, "compare", "200", "@best")
    assert (found["b"], found["picked_of"]) == ("r@400", 3)
    plain = answer(log.folder, "compare", "200", "400")
    assert found["delta"] == pytest.approx(plain["delta"])
    assert fmean(plain["ci"]) == pytest.approx(plain["delta"], abs=0.01)


def test_at_one_strength_it_may_be_the_best(tmp_path: Path) -> None:
    """It was outdone among all strengths: of one alone nothing is known by that."""
    log = Log(tmp_path)
    log.start_at("r", 1.0, 0.5, made=MADE)
    weak, strong = MADE.at(0.5), MADE.at(1.0)
    low, mid, high = noisy(48, [0.0, 0.01, 0.1]).values()
    log.score("r", 1, high, strong)
    log.score("r", 2, low, weak)
    let_go(log, 1, mid, id_of(1, strong), weak)
    all_ = call(tmp_path, "best").stdout
    assert "1 more is surely not the best, and not made to the end: @1:0.5 after 32" in all_
    said = call(tmp_path, "best", "--strength", "0.5").stdout
    assert (
        "1 more was let go of beside other strengths, and may be the best of these: @1:0.5 after "
        "32 of 48 prompts." in said
    )
    assert "95 % certainty" not in said


def test_where_all_at_a_strength_are_outdone_that_is_said(tmp_path: Path) -> None:
    """There are scores, so it is not told that there are none yet."""
    log = Log(tmp_path)
    log.start_at("r", 1.0, 0.5, made=MADE)
    weak, strong = MADE.at(0.5), MADE.at(1.0)
    low, high = noisy(48, [0.0, 0.1]).values()
    log.score("r", 1, high, strong)
    let_go(log, 1, low, id_of(1, strong), weak)
    refused = call(tmp_path, "best", "--strength", "0.5")
    told = "of r nothing here was made to the end, as others are surely better"
    rest = "clipwatch rank --full makes the rest"
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {told}: {rest}\n")
