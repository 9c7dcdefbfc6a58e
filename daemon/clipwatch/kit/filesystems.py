"""On which kind of file system something lies, and folders that are only ours."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs"})
"""Where inotify sees every change, and a file that is open may be deleted with its folder."""

_MOUNTS_SECONDS = 10.0
"""How long what is mounted is known."""


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


def inode_of(found: os.stat_result) -> int:
    """Return the inode by which a file is known again; 0 where its number changes though it stays.

    sshfs, rclone, s3fs and others give a file another one when they were mounted anew or forgot it.
    """
    moment = int(time.monotonic() / _MOUNTS_SECONDS)
    return found.st_ino if _is_local(found.st_dev, moment) else 0


@lru_cache(maxsize=256)
def _is_local(device: int, _moment: int) -> bool:
    """Whether a device is no mount that is known not to be local."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    number = f"{os.major(device)}:{os.minor(device)}"
    parts = (line.partition(" - ") for line in mounts.splitlines())
    kinds = {after.split()[0] for before, _, after in parts if before.split()[2] == number}
    return not kinds or not kinds.isdisjoint(LOCAL)


def make_private(folder: Path) -> None:
    """Make a folder and those above it that lack, all with mode 0700; they survive a power cut.

    Raises:
        OSError: It cannot be made, or is `planted`.
    """
    if planted(folder):
        raise OSError(errno.ELOOP, "leads over a link of another user", str(folder))
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)


def planted(folder: Path) -> bool:
    """Whether a path leads over a link of somebody who is neither root, we, nor the owner there.

    So does Linux judge of links in /tmp (protected_symlinks in proc_sys_fs(5)).
    """
    for place in (folder, *folder.parents):
        with suppress(OSError):
            found = place.lstat()
            trusted = (0, os.geteuid(), place.parent.stat().st_uid)
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in trusted:
                return True
    return False


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where we may and its file system can.

    Raises:
        OSError: The disk fails, or is full.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
