"""Logs in which anything that may happen has happened, in any order that can be."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationReopened,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
    OutputDirChecked,
    ProtocolDefined,
    Published,
    PublishFailed,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.further import EvaluationRescored, FurtherScore, ImagesRescored, ScorerAdded
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.state import name_evaluation
from clipwatch.journal import Journal, log_file
from clipwatch.statistics import summarize
from results_kit import protocol

RUNS = ("cats-abcdef", "cats-fedcba", "dogs-012345")
MADE = protocol(6)
LATER = ("aesthetic", "pick")

Happened = tuple[str, Event]
"""A stream and an event."""


def image(chance: random.Random, id_: str, prompt: int) -> ImageScore:
    """Score an image, with a further scorer or without, kept or not."""
    scores = {"": chance.uniform(-1, 1)} | ({"siglip": 0.0} if chance.random() < 0.3 else {})
    kept = f"{id_}/p{prompt:04}-0.png" if chance.random() < 0.7 else None
    look = chance.choice(["", "0" * 16, f"{chance.getrandbits(64):016x}"])
    return ImageScore(f"p{prompt:04}", 0, chance.getrandbits(32), scores, kept, look)


def rescored(chance: random.Random, stream: str, id_: str) -> Iterator[Happened]:
    """Tell of further scorers, side by side; not each comes to its end."""
    whole = [name for name in LATER if chance.random() < 0.6]
    for prompt in range(6):
        for name in LATER:
            if name in whole or chance.random() < 0.7:
                score = FurtherScore(f"p{prompt:04}", 0, chance.uniform(1, 10))
                yield stream, ImagesRescored(id_, name, (score,))
    for name in whole:
        if chance.random() < 0.8:
            yield stream, EvaluationRescored(id_, name, summarize([0.5, 0.25]), {})


def evaluated(chance: random.Random, run: str, step: int) -> Iterator[Happened]:
    """Tell of a checkpoint from its first sight to wherever it came."""
    digest, name = f"{chance.getrandbits(64):016x}", f"checkpoint-{step}"
    file = WeightFile("w.safetensors", 1, 1, 1)
    yield (
        f"run/{run}",
        CheckpointCompleted(step, name, f"/{run}/{name}", "lora", "", (file,), digest),
    )
    id_ = name_evaluation(name, digest, MADE.digest)
    stream = evaluation_stream(run, id_)
    begun = EvaluationStarted(id_, name, step, digest, MADE.digest, {"device": "cpu"})
    yield stream, begun
    if chance.random() < 0.2:
        yield stream, EvaluationImported(id_, "/parts/1", "other")
    for first in range(0, 6, size := chance.choice([1, 2, 3])):
        prompts = range(first, min(6, first + size))
        yield stream, ImagesScored(id_, tuple(image(chance, id_, it) for it in prompts))
        match chance.randrange(8):
            case 0:
                yield stream, EvaluationFailed(id_, "killed", "signal 9", 1)
                yield stream, EvaluationReopened(id_, datetime(2026, 1, 1, tzinfo=UTC))
                yield stream, begun
            case 1:
                yield stream, EvaluationImported(id_, "/parts/2", "other")
            case 2:
                yield stream, ImagesDeleted(id_, "no space")
    if chance.random() < 0.25:
        return
    scores = [chance.uniform(0, 1) for _ in range(6)]
    yield stream, EvaluationCompleted(id_, {"": summarize(scores)}, 0, 9.0, {"load": 1.0}, 6, size)
    if chance.random() < 0.3:  # a daemon had it in hand, too
        yield stream, ImagesScored(id_, (image(chance, id_, 0),))
        yield stream, ImagesScored(id_, (image(chance, id_, 1),))
    if chance.random() < 0.5:
        yield from rescored(chance, stream, id_)
    where = f"tracker/{run}/tensorboard"
    yield where, PublishFailed("tensorboard", "no space", 1)
    yield where, Published("tensorboard", (id_,), "/logs", "/logs", MADE.digest)


def begun(run: str) -> Iterator[Happened]:
    """Tell of a run's beginning."""
    yield f"run/{run}", RunStarted(f"/{run}", MADE.digest, ("tensorboard",), {}, "1")
    yield f"run/{run}", ProtocolDefined(MADE.digest, MADE)
    for name in LATER:
        yield f"run/{run}", ScorerAdded(ScorerSpec(name, "some/model"), "0" * 16)


def write(folder: Path, seed: int, evaluations: int = 6) -> Path:
    """Write a log of three runs, whose stories go on in turns by chance; return its file."""
    chance, log = random.Random(seed), log_file(folder)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with Journal(log, clock=lambda: when) as journal:
        journal._db.execute("PRAGMA synchronous = OFF")
        for run in RUNS:
            for stream, event in begun(run):
                journal.append(run, stream, journal.version(stream), [event])
        stories = [
            (run, evaluated(chance, run, 10 * step))
            for run in RUNS
            for step in range(1, 1 + evaluations // len(RUNS))
        ]
        while stories:
            run, story = chance.choice(stories)
            for _ in range(chance.randrange(1, 5)):
                when += timedelta(seconds=chance.randrange(60))
                if (told := next(story, None)) is None:
                    stories.remove((run, story))
                    break
                journal.append(run, told[0], journal.version(told[0]), [told[1]])
            if chance.random() < 0.05:
                checked = OutputDirChecked(chance.choice(["", "gone"]))
                journal.append(run, f"run/{run}", journal.version(f"run/{run}"), [checked])
    with Journal(log) as journal:
        journal.known = sum(map(len, journal.pages()))  # now, and not when it was written
    return log
