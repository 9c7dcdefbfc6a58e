"""A Comet server on loopback: as much of one as the real comet_ml asks for, and no more.

It answers what that package was seen to send: it proves that our session speaks to it as intended,
and nothing about the real server's delays, limits or order.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY = "c0mE7" * 5

EXISTS, NO_SUCH_KEY = 90999, 90212
"""Comet's own error codes."""


@dataclass
class StoredExperiment:
    """One experiment as the server holds it."""

    project: str = ""
    workspace: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    images: list[tuple[str, int]] = field(default_factory=list)
    assets: list[tuple[str, int]] = field(default_factory=list)

    def points(self, name: str = "clip/mean") -> list[tuple[int, float]]:
        """(step, value) of a metric, as they came."""
        return [(it["step"], it["metricValue"]) for it in self.metrics if it["metricName"] == name]


@dataclass
class Fault:
    """Requests with `word` in their path get `status`, `then` being called before.

    With `lost` a request takes effect all the same. 0 drops the connection.
    """

    word: str
    status: int
    times: int = 10**6
    lost: bool = False
    then: Callable[[], None] | None = None


class FakeComet:
    """The server; used as `with FakeComet() as server`."""

    def __init__(self) -> None:
        self.experiments: dict[str, StoredExperiment] = {}
        self.faults: list[Fault] = []
        self.paths: list[str] = []
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                key = self.headers.get("Authorization") or self.headers.get("Comet-Sdk-Api") or ""
                status, reply = fake.answer(self.path, body, key)
                if not status:
                    self.close_connection = True
                    return
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The address for COMET_URL_OVERRIDE."""
        return f"http://127.0.0.1:{self._server.server_port}/clientlib/"

    @property
    def experiment(self) -> StoredExperiment:
        """The only experiment."""
        (only,) = self.experiments.values()
        return only

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, body: bytes, key: str) -> tuple[int, Any]:
        """Return status and answer to a request."""
        with self._lock:
            self.paths.append(path)
            if KEY not in (key, json.loads(body).get("apiKey") if body[:1] == b"{" else key):
                return 401, {"msg": "not allowed", "sdk_error_code": NO_SUCH_KEY}
            for fault in self.faults:
                if fault.word in path and fault.times:
                    fault.times -= 1
                    if fault.lost:
                        self._effect(path, body)
                    if fault.then:
                        fault.then()
                    # of an answer that is not its server's, Comet's error has no text at all
                    return fault.status, {} if fault.status == 404 else {"msg": f"for {KEY}"}
            return self._effect(path, body)

    def _effect(self, path: str, body: bytes) -> tuple[int, Any]:
        split = urlsplit(path)
        asked = defaultdict(list, parse_qs(split.query))
        told: dict[str, Any] = json.loads(body) if body[:1] == b"{" else {}
        key = told.get("experimentKey") or told.get("previousExperiment")
        key = key or next(iter(asked["experimentKey"] or asked["experimentId"]), "")
        there = self.experiments.get(key)
        end = split.path.rpartition("/")[2]
        if split.path.endswith("add/run") and there is None:
            there = StoredExperiment(told["projectName"], told["teamName"] or "")
            self.experiments[key] = there
        elif split.path.endswith("add/run") and not told["getOrCreateEnabled"]:
            return 400, {"msg": "it exists", "sdk_error_code": EXISTS}
        if end == "metadata" and there is None:
            return 404, {"msg": "no such experiment"}
        shown = there.metrics if there else []
        replies: dict[str, dict[str, Any]] = {
            "run": {"runId": key, "focusUrl": "http://comet.test/team/project/"},
            "ver": {"version": "99.0.0"},
            "account-details": {"userName": "me", "defaultWorkspaceName": "team"},
            "metadata": {
                "experimentKey": key,
                "workspaceName": "team",
                "projectName": "project",
                "experimentName": "name",
            },
            "get-all": {
                "metrics": [it | {"metricValue": str(it["metricValue"])} for it in shown],
            },
        }
        if end not in replies and there:
            self._store(there, split.path, told, asked)
        beats = {"is_alive_beat_duration_millis": 10_000, "gpu_monitor_interval_millis": 10_000}
        return 200, replies.get(end, beats)

    def _store(
        self, there: StoredExperiment, path: str, told: dict[str, Any], asked: dict[str, list[str]]
    ) -> None:
        if path.endswith("experiment/metric"):
            there.metrics += told["values"]
        elif path.endswith("experiment/parameter"):
            there.parameters |= {it["parameterName"]: it["parameterValue"] for it in told["values"]}
        elif path.endswith("log-other"):
            there.others[told["key"]] = told["value"]
        elif path.endswith("add-tags-to-experiment"):
            there.tags += told["addedTags"]
        elif path.endswith("visualizations/upload"):
            there.images.append((asked["figName"][0], int(asked["step"][0])))
        elif path.endswith("asset/upload"):
            there.assets.append((asked["fileName"][0], int(asked["step"][0])))
