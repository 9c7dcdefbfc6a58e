"""One checkpoint on two slots of the processor, as a user starts it: the scores are one slot's."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image

from clipwatch.domain.events import (
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    ImageScore,
)
from clipwatch.executors.messages import Evaluate, Failed, Kept, Reply, Scored
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from real_world import daemon, guarded, scored_images, until

if TYPE_CHECKING:
    from clipwatch.evaluator.evaluate import Evaluator

MANY = [f"{count} {colour} circles" for count in range(2, 11) for colour in ("red", "blue")]
IMAGES = 2 * len(MANY)


def evaluators(daemon: int) -> list[psutil.Process]:
    """Return the evaluators of a daemon that are alive."""
    found = []
    for child in psutil.Process(daemon).children():
        with suppress(psutil.NoSuchProcess):
            if "clipwatch.evaluator.worker" in child.cmdline():
                found.append(child)
    return found


def counts(project: Path) -> list[int]:
    """Return how many evaluations were begun, failed and came to their end."""
    with Journal(log_file(project / "state"), read_only=True) as journal:
        events = [it.event for it in journal.read()]
    kinds = (EvaluationStarted, EvaluationFailed, EvaluationCompleted)
    return [sum(isinstance(it, kind) for it in events) for kind in kinds]


@pytest.mark.thorough
@pytest.mark.timeout(400)  # it starts three evaluators, beside whatever else runs
def test_two_slots_make_what_one_makes_though_one_of_them_is_killed(
    project: Path, base: Path, evaluator: Evaluator
) -> None:
    """Same seeds, pixels to a grey level, numbers to 1e-4; each image once, one result."""
    (project / "prompts.txt").write_text("\n".join(MANY))
    config = json.loads((project / "config.json").read_text()) | {"--report_to": "none"}
    (project / "config.json").write_text(json.dumps(config))
    guarded(project / "output", base, 100)
    with daemon(project, "--device", "cpu,cpu", "--batch-size", "1") as process:
        until(lambda: len(scored_images(project)) >= 4)
        both = evaluators(process.pid)
        assert len(both) == 2
        both[1].kill()
        until(lambda: counts(project)[-1] == 1)
    said = (project / "said").read_text()
    assert f"checkpoint-100: loading on cpu 2, {IMAGES // 2} of {IMAGES} images" in said
    assert "was killed by SIGKILL" in said
    assert counts(project) == [1, 0, 1]
    (run,) = read_state(log_file(project / "state")).values()
    found = run.checkpoints["checkpoint-100"]
    how = (found.component, found.files, run.protocols[run.protocol], ())
    alone: dict[tuple[str, int], ImageScore] = {}

    def hear(reply: Reply) -> Kept | None:
        assert not isinstance(reply, Failed), reply
        if isinstance(reply, Scored):
            alone.update({(it.prompt_id, it.index): it for it in reply.images})
        return Kept()

    place = str(project / "alone")
    evaluator.evaluate(Evaluate(found.path, "full", *how, place, "cpu", batch_size=6), hear)
    shared = scored_images(project)
    assert len(shared) == len({(it.prompt_id, it.index) for it in shared}) == len(alone) == IMAGES
    for two in shared:
        one = alone[two.prompt_id, two.index]
        assert one.seed == two.seed
        assert one.scores == pytest.approx(two.scores, abs=1e-4)
        (kept,) = (project / "state" / "images").glob(f"*/{two.image}")
        files = (project / "alone" / str(one.image), kept)
        pixels = [np.asarray(Image.open(it), np.int16) for it in files]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1
