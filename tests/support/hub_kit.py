"""A Hub on loopback: as much of one as the real client asks for to download model folders."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "s3cret" * 5


@dataclass
class Hub:
    """What it offers, how it misbehaves, and what it was asked for.

    Attributes:
        repositories: Hub id → reference ("main", "refs/pr/1") → folder of its files.
        gated: Ids whose files are only for who has the token.
        cut: Names of files whose first download breaks off in the middle.
        held: Names of files of which the second half is sent when `gate` is set.
        gate: See there.
        asked: (method, path) of every request.
        url: Its address.
    """

    repositories: dict[str, dict[str, Path]]
    gated: frozenset[str] = frozenset()
    cut: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[str]:
        """Return the names of the files that were sent, in order."""
        return [
            path.split("/", 5)[5]
            for method, path in self.asked
            if method == "GET" and "/api" not in path
        ]


def commit_of(folder: Path) -> str:
    """Return what stands for the commit of a folder."""
    return hashlib.sha1(str(folder).encode()).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the Hub at `hub.url`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        """Answer as the Hub does."""
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models").strip("/").split("/")
        owner, name, what, *rest = parts if len(parts) > 2 else [*parts, "revision", "main"]
        references = self.hub.repositories.get(f"{owner}/{name}")
        if references is None:
            self.refuse(404, "RepoNotFound")
        elif what == "discussions":
            offers = [_offer(ref) for ref in references if ref != "main"]
            self.answer({"discussions": offers, "start": 0, "count": len(offers)})
        elif (found := _resolve(references, "/".join(rest))) is None:
            self.refuse(404, "RevisionNotFound")
        elif what == "commits":
            both = dict.fromkeys(map(commit_of, (found[0], references["main"])))
            self.answer([{"id": it, "title": "", "message": "", "authors": [],
                          "date": "2024-01-01T00:00:00.000Z"} for it in both])  # fmt: skip
        elif what == "revision":
            siblings = [{"rfilename": it} for it in _files(found[0])]
            self.answer({"id": f"{owner}/{name}", "sha": commit_of(found[0]), "private": False,
                         "siblings": siblings, "downloads": 0, "likes": 0, "tags": []})  # fmt: skip
        elif what == "tree":
            below = f"{found[1]}/" if found[1] else ""
            listed = [_told(found[0], it) for it in _files(found[0]) if it.startswith(below)]
            if listed or not below:
                self.answer(listed)
            else:
                self.refuse(404, "EntryNotFound")
        elif f"{owner}/{name}" in self.hub.gated and TOKEN not in self.headers.get(
            "Authorization", ""
        ):
            self.refuse(403, "GatedRepo")
        elif api or not (found[0] / found[1]).is_file():
            self.refuse(404, "EntryNotFound")
        else:
            self.send_file(found[0], found[1])

    def do_POST(self) -> None:
        """Tell of some files, with when each was written."""
        length = int(self.headers.get("Content-Length", 0))
        asked = parse_qs(self.rfile.read(length).decode()).get("paths", [])
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        owner, name, _, *rest = path.removeprefix("/api/models/").split("/")
        found = _resolve(self.hub.repositories.get(f"{owner}/{name}", {}), "/".join(rest))
        if found is None:
            self.refuse(404, "RepoNotFound")
            return
        there = [it for it in asked if (found[0] / it).is_file()]
        self.answer([_told(found[0], it, dated=True) for it in there])

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def send_file(self, folder: Path, name: str) -> None:
        """Send a file, or the part that is asked for; the connection may break in the middle."""
        body = (folder / name).read_bytes()
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit_of(folder))
        self.send_header("Content-Length", str(len(body) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "GET" and name in self.hub.cut:
            self.hub.cut.discard(name)
            body = body[: len(body) // 2]
            self.close_connection = True
        if self.command == "GET" and name in self.hub.held:
            self.wfile.write(body[first : len(body) // 2])
            self.wfile.flush()
            first = max(first, len(body) // 2)
            self.hub.gate.wait()
        if self.command == "GET":
            with suppress(OSError):  # who asked was killed
                self.wfile.write(body[first:])

    def answer(self, content: Any) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        """Send an error as the Hub words it."""
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _resolve(references: dict[str, Path], rest: str) -> tuple[Path, str] | None:
    """Split REVISION/FILE: a branch, a pull request or a commit, and a file's path or ""."""
    for reference, folder in references.items():
        for written in (reference, commit_of(folder)):
            if rest == written or rest.startswith(f"{written}/"):
                return folder, rest[len(written) + 1 :]
    return None


def _told(folder: Path, name: str, *, dated: bool = False) -> dict[str, Any]:
    """Return what the Hub tells of a file; with its date, the commit's, where that is asked for."""
    file = folder / name
    told = {"type": "file", "path": name, "size": file.stat().st_size,
            "oid": hashlib.sha1(file.read_bytes()).hexdigest()}  # fmt: skip
    when = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    last = {"id": commit_of(folder), "title": "", "date": f"{when:%Y-%m-%dT%H:%M:%S.000Z}"}
    return {**told, "lastCommit": last} if dated else told


def _files(folder: Path) -> list[str]:
    return sorted(it.relative_to(folder).as_posix() for it in folder.rglob("*") if it.is_file())


def _offer(reference: str) -> dict[str, Any]:
    """Return a pull request of the conversion bot as the Hub lists it."""
    return {"num": int(reference.rsplit("/", maxsplit=1)[-1]), "author": {"name": "SFconvertbot"},
            "isPullRequest": True, "status": "open", "title": "Adding `safetensors` variant",
            "createdAt": "2024-01-01T00:00:00.000Z",
            "repo": {"name": "org/clip", "type": "model"}}  # fmt: skip
