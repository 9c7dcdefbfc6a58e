"""Copies of the state directory, made while a daemon writes: they open, and go on from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import psutil
import pytest

from clipwatch.domain.events import OutputDirChecked, RunStarted
from clipwatch.journal import Journal, Recorded, log_file, wal
from clipwatch.journal.logformat import LogDamaged
from clipwatch.journal.projection import Projection
from clipwatch.journal.repair.inspection import verify
from clipwatch_adapters.tensorboard import event_files
from clipwatch_adapters.tensorboard.records import receipt
from fast_world import Training
from tensorboard_kit import event_file

COPIES = 35
"""In each daemon's life."""


def copy(source: Path, target: Path, chance: Random, between: Callable[[], object]) -> None:
    """Copy a folder file by file in any order; what is gone when its turn comes is left out."""
    target.mkdir(parents=True)
    walked = os.walk(source)  # which leaves out a folder that goes meanwhile
    paths = [
        (Path(folder, name), names is folders)
        for folder, folders, files in walked
        for names in (folders, files)
        for name in names
    ]
    for path, is_folder in chance.sample(paths, len(paths)):
        place = target / path.relative_to(source)
        if is_folder and not path.is_symlink():  # also one that is gone now, and back in a moment
            place.mkdir(parents=True, exist_ok=True)
            continue
        between()
        place.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy2(path, place, follow_symlinks=False)


@dataclass(frozen=True)
class Copy:
    """A copy of state and curve; what the log had before, and whether it was merged meanwhile."""

    state: Path
    curve: Path
    least: int
    merged: bool


@contextmanager
def still(daemon: ForkServerProcess) -> Iterator[None]:
    """Stop a daemon where it is, for as long as the block lasts."""
    with suppress(psutil.NoSuchProcess):  # it has just ended
        process = psutil.Process(daemon.pid)
        process.suspend()
        while process.status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
    yield
    with suppress(psutil.NoSuchProcess):
        process.resume()


def copied(training: Training, daemon: ForkServerProcess, to: Path, chance: Random) -> Copy:
    """Copy at one instant, or while the daemon goes on."""

    def main_file() -> object:
        found = log_file(training.state).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def all_of_it(between: Callable[[], object]) -> None:
        copy(training.state, to / "state", chance, between)
        copy(training.curve, to / "curve", chance, between)

    least, before = training.written(), main_file()
    if chance.random() < 1 / 2 and daemon.is_alive():
        with still(daemon):
            all_of_it(lambda: None)
    else:
        all_of_it(lambda: time.sleep(chance.uniform(0, 0.004)))
    return Copy(to / "state", to / "curve", least, main_file() != before)


def copies(training: Training, lives: int, to: Path, chance: Random) -> list[Copy]:
    """Let daemons live and die beside a training, and copy their state all the while."""
    made: list[Copy] = []
    for life in range(lives):
        daemon = training.start("live")
        while not training.written():
            time.sleep(0.001)
        for number in range(COPIES):
            if number % 12 == 0:
                training.train()
            if number == COPIES - 3 and life % 2 == 0:
                daemon.terminate()  # and copy amid its end
            time.sleep(chance.uniform(0, 0.01))
            made.append(copied(training, daemon, to / f"{life}-{number}", chance))
        daemon.kill()
        daemon.join()
    training.finish()
    return made


def beginning(path: Path, log: list[Recorded]) -> int | None:
    """Return how much of the log a copy is; None of one that is refused and left as it is."""
    found = list(verify(path))
    events = [it for it in found if isinstance(it, Recorded)]
    assert all(it == log[it.seq - 1] for it in events)
    before = contents(path)
    try:
        with Journal(path) as journal:
            seq = Projection(journal).seq
    except LogDamaged:
        assert len(events) < len(found)
        assert contents(path) == before
        return None
    assert events == log[:seq]
    assert len(found) == len(events) or seq == 0  # of which it is told that there is no log yet
    return seq


def contents(path: Path) -> list[bytes]:
    """Return what is in a log's files."""
    return [part.read_bytes() for part in (path, wal.beside(path)) if part.exists()]


@pytest.mark.parametrize(
    ("seed", "lives", "goes_on"),
    [(5, 1, 1), *(pytest.param(n, 3, 4, marks=pytest.mark.thorough) for n in range(5))],
)
def test_copies_of_a_living_daemons_state_go_on_to_the_right_end(
    tmp_path: Path, seed: int, lives: int, goes_on: int
) -> None:
    """Each is a beginning of the log, with all that was written before the copy was begun.

    A daemon on it, with TensorBoard as it was or as it is now, ends as the one that was copied.
    """
    chance = Random(seed)
    training = Training(tmp_path / "training", own={"stage": "copy"})
    made = copies(training, lives, tmp_path / "copies", chance)
    log, curve, results = training.logged(), training.curve, training.results()
    for each in chance.sample(made, goes_on):
        shutil.rmtree(training.state)
        shutil.copytree(each.state, training.state, symlinks=True)
        if chance.random() < 1 / 2:
            shutil.rmtree(curve)
            shutil.copytree(each.curve, curve)
        training.finish_with(results)
    asked = log_file(made[0].state)
    command = [
        sys.executable,
        "-m",
        "clipwatch",
        "log",
        "--verify",
        "--state-dir",
        str(asked.parent),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"{asked}: {len(list(verify(asked)))} events are whole, 0 faults\n"
    for each in made:
        count = beginning(log_file(each.state), log)
        assert each.merged or (count is not None and count >= each.least)


def test_a_copy_made_while_the_log_is_merged_is_told_if_it_is_torn(tmp_path: Path) -> None:
    """30 copies of two files, with so many commits between them that their pages are merged.

    It is a beginning of the log, or refused and left as it is; never anything else.
    """
    chance = Random(3)
    with Journal(tmp_path / "clipwatch.db") as journal:
        journal._db.execute("PRAGMA wal_autocheckpoint = 8")
        journal.append("r", "run", 0, [RunStarted("/out", "p", (), {}, "1")])

        def go_on() -> None:
            for _ in range(chance.choice([0, 1, 8])):
                version = journal.version("run")
                events = [OutputDirChecked("x" * chance.randrange(2000)) for _ in range(3)]
                journal.append("r", "run", version, events)

        for number in range(30):
            parts = [journal.path, wal.beside(journal.path)]
            (place := tmp_path / str(number)).mkdir()
            for part in chance.sample(parts, 2):
                go_on()
                shutil.copy(part, place)
        log = list(journal.read())
    places = [tmp_path / str(number) / "clipwatch.db" for number in range(30)]
    opened = sum(beginning(path, log) is not None for path in places)
    assert 5 < opened < 25


def shown(training: Training) -> dict[int, bytes]:
    """Return what TensorBoard has of each step, as it was written; of none twice."""
    found: list[tuple[int, bytes]] = []
    for _, payload in event_files.records(event_file(training.curve)):
        if about := receipt(payload):
            found.append((about.step, payload))
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("later", [False, True])
def test_a_log_restored_from_yesterday_destroys_nothing_at_tensorboard(
    tmp_path: Path, later: bool
) -> None:
    """What came since stays, also of checkpoints that are gone; what is still there comes again.

    So it does with nothing new, and with a checkpoint that comes `later`.
    """
    training = Training(tmp_path / "training")
    for _ in range(3):
        training.train()
    training.finish()
    shutil.copytree(training.state, tmp_path / "yesterday")
    for _ in range(3):
        training.train()
    training.finish()
    today, results = shown(training), training.results()
    for step in (40, 50):
        shutil.rmtree(training.folder / "output" / f"checkpoint-{step}")
    shutil.rmtree(training.state)
    shutil.copytree(tmp_path / "yesterday", training.state)
    if later:
        training.train()
    training.finish()
    now = shown(training)
    assert list(now) == [10, 20, 30, 40, 50, 60, *([70] if later else [])]
    assert {step: now[step] for step in (10, 20, 30, 40, 50)} == {
        step: today[step] for step in (10, 20, 30, 40, 50)
    }
    again = training.results()
    assert {step: again[step] for step in (10, 20, 30, 60)} == {
        step: results[step] for step in (10, 20, 30, 60)
    }
