"""A real MLflow server on loopback, asked as its page asks, and trainers that write to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

import msgspec
import pytest

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import make_target
from clipwatch_adapters.mlflow.outcome import Outcome

PATIENCE = 120
"""Seconds until a server must have answered."""

SESSIONS = """
import os, sys
import msgspec
from clipwatch_adapters.mlflow.job import Job
from clipwatch_adapters.mlflow.session import outcome
answers = os.fdopen(os.dup(1), "wb", 0)
os.dup2(2, 1)
for line in sys.stdin.buffer:
    answers.write(msgspec.json.encode(outcome(msgspec.json.decode(line, type=Job))) + b"\\n")
"""

TRAINER = """
import sys
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, log_with="mlflow")
project, output, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
accelerator.init_trackers(project, config={"output_dir": output, "rank": 4})
for step in range(1, steps + 1):
    accelerator.log({"train_loss": 1 / step}, step=step)
    print(step, flush=True)
    if len(sys.argv) > 4:
        sys.stdin.readline()
accelerator.end_training()
"""
"""What is left of the diffusers scripts that log their arguments: rows, at each one a line."""


def free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.3)


@dataclass
class Server:
    """An MLflow server over a folder, which may be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        options += ["--artifacts-destination", str(self.folder / "artifacts")]
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                cwd=self.folder,
                env=clean(os.environ) | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self.answers)

    def kill(self) -> None:
        """End it and what it started, as kill -9 does."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def answers(self) -> bool:
        """Tell whether it does."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.read() == b"OK")
        except OSError:
            return False

    def call(self, path: str, /, **body: Any) -> Any:
        """Post to MLflow's interface and return the answer's JSON."""
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def get(self, path: str, /, **query: object) -> Any:
        """Get from MLflow's interface and return the answer's JSON."""
        address = f"{self.url}/api/2.0/mlflow/{path}?{urlencode(query)}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return json.loads(answer.read())

    def experiment(self, name: str) -> str:
        """Make an experiment, as a trainer does; return its id."""
        return str(self.call("experiments/create", name=name)["experiment_id"])

    def runs(self, name: str) -> list[Run]:
        """Return the runs of an experiment, the oldest first; none if there is no such."""
        try:
            found = self.get("experiments/get-by-name", experiment_name=name)["experiment"]
        except urllib.error.HTTPError:
            return []
        asked = {"experiment_ids": [found["experiment_id"]], "order_by": ["start_time ASC"]}
        return [Run(self, it) for it in self.call("runs/search", **asked).get("runs", [])]

    def train(self, experiment_id: str, name: str = "", **params: str) -> str:
        """Make a run as a trainer does; return its id."""
        asked = {"experiment_id": experiment_id, "start_time": round(1000 * time.time())}
        made = self.call("runs/create", **asked, **({"run_name": name} if name else {}))
        id_ = str(made["run"]["info"]["run_id"])
        for key, value in params.items():
            self.call("runs/log-parameter", run_id=id_, key=key, value=value)
        self.call("runs/log-metric", run_id=id_, key="loss", value=0.5, timestamp=1, step=1)
        return id_


@dataclass
class Run:
    """A run as the server tells it."""

    server: Server
    told: Any

    @property
    def id(self) -> str:
        """MLflow's."""
        return str(self.told["info"]["run_id"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.told["info"]["run_name"])

    @property
    def status(self) -> str:
        """Whether it runs, as MLflow sees it."""
        return str(self.told["info"]["status"])

    @property
    def tags(self) -> dict[str, str]:
        """All of them."""
        return {it["key"]: it["value"] for it in self.told["data"].get("tags", [])}

    @property
    def latest(self) -> dict[str, float]:
        """What the page shows as the value of each number."""
        return {it["key"]: it["value"] for it in self.told["data"].get("metrics", [])}

    def points(self, key: str, digits: int = 4) -> list[tuple[int, float]]:
        """Return (step, value) of all that MLflow has, in the order of steps, then of times."""
        asked = {"run_id": self.id, "metric_key": key, "max_results": 25_000}
        found = self.server.get("metrics/get-history", **asked).get("metrics", [])
        found = sorted(found, key=lambda it: (int(it.get("step", 0)), int(it["timestamp"])))
        return [(int(it.get("step", 0)), round(it["value"], digits)) for it in found]

    def files(self, path: str = "") -> list[str]:
        """Return the artifacts of a folder and below it."""
        asked = {"run_id": self.id, **({"path": path} if path else {})}
        found: list[str] = []
        for it in self.server.get("artifacts/list", **asked).get("files", []):
            found += self.files(it["path"]) if it["is_dir"] else [it["path"]]
        return sorted(found)

    def read(self, path: str) -> bytes:
        """Return an artifact's bytes, as the page loads it."""
        query = urlencode({"run_uuid": self.id, "path": path})
        with urllib.request.urlopen(f"{self.server.url}/get-artifact?{query}") as answer:
            return bytes(answer.read())


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run a server, which takes some seconds to start."""
    server = Server(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Sessions:
    """One child for many jobs, in place of one for each, which would import mlflow each time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    def run(
        self,
        _tracker: str,
        _module: str,
        job: Any,
        _answered: object,
        environ: dict[str, str],
        _folder: Path,
        _log: IO[bytes] | int,
        _umask: int,
    ) -> Outcome:
        """Perform a job as `clipwatch_adapters.shared.child.run` does."""
        if self._child is None:
            with (self._folder / "sessions.log").open("ab") as log:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-c", SESSIONS],
                    cwd=self._folder,
                    env=environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(msgspec.json.encode(job) + b"\n")
        self._child.stdin.flush()
        outcome = msgspec.json.decode(self._child.stdout.readline(), type=Outcome)
        if outcome.kind == "refused":
            raise TrackerRefused(outcome.reason, fix=outcome.fix)
        if outcome.kind == "unavailable":
            raise TrackerUnavailable(outcome.reason)
        return outcome

    def close(self) -> None:
        """End the child."""
        if self._child:
            self._child.communicate()


def clean(environ: Any) -> dict[str, str]:
    """Return an environment without a word on MLflow."""
    return {name: it for name, it in environ.items() if not name.startswith("MLFLOW")}


def isolate(monkeypatch: pytest.MonkeyPatch, uri: str = "") -> None:
    """Leave no variable of MLflow's of the machine that runs the test, but for where it is."""
    for name in [name for name in os.environ if name.startswith("MLFLOW")]:
        monkeypatch.delenv(name)
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


def target_of(folder: Path, **options: str) -> Target:
    """Return a target whose experiment is called by its folder, so that tests share a server."""
    target = make_target(folder, project=f"project of {folder.name}")
    return replace(target, options=options)


def attached(server: Server, folder: Path) -> Run:
    """Make the experiment and the run that the trainer of a target has; return it."""
    target = target_of(folder)
    id_ = server.train(server.experiment(target.project), output_dir=str(target.output_dir))
    return next(it for it in server.runs(target.project) if it.id == id_)


def means(series: Series, *seqs: int) -> list[tuple[int, float]]:
    """Return (step, mean) of these results, of all if none is named."""
    results = [series.results[seq] for seq in seqs] if seqs else series.results
    return [(it.step, round(it.clip.mean, 4)) for it in results]
