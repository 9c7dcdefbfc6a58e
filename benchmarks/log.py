"""The log of a year: how large it is, what starts, commands and backups take, and less of it.

python benchmarks/log.py [--quick] [--runs RUNS] [--checkpoints CHECKPOINTS] [--images IMAGES]
"""

from __future__ import annotations

import argparse
import os
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    Published,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.domain.state import name_evaluation
from clipwatch.journal import Journal, checked, log_file
from clipwatch.journal.compacting import compact
from clipwatch.journal.projection import Projection
from clipwatch.loop.recognising import known_runs, recognise
from clipwatch.statistics import Summary
from clipwatch.tasks.backup import back_up
from daemon import PROTOCOL, Row

BATCH = 8
"""Images of one event, as a GPU of 24 GB makes them at 1024x1024."""

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

Answer = TypeVar("Answer")


def protocol(images: int) -> EvaluationProtocol:
    """Return one with as many prompts, of which each makes one image."""
    texts = (
        f"photo {n} of an animal in a landscape, in the light of an evening" for n in range(images)
    )
    prompts = (Prompt(f"scene-{n:04}", text, "scenes") for n, text in enumerate(texts))
    return replace(PROTOCOL, prompts=tuple(prompts), images_per_prompt=1)


def images(made: EvaluationProtocol, evaluation: str, chance: random.Random) -> list[ImageScore]:
    """Return scored images with all that a daemon writes down of them."""
    return [
        ImageScore(
            prompt.id,
            index,
            seed,
            {"": struct.unpack("f", struct.pack("f", chance.gauss(0.3, 0.04)))[0]},
            f"{evaluation}/{prompt.id}-{index}.webp",
            f"{chance.getrandbits(64):016x}",
            f"{chance.getrandbits(32):08x}",
        )
        for prompt, index, seed in made.images()
    ]


def evaluation(
    run: str, step: int, made: EvaluationProtocol, chance: random.Random
) -> Iterator[tuple[str, list[Event]]]:
    """Yield the streams of a checkpoint that was found, scored and published, and their events."""
    digest, name = f"{chance.getrandbits(64):016x}", f"checkpoint-{step}"
    file = WeightFile("pytorch_lora_weights.safetensors", 93065304, 1764000000000000000, step)
    path = f"/home/me/trainings/{run}/output/{name}"
    yield f"run/{run}", [CheckpointCompleted(step, name, path, "lora", "", (file,), digest)]
    id_ = name_evaluation(name, digest, made.digest)
    scored = images(made, id_, chance)
    around = {"device": "cuda (NVIDIA H100 80GB HBM3)", "torch": "2.9.1", "diffusers": "0.36.0"}
    values = [it.score for it in scored]
    mean = sum(values) / len(values)
    found = Summary(
        mean, min(values), max(values), 0.04, len(values), len(values), 0.004, 0.29, 0.31
    )
    yield (
        evaluation_stream(run, id_),
        [
            EvaluationStarted(id_, name, step, digest, made.digest, around),
            *(
                ImagesScored(id_, tuple(scored[n : n + BATCH]))
                for n in range(0, len(scored), BATCH)
            ),
            EvaluationCompleted(
                id_, {"": found}, 0, 900.0, {"generate": 850.0}, len(scored), BATCH
            ),
        ],
    )
    for tracker in ("tensorboard", "wandb"):
        where = f"https://wandb.ai/me/{run}/runs/{digest}"
        shown = Published(tracker, (id_,), where, f"{tracker}:me", made.digest)
        yield f"tracker/{run}/{tracker}", [shown]


def write(path: Path, runs: int, checkpoints: int, number: int) -> None:
    """Write the log of a year, its runs one after the other."""
    chance = random.Random(0)  # noqa: S311 - made up
    made, when = protocol(number), BEGIN
    pause = timedelta(days=365) / (runs * checkpoints)
    with Journal(path, clock=lambda: when) as journal:
        journal._db.execute("PRAGMA synchronous = OFF")  # noqa: SLF001 - it may be lost
        for place in range(runs):
            run, versions = f"lora-{place:04}-{chance.getrandbits(24):06x}", dict[str, int]()

            def add(
                stream: str, events: list[Event], run: str = run, at: dict[str, int] = versions
            ) -> None:
                at[stream] = journal.append(run, stream, at.get(stream, 0), events)

            started = RunStarted(f"/home/me/trainings/{run}/output", made.digest, (), {}, "0.1.0")
            add(f"run/{run}", [started, ProtocolDefined(made.digest, made)])
            for n in range(1, checkpoints + 1):
                when += pause
                for stream, events in evaluation(run, 500 * n, made, chance):
                    add(stream, events)
    with Journal(path) as journal:
        journal.known = sum(map(len, journal.pages()))  # as after a normal end today


def timed(act: Callable[[], Answer]) -> tuple[float, Answer]:
    """Return how many seconds something computes, with what it calls, and what it returns."""
    began = sum(os.times()[:4])
    found = act()
    return sum(os.times()[:4]) - began, found


def opened(path: Path, run: str) -> None:
    """Do what a start does with the log before it looks at its run."""
    with Journal(path) as journal:
        Projection(journal, run)


def told(seconds: float, peer: float = 0.0) -> str:
    """Return seconds, and how many times as long a peer takes."""
    more = f", 1/{peer / seconds:.0f} of it" if peer > seconds > 0 else ""
    return f"{seconds:.2f} s{more}"


def starts(path: Path) -> Iterator[Row]:
    """Measure the parts of a start of one run, and the commands that look at the log."""
    everything, state = timed(partial(known_runs, path))
    run = [*state][-1]
    output = state[run].output_dir
    found, _ = timed(partial(recognise, path, Path(output)))
    yield "start: which run a folder is", told(found, everything), f"of all runs {everything:.2f} s"
    whole, _ = timed(partial(opened, path, ""))
    one, _ = timed(partial(opened, path, run))
    yield "start: the log opened and one run folded", told(one, whole), f"all folded {whole:.2f} s"
    checked.beside(path).unlink(missing_ok=True)
    dead, _ = timed(partial(opened, path, run))
    yield (
        "start after a kill: all of it looked at",
        told(dead),
        f"{dead / max(one, 0.01):.0f} times as long",
    )
    environ = {**os.environ, "CLIPWATCH_STATE_DIR": str(path.parent)}
    took = {}
    for arguments in (("--version",), ("status", run), ("status",)):
        command = [sys.executable, "-m", "clipwatch", *arguments]
        call = partial(subprocess.run, command, env=environ, capture_output=True, check=True)
        took[arguments], _ = timed(call)
    idle, alone, all_ = took.values()
    yield (
        "clipwatch status RUN",
        told(alone, all_),
        f"of all runs {all_:.2f} s, --version {idle:.2f} s",
    )


def measure(folder: Path, runs: int, checkpoints: int, number: int) -> Iterator[Row]:
    """Write a log, and measure what is done with it, in the order of a year."""
    path = log_file(folder / "state")
    took, _ = timed(partial(write, path, runs, checkpoints, number))
    with Journal(path, read_only=True) as journal:
        events = journal.last()
    size, made = path.stat().st_size, runs * checkpoints * number
    yield (
        f"{runs:,} runs of {checkpoints} checkpoints of {number:,} images",
        f"{events:,} events, {size / 1e6:,.0f} MB, {size / made:.0f} bytes an image",
        f"written in {took:.0f} s",
    )
    yield from starts(path)
    took, copied = timed(partial(back_up, path.parent, folder / "copy"))
    again, _ = timed(partial(back_up, path.parent, folder / "copy"))
    yield (
        "backup: the first call",
        told(took),
        f"{copied.events / max(took, 0.01):,.0f} events a second",
    )
    yield "backup: a call without news", told(again, took), ""
    took, found = timed(partial(compact, path, None, lambda *_: None))
    (before, after), (large, small) = found.events, found.size
    less = f"{large / 1e6:,.0f} MB to {small / 1e6:,.0f} MB, {small / large:.0%}"
    beside = f"{before:,} events to {after:,}, {less}, {small / made:.0f} bytes an image"
    yield "compact", f"{took:.0f} s, {made / max(took, 0.01):,.0f} images a second", beside
    for what, figure, peer in starts(path):
        yield f"compacted: {what}", figure, peer


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--checkpoints", type=int, default=20, help="of each run")
    parser.add_argument("--images", type=int, default=100, help="of each checkpoint")
    parser.add_argument("--folder", help="where the log is made, as /dev/shm for no disk's time")
    parser.add_argument("--quick", action="store_true", help="a tiny log: its figures say little")
    asked = parser.parse_args()
    if asked.quick:
        asked.runs, asked.checkpoints, asked.images = 5, 2, 20
    print("Seconds are those of computing, as a disk and other programs have no part in them.\n")
    print("| what | found | beside it |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for row in measure(Path(folder), asked.runs, asked.checkpoints, asked.images):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
