"""A growing run and real daemons beside it that evaluate fast."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

import fast_daemon
from clipwatch.domain.events import ImagesScored
from clipwatch.domain.state import Run
from clipwatch.journal import Journal, Recorded, log_file
from clipwatch.journal.projection import read_state
from clipwatch.results import view
from places import python_path
from world import PROMPTS, checkpoint

BATCH = 2
TAGS = ("clip/mean", "clip/min", "clip/max", "clip/std")


@cache
def _forking() -> ForkServerContext:
    """Have a process that has imported all, and is forked: that is most of a daemon's start."""
    context = get_context("forkserver")
    context.set_forkserver_preload([fast_daemon.__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path())
        forkserver.ensure_running()
    return context


@dataclass
class Training:
    """An output directory that grows, and daemons beside it that are killed.

    `own` are further settings of the clipwatch object.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        (self.folder / "base").mkdir(parents=True, exist_ok=True)
        self.curve.parent.mkdir(parents=True, exist_ok=True)
        (self.curve.parent / "events.out.tfevents.1.trainer").touch()
        (self.folder / "prompts.txt").write_text(PROMPTS)
        own = {"prompts": "prompts.txt", "state_dir": "state", "device": "cpu"} | self.own
        config = {
            "output_dir": "output",
            "pretrained_model_name_or_path": "./base",
            "evaluation_type": "clip",
            "num_validation_images": 2,
            "report_to": "tensorboard,wandb" if self.environment else "tensorboard",
            "tracker_project_name": "kills",
            "clipwatch": {**own, "batch_size": BATCH, "settle_seconds": 0, "baseline": False},
        }
        (self.folder / "config.json").write_text(json.dumps(config))

    def train(self) -> None:
        """Leave one more checkpoint, the earlier ones staying."""
        self.steps += 10
        checkpoint(self.folder / "output", self.steps, self.steps / 100)

    def start(self, mode: str = "once") -> ForkServerProcess:
        """Start a daemon that ends when all is done, or one that watches on ("live")."""
        kept = {name: value for name, value in os.environ.items() if "WANDB" not in name}
        environ = {
            **kept,
            **self.environment,
            "HOME": str(self.folder),
            "GENERATED": str(self.generated),
            "TOLD": str(self.told),
            "PYTHONPATH": python_path(),
        }
        asked = (self.folder, mode, environ, self.folder / "said")
        daemon = _forking().Process(target=fast_daemon.main, args=asked)
        daemon.start()
        return daemon

    def finish(self) -> None:
        """Let a daemon do all that is left."""
        daemon = self.start()
        daemon.join(120)
        assert daemon.exitcode == 0, (self.folder / "said").read_text()[-3000:]

    def finish_with(self, results: dict[int, Any]) -> None:
        """Let a daemon do all that is left, so that these are its results in the end.

        No image is made whose score is in the log, and each step has one point.
        """
        committed, before = self.committed(), len(self.images())
        self.finish()
        assert committed.isdisjoint(self.images()[before:])
        assert self.results() == results
        self.one_point_a_step()

    def one_point_a_step(self) -> None:
        """Have TensorBoard show each result once, and with its mean."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        points = EventAccumulator(str(self.curve), size_guidance={"scalars": 0}).Reload()
        means = {step: row[2].mean for step, row in self.results().items()}
        for tag in TAGS:
            assert [point.step for point in points.Scalars(tag)] == sorted(means)
        shown = {point.step: point.value for point in points.Scalars("clip/mean")}
        assert shown == pytest.approx(means, abs=1e-6)

    @property
    def generated(self) -> Path:
        """The evaluators' record of what they made."""
        return self.folder / "generated"

    @property
    def told(self) -> Path:
        """The daemons' record of what they knew to be written down: numbers of events."""
        return self.folder / "told"

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.folder / "state"

    def images(self) -> list[str]:
        """Return every image that was generated, as often as it was."""
        return self.generated.read_text().splitlines() if self.generated.exists() else []

    def logged(self) -> list[Recorded]:
        """Return the whole log."""
        path = log_file(self.state)
        if not path.exists():
            return []
        with Journal(path, read_only=True) as journal:
            return list(journal.read())

    def written(self) -> int:
        """Return how many events are in the log; cheap enough to be asked all the time."""
        path = log_file(self.state)
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as log:
                return int(log.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
        except sqlite3.OperationalError:  # it is only being made
            return 0

    def committed(self) -> set[str]:
        """Return the images whose scores are in the log, named as in `images`."""
        run = self.run
        root = self.state / "images" / run.name if run else None
        return {
            f"{root}/{recorded.event.evaluation} {image.prompt_id} {image.index}"
            for recorded in self.logged()
            if isinstance(recorded.event, ImagesScored)
            for image in recorded.event.images
        }

    @property
    def run(self) -> Run | None:
        """What the log says, None before there is one."""
        state = read_state(log_file(self.state))
        return next(iter(state.values()), None)

    def results(self) -> dict[int, Any]:
        """Return what a person is shown of each step, without when it happened."""
        assert self.run is not None
        return {
            row.step: (row.name, row.state, row.clip, row.reason) for row in view.rows(self.run)
        }

    @property
    def curve(self) -> Path:
        """Our TensorBoard run."""
        return self.folder / "output/logs/kills/clipwatch"
