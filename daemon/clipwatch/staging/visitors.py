"""Whether somebody is at a folder, as a trainer is who begins to delete it.

Where a file that is open cannot be deleted (NFS, FUSE, SMB) it is put aside under another name in
its folder, and the trainer's rmtree fails because the folder is not empty: with bindfs in 47 of 60
cases while a file was copied. But rmtree opens each folder before it deletes in it, and inotify
tells of that in time to close the file: then it failed in 9 of 1004.

watchdog, which watches the output directory, cannot be asked: it drops the events of folders being
opened, and hands the others over from a thread of its own, while a copy must know between two
chunks. What lies below that in it is private, and was written anew between its versions 6 and 7.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_OPEN: Final = 0x20
_CHANGED: Final = 0x40 | 0x80 | 0x200 | 0x400 | 0x800  # moved from or to, deleted, itself deleted
_IS_FOLDER: Final = 0x40000000
_EVENT: Final = struct.Struct("iIII")

_QUIET_MS: Final = 100
_PATIENCE: Final = 20

_libc = ctypes.CDLL(None, use_errno=True)


class Visitors:
    """Watches folders; where the kernel lends no watch nobody is ever seen.

    Args:
        folders: Those that hold the files to be read, and the checkpoint's own.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._inotify = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._inotify >= 0:
            for folder in folders:
                _libc.inotify_add_watch(self._inotify, os.fsencode(folder), _OPEN | _CHANGED)

    def seen(self) -> bool:
        """Whether a folder was opened, or something in it deleted, since this was asked last."""
        found = False
        while self._inotify >= 0:
            try:
                events = os.read(self._inotify, 65_536)
            except BlockingIOError:
                break
            found |= _by_others(events)
        return found

    def wait(self) -> None:
        """Wait until nobody has been seen for a moment, two seconds at most."""
        poll = select.poll()
        poll.register(self._inotify, select.POLLIN)
        for _ in range(_PATIENCE):
            if not poll.poll(_QUIET_MS):
                return
            self.seen()

    def close(self) -> None:
        """Stop watching."""
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1


def _by_others(events: bytes) -> bool:
    """Whether they tell of more than files being opened, as we do ourselves."""
    offset = 0
    while offset < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, offset)
        offset += _EVENT.size + length
        if mask & _CHANGED or (mask & _OPEN and mask & _IS_FOLDER):
            return True
    return False
