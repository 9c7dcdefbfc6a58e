"""The copies: a folder of ours, and beside it what lies there only for a while, and a list."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from clipwatch.kit.decoding import decoder
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.ownfiles import read_own, write_private
from clipwatch.mirror.choosing import Had
from clipwatch.mirror.entries import Entry, RemoteFile, is_safe

MARGIN: Final = 2**30
"""Bytes that a copy leaves free on its disk, as one that staging makes; a twentieth of a small."""


class Copies:
    """Copies of checkpoints below a folder, each made beside it and moved in when it is whole.

    Used from one thread; who looks into the folder holds the lock of whoever calls meanwhile.

    Args:
        folder: Ours alone; need not exist.

    Raises:
        OSError: It cannot be made, or not be tidied.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = folder.with_name(f".{folder.name}.part")
        self._list = folder.with_name(f"{folder.name}.json")
        make_private(folder)
        shutil.rmtree(self._part, ignore_errors=True)
        self.had = self._read()
        """Name → what was copied of it; another one after each change."""
        self._written: Mapping[str, Had] | None = None
        self._tidy()

    @property
    def names(self) -> frozenset[str]:
        """Of which there is a copy; may be asked from any thread."""
        return frozenset(name for name, it in self.had.items() if it.paths)

    def make(self, entry: Entry, fetch: Callable[[RemoteFile, Path], None]) -> None:
        """Copy a checkpoint beside the folder; `fetch` may raise whatever ends it.

        Raises:
            ClipwatchError: There is too little room.
            OSError: It cannot be written.
        """
        self.forget()
        disk = os.statvfs(self._folder)
        margin = min(MARGIN, disk.f_blocks * disk.f_frsize // 20)
        if disk.f_bavail * disk.f_frsize - entry.size < margin:
            need = f"{(entry.size + margin) / 2**20:,.0f} MiB free in {self._folder}"
            raise ClipwatchError(f"{entry.name} needs {need}", fix="make room, or move state_dir")
        self._part.mkdir(mode=0o700)
        for path in entry.marks:
            mark = self._part / path
            mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mark.touch(mode=0o600)
        for file in entry.files:
            fetch(file, self._part / file.path)

    def take(self, entry: Entry) -> None:
        """Move in what was made, in the place of an earlier copy; the lock is held.

        Raises:
            OSError: It cannot be moved.
        """
        paths = (*(it.path for it in entry.files), *entry.marks)
        for path in paths:
            to = self._folder / path
            to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._part / path).rename(to)
        before = self.had.get(entry.name)
        self._delete(set(before.paths).difference(paths) if before else ())
        self.had = {**self.had, entry.name: Had(entry.signature, time.time(), paths)}

    def drop(self, name: str) -> None:
        """Delete a copy; the lock is held."""
        known = self.had[name]
        self._delete(known.paths)
        self.had = {**self.had, name: Had(known.signed, 0.0)}  # all was told of it

    def write(self, names: Iterable[str]) -> None:
        """Bring the list to the disk; of what is neither here nor among `names` nothing is kept.

        Raises:
            OSError: It cannot be written.
        """
        known = set(names)
        self.had = {it: had for it, had in self.had.items() if had.paths or it in known}
        if self.had != self._written:
            write_private(self._list, msgspec.json.encode(self.had), lasting=True)
            self._written = self.had

    def forget(self) -> None:
        """Delete what was not finished."""
        shutil.rmtree(self._part, ignore_errors=True)

    def _read(self) -> dict[str, Had]:
        """Return what the list says, nothing where it was lost: the log knows what is scored."""
        try:
            read: dict[str, Had] = decoder(dict[str, Had]).decode(read_own(self._list))
        except (OSError, msgspec.MsgspecError):
            return {}
        whole = {}
        for name, had in read.items():
            safe = all(map(is_safe, had.paths))
            there = safe and all((self._folder / it).is_file() for it in had.paths)
            whole[name] = had if there else Had(had.signed, had.at)
        return whole

    def _tidy(self) -> None:
        """Delete what the list does not name: a kill came between."""
        listed = {self._folder / path for it in self.had.values() for path in it.paths}
        for folder, _, names in os.walk(self._folder, topdown=False):
            for path in (Path(folder, name) for name in names):
                if path not in listed:
                    path.unlink()
            with suppress(OSError):  # it is not empty
                if Path(folder) != self._folder:
                    Path(folder).rmdir()

    def _delete(self, paths: Iterable[str]) -> None:
        folders: set[PurePosixPath] = set()
        for path in paths:
            (self._folder / path).unlink(missing_ok=True)
            folders.update(PurePosixPath(path).parents)
        for folder in sorted(folders - {PurePosixPath()}, key=lambda it: -len(it.parts)):
            with suppress(OSError):  # others lie there
                (self._folder / folder).rmdir()
