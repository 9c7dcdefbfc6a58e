"""48 hours in minutes: does a daemon stay as it is, whatever happens around it?

    python benchmarks/soak.py [--quick]

A training saves 45 checkpoints an hour and keeps its four newest. Its disk and its TensorBoard
folder come and go, W&B's server fails, evaluations fail, the settings are changed and read again.
All of clipwatch is real (the loop, the log, the judge's process, TensorBoard's files, W&B's
sessions with a server on loopback); only images are made at once, and the daemon's clock is sped
up. In the end everything that was scored must be everywhere, once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGHUP, SIGTERM
from tempfile import TemporaryDirectory
from typing import Final

import psutil
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.domain.delivered import owed, received
from clipwatch.domain.events import ImagesScored
from clipwatch.domain.queue import queue
from clipwatch.domain.state import Run
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from daemon import settings, write_checkpoint
from soak_daemon import TURN

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from fake_wandb import CLOSE, KEY, FakeWandb, Fault

MIB: Final = 1 << 20
SAVES: Final = 45
"""Checkpoints that the training saves in an hour."""
KEPT: Final = 4
"""Checkpoints that the training keeps."""
SAMPLES: Final = 9
"""Times an hour at which the daemon is looked at."""
HOUR_SECONDS: Final = 25.0
"""What an hour takes: in less, W&B's sessions do not keep up on two cores."""
STATE_KIB: Final = 4
"""What a daemon may keep in memory of a result: its state is that of the whole run."""
OUTAGES: Final = 6
"""Outages of W&B's server between the hours that are compared; all else happens more often.

A descriptor or a thread that any of it leaks is so many more. A session of W&B's, a watch of the
disk and a checkpoint that is kept take some each while they last.
"""
LEAST, MOST = 3, 4
"""Checkpoints whose images the settings ask to keep, under each protocol, from hour to hour.

Beside them the best one's are kept, which may be among them.
"""
IMAGES: Final = 5
"""What a checkpoint keeps: three folders, and an image for each of two prompts."""
LOG_SHARE: Final = 0.25
"""By how much the log may grow otherwise: SQLite's -wal file comes and goes."""
TURN_US: Final = 5
"""By how much a turn may take longer for each result."""
LAST_SECONDS: Final = 600
"""What may pass after the last checkpoint until all is published."""


@dataclass(frozen=True, slots=True)
class Again:
    """Something that begins at an hour, lasts for so many hours, and comes again."""

    first: float
    every: float
    lasts: float

    def at(self, hour: float) -> bool:
        """Whether it is so at an hour."""
        return hour >= self.first and (hour - self.first) % self.every < self.lasts


DISK_GONE = Again(1.5, 4.0, 0.3)
CURVE_GONE = Again(2.2, 5.0, 0.6)
SERVER_DOWN = Again(0.8, 6.0, 1.0)
RELOAD_HOURS, PROTOCOL_HOURS = 1.0, 12.0
"""How often the settings are read again, and how often they ask for another seed."""


@dataclass
class World:
    """A training, and what is around it."""

    folder: Path
    wandb: FakeWandb
    disk: Path = field(init=False)
    logs: Path = field(init=False)
    turns: Path = field(init=False)
    saved: int = 0

    def __post_init__(self) -> None:
        settings(self.folder)
        self.disk, self.logs = self.folder / "output", self.folder / "output" / "logs"
        self.turns = self.folder / "turns"
        (self.logs / "soak").mkdir(parents=True)
        (self.logs / "soak" / "events.out.tfevents.1.trainer").touch()
        self.configure(0)

    def configure(self, hour: float) -> None:
        """Write the settings of an hour."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        config |= {
            "report_to": "tensorboard,wandb",
            "tracker_project_name": "soak",
            "validation_seed": int(hour / PROTOCOL_HOURS),
        }
        config["clipwatch"] |= {
            "stage": "auto",
            "keep_images": LEAST + int(hour / RELOAD_HOURS) % (MOST - LEAST + 1),
            "batch_size": 2,
            "rescan_seconds": 0.5,
            "health_address": "127.0.0.1:0",
        }
        (self.folder / "config.json").write_text(json.dumps(config), "utf-8")

    def become(self, hour: float) -> None:
        """Let come and go what does so at an hour."""
        _move(self.disk, self.folder / "disk", there=not DISK_GONE.at(hour))
        if self.disk.is_dir():
            _move(self.logs, self.disk / "gone", there=not CURVE_GONE.at(hour))
        self.wandb.faults[:] = [Fault("*", CLOSE)] * SERVER_DOWN.at(hour)

    def train(self) -> None:
        """Save a checkpoint and delete the oldest, if the disk is there."""
        self.saved += 1
        if self.disk.is_dir():
            making = write_checkpoint(self.disk, 100 * self.saved)
            making.rename(self.disk / f"checkpoint-{100 * self.saved}")
            for old in self.disk.glob("checkpoint-*"):
                if int(old.name.rpartition("-")[2]) <= 100 * (self.saved - KEPT):
                    shutil.rmtree(old)


def _move(place: Path, elsewhere: Path, *, there: bool) -> None:
    with suppress(FileNotFoundError):
        if there != place.exists():
            (elsewhere if there else place).rename(place if there else elsewhere)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of a daemon at an hour; sizes in bytes."""

    hour: float
    memory: int
    descriptors: int
    threads: int
    judge: int
    log: int
    files: int
    results: int
    protocols: int
    turns: int


class Watcher:
    """Looks at a daemon from outside."""

    def __init__(self, world: World, daemon: subprocess.Popen[bytes]) -> None:
        self._state, self._turns = world.folder / "state", world.turns
        self._process = psutil.Process(daemon.pid)
        self.samples: list[Sample] = []

    def look(self, hour: float) -> None:
        """Take a sample."""
        with self._process.oneshot():
            memory, threads = self._process.memory_info().rss, self._process.num_threads()
        judge = max(map(_judge, self._process.children()), default=0)
        log = sum(it.stat().st_size for it in self._state.glob("clipwatch.db*"))
        walked = ((Path(folder), files) for folder, _, files in os.walk(self._state))
        files = sum(1 + len(names) for it, names in walked if "wandb" not in it.parts)
        turns = self._turns.stat().st_size // TURN.size
        counts = files, self._count("EvaluationCompleted"), self._count("ProtocolDefined"), turns
        seen = (memory, self._process.num_fds(), threads, judge, log, *counts)
        self.samples.append(Sample(hour, *seen))

    def _count(self, event: str) -> int:
        log = log_file(self._state)
        with closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as found:
            asked = "SELECT count(*) FROM events WHERE type = ?"
            return int(found.execute(asked, (event,)).fetchone()[0])

    def between(self, first: float, last: float) -> list[Sample]:
        """Return the samples of some hours."""
        return [it for it in self.samples if first <= it.hour < last]

    def turns(self, samples: Sequence[Sample]) -> list[float]:
        """Return the milliseconds of the turns between the first and the last of samples."""
        data = self._turns.read_bytes()[
            samples[0].turns * TURN.size : samples[-1].turns * TURN.size
        ]
        return sorted(1000 * seconds for (seconds,) in TURN.iter_unpack(data))


def _judge(child: psutil.Process) -> int:
    with suppress(psutil.Error):
        if "clipwatch.judging" in " ".join(child.cmdline()):
            return int(child.memory_info().rss)
    return 0


@contextmanager
def running(world: World, speed: float) -> Iterator[subprocess.Popen[bytes]]:
    """Have a daemon until the block ends."""
    environ = {name: value for name, value in os.environ.items() if "WANDB" not in name}
    environ |= {"HOME": str(world.folder), "TMPDIR": str(world.folder / "tmp")}
    environ |= {"WANDB_BASE_URL": world.wandb.url, "WANDB_API_KEY": KEY}
    environ |= {"WANDB_ERROR_REPORTING": "false"}
    (world.folder / "tmp").mkdir()
    script = Path(__file__).with_name("soak_daemon.py")
    command = [sys.executable, str(script), str(world.folder), str(speed)]
    with (world.folder / "said").open("wb") as said:
        daemon = subprocess.Popen(command, env=environ, stderr=said, stdout=said)
        try:
            yield daemon
        finally:
            daemon.kill()
            daemon.wait()


def live(world: World, daemon: subprocess.Popen[bytes], hours: int) -> Watcher:
    """Let so many hours pass; return what was seen."""
    while not world.turns.exists():  # it starts
        time.sleep(0.1)
    watcher, began = Watcher(world, daemon), time.monotonic()
    reloaded = 0
    while (hour := (time.monotonic() - began) / HOUR_SECONDS) < hours:
        world.become(hour)
        if int(hour / RELOAD_HOURS) > reloaded:
            reloaded = int(hour / RELOAD_HOURS)
            world.configure(hour)
            daemon.send_signal(SIGHUP)
        if hour * SAVES >= world.saved:
            world.train()
        if hour * SAMPLES >= len(watcher.samples) + 1:
            if daemon.poll() is not None:
                sys.exit(f"the daemon ended at hour {hour:.1f} with {daemon.returncode}")
            watcher.look(hour)
        time.sleep(HOUR_SECONDS / SAVES / 4)
    world.become(0.0)  # all is there again
    return watcher


def finish(world: World, daemon: subprocess.Popen[bytes]) -> Run:
    """Wait until all is published, end the daemon, and return its run.

    Raises:
        SystemExit: That does not come, or it does not end with 0.
    """
    until = time.monotonic() + LAST_SECONDS
    while True:
        (run,) = read_state(log_file(world.folder / "state")).values()
        lacks = [name for name in run.tracker_names if owed(run, "tracker", name)]
        if not lacks and not queue(run):
            break
        if time.monotonic() > until or daemon.poll() is not None:
            sys.exit(f"not everything is scored and published; {', '.join(lacks)} lacks some")
        time.sleep(1.0)
    daemon.send_signal(SIGTERM)
    if daemon.wait(60):
        sys.exit(f"the daemon ended with {daemon.returncode}")
    return run


def check(world: World, run: Run) -> str:
    """Say that each result is everywhere, once, and that no image was scored twice.

    Raises:
        SystemExit: That is not so.
    """
    scored = {
        protocol: sorted(run.evaluations[id_].step for id_ in ids)
        for protocol, ids in run.scored.items()
    }
    places = received(run, "tracker", "tensorboard").places
    curves = {
        protocol: EventAccumulator(places[protocol], {"scalars": 0}).Reload().Scalars("clip/mean")
        for protocol in scored
    }
    if {protocol: [it.step for it in curve] for protocol, curve in curves.items()} != scored:
        sys.exit("TensorBoard does not show each result once")
    rows = [sorted(step for _, step in it.points) for it in world.wandb.runs.values()]
    if sorted(rows) != sorted(scored.values()):
        sys.exit("W&B does not show each result once")
    with Journal(log_file(world.folder / "state"), read_only=True) as journal:
        images = [
            (it.event.evaluation, image.prompt_id, image.index)
            for it in journal.read()
            if isinstance(it.event, ImagesScored)
            for image in it.event.images
        ]
    if len(images) != len(set(images)):
        sys.exit("an image was scored twice")
    count = sum(map(len, scored.values()))
    return (
        f"{world.saved} checkpoints, {count} results under {len(scored)} protocols: each in "
        f"TensorBoard and W&B, once; {len(images)} images, none twice"
    )


Row = tuple[str, str, str, str]
"""What was looked at, what was found early and late, and the figure to reach."""


def table(watcher: Watcher, hours: int) -> Iterator[Row]:
    """Yield what was found early and late, and the figure to reach."""
    early = watcher.between(hours / 12, hours / 4)
    late = watcher.between(5 * hours / 6, hours)
    more = _median(late, "results") - _median(early, "results")

    def row(what: str, first: float, last: float, figure: str, *, met: bool) -> Row:
        return what, f"{first:.4g}", f"{last:.4g}", f"{figure}: {'met' if met else 'NOT met'}"

    for what, name in (("memory of the daemon, MiB", "memory"), ("of the judge, MiB", "judge")):
        first, last = _median(early, name) / MIB, _median(late, name) / MIB
        each = 1024 * (last - first) / more
        figure = f"<= {STATE_KIB} KiB more a result, {each:.2f} found"
        yield row(what, first, last, figure, met=each <= STATE_KIB)
    kept = IMAGES * ((MOST + 1) * late[-1].protocols - LEAST * early[0].protocols)
    for name, most in (("descriptors", OUTAGES - 1), ("threads", OUTAGES - 1), ("files", kept)):
        # of what is on its way the least has the least; a leak raises it as all else
        first, last = (min(getattr(it, name) for it in some) for some in (early, late))
        figure = f"<= {most} more, {last - first} found"
        yield row(f"{name}, the least", first, last, figure, met=last - first <= most)
    first, last = (
        (it[-1].log - it[0].log) / (it[-1].results - it[0].results) for it in (early, late)
    )
    met = abs(last / first - 1) <= LOG_SHARE
    yield row("log, bytes a result", first, last, f"as many, within {LOG_SHARE:.0%}", met=met)
    for what, share in (("a turn, ms", 0.5), ("99 % of the turns, ms", 0.99)):
        found = [watcher.turns(it) for it in (early, late)]
        first, last = (it[int(share * len(it))] for it in found)
        each = 1000 * (last - first) / more
        figure = f"<= {TURN_US} us more a result, {each:.2f} found"
        yield row(what, first, last, figure, met=each <= TURN_US)


def _median(samples: Sequence[Sample], name: str) -> float:
    return float(statistics.median(getattr(it, name) for it in samples))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 hours: its figures say little")
    hours = 3 if parser.parse_args().quick else 48
    with TemporaryDirectory(prefix="clipwatch-soak-") as room, FakeWandb() as wandb:
        world = World(Path(room), wandb)
        with running(world, 3600 / HOUR_SECONDS) as daemon:
            watcher = live(world, daemon, hours)
            run = finish(world, daemon)
        print(f"{hours} hours: {check(world, run)}\n")
        spans = f"hours {hours / 12:g} to {hours / 4:g} | hours {5 * hours / 6:g} to {hours}"
        print(f"| what, median | {spans} | figure to reach |\n|---|---|---|---|")
        for row in table(watcher, hours):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
