"""One address: what lies there, a file of it, and what its errors mean. Asks the network."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.secrets import masked
from clipwatch.kit.textfiles import plain
from clipwatch.layouts.claims import installed
from clipwatch.mirror.entries import RemoteFile, found, is_needed, is_safe, is_weights

Kind = Literal["missing", "refused", "unreachable"]

_TAGS: Final = ("etag", "blob_id", "oid", "xet_hash", "md5Hash", "md5", "content_md5", "generation")
_TIMES: Final = ("lastmodified", "last_modified", "mtime", "modified", "updated", "uploaded_at")
_REFUSALS: Final = (401, 403)
_UNKNOWN: Final = ("NoCredentialsError", "CredentialRetrievalError", "GatedRepoError")
_KEYS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "HF_TOKEN",
}
_OF_DISKS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What a server's errors are not."""
_SHOWN: Final = 200


class Unreachable(ClipwatchError):  # noqa: N818 - says what is so
    """An address does not give what it was asked for.

    Args:
        kind: Whether that may pass: by itself, when something is there, or by a person's doing.
        problem: As ClipwatchError's.
        fix: As ClipwatchError's.
    """

    def __init__(self, kind: Kind, problem: str, *, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.kind = kind


class Remote:
    """What lies at an address; may block for as long as its package lets a server be silent.

    Args:
        address: As `kit.addresses.address` returns it, and usable here.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def files(self) -> list[RemoteFile]:
        """Return all files below it, as they are now.

        Raises:
            Unreachable: They cannot be listed.
        """
        try:
            fs, root = self._opened()
            fs.invalidate_cache()
            listed: Mapping[str, Mapping[str, Any]] = fs.find(root, detail=True)
            if not listed and not fs.exists(root):
                raise FileNotFoundError
        except Exception as error:
            raise self._meant(error) from error
        start = f"{root.rstrip('/')}/"
        return [
            _file(name.removeprefix(start), told)
            for name, told in sorted(listed.items())
            if name.startswith(start) and told.get("type", "file") == "file"
        ]

    def fetch(self, file: RemoteFile, to: Path) -> None:
        """Copy a file to one of ours, which is on the disk then.

        Raises:
            Unreachable: It cannot be had, or was another one at the end.
            OSError: It cannot be written.
        """
        try:
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fs, root = self._opened()
            fs.get_file(f"{root.rstrip('/')}/{file.path}", str(to))
            to.chmod(0o600)
            with to.open("rb") as copied:
                os.fsync(copied.fileno())
                written = os.fstat(copied.fileno()).st_size
            _date(to, file, lambda: fs.modified(f"{root.rstrip('/')}/{file.path}"))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OF_DISKS:
                raise
            raise self._meant(error, file.path) from error
        if written != file.size:
            told = (
                f"{self.address}/{file.path} has {written} bytes, and was listed with {file.size}"
            )
            raise Unreachable("unreachable", told)

    def fetch_all(self, folder: Path) -> Path:
        """Copy one checkpoint, whose folder the address is, below a folder of ours; return where.

        Raises:
            Unreachable: It cannot be had, holds nothing that is evaluated, or several.
            OSError: It cannot be written.
        """
        files = [it for it in self.files() if is_safe(it.path) and is_needed(it)]
        inside = (it.place for it in found(folder, files, installed()).entries)
        if below := next((it for it in inside if it != folder), None):
            fix = f"name one of them, as {self.address}/{below.relative_to(folder).as_posix()}"
            raise Unreachable("missing", f"{self.address} holds checkpoints", fix=fix)
        if not any(map(is_weights, files)):
            fix = "name the folder of one checkpoint"
            raise Unreachable("missing", f"{self.address} holds no weights in safetensors", fix=fix)
        place = folder / PurePosixPath(self.address).name
        for file in files:
            self.fetch(file, place / file.path)
        return place

    def _opened(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        if self.address.startswith("hf:"):  # its client would draw bars, and tell each new try
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        fs, root = url_to_fs(self.address)
        return fs, str(root)

    def _meant(self, error: BaseException, path: str = "") -> Unreachable:
        """Say what an error of any package means for the address, or for a file of it."""
        what = f"{self.address}/{path}" if path else self.address
        kind = _kind(error)
        keys = _KEYS.get(self.address.partition(":")[0], "")
        if kind == "missing" and (path or not keys):
            return Unreachable(kind, f"{what} does not exist{' any more' * bool(path)}")
        if kind == "missing":
            fix = f"correct it, or set {keys}"
            return Unreachable(kind, f"{what} does not exist, or for others only", fix=fix)
        if kind == "refused":
            told = f"{what} may not be read ({_short(error)})"
            return Unreachable(kind, told, fix=f"set {keys or 'its keys'} in the environment")
        return Unreachable(kind, f"{what} cannot be read just now ({_short(error)})")


def _file(path: str, told: Mapping[str, Any]) -> RemoteFile:
    """Read what a listing tells of a file; each package has names of its own for it."""
    known = {name.lower(): it for name, it in told.items() if it is not None}
    tag = next((str(known[it.lower()]) for it in _TAGS if it.lower() in known), "")
    time = next((known[it] for it in _TIMES if it in known), None)
    seconds = time.timestamp() if isinstance(time, datetime) else time
    mtime = float(seconds) if isinstance(seconds, int | float) else None
    if not tag:
        tag = f"{mtime} {known.get('ino', '')} {known.get('created', '')}"
    return RemoteFile(path, int(known.get("size", 0)), tag, mtime)


def _date(copied: Path, file: RemoteFile, ask: Callable[[], datetime]) -> None:
    """Give a copy its original's time, for which the Hub has to be asked, and is of weights."""
    written = file.mtime
    if written is None and is_weights(file):
        with suppress(NotImplementedError):
            written = ask().timestamp()
    if written is not None:
        os.utime(copied, (written, written))


def _kind(error: BaseException) -> Kind:
    chain = list(_chain(error))
    names = {type(it).__name__ for it in chain}
    answers = (getattr(it, "response", None) for it in chain)
    codes = {_status(it) for it in answers}
    if codes.intersection(_REFUSALS) or names.intersection(_UNKNOWN):
        missing = "RepositoryNotFoundError" in names  # the Hub tells strangers no more
        return "missing" if missing else "refused"
    if any(isinstance(it, PermissionError) for it in chain):
        return "refused"
    gone = any(isinstance(it, FileNotFoundError | NotADirectoryError) for it in chain)
    return "missing" if gone else "unreachable"


def _status(response: Any) -> int:
    """Return the status of an answer, as requests and httpx or as botocore keep it; else 0."""
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    else:
        found = getattr(response, "status_code", 0)
    return found if isinstance(found, int) else 0


def _short(error: BaseException) -> str:
    text = " ".join(masked(str(error)).split())
    return plain(f"{type(error).__name__}: {text}"[:_SHOWN])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
