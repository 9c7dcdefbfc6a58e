"""One clipwatch for each output directory of a machine, whatever their state directories."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
import sys
from pathlib import Path

from clipwatch.kit.filesystems import LOCAL, file_system

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Claim:
    """Holds the directory that was taken last, until it is closed or the process ends.

    By a name in Linux's abstract socket namespace (man 7 unix): that leaves no file anywhere, and
    keeps no disk from being unmounted. It is one for each network namespace, hence containers do
    not see each other's.
    """

    def __init__(self) -> None:
        self._place: tuple[int, int] | None = None
        self._socket: socket.socket | None = None

    def take(self, output_dir: Path, address: str = "") -> str:
        """Return "" if the directory is ours now, else who has it.

        Args:
            output_dir: The directory.
            address: From which it is copied: then that is what is taken, "" for none.

        Raises:
            OSError: It cannot be looked at.
        """
        found = output_dir.stat()
        place = (found.st_dev, found.st_ino)
        if (self._socket and place == self._place) or sys.platform != "linux":
            return ""
        self.close()
        real = os.path.realpath(output_dir)
        # elsewhere the numbers of directories change while they stay
        key = address or (str(place) if file_system(Path(real)) in LOCAL else real)
        name = b"\0clipwatch/" + hashlib.sha256(key.encode()).hexdigest().encode()
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.bind(name)
            ours.listen(1)
        except OSError as error:
            ours.close()
            taken = error.errno == errno.EADDRINUSE  # a sandbox may forbid such names
            return _holder(name) if taken else ""
        self._place, self._socket = place, ours
        return ""

    def close(self) -> None:
        """Let go of it."""
        if self._socket:
            self._socket.close()
        self._socket = None


def _holder(name: bytes) -> str:
    """Say who listens there; the kernel tells, that process need not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(name)
            told = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:  # its queue is full of others that ask, or it has just ended
            return "another clipwatch"
    pid, _, _ = _CREDENTIALS.unpack(told)
    return f"another clipwatch (pid {pid})" if pid else "another clipwatch"
