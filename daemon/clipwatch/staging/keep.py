"""One checkpoint, kept in the way that suits the file systems it lies on and is kept on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from clipwatch.domain.kinds import StageMode
from clipwatch.domain.state import Checkpoint
from clipwatch.kit.filesystems import LOCAL, file_system, make_private
from clipwatch.layouts.learned import BESIDE
from clipwatch.staging import originals
from clipwatch.staging.copying import Unable, copy, link, make_folders, ours, reflink
from clipwatch.staging.kept import Held, Kept, as_held, holds, place_of, seal
from clipwatch.staging.originals import NotKept, theirs

MARGIN: Final = 2**30
"""Bytes that a copy leaves free on the disk it is made on; of a small disk, a twentieth."""


def keep(checkpoint: Checkpoint, folder: Path, mode: StageMode, wanted: Callable[[], bool]) -> Kept:
    """Keep a checkpoint below `folder`; `mode` is the setting "stage".

    Raises:
        NotKept: It vanished, changed, may not be read, or cannot be kept in this way.
        Unwanted: `wanted` said no while it was copied.
    """
    root = Path(checkpoint.path)
    in_place = Kept(Held(checkpoint.path, checkpoint.files, "in place"))
    if mode == "off":
        return in_place
    with theirs(root):
        local = file_system(root.resolve(strict=True)) in LOCAL
        whole, free = originals.whole_size(checkpoint), free_on(root)
    if mode == "pin" and not local:
        raise NotKept("stage", _SPOILS.format(root))
    ways: tuple[str, ...] = (mode,)
    if mode == "auto":
        # tokens are written over in place, and a pin would follow them
        over = any(it.path.endswith(BESIDE) for it in checkpoint.files)
        ways = ("reflink", *(() if over else ("pin",)), "copy") if local else ("copy",)
    if ways[0] != "copy" and free < 2 * whole:
        return in_place  # what we keep takes its space, which the trainer's next ones need
    files = originals.needed(checkpoint)
    place = place_of(checkpoint, folder)
    with ours(folder):
        make_private(place.parent)
    for way in ways:
        with suppress(Unable):
            if way == "pin":
                return _pin(checkpoint, files, place.with_name(f"{place.name}.pin"))
            with _finished(place, checkpoint) as part:
                if way == "reflink":
                    reflink(root, files, part)
                else:
                    _check_room(checkpoint, folder, whole)
                    copy(root, files, part, wanted=wanted, shy=not local)
            with ours(place):
                return Kept(as_held(place, checkpoint, way), place)
    raise NotKept("stage", _CANNOT.format(root, mode, folder))


_SPOILS: Final = (
    'a pin of {} would stop the trainer from deleting it on this file system: set "stage" to '
    '"auto" or "copy"'
)
_CANNOT: Final = '{} cannot be kept as a {} in {}: set "stage" to "auto" or "copy"'
_FULL: Final = (
    "a copy of {} would leave less than {:,.0f} MiB free where {} is: make room there, or move "
    '"state_dir" to another disk'
)


def free_on(path: Path) -> int:
    """Return the bytes that are free for us on a path's file system.

    Raises:
        OSError: It is not there.
    """
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _check_room(checkpoint: Checkpoint, folder: Path, whole: int) -> None:
    """Make sure that a copy leaves enough for others: where it shares the trainer's disk, for two.

    Raises:
        NotKept: It would not ("disk").
    """
    with ours(folder):
        disk, here = os.statvfs(folder), folder.stat().st_dev
    with theirs(Path(checkpoint.path)):
        shared = Path(checkpoint.path).stat().st_dev == here
    margin = min(MARGIN, disk.f_blocks * disk.f_frsize // 20) + 2 * whole * shared
    if free_on(folder) - sum(file.size for file in checkpoint.files) < margin:
        raise NotKept("disk", _FULL.format(checkpoint.name, margin / 2**20, folder))


@contextmanager
def _finished(place: Path, checkpoint: Checkpoint) -> Iterator[Path]:
    """Make a folder that becomes `place` if it then holds the checkpoint's weights.

    Raises:
        NotKept: It holds others ("changed").
    """
    part = place.with_name(f"{place.name}.part")
    with ours(place.parent):
        part.mkdir(mode=0o700)
    try:
        yield part
        if not holds(part, checkpoint):
            raise NotKept("changed", f"{checkpoint.path} was written again while it was copied")
        with ours(place.parent):
            seal(part, checkpoint)
            part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _pin(checkpoint: Checkpoint, files: Iterable[str], farm: Path) -> Kept:
    """Hold files open, and make a folder of links to them that our other processes can follow.

    Raises:
        Unable: They cannot.
        NotKept: As `keep`.
    """
    root = Path(checkpoint.path)
    descriptors: list[int] = []
    try:
        with ours(farm.parent):
            farm.mkdir(mode=0o700)
            links = Path("/proc", Path("/proc/self").readlink(), "fd")
        for name in files:
            with theirs(root / name):
                descriptors.append(os.open(root / name, originals.READ))
            with ours(farm.parent):
                make_folders(farm, name)
                link(farm / name, links / str(descriptors[-1]))
        try:
            held = as_held(farm, checkpoint, "pin")
        except OSError as error:
            raise Unable from error
        if held.files != checkpoint.files:
            raise NotKept("changed", f"{root} was written again before it was pinned")
    except BaseException:
        Kept(None, farm, tuple(descriptors)).release()
        raise
    return Kept(held, farm, tuple(descriptors))
