"""A run as the tests see it: checkpoints on disk, settings, an evaluator that follows a script."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.domain.state import Run
from clipwatch.executors.base import Executor
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Reply
from clipwatch.journal import Journal, Recorded, log_file
from clipwatch.journal.projection import read_state
from clipwatch.judging.base import Judge, Judgement, Question
from clipwatch.judging.log_judge import judge
from clipwatch.loop.console import Console
from clipwatch.loop.run import Parts, WatchedRun
from clipwatch.loop.supervisor import Supervisor
from clipwatch.results.series import Series
from clipwatch.settings import Settings, load
from clipwatch.testing.memory import MemoryTracker
from clipwatch.testing.scripted import ScriptedEvaluator, usual
from known import Known

PROMPTS = "a red circle\na blue square\nthree green stars\nnothing but white\n"


def checkpoint(output: Path, step: int, value: float = 0.5, *, name: str = "") -> Path:
    """Write a guarded LoRA checkpoint whose weights tell `value`."""
    folder = output / (name or f"checkpoint-{step}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_state.json").write_text("{}")
    tensors = {"unet.lora_A.weight": np.full(4, value, np.float32)}
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    (folder / ".guard").write_text("complete\n")
    return folder


def settings(folder: Path, **changes: Any) -> Settings:
    """Load settings for a run below `folder`; `changes` are those of the clipwatch object."""
    (folder / "base").mkdir(exist_ok=True)
    (folder / "prompts.txt").write_text(PROMPTS)
    config = folder / "config.json"
    config.write_text('{"output_dir": "output", "pretrained_model_name_or_path": "./base"}')
    flags = {
        "evaluation_type": "clip",
        "prompts": "prompts.txt",
        "state_dir": str(folder / "state"),
        "device": "cpu",
        "batch_size": 4,
        "baseline": False,
        "rescan_seconds": 0.2,
        "settle_seconds": 0.0,
        "stage": "off",
    }
    return load(config, flags={**flags, **changes}, environ={}, cwd=folder)


def publishing_to(settings: Settings, *trackers: str) -> Settings:
    """Return settings with these trackers instead of those that report_to named."""
    return replace(settings, publishing=replace(settings.publishing, trackers=trackers))


class FreshJudge:
    """Judges in this process, with nothing known from before."""

    def judge(self, question: Question) -> Judgement:
        """Answer at once."""
        return judge(question)

    def close(self) -> None:
        """Hold nothing."""


class Ear(Console):
    """Keeps what it is told."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def say(self, text: str) -> None:
        """Keep the line."""
        self._said.append(text)


class World:
    """A supervisor with a scripted evaluator and memory trackers, over real files."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.output = folder / "output"
        self.output.mkdir(exist_ok=True)
        self.settings = publishing_to(settings(folder, **changes), "memory")
        self.identities = Known()
        self.requests: list[Evaluate] = []
        self.script: Callable[[Evaluate], list[Reply] | None] = lambda _: None
        self.trackers: dict[str, Tracker] = {"memory": MemoryTracker(_target(folder))}
        self.reread: Callable[[], Settings] = lambda: self.settings
        self.executor: Callable[[Settings], Executor] = self._scripted
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.judge: Judge = FreshJudge()
        self.said: list[str] = []
        self.watched: WatchedRun

    def once(self) -> int:
        """Start the daemon with --once; return its exit code."""
        with Journal(self.log) as journal:
            return self.supervisor(journal, once=True).run()

    @contextmanager
    def live(self) -> Iterator[Supervisor]:
        """Run the daemon in a thread of its own, and stop it at the end."""
        made: queue.SimpleQueue[Supervisor] = queue.SimpleQueue()

        def work() -> None:
            with Journal(self.log) as journal:
                supervisor = self.supervisor(journal, once=False)
                made.put(supervisor)
                supervisor.run()

        thread = threading.Thread(target=work)
        thread.start()
        supervisor = made.get()
        try:
            yield supervisor
        finally:
            supervisor.stop()
            thread.join()

    def supervisor(self, journal: Journal, *, once: bool) -> Supervisor:
        """Make the daemon."""
        supervisor = Supervisor(once=once)
        self.watch(supervisor, journal)
        return supervisor

    def watch(self, supervisor: Supervisor, journal: Journal) -> None:
        """Have a daemon watch this run."""
        parts = Parts(
            clock=self.clock,
            make_tracker=lambda name, _: self.trackers[name],
            make_executor=self.executor,
            judge=self.judge,
            identities=self.identities,
        )
        self.watched = supervisor.watch(
            self._published(self.settings),
            journal,
            Ear(self.said),
            reread=lambda: self._published(self.reread()),
            parts=parts,
        )

    def _scripted(self, settings: Settings) -> Executor:
        """Run evaluators here that do what the script says, and note what they are asked."""

        def note(request: Evaluate) -> list[Reply] | None:
            self.requests.append(request)
            return self.script(request)

        return LocalExecutor(settings, lambda receive: ScriptedEvaluator(receive, note))

    def _published(self, settings: Settings) -> Settings:
        return publishing_to(settings, *self.trackers)

    @property
    def log(self) -> Path:
        """The log's file."""
        return log_file(self.settings.paths.state_dir)

    @property
    def run(self) -> Run:
        """What the log says of the run."""
        return next(iter(read_state(self.log).values()), Run("", "", "", (), {}))

    @property
    def logged(self) -> list[Recorded]:
        """The whole log."""
        with Journal(self.log, read_only=True) as journal:
            return list(journal.read())

    def rows(self, tracker: str = "memory") -> dict[int, tuple[int, float]]:
        """Return place → (step, mean) at a memory tracker, in the order that they came in."""
        kept = self.trackers[tracker]
        assert isinstance(kept, MemoryTracker)
        rows = kept.rows.get("clipwatch", {})
        return {place: (step, clip.mean) for place, (step, clip) in enumerate(rows.values())}


def _target(folder: Path) -> Target:
    return Target(folder, folder, folder, folder, "p", "r", folder, "", {})


__all__ = [
    "MemoryTracker",
    "ScriptedEvaluator",
    "Series",
    "World",
    "checkpoint",
    "settings",
    "usual",
]
