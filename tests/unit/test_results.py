"""The one reader of scores and images: any run, any protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.domain.state import Run
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.results.reading import series_of
from results_kit import USUAL, Log, protocol
from score_tables import noisy


def state_of(log: Log, run: str) -> Run:
    """Return what the log means for a run."""
    return read_state(log_file(log.folder))[run]


def test_every_protocol_of_a_run_has_its_series(tmp_path: Path) -> None:
    """Results and scores of an earlier protocol are found beside those of the present one."""
    log, later = Log(tmp_path), protocol(seed=2)
    one, two, three = noisy(8, [0, 0.01, 0.02]).values()
    log.start("r")
    log.score("r", 100, one)
    log.score("r", 200, two)
    log.change("r", later)
    log.score("r", 100, three, later)
    run = state_of(log, "r")
    assert run.protocol == later.digest
    old, new = (series_of(run, it.digest, tmp_path) for it in (USUAL, later))
    assert (old.name, new.name) == ("clipwatch", f"clipwatch-{later.digest[:8]}")
    assert (old.protocol, new.protocol) == (USUAL, later)
    assert [(it.seq, it.step) for it in old.results] == [(0, 100), (1, 200)]
    assert [(it.seq, it.step) for it in new.results] == [(0, 100)]
    for series, results in ((old, (one, two)), (new, (three,))):
        for result, scores in zip(series.results, results, strict=True):
            found = series.scores(result.evaluation)
            assert {it.prompt_id: [it.score] for it in found} == scores
    assert old.images == tmp_path / "images" / "r"


def test_a_protocol_that_nothing_was_scored_under_has_an_empty_series(tmp_path: Path) -> None:
    """A run that has just been started has a curve without points; an unknown digest is none."""
    log = Log(tmp_path)
    log.start("r")
    run = state_of(log, "r")
    assert series_of(run, USUAL.digest, tmp_path).results == ()
    with pytest.raises(KeyError):
        series_of(run, "0" * 16, tmp_path)


def test_scores_come_in_the_order_of_the_protocol(tmp_path: Path) -> None:
    """However the evaluator took them up."""
    (scores,) = noisy(8, [0], images=2).values()
    log = Log(tmp_path)
    made = protocol(images_per_prompt=2)
    log.start("r", made)
    log.score("r", 1, dict(reversed(list(scores.items()))), made)
    series = series_of(state_of(log, "r"), made.digest, tmp_path)
    found = series.scores(series.results[0].evaluation)
    assert [(it.prompt_id, it.index) for it in found] == [
        (id_, n) for id_ in scores for n in (0, 1)
    ]
