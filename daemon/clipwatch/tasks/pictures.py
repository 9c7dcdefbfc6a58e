"""Images of another state directory in ours: its blocks, its file, or a copy."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO, Final

from clipwatch.domain.names import leads_inside
from clipwatch.kit.filesystems import make_private, sync_folder
from clipwatch.kit.ownfiles import open_own

_FICLONE: Final = 0x40049409


def bring(there: Path, before: str, here: Path, now: str, *, dry: bool) -> bool:
    """Have an image here as well; return whether it was brought, False where it is none or here.

    Args:
        there: The folder of a run's images in the other state directory, which is only read.
        before: The image's file below it; a log may name any, and no other is touched.
        here: The folder of ours.
        now: The image's file below it.
        dry: Only tell whether it would be.

    Raises:
        OSError: The disk is full, or not ours to write to.
    """
    source, target = there / before, here / now
    if not (leads_inside(before) and leads_inside(now)) or target.is_symlink() or target.exists():
        return False
    if not source.is_file() or not source.resolve().is_relative_to(there.resolve()):
        return False
    if not dry:
        make_private(target.parent)
        _take(source, target)
    return True


def is_name(run: str) -> bool:
    """Whether a run's name is that of a folder, and leads nowhere else: a log may hold any."""
    return leads_inside(run) and "/" not in run


def _take(source: Path, target: Path) -> None:
    """Make a file that is whole or not there."""
    fresh = target.with_name(f".{target.name}.new")
    fresh.unlink(missing_ok=True)  # of an import that was killed
    try:
        with open(source, "rb", opener=open_own) as file:
            if not (_cloned(file, fresh) or _linked(source, fresh)):
                with open(fresh, "xb", opener=open_own) as own:
                    shutil.copyfileobj(file, own)
                    own.flush()
                    os.fsync(own.fileno())
        fresh.replace(target)
        sync_folder(target.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _cloned(file: IO[bytes], fresh: Path) -> bool:
    with open(fresh, "xb", opener=open_own) as own:
        try:
            fcntl.ioctl(own, _FICLONE, file.fileno())
        except OSError:
            fresh.unlink()
            return False
        os.fsync(own.fileno())
        return True


def _linked(source: Path, fresh: Path) -> bool:
    try:
        os.link(source, fresh, follow_symlinks=False)
    except OSError:  # another disk, or another's file
        return False
    return True
