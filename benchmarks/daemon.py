"""The daemon beside the training: how soon it sees, how little it takes, how fast it reads its log.

python benchmarks/daemon.py [--quick] [PART ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import psutil
from safetensors.numpy import save_file

from clipwatch.demo.models import CLIP
from clipwatch.domain.events import (
    CheckpointCompleted,
    CheckpointFound,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.names import evaluation_stream, run_id
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Finished, Loaded, Reply, Scored
from clipwatch.journal import Journal, log_file
from clipwatch.judging.base import Judgement, Question
from clipwatch.loop.console import Console
from clipwatch.loop.run import Parts
from clipwatch.loop.supervisor import Supervisor
from clipwatch.settings import Settings, load
from clipwatch.statistics import Summary

OUTPUT = Path("/run/output")
RUN = run_id(OUTPUT)
BATCHES = 45
"""Of four images each in an evaluation of the made-up log: 180 prompts."""

PROTOCOL = EvaluationProtocol(
    prompts=(Prompt("a", "a red circle"),),
    images_per_prompt=4 * BATCHES,
    seed=0,
    negative_prompt="",
    inference_steps=30,
    guidance=7.5,
    width=512,
    height=512,
    scheduler="",
    base_model="/base",
    base_revision="",
    base_variant="",
    weights="live",
    dtype="bf16",
    scorers=(ScorerSpec("", "openai/clip-vit-large-patch14-336"),),
)
"""Of the made-up log; its models are never opened."""

Row = tuple[str, str, str]
"""What was measured, the figure found, the figure to reach."""


def instant(settings: Settings) -> LocalExecutor:
    """Run evaluators that answer at once."""
    return LocalExecutor(settings, Instant)


class Silent(Console):
    """Says nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


class Instant:
    """An evaluator that answers at once, with made-up scores."""

    alive, silent_seconds = True, 0.0

    def __init__(self, receive: Callable[[Reply], None]) -> None:
        self._receive = receive
        self._asked: SimpleQueue[Evaluate] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def evaluate(self, request: Evaluate) -> None:
        """Answer in a thread, as a real one does."""
        self._asked.put(request)

    def kept(self, *, enough: bool = False) -> None:
        """Go on, as it does anyway."""

    def kill(self) -> None:
        """Nothing is left to end."""

    def _work(self) -> None:
        while True:
            request = self._asked.get()
            images = [
                ImageScore(p.id, i, seed, {"": 0.3}) for p, i, seed in request.protocol.images()
            ]
            for reply in (Loaded({}), Scored(tuple(images)), Finished(0, 0.1)):
                self._receive(reply)


class Plain:
    """Judges at once: a real evaluation takes longer than the process that judges it."""

    def judge(self, _: Question) -> Judgement:
        """Say the mean that all have."""
        return Judgement({"": Summary(0.3, 0.3, 0.3, 0.0, 2)})

    def close(self) -> None:
        """Hold nothing."""


FAST = Parts(make_executor=instant, judge=Plain())


def settings(folder: Path) -> Settings:
    """Return those of a run without trackers; what they name is made."""
    scheduler = folder / "base" / "scheduler"  # a base model of nothing else: none is ever loaded
    scheduler.mkdir(parents=True, exist_ok=True)
    (scheduler / "scheduler_config.json").write_text("{}")
    index = {"_class_name": "DiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"]}
    (folder / "base" / "model_index.json").write_text(json.dumps(index))
    (folder / "output").mkdir(exist_ok=True)
    (folder / "prompts.txt").write_text("a red circle\na blue square\n")
    own = {"prompts": "prompts.txt", "state_dir": "state", "device": "cpu", "stage": "off"}
    own |= {"baseline": "false", "pretrained_evaluation_model_name_or_path": str(CLIP)}
    config = {
        "output_dir": "output",
        "pretrained_model_name_or_path": "./base",
        "evaluation_type": "clip",
        "clipwatch": own,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return load(folder / "config.json", environ={}, cwd=folder)


def write_checkpoint(folder: Path, step: int) -> Path:
    """Write a guarded LoRA under a name that nobody looks for; a rename finishes it."""
    making = folder / f"checkpoint-{step}-tmp"
    making.mkdir()
    tensors = {"unet.lora_A.weight": np.full(1024, step, np.float32)}
    save_file(tensors, making / "pytorch_lora_weights.safetensors")
    (making / "training_state.json").write_text("{}")
    (making / ".guard").write_text("complete\n")
    return making


def write_log(folder: Path, count: int) -> None:
    """Write a log of at least so many events: checkpoints, each found, evaluated and scored."""
    digest = PROTOCOL.digest
    with Journal(log_file(folder)) as journal:
        begun: list[Event] = [
            RunStarted(str(OUTPUT), digest, (), {}, "0"),
            ProtocolDefined(digest, PROTOCOL),
        ]
        version = journal.append(RUN, f"run/{RUN}", 0, begun)
        number, written = 0, version
        while written < count:
            number += 1
            name, weights = f"checkpoint-{number * 100}", f"{number:08x}"
            place = (number * 100, name, f"{OUTPUT}/{name}")
            file = WeightFile("pytorch_lora_weights.safetensors", 1000, 1, number)
            found: list[Event] = [
                CheckpointFound(*place, "no .guard in it"),
                CheckpointCompleted(*place, "lora", "", (file,), weights),
            ]
            version = journal.append(RUN, f"run/{RUN}", version, found)
            id_ = f"{name}/{weights}/{digest[:8]}"
            story: list[Event] = [EvaluationStarted(id_, name, number * 100, weights, digest, {})]
            for batch in range(BATCHES):
                images = (ImageScore(f"p{batch}-{n}", 0, n, {"": 0.3}, "x.png") for n in range(4))
                story.append(ImagesScored(id_, tuple(images)))
            story.append(EvaluationCompleted(id_, {"": Summary(0.3, 0.2, 0.4, 0.03, 4 * BATCHES)}))
            journal.append(RUN, evaluation_stream(RUN, id_), 0, story)
            written += len(found) + len(story)


FOLD = """
import resource, sys, time
from pathlib import Path
from clipwatch.journal import Journal
from clipwatch.journal.projection import Projection
began = time.perf_counter()
with Journal(Path(sys.argv[1]), read_only=True) as journal:
    projection = Projection(journal)
took = time.perf_counter() - began
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, projection.seq)
"""
"""Folds a log in a process of its own; prints seconds, peak MB, and the number of events."""


def fold(log: Path) -> tuple[float, float, int]:
    """Return seconds, peak MB and the number of events of a fold."""
    command = [sys.executable, "-c", FOLD, str(log)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(said[0]), float(said[1]), int(said[2])


def logs(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Measure what a long log costs: folds, the start of a daemon, and commands."""
    few, many = (2_000, 8_000) if quick else (100_000, 1_000_000)
    write_log(folder / "few", few)
    write_log(folder / "many", many)
    small = [fold(log_file(folder / "few")) for _ in range(3)]
    seconds, peak, count = fold(log_file(folder / "many"))
    yield f"fold {count:,} events", f"{seconds:.2f} s, {peak:.0f} MB", "<= 8 s, <= 200 MB"
    start = min(took for took, _, _ in small)
    growth = (seconds / count) / (start / small[0][2])
    yield f"time an event against {small[0][2]:,} events", f"{growth:.2f} x", "linear: about 1 x"
    yield f"start of a daemon with {small[0][2]:,} events", f"{start:.2f} s", "<= 1 s"
    environ = {**os.environ, "CLIPWATCH_STATE_DIR": str(folder / "few")}
    for arguments in (["--help"], ["status"], ["status", "--json"], ["health"]):
        command = [sys.executable, "-m", "clipwatch", *arguments]
        took = []
        for _ in range(3 if quick else 9):
            began = time.perf_counter()
            subprocess.run(command, env=environ, capture_output=True, check=False)
            took.append(time.perf_counter() - began)
        told = f"{statistics.median(took):.3f} s ({min(took):.3f} to {max(took):.3f})"
        yield f"clipwatch {' '.join(arguments)}", told, "<= 0.25 s"


class Timed(Journal):
    """Notes when the completion of each checkpoint was committed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.committed: dict[str, float] = {}

    def append(
        self,
        run: str,
        stream: str,
        expected: int,
        events: Sequence[Event],
        times: Sequence[datetime] = (),
    ) -> int:
        """Append, then look at the clock."""
        version = super().append(run, stream, expected, events, times)
        now = time.perf_counter()
        for event in events:
            if isinstance(event, CheckpointCompleted):
                self.committed[event.name] = now
        return version


def latency(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Measure from the rename that finishes a checkpoint to its CheckpointCompleted in the log."""
    chosen = settings(folder)
    renamed: dict[str, float] = {}
    made: SimpleQueue[Timed] = SimpleQueue()

    def work() -> None:  # SQLite's connection stays in the thread that made it
        with Timed(log_file(chosen.paths.state_dir)) as journal:
            supervisor = Supervisor()
            supervisor.watch(chosen, journal, Silent(), parts=FAST)
            made.put(journal)
            stop.append(supervisor.stop)
            supervisor.run()

    stop: list[Callable[[], None]] = []
    thread = threading.Thread(target=work)
    thread.start()
    journal = made.get()
    time.sleep(1.0)
    for step in range(1, (10 if quick else 200) + 1):
        making = write_checkpoint(chosen.paths.output_dir, step)
        time.sleep(0.05)
        final = making.with_name(f"checkpoint-{step}")
        renamed[final.name] = time.perf_counter()
        making.rename(final)
        time.sleep(0.05)
    time.sleep(1.0)
    stop[0]()
    thread.join()
    took = sorted(1000 * (journal.committed[name] - at) for name, at in renamed.items())
    p99 = took[min(len(took) - 1, round(0.99 * len(took)))]
    told = f"median {statistics.median(took):.1f} ms, p99 {p99:.1f} ms, most {took[-1]:.1f} ms"
    yield f"rename to commit, {len(took)} checkpoints", told, "median <= 5 ms, p99 <= 50 ms"


def idle(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Measure a real daemon beside checkpoints that are all scored."""
    count = 20 if quick else 1000
    chosen = settings(folder)
    for step in range(1, count + 1):
        making = write_checkpoint(chosen.paths.output_dir, step)
        making.rename(making.with_name(f"checkpoint-{step}"))
    with Journal(log_file(chosen.paths.state_dir)) as journal:
        supervisor = Supervisor(once=True)
        supervisor.watch(chosen, journal, Silent(), parts=FAST)
        supervisor.run()
    command = [sys.executable, "-m", "clipwatch", "start"]
    for served in (False, True):
        address = "127.0.0.1:0" if served else "off"
        environ = {**os.environ, "CLIPWATCH_HEALTH_ADDRESS": address}
        with subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.DEVNULL) as child:
            process = psutil.Process(child.pid)
            time.sleep(2 if quick else 10)
            before, began = process.cpu_times(), time.monotonic()
            time.sleep(2 if quick else 60)
            after, seconds = process.cpu_times(), time.monotonic() - began
            used = (after.user + after.system - before.user - before.system) / seconds
            memory = process.memory_info().rss / 2**20
            if child.poll() is not None:
                sys.exit(f"the daemon ended with {child.returncode}: nothing was measured")
            child.terminate()
        what = f"idle beside {count} checkpoints{', health page on' if served else ''}"
        yield what, f"{memory:.0f} MB, {100 * used:.2f} % of a core", "<= 60 MB, <= 0.5 %"


PARTS = {"logs": logs, "latency": latency, "idle": idle}


def main() -> None:
    """Measure all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run: its figures say little")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    asked = parser.parse_args()
    print("| what | found | figure to reach |\n|---|---|---|")
    for name in asked.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            for row in PARTS[name](Path(folder), quick=asked.quick):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
