"""Another program that keeps the log locked: a backup, a browser of databases, a person's shell."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from clipwatch.journal import Journal, log_file
from clipwatch.judging.base import Judgement, Question
from clipwatch.kit.errors import LogLocked
from clipwatch.loop.run_log import when_unlocked
from loop_kit import states, until
from world import FreshJudge, World, checkpoint

LOCK = """
import sqlite3, sys
log = sqlite3.connect(sys.argv[1], isolation_level=None)
log.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""

LOCK_ALL = """
import fcntl, sys
file = open(sys.argv[1] + "-shm", "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)  # all of SQLite's locks of the write-ahead log
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(log: Path, how: str = LOCK) -> Iterator[None]:
    """Have another process keep a log to itself."""
    command = [sys.executable, "-c", how, str(log)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            other.kill()


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipwatch.loop.run_log.PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("clipwatch.journal.store.BUSY_SECONDS", 0.05)


def ready(address: str) -> str:
    """Return what /readyz says."""
    with closing(HTTPConnection(address, timeout=30)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().read().decode()


@pytest.mark.parametrize(
    "how", [LOCK, pytest.param(LOCK_ALL, marks=pytest.mark.thorough)], ids=["write", "all"]
)
def test_it_is_waited_for(tmp_path: Path, how: str) -> None:
    """It is told once, /readyz says why, and all goes on where it was when that ends."""
    world = World(tmp_path, health_address="127.0.0.1:0")
    with world.live():
        checkpoint(world.output, 1, 1)
        until(lambda: states(world) == {1: "published"})
        told = re.search(r"http://([\d.:]+)", "\n".join(world.said))
        assert told is not None
        with locked(world.log, how):
            checkpoint(world.output, 2, 2)
            until(lambda: "keeps it locked" in ready(told[1]))
            time.sleep(0.5)  # in which it tries some times more
        until(lambda: states(world) == {1: "published", 2: "published"})
        until(lambda: ready(told[1]) == "ok\n")
    assert len([line for line in world.said if "keeps it locked" in line]) == 1
    assert world.said.count("the log can be written again") == 1
    assert len(world.requests) == 2


def test_who_does_not_wait_is_told(tmp_path: Path) -> None:
    """With --once, and with a command, it is one line."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    assert world.once() == 0
    checkpoint(world.output, 2, 2)
    with locked(world.log), pytest.raises(LogLocked, match="keeps it locked: close that program"):
        world.once()
    assert world.once() == 0
    assert states(world) == {1: "published", 2: "published"}


def test_a_daemon_that_is_asked_to_stop_waits_no_more(tmp_path: Path) -> None:
    """It ends with that line, and the next start goes on."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    assert world.once() == 0
    checkpoint(world.output, 2, 2)
    with Journal(world.log) as journal, locked(world.log):
        supervisor = world.supervisor(journal, once=False)

        def stop() -> None:
            until(lambda: any("keeps it locked" in line for line in world.said))
            supervisor.stop()

        person = threading.Thread(target=stop)
        person.start()
        with pytest.raises(LogLocked):
            supervisor.run()
        person.join()
    assert world.once() == 0
    assert states(world) == {1: "published", 2: "published"}


def test_it_is_waited_for_at_a_start(tmp_path: Path) -> None:
    """The log is opened when the other program ends."""
    path = log_file(tmp_path / "state")
    said: list[str] = []
    with Journal(path), ExitStack() as stack:
        stack.enter_context(locked(path))

        def release() -> None:
            until(lambda: bool(said))
            stack.close()

        person = threading.Thread(target=release)
        person.start()
        with when_unlocked(lambda: Journal(path), said.append, once=False):
            pass
        person.join()
    assert said == [f"{path}: another program keeps it locked: close that program: waiting for it"]
    with locked(path), pytest.raises(LogLocked):
        when_unlocked(lambda: Journal(path), said.append, once=True)


@pytest.mark.thorough  # SQLite's own patience, several times
def test_it_is_waited_for_between_opening_and_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a start ends it, but with --once."""
    monkeypatch.setattr("clipwatch.loop.run_log.PAUSE_SECONDS", 0.05)
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    assert world.once() == 0
    world.said.clear()
    with Journal(world.log) as journal, ExitStack() as stack:
        stack.enter_context(locked(world.log, LOCK_ALL))
        with pytest.raises(LogLocked):
            world.supervisor(journal, once=True)

        def release() -> None:
            until(lambda: bool(world.said))
            stack.close()

        person = threading.Thread(target=release)
        person.start()
        supervisor = world.supervisor(journal, once=False)
        person.join()
        supervisor.stop()
        assert supervisor.run() == 0
    assert [line for line in world.said if "keeps it locked" in line] == [
        f"{world.log}: another program keeps it locked: close that program: waiting for it"
    ]


@pytest.mark.thorough
def test_a_result_waits_for_its_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who judges cannot read either: the result is compared with its base when that is over."""
    monkeypatch.setattr("clipwatch.judging.log_judge.LOCKED_SECONDS", 0.05)
    world = World(tmp_path)
    asked = world.judge
    over = threading.Event()

    class Late(FreshJudge):
        """Begins when the log is locked."""

        def judge(self, question: Question) -> Judgement:
            """Have it locked until the loop has said so."""
            if question.evaluation.startswith("checkpoint-2"):
                with ExitStack() as stack:
                    stack.enter_context(locked(world.log, LOCK_ALL))
                    threading.Thread(target=later, args=(stack.pop_all(),)).start()
            return asked.judge(question)

    def later(lock: ExitStack) -> None:
        with lock:
            until(lambda: any("keeps it locked" in line for line in world.said))
        over.set()

    world.judge = Late()
    with world.live():
        checkpoint(world.output, 1, 1)
        until(lambda: states(world) == {1: "published"})
        checkpoint(world.output, 2, 2)
        assert over.wait(60)
        until(lambda: states(world) == {1: "published", 2: "published"})
    assert [line for line in world.said if "no interval" in line] == []
