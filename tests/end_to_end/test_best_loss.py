"""Held-out losses in `clipwatch best` and `compare`: lower is better, and never of other images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from clipwatch.domain.losses import LOSS, Rows
from clipwatch.domain.names import votes_stream
from clipwatch.domain.state import BASE_NAME, Checkpoint, evaluation_id
from clipwatch.domain.votes import Voted
from clipwatch.kit.errors import SettingsError
from clipwatch.statistics.best import best_of
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import LOSSES, Scale
from clipwatch.statistics.scores import Scores
from loss_kit import OTHER, measure, plan
from results_kit import Log, answer, call, protocol
from score_tables import noisy
from world import settings

LEVELS = {100: 1.0, 200: 0.8, 300: 0.799, 400: 0.9}
SHIFTS = [0.0, 0.01, 0.02, 0.03]
MADE = protocol(24)


def started(folder: Path, *levels: float | None, images: int = 12) -> Log:
    """Return a log of a run whose steps 1, 2, ... have these losses, and scores that rise."""
    log = Log(folder)
    log.start("r", MADE)
    for step, level in enumerate(levels, start=1):
        if level is not None:
            measure(log, "r", step, level, of=plan(images))
        log.score("r", step, noisy(24, [0.01 * step], seed=step)["0"], MADE)
    return log


@pytest.fixture
def losses() -> dict[int, Rows]:
    """What is measured of each step."""
    return {}


@pytest.fixture
def log(tmp_path: Path, losses: dict[int, Rows]) -> Log:
    """Return a log of a run whose scores rise, and whose losses fall and rise; the base is low."""
    log = Log(tmp_path / "state")
    log.start("r", MADE)
    measure(log, "r", 0, 0.1)
    log.score("r", 0, noisy(24, [0.0])["0"], MADE, name=BASE_NAME)
    for (step, level), scores in zip(LEVELS.items(), noisy(24, SHIFTS).values(), strict=True):
        losses[step] = measure(log, "r", step, level)
        log.score("r", step, scores, MADE)
    return log


def table(held: Rows) -> dict[str, list[float]]:
    """Return losses by their images, in the order in which they count."""
    return {f"{n:04}": [*row] for n, row in enumerate(held)}


def turned(scores: Scores) -> dict[str, list[float]]:
    return {id_: [-it for it in row] for id_, row in scores.items()}


def mean(held: Rows) -> float:
    return fmean(fmean(row) for row in held)


def steps(found: list[dict[str, Any]]) -> list[int]:
    return [it["step"] for it in found]


def test_a_line_says_where_the_loss_is_lowest(log: Log, losses: Mapping[int, Rows]) -> None:
    """Whatever the scores say; with what cannot be told from it, as `best_of` finds."""
    found = best_of({str(it): turned(table(held)) for it, held in losses.items()}, LOSSES)
    lowest = min(losses, key=lambda it: mean(losses[it]))
    assert (found.best, lowest) == (str(lowest), 300)
    assert found.tied == ("200",)
    told = answer(log.folder, "best")
    assert told["best"]["step"] == 400  # by the scores
    _, low, high = found.mean
    assert told["loss"] == {
        "best": {
            "step": 300,
            "checkpoint": "checkpoint-300",
            "mean": pytest.approx(mean(losses[300])),
            "ci": pytest.approx([-high, -low]),
        },
        "tied": [{"step": 200, "checkpoint": "checkpoint-200"}],
        "may_be_best": [
            {"step": int(it), "checkpoint": f"checkpoint-{it}"} for it in found.candidates
        ],
        "n_images": 12,
        "n_checkpoints": 4,
    }
    line = f"The held-out loss is lowest at @300: {mean(losses[300]):.4f}; 1 cannot be told from"
    assert call(log.folder, "best").stdout.endswith(f"\n\n{line} it: @200.\n")


def test_best_ranks_by_the_loss(log: Log, losses: Mapping[int, Rows]) -> None:
    """The lowest first of all; the others are above it, and their intervals are, too."""
    found = answer(log.folder, "best", "--scorer", "loss")
    assert "loss" not in found
    whole = answer(log.folder, "best")["loss"]
    assert found == {"run": "r", "unit": "step", **whole, "circumstances": []}
    head, *lines, _, one, two, _ = call(log.folder, "best", "--scorer", "loss").stdout.splitlines()
    assert head.split()[:2] == ["step", "loss"]
    for step, line in zip(losses, lines, strict=True):
        cells = line.split()
        assert cells[:2] == [str(step), f"{mean(losses[step]):.4f}"]
        if step == 300:
            assert cells[-2] == "best"
            continue
        delta, low, high = float(cells[5]), float(cells[6]), float(cells[8])
        assert delta == pytest.approx(mean(losses[step]) - mean(losses[300]), abs=1e-3)
        assert low < delta < high
        assert (cells[-2] == "tied") == (step == 200) == (low < 0)
    assert one.startswith(
        f"@300 has the lowest held-out loss of 4 checkpoints on 12 images that all have: "
        f"{mean(losses[300]):.4f} (95 % interval "
    )
    assert "1 cannot be told from it: @200." in two


def test_what_is_surely_lowest_is_told_so(tmp_path: Path) -> None:
    """Of two, and of one alone; with few images nothing is sure."""
    alone = started(tmp_path / "alone", 1.0).folder
    assert call(alone, "best").stdout.endswith(", the only one that has it.\n")
    two = started(tmp_path / "two", 1.0, 0.5).folder
    said = call(two, "best").stdout
    assert "The held-out loss is lowest at @2: 0.4961; every" in said
    assert said.endswith(
        "; every other one is higher, after correction for having looked at all.\n"
    )
    ranked = call(two, "best", "--scorer", "loss").stdout
    told = "After correction for having looked at all 2, every other one is higher.\n"
    assert ranked.endswith(told)
    few = started(tmp_path / "few", 1.0, 0.5, images=5).folder
    assert "with 5 images none can be told from another" in call(few, "best").stdout
    said = call(few, "compare", "1", "2", "--scorer", "loss").stdout
    assert "Nothing can be shown with 5 images" in said
    assert "not known" in said


def test_without_losses_there_is_no_word_of_them(tmp_path: Path) -> None:
    """And who asks for them reads what to do."""
    folder = started(tmp_path, None, None).folder
    assert "loss" not in answer(folder, "best")
    assert "loss" not in answer(folder, "compare", "1", "2")
    assert "loss" not in call(folder, "best").stdout
    for command in (["best"], ["compare", "1", "2"], ["compare", "1", "@best"]):
        said = call(folder, *command, "--scorer", "loss")
        assert (said.exit_code, said.stdout, said.stderr.count("\n")) == (1, "", 1)
        assert "r@1 has no held-out loss: set holdout to measure it" in said.stderr
    said = call(folder, "best", "--against", "loss")
    assert said.stderr == "Error: no checkpoint of r has a held-out loss\n"


def test_losses_of_other_images_are_never_compared(log: Log) -> None:
    """Those of the newest images are ranked, and those before are counted."""
    measure(log, "r", 500, 0.95, of=OTHER)
    log.score("r", 500, noisy(24, [0.0])["0"], MADE)
    found = answer(log.folder, "best")["loss"]
    assert (found["best"]["step"], found["n_checkpoints"]) == (500, 1)
    said = call(log.folder, "best", "--scorer", "loss").stdout
    assert "4 more checkpoints without a loss on these images cannot be ranked." in said
    assert "loss" not in answer(log.folder, "compare", "300", "500")
    refused = call(log.folder, "compare", "300", "500", "--scorer", "loss")
    told = "Error: the losses of r@300 and r@500 are of other images or captions\n"
    assert (refused.exit_code, refused.stderr) == (1, told)
    before = answer(log.folder, "compare", "200", "400")["loss"]  # of the same images, both
    assert before["verdict"] == "worse"


@pytest.mark.parametrize(("a", "b", "verdict"), [(100, 300, "better"), (300, 100, "worse")])
def test_compare_pairs_losses_image_by_image(
    log: Log, losses: Mapping[int, Rows], a: int, b: int, verdict: str
) -> None:
    """As `paired.compare` finds of the losses themselves, whose verdict is the opposite."""
    plain = compare("a", table(losses[a]), "b", table(losses[b]), Scale(0, 1e9, tie=1e-5))
    opposite = {"better": "worse", "worse": "better"}
    assert opposite[plain.verdict] == verdict
    found = answer(log.folder, "compare", str(a), str(b))
    beside, alone = found["loss"], answer(log.folder, "compare", str(a), str(b), "--scorer", "loss")
    assert alone == beside | {"circumstances": []}
    assert beside["delta"] == pytest.approx(mean(losses[b]) - mean(losses[a]))
    assert beside["ci"] == pytest.approx([plain.low, plain.high])
    assert (beside["verdict"], beside["n_images"]) == (verdict, 12)
    assert (beside["wins"], beside["losses"]) == (plain.losses, plain.wins)
    assert beside["among_all"]["verdict"] == verdict
    low, high = beside["among_all"]["ci"]
    assert low < beside["delta"] < high
    lower = "lower" if verdict == "better" else "higher"
    said = call(log.folder, "compare", str(a), str(b)).stdout.splitlines()
    sentence = next(it for it in said if it.startswith("The held-out loss of "))
    assert sentence.startswith(f"The held-out loss of @{b} is {lower} than that of @{a} by 0.")
    own = call(log.folder, "compare", str(a), str(b), "--scorer", "loss", "--fail-if-worse")
    assert own.exit_code == (verdict == "worse")
    assert sentence in own.stdout.splitlines()
    first = next(line for line in own.stdout.splitlines() if line.startswith("a "))
    assert first.split()[2] == f"{mean(losses[a]):.4f}"
    wins = 12 if verdict == "better" else 0
    assert f"b is lower on {wins} images, equal on 0, higher on {12 - wins}" in own.stdout
    head, gone = ("Fell most:", "Rose most:")[:: 1 if verdict == "better" else -1]
    assert head in own.stdout
    assert gone not in own.stdout
    assert any(
        line.split()[0].startswith("-+"[wins == 0]) and "held " in line
        for line in own.stdout.splitlines()
        if line.startswith("  ")
    )


def test_the_best_by_loss_is_named_as_any_best(log: Log) -> None:
    """It has the lowest, and its interval knows that; beside scores nobody picked it by that."""
    found = answer(log.folder, "compare", "100", "@best", "--scorer", "loss")
    assert (found["b"], found["picked_of"], found["verdict"]) == ("r@300", 4, "better")
    assert found["ci"][1] < 0
    by_scores = answer(log.folder, "compare", "100", "@best")
    assert (by_scores["b"], by_scores["picked_of"]) == ("r@400", 4)
    assert by_scores["loss"]["picked_of"] is None
    assert by_scores["loss"]["verdict"] == "better"


def test_each_strength_has_its_own(tmp_path: Path) -> None:
    """The lowest is told with its strength, among all or at one of them."""
    log = Log(tmp_path)
    log.start_at("r", 1.0, 0.5, made=MADE)
    for strength, level in ((1.0, 0.8), (0.5, 0.6)):
        measure(log, "r", 1, level)
        log.score("r", 1, noisy(24, [0.0])["0"], MADE.at(strength))
    assert "The held-out loss is lowest at @1:0.5: 0.5" in call(tmp_path, "best").stdout
    said = call(tmp_path, "best", "--strength", "1").stdout
    assert "The held-out loss is lowest at @1:1: 0." in said
    found = answer(tmp_path, "compare", "1:1", "1:0.5")["loss"]
    assert (found["verdict"], found["delta"] < 0) == ("better", True)


def test_a_front_of_scores_and_losses(log: Log, losses: Mapping[int, Rows]) -> None:
    """Higher scores and lower losses: what no other one beats in both."""
    found = answer(log.folder, "best", "--against", "loss")["against"]
    assert steps(found["front"]) == [300, 400]
    assert [it["other"] for it in found["means"]] == pytest.approx([*map(mean, losses.values())])
    said = call(log.folder, "best", "--against", "loss").stdout
    assert "No other checkpoint is better by both means than @300, @400." in said
    other = answer(log.folder, "best", "--scorer", "loss", "--against", "loss")["against"]
    assert steps(other["front"]) == [300]


def test_votes_are_held_against_losses(tmp_path: Path) -> None:
    """Whoever prefers the higher loss is told of; the base, which has none, is no matter."""
    log = Log(tmp_path)
    log.start("r", MADE)
    log.score("r", 0, noisy(24, [0.0])["0"], MADE, name=BASE_NAME)
    ids = []
    for step, level in ((1, 1.0), (2, 0.5)):
        measure(log, "r", step, level)
        log.score("r", step, noisy(24, [0.0])["0"], MADE)
        found = Checkpoint(step, f"checkpoint-{step}", "/c", "whole", digest="w" * 8)
        ids.append(evaluation_id(found, MADE.digest))
    one, two = ids
    votes = [Voted(f"pair {n}", "better", "p0000", 0, one, two, "left") for n in range(40)]
    log.add("r", votes_stream("r"), *votes)
    (opposed,) = answer(tmp_path, "best", "--votes", "--scorer", "loss")["votes"][0]["opposed"]
    assert (opposed["voters_prefer"]["step"], opposed["scores_prefer"]["step"]) == (1, 2)


def test_no_scorer_is_called_as_the_loss(tmp_path: Path) -> None:
    """So that --scorer loss means one thing."""
    with pytest.raises(SettingsError, match="cannot be called 'loss'"):
        settings(tmp_path, scorers=json.dumps({LOSS: "owner/name"}))
