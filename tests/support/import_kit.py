"""Logs of several machines that watched one training, and what they hold in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clipwatch.domain.events import (
    AdviceGiven,
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.names import evaluation_stream, votes_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import name_evaluation
from clipwatch.domain.votes import Voted
from clipwatch.journal import Journal, log_file
from clipwatch.results.results import open_results, scored
from clipwatch.statistics import summarize
from results_kit import protocol

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MADE = protocol(2)
OTHER = protocol(2, seed=2)
RUN = "lora-abcdef"


@dataclass(frozen=True)
class Scored:
    """A result: of a step's weights under a protocol, finished so many minutes after noon."""

    step: int
    minutes: int
    weights: str = "a"
    made: EvaluationProtocol = MADE
    value: float = 0.25

    @property
    def name(self) -> str:
        """The checkpoint's."""
        return f"checkpoint-{self.step}"

    @property
    def digest(self) -> str:
        """The weights': nobody else has them."""
        return f"{self.weights}{self.step:07}" * 2

    @property
    def id(self) -> str:
        """The evaluation's."""
        return name_evaluation(self.name, self.digest, self.made.digest)


class Machine:
    """A state directory in which one run was watched.

    Args:
        folder: The state directory.
        run: The run's name.
        output_dir: Its path on this machine.
        begun: Minutes after noon.
    """

    def __init__(
        self, folder: Path, run: str = RUN, output_dir: str = "/out", begun: int = 0
    ) -> None:
        self.folder, self.run, self.output_dir = folder, run, output_dir
        self._journal: Journal | None = None
        self.add(f"run/{run}", begun, RunStarted(output_dir, MADE.digest, (), {}, "1"))
        self.add(f"run/{run}", begun, *(ProtocolDefined(it.digest, it) for it in (MADE, OTHER)))

    def add(self, stream: str, minutes: int, *events: Event) -> None:
        """Append events."""
        times = [NOON + timedelta(minutes=minutes)] * len(events)
        with self.writing() as journal:
            journal.append(self.run, stream, journal.version(stream), events, times)

    @contextmanager
    def writing(self) -> Iterator[Journal]:
        """Hold the log open for many events."""
        if self._journal:
            yield self._journal
            return
        with Journal(log_file(self.folder)) as journal:
            journal._db.execute("PRAGMA synchronous = OFF")
            self._journal = journal
            try:
                yield journal
            finally:
                self._journal = None

    def see(self, *results: Scored) -> None:
        """Have their checkpoints whole."""
        file = (WeightFile("w.safetensors", 1, 1, 1),)
        for it in results:
            path = f"{self.output_dir}/{it.name}"
            seen = CheckpointCompleted(it.step, it.name, path, "lora", "", file, it.digest)
            self.add(f"run/{self.run}", it.minutes, seen)

    def score(self, *results: Scored, images: bool = False, advice: str = "") -> None:
        """Evaluate; the scores tell the step. With `images` each has a file."""
        for it in results:
            scores = [
                ImageScore(prompt.id, index, seed, {"": it.value + it.step / 1e4 + place / 1e3})
                for place, (prompt, index, seed) in enumerate(it.made.images())
            ]
            if images:
                scores = [self._drawn(it, each) for each in scores]
            stream = evaluation_stream(self.run, it.id)
            first = EvaluationStarted(it.id, it.name, it.step, it.digest, it.made.digest, {})
            summary = summarize([each.score for each in scores])
            done = EvaluationCompleted(
                it.id,
                {"": summary},
                seconds=60.0,
                phases={"generate": 50.0},
                images=2,
                batch_size=2,
            )
            kinds: Any = (advice,) if advice else ()
            given = (AdviceGiven(it.id, it.step, kind, "look at it") for kind in kinds)
            self.add(stream, it.minutes, first, ImagesScored(it.id, tuple(scores)), done, *given)

    def vote(self, pair: str, left: Scored, right: Scored, minutes: int = 50) -> None:
        """Have a question answered."""
        voted = Voted(pair, "better", "p0000", 0, left.id, right.id, "left")
        self.add(votes_stream(self.run), minutes, voted)

    def _drawn(self, result: Scored, image: ImageScore) -> ImageScore:
        name = f"{result.id}/{image.prompt_id}-{image.index}.png"
        path = self.folder / "images" / self.run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{result} {image.prompt_id}")
        return ImageScore(image.prompt_id, image.index, image.seed, image.scores, name)


def held(folder: Path) -> dict[str, Any]:
    """Return all that a log says of results, by run: each with its images, and which one stands."""
    found: dict[str, Any] = {}
    with open_results(log_file(folder)) as results:
        for run in results.state.values():
            each = {
                it.id: (it.finished, it.step, it.clip, results.read(run, it), dict(it.rescored))
                for protocol in run.scored
                for it in scored(run, protocol)
            }
            ids = [id_ for protocol in run.scored for id_ in run.scored[protocol]]
            assert len(ids) == len(set(ids)), "a result is there twice"
            stands = {(run.evaluations[it].protocol, run.evaluations[it].step): it for it in ids}
            votes = sorted((it.pair, it.left, it.right) for it in results.votes(run))
            found[run.name] = each, stands, votes
    return found


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """Return the log's rows."""
    with Journal(log_file(folder), read_only=True) as journal:
        return [(it.time, it.run, it.stream, it.version, it.event) for it in journal.read()]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return what every file below a folder holds, and when it was written."""
    return {
        str(it.relative_to(folder)): (it.read_bytes(), it.stat().st_mtime_ns)
        for it in sorted(folder.rglob("*"))
        if it.is_file() and it.suffix != ".lock"
    }
