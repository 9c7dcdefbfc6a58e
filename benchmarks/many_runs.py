"""Many runs in one daemon: what a hundred cost, evaluated in turns and then idle.

python benchmarks/many_runs.py [--quick] [--runs RUNS] [--checkpoints CHECKPOINTS]
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
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from clipwatch.cli.finding import Finder
from clipwatch.domain.events import EvaluationCompleted, Event
from clipwatch.executors.local import LocalExecutor
from clipwatch.journal import Journal, log_file
from clipwatch.kit.processes import return_memory
from clipwatch.loop.roster import Roster
from clipwatch.loop.run import Parts
from clipwatch.loop.supervisor import Supervisor
from clipwatch.settings import Settings
from clipwatch.settings.values import Address
from clipwatch.testing.scripted import ScriptedEvaluator
from daemon import Plain, Row, Silent, settings, write_checkpoint


class Timed(Supervisor):
    """Notes how long the loop was at work between two waits, in seconds."""

    def __init__(self, *, once: bool = False) -> None:
        super().__init__(once=once, lasting=not once)
        self.took: list[float] = []
        self.turns = 0
        self._woken = time.perf_counter()

    def _receive(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as there
        self.took.append(time.perf_counter() - self._woken)
        letters = super()._receive()
        self._woken = time.perf_counter()
        return letters


class Counting(Silent):
    """Counts results instead of telling of them, and knows in which order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[str] = []

    def say_of(self, run: str, text: str) -> None:
        """Say nothing."""

    def happened_of(self, run: str, event: Event, *_: object, **__: object) -> None:
        """Note whose result it is."""
        if isinstance(event, EvaluationCompleted):
            self.scored.append(run)


def scripted(chosen: Settings) -> LocalExecutor:
    """Run evaluators without models, in the one slot that a CPU is."""
    return LocalExecutor(chosen, ScriptedEvaluator)


def projects(root: Path, runs: int, checkpoints: int) -> None:
    """Write trainings that share a log, each with its checkpoints."""
    for number in range(runs):
        folder = root / f"training-{number:03}"
        folder.mkdir()
        settings(folder)
        config = json.loads((folder / "config.json").read_text())
        config["clipwatch"]["state_dir"] = str(root / ".state")
        (folder / "config.json").write_text(json.dumps(config))
        for step in range(1, checkpoints + 1):
            made = write_checkpoint(folder / "output", step)
            made.rename(made.with_name(f"checkpoint-{step}"))


def watches() -> tuple[int, int]:
    """Return how many inotify instances this process has, and how many watches."""
    instances = number = 0
    for info in Path("/proc/self/fdinfo").iterdir():
        try:
            found = info.read_text().count("inotify wd:")
        except OSError:  # that of this very look
            continue
        instances, number = instances + (found > 0), number + found
    return instances, number


def seconds(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def ask(address: str, page: str) -> bytes:
    """Return a page of the daemon's."""
    with urllib.request.urlopen(f"http://{address}{page}", timeout=60) as answer:
        return bytes(answer.read())


def spread(took: list[float]) -> str:
    """Return the median, the 99th percentile and the most, in milliseconds."""
    ordered = sorted(1000 * it for it in took) or [0.0]
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return (
        f"median {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, most {ordered[-1]:.0f} ms"
    )


def unfair(scored: list[str], runs: int) -> int:
    """Return by how many results the run that is furthest was ever ahead of the last one."""
    count = dict.fromkeys(scored, 0)
    most = 0
    for run in scored:
        count[run] += 1
        behind = min(count.values()) if len(count) == runs else 0
        if any(it for it in count.values()):
            most = max(most, count[run] - behind)
    return most


def at_rest(supervisor: Timed, idle: float) -> Iterator[Row]:
    """Measure a daemon of which all runs are scored."""
    process = psutil.Process()
    time.sleep(5)
    supervisor.took.clear()
    before = process.cpu_times()
    time.sleep(idle)
    after = process.cpu_times()
    used = (after.user + after.system - before.user - before.system) / idle
    told = f"{process.memory_info().rss / 2**20:.0f} MB, {100 * used:.1f} % of a core"
    yield "idle beside all of them", told, ""
    yield "work of the loop between two waits, idle", spread(supervisor.took), ""
    instances, number = watches()
    told = f"{threading.active_count()} threads, {process.num_fds()} file descriptors, "
    yield "held while idle", f"{told}{instances} inotify instances with {number} watches", ""


def measure(root: Path, runs: int, checkpoints: int, idle: float) -> Iterator[Row]:
    """Watch them all, then nothing, and ask the while."""
    everything, console, supervisor = runs * checkpoints, Counting(), Timed()
    flags = {"health_address": "127.0.0.1:0"}
    finder = Finder((), root, flags, root)
    parts = Parts(make_executor=scripted, judge=Plain())
    roster = Roster(supervisor, console, finder.lost, lambda _: None, parts, once=False)
    address = supervisor.shared.desk.keep(Address("127.0.0.1", 0))
    rows: list[Row] = []
    began = time.perf_counter()
    looked = seconds(lambda: roster.heed(finder.look(frozenset())))
    rows.append((f"{runs} configurations found, read and taken on", f"{looked:.1f} s", ""))

    def look_on() -> None:
        try:
            look()
        finally:
            supervisor.stop()

    def look() -> None:
        most = 0
        while len(console.scored) < everything:
            time.sleep(0.5)
            most = max(most, threading.active_count())
        took = time.perf_counter() - began - looked
        told = f"{took:.0f} s, {everything / took:.0f} a second"
        rows.append((f"{everything:,} evaluations without models", told, ""))
        rows.append(("work of the loop between two waits", spread(supervisor.took), ""))
        rows.append(("threads, the most", str(most), ""))
        rows.extend(at_rest(supervisor, idle))
        again = seconds(lambda: finder.look(roster.watched))
        rows.append(("a further look for configurations", f"{1000 * again:.0f} ms", ""))
        for page in ("/healthz", "/metrics", "/status"):
            took = seconds(partial(ask, address, page))
            size = len(ask(address, page)) / 1e6
            rows.append((f"{page} of the daemon", f"{took:.2f} s, {size:.2f} MB", ""))

    thread = threading.Thread(target=look_on)
    thread.start()
    supervisor.run()
    thread.join()
    yield from rows
    ahead = unfair(console.scored, runs)
    yield "results by which any run was ahead of the last", str(ahead), "1 or 2"
    log = log_file(root / ".state")
    with Journal(log, read_only=True) as journal:
        events = sum(1 for _ in journal.read())
    yield "the log", f"{events:,} events, {log.stat().st_size / 1e6:.0f} MB", ""
    environ = {**os.environ, "CLIPWATCH_STATE_DIR": str(root / ".state")}
    for arguments in (["status"], ["status", "--json"], ["health"]):
        command = [sys.executable, "-m", "clipwatch", *arguments]
        call = partial(subprocess.run, command, env=environ, capture_output=True, check=False)
        yield f"clipwatch {' '.join(arguments)}", f"{seconds(call):.2f} s", ""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--checkpoints", type=int, default=100, help="of each run")
    parser.add_argument("--idle", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--folder", help="where files are made, as /dev/shm for no disk's time")
    parser.add_argument("--quick", action="store_true", help="a short run: its figures say little")
    asked = parser.parse_args()
    if asked.quick:
        asked.runs, asked.checkpoints, asked.idle = 3, 2, 1.0
    return_memory()
    print("| what | found | figure to reach |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        projects(Path(folder), asked.runs, asked.checkpoints)
        for row in measure(Path(folder), asked.runs, asked.checkpoints, asked.idle):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
