"""TensorBoard's real server, asked as its page asks."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from clipwatch.delivery.trackers import Target
from clipwatch.results.series import Series
from clipwatch.testing.series import make_target
from clipwatch_adapters.tensorboard import TensorBoardTracker

PATIENCE = 60
"""Seconds until a server must have answered."""


def event_file(folder: Path) -> Path:
    """Return the one file of a TensorBoard run that holds anything: outdated ones are empty."""
    (file,) = (path for path in folder.iterdir() if path.stat().st_size)
    return file


@dataclass(frozen=True)
class Server:
    """A TensorBoard that listens on the loopback interface."""

    port: int
    logdir: Path

    def fetch(self, path: str, **query: str) -> tuple[str, bytes]:
        """Return content type and body of an answer; ("", b"") for one that is no success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", f"/data/{path}?{urlencode(query)}")
            answer = connection.getresponse()
            body = answer.read()
            return (answer.headers["Content-Type"], body) if answer.status == 200 else ("", b"")
        finally:
            connection.close()

    def get(self, path: str, **query: str) -> Any:
        """Return an answer's JSON, None for one that is no success."""
        kind, body = self.fetch(path, **query)
        return json.loads(body) if kind else None

    def points(self, run: str, tag: str) -> list[tuple[int, float]]:
        """Return (step, value) of a scalar in the order of the chart's line."""
        answer = self.get("plugin/scalars/scalars", run=run, tag=tag) or []
        return [(step, round(value, 4)) for _, step, value in answer]


@contextmanager
def tensorboard(logdir: Path, arguments: Sequence[str], folder: Path) -> Iterator[Server]:
    """Run a server on a free port until the block ends."""
    said = folder / "tensorboard.txt"
    command = [sys.executable, "-m", "tensorboard.main", *arguments]
    command += ["--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
    with said.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={"TMPDIR": str(folder)})
    try:
        until(lambda: "http://" in said.read_text() or server.poll() is not None, expected=True)
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", said.read_text())
        assert found, said.read_text()
        yield Server(int(found[1]), logdir)
    finally:
        server.terminate()
        server.wait(PATIENCE)


def until(ask: Callable[[], Any], expected: Any) -> None:
    """Ask again until the answer is the expected one, or fail with the last answer."""
    end = time.monotonic() + PATIENCE
    while (answer := ask()) != expected and time.monotonic() < end:
        time.sleep(0.1)
    assert answer == expected


def target_below(logdir: Path, tmp_path: Path, project: str) -> Target:
    """Return a target whose trainer run is `logdir`/`project`, which is made."""
    (logdir / project).mkdir(parents=True)
    return replace(make_target(tmp_path, project=project), logging_dir=logdir)


def publish_each(target: Target, series: Series) -> None:
    """Publish the results one by one, each by a tracker that was just started."""
    for result in series.results:
        TensorBoardTracker(target).publish(series, [result.seq])
