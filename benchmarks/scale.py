"""How far does one daemon go: slots, workers that report at once, long queues, a year of logs?

    python benchmarks/scale.py [--quick] [--folder FOLDER] [PART ...]

In the parts `strong`, `weak`, `events` and `turns` an image is a sleep, which takes no processor:
so two cores tell what the daemon costs beside 64 slots, and not what 64 GPUs would do. In `real`
and `overhead` the demo's pipeline makes the images, on one thread each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue

import msgspec

from clipwatch.demo.models import write_base_pipeline
from clipwatch.demo.show import prepare
from clipwatch.domain.allot import Cost, allot
from clipwatch.domain.events import ImagesScored
from clipwatch.executors import named
from clipwatch.executors.base import Slot
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from clipwatch.journal import log_file
from clipwatch.kit.processes import return_memory
from clipwatch.layouts import Scanner
from clipwatch.layouts.unchanged import RACY_SECONDS
from clipwatch.loop.slots import Pool
from clipwatch.results.figures import plural
from clipwatch.settings import load
from common import Row as Ratio
from daemon import BATCHES, Row, fold, write_log
from many_runs import seconds, spread
from scale_world import Clocked, evaluated, project, sleeping, spent, times
from slots import evaluate
from slots import write_checkpoint as write_real

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from ray_kit import ray_cluster

SLOTS = (1, 2, 4, 8, 16, 32, 64)
GOALS = {2: ">= 1.7 x"}
WORKERS = 64
PAUSES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.0)
"""Seconds that a worker takes for a batch of one image."""


def cpus(number: int) -> str:
    """Return the setting `device` for so many slots of the processor."""
    return ",".join(["cpu"] * number)


def strong(folder: Path, *, quick: bool) -> Iterator[Row]:
    """One checkpoint on more and more slots: the time should be a slot's, divided by them."""
    images, each, alone = (64, 0.005, 0.0) if quick else (640, 0.1, 0.0)
    for slots in SLOTS[:2] if quick else SLOTS:
        chosen = project(folder / str(slots), images, 1, device=cpus(slots))
        supervisor = evaluated([chosen], sleeping(each, 4))
        took = spent(chosen)
        alone = alone or took
        told = f"{took:.2f} s, {alone / took:.2f} x one; a turn: {spread(supervisor.took)}"
        what = f"strong: {images} images of {1000 * each:g} ms, {plural(slots, 'slot')}"
        yield what, told, GOALS.get(slots, "")


def weak(folder: Path, *, quick: bool) -> Iterator[Row]:
    """As many checkpoints as slots: the time should stay that of one."""
    images, each, alone = (16, 0.005, 0.0) if quick else (32, 0.1, 0.0)
    for slots in SLOTS[:2] if quick else SLOTS:
        chosen = project(folder / str(slots), images, slots, device=cpus(slots))
        supervisor = evaluated([chosen], sleeping(each, 4))
        took = spent(chosen)
        alone = alone or took
        told = f"{took:.2f} s, {took / alone:.2f} x one; a turn: {spread(supervisor.took)}"
        many = plural(slots, "checkpoint")
        yield f"weak: {many} of {images} images, {plural(slots, 'slot')}", told, ""


def real(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Have one checkpoint of the demo on one and two slots of the processor, a thread each."""
    config, _ = prepare(folder / "demo", lora=False)
    write_base_pipeline(folder / "demo" / "base")
    write_real(folder / "demo", 50)
    more = ("--max-prompts", "16") if quick else ()
    one, two = (
        [evaluate(config, folder / "state", device, *more) for _ in range(1 if quick else 3)]
        for device in ("cpu", "cpu,cpu")
    )
    worst = max(abs(two[0].scores[it] - score) for it, score in one[0].scores.items())
    took = [statistics.median(it.spent for it in found) for found in (one, two)]
    told = (
        f"{took[0]:.2f} s, {took[1]:.2f} s: {took[0] / took[1]:.2f} x; scores differ by {worst:.1e}"
    )
    yield (
        f"real: {len(one[0].scores)} images of the demo, 1 and 2 slots",
        told,
        ">= 1.7 x on 2 cores",
    )


def events(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Let 64 workers report a batch again and again into one loop, faster and faster."""
    for pause in PAUSES[-1:] if quick else PAUSES:
        batches = 8 if quick else max(8, min(60, int(5 / max(pause, 0.05))))
        for runs in (1, WORKERS):
            root = folder / f"{runs}-{pause}"
            own = {"device": cpus(WORKERS), "state_dir": str(root / "state")}
            own |= {"slots": str(WORKERS // runs)}
            prompts = WORKERS * batches // runs
            chosen = [project(root / str(it), prompts, 1, **own) for it in range(runs)]
            supervisor = evaluated(chosen, sleeping(pause, 1))
            at = times(chosen[0], ImagesScored)
            rate = (len(at) - 1) / (max(at) - min(at))
            offered = f"{WORKERS / pause:,.0f} offered" if pause else "as many as can be"
            told = f"{rate:,.0f} a second; a turn: {spread(supervisor.took)}"
            yield f"events: {WORKERS} workers, {plural(runs, 'run')}, {offered}", told, ""


def turns(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Measure what grows with slots, runs, prompts and checkpoints, each alone."""
    many = 100 if quick else 1000
    took = 1000 * seconds(partial(allot, [500] * (many // 2), many, Cost(8, 1)))
    yield f"turns: {many // 2} checkpoints allotted to {many} slots", f"{took:.0f} ms", ""
    for slots in (1, 64):
        pool, places = Pool(), [Slot(str(it), "cpu") for it in range(slots)]
        for run in range(many):
            pool.lend(str(run), places)
        took = 1e6 * seconds(partial(pool.stirred, lambda _: False))
        yield f"turns: who is next of {many} runs, {plural(slots, 'slot')}", f"{took:.0f} us", ""
    for slots in (2,) if quick else (64, 640):
        prompts = 100 if quick else 5000
        chosen = project(folder / f"deal-{slots}", prompts, 1, device=cpus(slots))
        clocked = Clocked(sleeping(0.0, 8)(chosen))
        supervisor = evaluated([chosen], clocked.same)
        asked = clocked.asked
        line = msgspec.json.encode(asked[0])
        again = 1000 * seconds(partial(list, map(msgspec.json.encode, asked)))
        told = f"longest turn {1000 * max(supervisor.took):.0f} ms; {len(asked)} requests of "
        told += f"{len(line) / 1e6:.2f} MB, written in {again:.0f} ms"
        yield f"turns: {prompts} prompts dealt to {slots} slots", told, ""
    for count in (10,) if quick else (10, 100, 1000):
        chosen = project(folder / f"queue-{count}", 2, count, state_dir=str(folder / str(count)))
        took = _look(chosen.paths.output_dir)
        yield f"turns: a look at {count} checkpoints", f"{1000 * took:.1f} ms", ""
        supervisor = evaluated([chosen], sleeping(0.0, 1))
        told = f"{count / spent(chosen):.0f} a second; a turn: {spread(supervisor.took)}"
        yield f"turns: {count} checkpoints that wait, one slot", told, ""


def _look(output: Path) -> float:
    """Return the seconds of a look at checkpoints that are long known."""
    scanner = Scanner(output, weights="live", settle_seconds=0.0)
    scanner.scan()
    time.sleep(RACY_SECONDS + 0.5)
    scanner.scan()
    return statistics.median(seconds(scanner.scan) for _ in range(5))


def year(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Write a log; tell what one of 1,000 trainings a year would be."""
    write_log(folder, 2_000 if quick else 100_000)
    took, _, count = fold(log_file(folder))
    size = sum(it.stat().st_size for it in folder.glob("clipwatch.db*"))
    each = BATCHES + 4  # found, complete, begun, its batches, its result; twice found is one
    told = f"{size / count:.0f} bytes an event, {each * size / count / 1024:.0f} KiB an evaluation"
    yield f"year: a log of {count:,} events", f"{told}; folded in {took:.2f} s", ""
    whole = 1000 * 100 * each
    told = f"{whole:,} events, {whole * size / count / 1e9:.1f} GB, "
    told += f"folded in {took * whole / count:.0f} s (by proportion)"
    yield "year: 1,000 trainings of 100 checkpoints, 180 images in 45 batches", told, ""


def overhead(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Measure an image of the same evaluator without a daemon, with one, and with one and Ray."""
    os.environ["OMP_NUM_THREADS"] = "1"
    prompts = 8 if quick else 48
    config, _ = prepare(folder / "demo", lora=False)
    write_base_pipeline(folder / "demo" / "base")
    for number in range(1, 2 if quick else 6):
        write_real(folder / "demo", 50 * number)
    ways = {"the daemon": {}, "the daemon and Ray": {"executor": "ray"}}
    alone: list[float] = []
    found: dict[str, list[float]] = {way: [] for way in ways}
    with ExitStack() as stack:
        if find_spec("ray"):
            cluster = stack.enter_context(ray_cluster(folder))
            cluster.add()
            ways["the daemon and Ray"]["ray_address"] = cluster.address
        else:
            del ways["the daemon and Ray"]
        for turn in range(1 if quick else 3):
            asked: list[Evaluate] = []
            for way, own in ways.items():
                state = str(folder / f"{turn} {way}")
                flags = {
                    "report_to": "none",
                    "batch_size": 8,
                    "max_prompts": prompts,
                    "stage": "off",
                }
                flags |= {**own, "state_dir": state}
                chosen = load(config, flags=flags, environ={}, cwd=folder)
                clocked = Clocked(named.load(chosen))
                evaluated([chosen], clocked.same)
                found[way] += clocked.took[1:]  # the first one loads the base model
                asked = asked or clocked.asked
            alone += _alone(asked)[1:]
    each = [it / prompts for it in alone]
    for way in ways:
        row = Ratio("", "", [it / prompts for it in found[way]], each, faster=False).cells()
        told = f"{row[3]} s, without {row[2]} s: {row[4]} x"
        yield f"overhead: an image of the demo, with {way}", told, ""


def _alone(asked: list[Evaluate]) -> list[float]:
    """Return the seconds of these requests at an evaluator that need not wait, as `score` has it.

    Raises:
        SystemExit: One fails.
    """
    replies, took = SimpleQueue[Reply](), list[float]()
    child = EvaluatorProcess(replies.put)
    try:
        for request in asked:
            began = 0.0
            child.evaluate(request)
            while not isinstance(reply := replies.get(), Finished):
                if isinstance(reply, Failed):
                    sys.exit(reply.reason)
                if isinstance(reply, Loaded):
                    began = time.perf_counter()
                if isinstance(reply, Scored):
                    child.kept()
            took.append(time.perf_counter() - began)
    finally:
        child.kill()
    return took


PARTS = {
    "strong": strong,
    "weak": weak,
    "real": real,
    "overhead": overhead,
    "events": events,
    "turns": turns,
    "year": year,
}


def main() -> None:
    """Measure all parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short run: its figures say little")
    parser.add_argument("--folder", help="where files are made, as /dev/shm for no disk's time")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    asked = parser.parse_args()
    return_memory()
    print("| what | found | figure to reach |\n|---|---|---|")
    for name in asked.parts or PARTS:
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            for row in PARTS[name](Path(folder), quick=asked.quick):
                print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
