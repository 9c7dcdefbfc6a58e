"""Trackio's real dashboard, a training that logs with accelerate, and what the store says."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tensorboard_kit import PATIENCE, until

SHOW = """
import trackio
_, url, *_ = trackio.show(open_browser=False, block_thread=False, host="127.0.0.1")
print("address", url, flush=True)
input()
"""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that listens on the loopback interface."""

    address: str
    store: Path

    def ask(self, method: str, **arguments: Any) -> Any:
        """Return what its API answers, as to its page."""
        request = Request(
            f"{self.address}api/{method}",
            json.dumps(arguments).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())["data"]

    def runs(self, project: str) -> list[dict[str, Any]]:
        """Return the runs of a project, the oldest first."""
        found: list[dict[str, Any]] = self.ask("get_runs_for_project", project=project)
        return found

    def rows(self, project: str, run_id: str) -> list[dict[str, Any]]:
        """Return all that a run has logged, in the order of time."""
        found: list[dict[str, Any]] = self.ask("get_logs", project=project, run_id=run_id)
        return found

    def file(self, path: str) -> bytes:
        """Return an image as the page gets it."""
        query = urlencode({"path": str(self.store / "media" / path)})
        with urlopen(f"{self.address}file?{query}", timeout=PATIENCE) as answer:
            found: bytes = answer.read()
            return found


@contextmanager
def dashboard(store: Path, folder: Path) -> Iterator[Dashboard]:
    """Run a dashboard on a free port until the block ends."""
    said = folder / "trackio.txt"
    with (
        said.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-c", SHOW],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=os.environ | {"TRACKIO_DIR": str(store), "HF_HUB_OFFLINE": "1"},
        ) as server,
    ):
        try:
            until(lambda: "address" in said.read_text() or server.poll() is not None, expected=True)
            found = re.search(r"address (http://127\.0\.0\.1:\d+/)", said.read_text())
            assert found, said.read_text()
            yield Dashboard(found[1], store)
        finally:
            server.kill()


TRAIN = """
import sys
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, log_with="trackio")
quiet = {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
accelerator.init_trackers(
    sys.argv[1], config={"lr": 0.1}, init_kwargs={"trackio": {"group": "night", **quiet}})
for step, line in enumerate(sys.stdin):
    accelerator.log({"train_loss": 1 / (step + 1), "clip/mean": float(line)}, step=step)
accelerator.end_training()
"""
"""Logs a step for each line on standard input, which is its score."""


@contextmanager
def training(store: Path, project: str) -> Iterator[IO[bytes]]:
    """Run a training that logs with accelerate's tracker, and goes on until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN, project],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TRACKIO_DIR": str(store), "HF_HUB_OFFLINE": "1"},
    ) as trainer:
        assert trainer.stdin
        yield trainer.stdin
    assert trainer.returncode == 0


def stored(store: Path, project: str) -> list[tuple[Any, ...]]:
    """Return all rows that the store has of a project, as they are, but for their number."""
    columns = "run_id, run_name, timestamp, step, metrics, log_id"
    try:
        with closing(sqlite3.connect(f"file:{store}/{project}.db?mode=ro", uri=True)) as connection:
            return connection.execute(f"SELECT {columns} FROM metrics ORDER BY id").fetchall()
    except sqlite3.OperationalError:  # it is not there yet, or not whole
        return []
