"""The page of a run of which a scorer that came later has scored some checkpoints alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import Page
from clipwatch.domain.further import (
    EvaluationRescored,
    FurtherScore,
    ImagesRescored,
    ScorerAdded,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from clipwatch.results.reading import read_images
from clipwatch.results.tables import score_table
from clipwatch.statistics.intervals import describe
from page_kit import CHOSEN, choose
from report_kit import hostile_run
from results_kit import Log

RUN = "lora-1"
PICTURE = "document.querySelector('#stage img').src"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log with a base and checkpoints, of which the scorer `late` has 300 and 400."""
    made = hostile_run(tmp_path_factory.mktemp("state"), 6, side=64)
    run = read_state(log_file(made.folder))[RUN]
    with Journal(log_file(made.folder)) as journal:

        def add(stream: str, *new: ScorerAdded | ImagesRescored | EvaluationRescored) -> None:
            journal.append(RUN, stream, journal.version(stream), new)

        add(f"run/{RUN}", ScorerAdded(ScorerSpec("late", "some/model"), ""))
        for known in run.evaluations.values():
            if known.step in {300, 400}:
                images = read_images(journal, RUN, known.id)
                scores = tuple(FurtherScore(it.prompt_id, it.index, it.score) for it in images)
                whole = EvaluationRescored(known.id, "late", describe(score_table(images)))
                stream = evaluation_stream(RUN, known.id)
                add(stream, ImagesRescored(known.id, "late", scores), whole)
    return made


def test_images_and_scores_stay_beside_each_other(opened: Page, file: Path) -> None:
    """The same picture by either scorer; where the later one has no score, that is said."""
    assert file.is_file()
    choose(opened, "column", "4")
    assert opened.ask(CHOSEN).startswith("@400")
    opened.press("Enter")
    mine = opened.ask(PICTURE)
    assert "none" not in opened.ask("document.getElementById('facts').innerText")
    opened.press("Escape")
    choose(opened, "scorer", "1")
    assert opened.ask(CHOSEN).startswith("@400")
    opened.press("Enter")
    assert opened.ask(PICTURE) == mine
    opened.press("Escape")
    choose(opened, "scorer", "0")
    choose(opened, "column", "1")
    opened.press("Enter")
    assert opened.ask(PICTURE) != mine
    assert "none" in opened.ask("document.getElementById('facts').innerText")
    opened.press("Escape")
    choose(opened, "scorer", "1")  # which has no @100
    assert opened.ask(CHOSEN).startswith(("@300", "@400"))
