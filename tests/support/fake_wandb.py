"""A W&B server on loopback: as much of one as the real wandb-core and `wandb.Api` ask for.

It keeps rows the way the real one is known to (lines by absolute offset) and can be told to
misbehave. It proves nothing about the real server's delays, limits or order.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

ENTITY = "team"
KEY = "0123456789abcdef" * 2 + "01234567"
HANG, CLOSE = 0, -1
"""Faults that are no HTTP status: no answer while the server runs, or none at all."""


@dataclass
class StoredRun:
    """One run as the server holds it; `lines` maps an offset to a row of the history."""

    entity: str
    project: str
    id: str
    name: str = ""
    group: str | None = None
    job_type: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: list[int] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows in the order of their offsets."""
        return [self.lines[offset] for offset in sorted(self.lines)]

    @property
    def points(self) -> list[tuple[int, int]]:
        """What a chart shows first of all: (`_step`, `clipwatch/step`) of each row."""
        return [(row["_step"], row["clipwatch/step"]) for row in self.rows]

    @property
    def last_step(self) -> int:
        """The highest `_step`, -1 without rows."""
        return max((row["_step"] for row in self.rows), default=-1)


@dataclass
class Fault:
    """The next `times` requests named `label` ("*": any) get `status`, which may be HANG or CLOSE.

    The first `after` of them still pass. With `lost` a request takes effect all the same. `then` is
    called before it is answered. `retry_after` is told with every answer, in seconds.
    """

    label: str
    status: int
    times: int = 10**6
    lost: bool = False
    then: Callable[[], None] | None = None
    retry_after: int | None = None
    after: int = 0


@dataclass(frozen=True)
class Answer:
    """An HTTP status (HANG or CLOSE: the connection is dropped), JSON, and Retry-After."""

    status: int
    reply: Any
    retry_after: int | None = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # wandb-core uploads all files at once
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a killed client leaves broken connections behind."""


class FakeWandb:
    """The server, in threads of this process, from `__enter__` to `__exit__`.

    Attributes:
        runs: By (entity, project, id).
        requests: The labels of all requests: GraphQL operation names, "history" (a file stream
            with rows), "file_stream" (one without), "storage" (an upload).
        faults: What is to go wrong; the first that fits is taken.
    """

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str, str], StoredRun] = {}
        self.requests: list[str] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def run(self) -> StoredRun:
        """The only run there is."""
        (run,) = self.runs.values()
        return run

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, key: str, body: bytes) -> Answer:
        """Return what one request gets."""
        parts = path.strip("/").split("/")
        query = json.loads(body) if parts[0] == "graphql" else {}
        label = query.get("operationName") or _operation(query.get("query", "")) or parts[0]
        if label == "files":
            label = "history" if b"wandb-history" in body else "file_stream"
        with self._lock:
            self.requests.append(label)
            fault = self._fault(label)
            if key != KEY:
                return Answer(401, {"errors": [{"message": "user is not logged in"}]})
            reply = None if fault and not fault.lost else self._act(parts, label, query, body)
        if fault is None:
            return Answer(200, reply)
        if fault.then:
            fault.then()
        if fault.status == HANG:
            self._stopped.wait()
        reply = {"errors": [{"message": f"injected {fault.status}"}]}
        return Answer(fault.status, reply, fault.retry_after)

    def _fault(self, label: str) -> Fault | None:
        for fault in self.faults:
            if fault.label in {label, "*"} and fault.times:
                if fault.after:
                    fault.after -= 1
                else:
                    fault.times -= 1
                    return fault
        return None

    def _act(self, parts: list[str], label: str, query: dict[str, Any], body: bytes) -> Any:
        if label in {"file_stream", "history"}:
            return self._file_stream(self._run(*parts[1:4]), json.loads(body))
        if label == "storage":
            self._run(*parts[1:4]).files["/".join(parts[4:])] = body
            return {}
        if not query:
            return {}
        variables = query.get("variables") or {}
        data = getattr(self, f"_{label}", lambda _variables: None)(variables)
        if data is None:
            return {"data": None, "errors": [{"message": f"{label} is not known here"}]}
        return {"data": data}

    def _run(self, entity: str, project: str, run_id: str) -> StoredRun:
        key = (entity or ENTITY, project, run_id)
        return self.runs.setdefault(key, StoredRun(*key))

    def _named(self, variables: dict[str, Any]) -> StoredRun | None:
        entity = variables.get("entity") or ENTITY
        run_id = variables.get("name") or variables.get("run") or variables.get("runName")
        return self.runs.get((entity, variables["project"], str(run_id)))

    @staticmethod
    def _file_stream(run: StoredRun, sent: dict[str, Any]) -> dict[str, Any]:
        files = sent.get("files") or {}
        history = files.get("wandb-history.jsonl") or {"offset": 0, "content": []}
        for index, line in enumerate(history["content"]):
            run.lines[history["offset"] + index] = json.loads(line)
        for line in (files.get("wandb-summary.json") or {"content": []})["content"]:
            run.summary = json.loads(line)
        if sent.get("complete"):
            run.complete.append(sent.get("exitcode", 0))
        return {"exitcode": None, "limits": {}}

    def _Viewer(self, _variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - its name there
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        viewer = {"id": "u1", "entity": ENTITY, "username": "u", "email": "", "flags": "{}"}
        return {"viewer": viewer | {"admin": False, "apiKeys": {"edges": []}, "teams": teams}}

    _GetViewer = _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, _variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _RunStoppedStatus(self, _variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"run": {"stopped": False}}}

    def _NotifyScriptableRunAlert(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        key = (variables["entityName"], variables["projectName"], variables["runName"])
        self._run(*key).alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self._named(variables)
        entity = {"id": "e1", "name": variables.get("entity") or ENTITY}
        model = {"id": "p1", "name": variables["project"], "entity": entity, "bucket": None}
        if run:
            tail = json.dumps([json.dumps(row) for row in run.rows[-1:]])
            model["bucket"] = _bucket(run) | {
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyTail": tail,
                "eventsTail": "[]",
                "tags": [],
                "notes": None,
                "wandbConfig": json.dumps({"t": 1}),  # without it wandb-core sees no old run
            }
        return {"model": model}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run_id = variables["name"] or variables["id"]
        run = self._run(variables.get("entity") or ENTITY, variables["project"], run_id)
        run.name = variables.get("displayName") or run.name or run.id
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.config = json.loads(variables.get("config") or "{}") or run.config
        return {"upsertBucket": {"bucket": _bucket(run), "inserted": not run.lines}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        base = f"{self.url}/storage/{variables['entity']}/{variables['project']}/{variables['run']}"
        files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "r1", "uploadHeaders": [], "files": files}}

    def _MarkRunFilesUploaded(self, _variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"markRunFilesUploaded": {"success": True}}

    def _Run(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self._named(variables)
        keys = {"historyKeys": {"lastStep": run.last_step, "keys": {}}} if run else {}
        return {"project": {"run": _bucket(run) | keys if run else None}}

    _RunHistoryKeys = _QueryRunInfo = _Run

    def _RunParquetHistory(self, _variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}

    def _HistoryPage(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self._named(variables)
        first, last = int(variables["minStep"]), int(variables["maxStep"])
        rows = [row for row in (run.rows if run else []) if first <= row["_step"] < last]
        return {"project": {"run": {"history": [json.dumps(row) for row in rows]}}}

    def _SampledHistoryPage(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run, spec = self._named(variables), json.loads(variables["spec"])
        keys = dict.fromkeys(spec["keys"])
        steps = range(spec["minStep"], spec["maxStep"] + 1)
        rows = [row for row in (run.rows if run else []) if row["_step"] in steps]
        full = [{key: row[key] for key in keys} for row in rows if keys.keys() <= row.keys()]
        return {"project": {"run": {"sampledHistory": [full]}}}


def _bucket(run: StoredRun) -> dict[str, Any]:
    project = {"id": "p1", "name": run.project, "entity": {"id": "e1", "name": run.entity}}
    return {
        "id": "r1",
        "projectId": "1",
        "name": run.id,
        "displayName": run.name,
        "description": None,
        "state": "finished" if run.complete else "running",
        "group": run.group,
        "jobType": run.job_type,
        "config": json.dumps(run.config),
        "summaryMetrics": json.dumps(run.summary),
        "systemMetrics": "{}",
        "sweepName": None,
        "tags": [],
        "project": project,
        "historyLineCount": len(run.lines),
    }


def _operation(query: str) -> str:
    words = query.replace("(", " ").replace("{", " ").split()
    return next(
        (words[i + 1] for i, word in enumerate(words[:-1]) if word in {"query", "mutation"}), ""
    )


def _handler(fake: FakeWandb) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            scheme, _, secret = (self.headers.get("Authorization") or "").partition(" ")
            key = base64.b64decode(secret).decode().partition(":")[2] if scheme == "Basic" else KEY
            answer = fake.answer(self.path.partition("?")[0], key, body)
            if answer.status in {HANG, CLOSE}:
                self.close_connection = True
                return
            out = json.dumps(answer.reply).encode()
            self.send_response(answer.status)
            if answer.retry_after is not None:
                self.send_header("Retry-After", str(answer.retry_after))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base's
            pass

    return Handler
