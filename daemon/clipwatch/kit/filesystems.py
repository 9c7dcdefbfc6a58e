"""On which kind of file system something lies, and folders that are only ours."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs"})
"""Where inotify sees every change, and a file that is open may be deleted with its folder."""


def file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`, by the mount nearest above it.

    Read from /proc/self/mountinfo (man 5 proc_pid_mountinfo); "" where there is none.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    nearest, kind = Path(), ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        escaped = before.split()[4]
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped))
        if path.is_relative_to(point) and len(point.parts) >= len(nearest.parts):
            nearest, kind = point, after.split()[0]
    return kind


def make_private(folder: Path) -> None:
    """Make a folder and those above it that lack, all with mode 0700; they survive a power cut.

    Raises:
        OSError: It cannot be made.
    """
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system can: all in it stand on it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
