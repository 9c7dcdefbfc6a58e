"""`clipwatch rescore` with the evaluator's own process, killed amid it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipwatch.demo import models
from clipwatch.domain.further import EvaluationRescored, ImagesRescored
from clipwatch.journal import Journal, log_file
from clipwatch.results.reading import images_of
from real_world import clipwatch, environment
from results_kit import Log, protocol

KILLED = """
import os, signal, sys
from clipwatch.cli import main
from clipwatch.domain.events import ImagesRescored
from clipwatch.journal import Journal

append = Journal.append


def dying(self, run, stream, expected, events):
    version = append(self, run, stream, expected, events)
    if any(isinstance(it, ImagesRescored) for it in events):
        os.kill(os.getpid(), signal.SIGKILL)
    return version


Journal.append = dying
main(sys.argv[1:])
"""


@pytest.mark.thorough
def test_a_kill_costs_nothing_that_was_scored(tmp_path: Path) -> None:
    """The training is long gone; kill -9 right after the first batch, then the same call again."""

    def draw(evaluation: str, prompt: str, index: int) -> str:
        name = f"{evaluation}/{prompt}-{index}.png"
        path = images_of(tmp_path / "state", "lora-1") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(name.encode()))
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        return name

    (tmp_path / "state").mkdir()
    log, made = Log(tmp_path / "state"), protocol(2)
    log.start("lora-1", made)
    for step in (100, 200):
        log.score("lora-1", step, {it.id: [0.3] for it in made.prompts}, made, draw=draw)
    call = ("rescore", "lora", "--state-dir", "state", "--scorer", f"later={models.CLIP}")
    place = ("--device", "cpu")
    dead = subprocess.run(
        [sys.executable, "-c", KILLED, *call, *place],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    ended = clipwatch(*call, *place, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "later: 2 of 2 checkpoints have scores\n")
    with Journal(log_file(tmp_path / "state"), read_only=True) as journal:
        told = [it.event for it in journal.read()]
    scored = [it.evaluation for it in told if isinstance(it, ImagesRescored)]
    assert len(scored) == len(set(scored)) == 2
    assert {it.evaluation for it in told if isinstance(it, EvaluationRescored)} == set(scored)
    ended = clipwatch(*call, cwd=tmp_path)
    assert ended.stdout == "later: 2 of 2 checkpoints have scores, as before\n"
