"""Event files as TensorBoard reads them: checked records, and one file at a time in a run folder.

A record is its payload's length (u64), the masked CRC-32C of those 8 bytes (u32), the payload, and
the masked CRC-32C of the payload (u32), all little-endian: TensorFlow's TFRecord.

TensorBoard hides points that come late or twice, loses the rest of a file whose end was torn and
then written to again, and does not notice a file replaced under its name. So a file is only ever
appended to while it is whole; anything else becomes a new generation under a new name.

The generation before is emptied, not removed: TensorBoard's Python reader never leaves a file that
is gone (DirectoryWatcher.Load), but goes on from the end of an empty one to the next.
"""

from __future__ import annotations

import fcntl
import filecmp
import os
import re
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import google_crc32c

from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.kit.filesystems import sync_folder
from clipwatch_adapters.shared.disk import private

PREFIX = "events.out.tfevents.clipwatch."
"""Our files' names are this and a number; they sort after a stock writer's, which hold a time."""
_DIGITS = 10
UNFINISHED = "clipwatch.unfinished"
"""A generation being written; TensorBoard opens only names with "tfevents" in them."""

LOCK_SECONDS = 10.0
"""How long another publisher of one folder is waited for: a write takes a moment."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
EMPTY_SECONDS = 86_400.0
"""How long an emptied file stays: far beyond the time that a reader needs to come by again."""
OVERHEAD = _HEADER.size + _FOOTER.size
"""Bytes of a record beside its payload."""


def frame(payload: bytes) -> bytes:
    """Return the payload as one record."""
    length = len(payload)
    header = _HEADER.pack(length, _masked_crc(length.to_bytes(8, "little")))
    return header + payload + _FOOTER.pack(_masked_crc(payload))


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, payload) of each record up to the first that is torn or damaged."""
    with opened(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, check = _HEADER.unpack(header)
            if check != _masked_crc(header[:8]) or offset + length + OVERHEAD > size:
                return
            payload = file.read(length)
            if file.read(_FOOTER.size) != _FOOTER.pack(_masked_crc(payload)):
                return
            yield offset, payload
            offset += length + OVERHEAD


def opened(path: Path, mode: str) -> IO[bytes]:
    """Open one of our files, never what others planted under its name: links, pipes.

    Made, it is for whoever shall see the trainer's curves, as the umask says.

    Raises:
        OSError: It cannot be opened, or is no file of ours.
    """
    return open(path, mode, opener=partial(private, mode=0o666))


def newest(folder: Path) -> Path | None:
    """Return our file in the folder that counts, if there is one."""
    return max(_ours(folder), default=None)


def append(path: Path, frames: Iterable[bytes]) -> None:
    """Write records to the end of a whole file; on return they are on disk."""
    with opened(path, "ab") as file:
        for record in frames:
            _write(file.fileno(), record)
        os.fsync(file.fileno())


def replace(folder: Path, frames: Iterable[bytes]) -> None:
    """Write a new generation and empty the one before; readers see either, whole.

    `frames` may read the file that is replaced.
    """
    name = _following(newest(folder))
    unfinished = folder / UNFINISHED
    try:
        unfinished.unlink(missing_ok=True)
        with opened(unfinished, "xb") as file:
            for record in frames:
                _write(file.fileno(), record)
            os.fsync(file.fileno())
        unfinished.rename(folder / name)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()  # on a full disk this is the room that others wait for
        raise
    sync_folder(folder)
    tidy(folder)


def make(folder: Path) -> None:
    """Make a run's folder, if it is not there; it survives a power cut."""
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def move(folder: Path, to: Path) -> None:
    """Move a run's file to another folder, which may be on another disk.

    Killed amid it, the file is in one of them, or whole in both; called again, it goes on. Where
    something else stands, both stay as they are.
    """
    file, there = newest(folder), newest(to)
    if file and there and not filecmp.cmp(file, there, shallow=False):
        return
    if file and there is None:
        make(to)
        with opened(file, "rb") as source:
            replace(to, iter(lambda: source.read(1 << 20), b""))
    (folder / UNFINISHED).unlink(missing_ok=True)
    for path in _ours(folder):
        path.unlink()
    with suppress(OSError):  # somebody else's file is in it
        folder.rmdir()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other publishers out of a folder, if it is there; on NFS, which cannot, hope for none.

    Raises:
        TrackerUnavailable: One is at it, and does not come to its end.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield
        return
    try:
        _lock(fd, folder)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                what = f"TensorBoard: another clipwatch is writing to {folder}"
                raise TrackerUnavailable(what) from None
        except OSError:
            return None
        time.sleep(0.05)


def tidy(folder: Path) -> None:
    """Finish what a killed `replace` left, and remove what was emptied long ago.

    The second name of a file is a backup's (cp -al, rsnapshot), which keeps what is in it.
    """
    unfinished = folder / UNFINISHED
    unfinished.unlink(missing_ok=True)
    for path in sorted(_ours(folder))[:-1]:
        found = path.lstat()
        if found.st_size and found.st_nlink > 1:
            opened(unfinished, "xb").close()
            unfinished.rename(path)
        elif found.st_size:
            with opened(path, "r+b") as file:
                file.truncate(0)
        elif time.time() - found.st_mtime > EMPTY_SECONDS:
            path.unlink()


def _masked_crc(data: bytes) -> int:
    """Return the CRC as TFRecord stores it: rotated and offset, so that CRCs of CRCs stay sound."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _following(old: Path | None) -> str:
    """Return the name of the next generation, which every reader sorts behind that of the old one.

    Behind the highest number, which only others can have written, comes a longer name.
    """
    digits = "0" * _DIGITS if old is None else old.name.removeprefix(PREFIX)
    number = f"{int(digits) + 1:0{len(digits)}d}"
    return PREFIX + (number if len(number) == len(digits) else f"{digits}{1:0{_DIGITS}d}")


def _ours(folder: Path) -> list[Path]:
    """Return our files; a pipe under such a name would hold us, a link lead to another's file."""
    name = re.compile(re.escape(PREFIX) + f"([0-9]{{{_DIGITS}}})+")
    try:
        with os.scandir(folder) as found:
            plain = [it.name for it in found if it.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [folder / it for it in plain if name.fullmatch(it)]


def _write(fd: int, data: bytes) -> None:
    """Write all of it; the kernel may take less at once, as when a disk fills up."""
    while data:
        data = data[os.write(fd, data) :]
