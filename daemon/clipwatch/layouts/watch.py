"""File-system events as hints to look again; the rescans of the supervisor are the truth.

inotify says nothing at all about NFS, FUSE, a symlinked root, a root that was renamed away, or one
that we may not read (measured with watchdog 7.1), so nothing may depend on these events.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from clipwatch.domain.kinds import WatchMode
from clipwatch.kit.filesystems import LOCAL, file_system

HINTS = [DirCreatedEvent, DirMovedEvent, DirDeletedEvent, FileCreatedEvent, FileMovedEvent]


class Watcher(FileSystemEventHandler):
    """Watches an output directory and the unfinished checkpoints in it, none of them recursively.

    A folder of our own is watched with it, in which somebody may leave a hint (see `wake`).

    Args:
        output_dir: May be missing, a symlink, or be replaced at any time.
        wake: Our own folder, on a local disk.
        mode: By events, by none at all, or by what the file system allows.
        hint: Called from another thread when it is worth looking again.
    """

    def __init__(
        self, output_dir: Path, wake: Path, mode: WatchMode, hint: Callable[[], None]
    ) -> None:
        self._output_dir = output_dir
        self._wake = wake
        self._mode = mode
        self._hint = hint
        self._observer: BaseObserver | None = None
        self._watches: dict[Path, tuple[tuple[int, int], ObservedWatch]] = {}

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - any will do
        """Pass the hint on."""
        self._hint()

    def rearm(self, pending: Iterable[Path]) -> bool:
        """Watch what is there now; called at every look. Return whether events can be expected."""
        root = Path(os.path.realpath(self._output_dir))  # Path.resolve raises on links in a circle
        told = events_tell(self._mode, file_system(root))
        paths = (self._wake, root, *pending) if told else (self._wake,)
        wanted = {path: key for path in paths if (key := _identity(path)) is not None}
        if self._observer is None or not self._observer.is_alive():
            self.close()
            try:
                self._observer = Observer()
                self._observer.start()
            except (OSError, RuntimeError):  # no inotify instance or thread left: rescans go on
                self._observer = None
                return False
        for path, (key, watch) in list(self._watches.items()):
            if wanted.get(path) != key:
                del self._watches[path]
                self._observer.unschedule(watch)
        for path, key in wanted.items():
            if path not in self._watches:
                try:
                    watch = self._observer.schedule(self, str(path), event_filter=HINTS)
                except (OSError, RuntimeError):  # gone again, or no watch or thread left
                    continue
                self._watches[path] = (key, watch)
        return root in self._watches

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        self._observer = None
        self._watches.clear()


def events_tell(mode: WatchMode, kind: str) -> bool:
    """Whether events are asked for: `mode` as in the settings, on a file system of that kind."""
    return mode == "events" or (mode == "auto" and kind in LOCAL)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
