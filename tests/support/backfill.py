"""A run with many results, which `clipwatch publish` brings to a tracker and is killed amid it."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result

from clipwatch.cli import main
from clipwatch.domain.events import (
    EvaluationCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    Published,
    RunStarted,
)
from clipwatch.domain.names import evaluation_stream, run_id
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.journal import Journal, Recorded, log_file
from clipwatch.journal.projection import read_state
from clipwatch.statistics import summarize
from clipwatch.testing.witness import Point, single
from clipwatch_adapters.tensorboard import _read
from real_world import command
from tensorboard_kit import event_file
from world import settings

PATIENCE = 150.0
"""Seconds until something more must have been written down."""


@dataclass(frozen=True)
class Watched:
    """A run that was watched, with its config beside it."""

    folder: Path
    run: str
    protocol: EvaluationProtocol

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.folder / "state"

    @property
    def board(self) -> Path:
        """The run in the trainer's TensorBoard folder."""
        return self.folder / "output/logs/simpletuner/clipwatch"

    def score(self, steps: Sequence[int]) -> None:
        """Write results into the log; the scores tell the step."""
        with Journal(log_file(self.state)) as journal:
            for step in steps:
                made = self.protocol.digest
                found = Checkpoint(step, f"checkpoint-{step}", "/c", "whole", digest=f"{step:08}")
                id_ = evaluation_id(found, made)
                images = [
                    ImageScore(prompt.id, index, seed, {"": step / 1e5})
                    for prompt, index, seed in self.protocol.images()
                ]
                journal.append(
                    self.run,
                    evaluation_stream(self.run, id_),
                    0,
                    [
                        EvaluationStarted(id_, found.name, step, found.digest, made, {}),
                        ImagesScored(id_, tuple(images)),
                        EvaluationCompleted(id_, {"": summarize([it.score for it in images])}),
                    ],
                )

    def call(self, *arguments: str, config: bool = True) -> Result:
        """Call the command."""
        given = ["--config", str(self.folder / "config.json")] if config else []
        line = ["publish", *arguments, *given, "--state-dir", str(self.state)]
        return CliRunner().invoke(main, line)

    def shown(self) -> list[int]:
        """Return the steps that TensorBoard's file has, in its order."""
        held, whole = _read(event_file(self.board))
        assert whole
        return [each.receipt.step for each in held]

    @property
    def logged(self) -> list[Recorded]:
        """The whole log."""
        with Journal(log_file(self.state), read_only=True) as journal:
            return list(journal.read())

    def batches(self, tracker: str) -> list[Published]:
        """Return what was written down as published."""
        told = (it.event for it in self.logged)
        return [it for it in told if isinstance(it, Published) and it.tracker == tracker]

    def published(self, tracker: str) -> Counter[str]:
        """Return how often each evaluation was written down as published for the first time."""
        return Counter(id_ for it in self.batches(tracker) for id_ in it.evaluations)


def watch(folder: Path, results: int) -> Watched:
    """Return a run of so many results, at steps of 100, which no tracker has."""
    (folder / "output/logs/simpletuner").mkdir(parents=True)
    told = settings(folder)
    watched = Watched(folder, run_id(told.paths.output_dir), told.protocol)
    digest = told.protocol.digest
    with Journal(log_file(watched.state)) as journal:
        started = RunStarted(str(told.paths.output_dir), "", (), told.as_text(), "1")
        defined = ProtocolDefined(digest, told.protocol)
        journal.append(watched.run, f"run/{watched.run}", 0, [started, defined])
    watched.score(range(100, 100 * results + 100, 100))
    return watched


def backfill(
    folder: Path, tracker: str, read: Callable[[str], Iterable[Point]], results: int = 200
) -> None:
    """Have results published by a process that is killed before and amid batches.

    In the end each is there once, in the log and as the tracker itself says. The environment says
    where it is.

    Args:
        folder: Where the run is made.
        tracker: As `clipwatch publish --to` knows it.
        read: Returns the points of a place (Tracker.where) by the tracker's own reader.
        results: How many; more than a batch, clipwatch.tasks.publish.BATCH.
    """
    watched, chance = watch(folder, results), random.Random(results)
    line = command("publish", "--to", tracker, "--state-dir", str(watched.state))
    for batches, seconds in ((0, 1.0), (1, 0.1)):
        child = subprocess.Popen(line, cwd=folder)
        wanted = len(watched.batches(tracker)) + batches
        deadline = time.monotonic() + PATIENCE
        while len(watched.batches(tracker)) < wanted and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(chance.uniform(seconds / 2, seconds))
        child.kill()
        child.wait()
    for _ in range(2):
        ended = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    assert set(watched.published(tracker).values()) == {1}
    run = read_state(log_file(watched.state))[watched.run]
    shown = Counter(map(single, read(run.trackers[tracker].where)))
    means = {it: times for it, times in shown.items() if it[0] == "clip/mean"}
    steps = range(100, 100 * results + 100, 100)
    points = (single(("clip/mean", step, step / 1e5)) for step in steps)
    assert means == dict.fromkeys(points, 1)
