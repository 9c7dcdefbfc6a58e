"""File-system events as hints to look again; the rescans of the supervisor are the truth.

inotify says nothing at all about NFS, FUSE, a symlinked root, a root that was renamed away, or one
that we may not read (measured with watchdog 7.1), so nothing may depend on these events.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


Identity = tuple[int, int]


@dataclass(slots=True)
class _Folder:
    """A folder that is watched: which it was when that began, and who hears of it."""

    identity: Identity
    watch: ObservedWatch
    watchers: set[Watcher]


class _Observers:
    """The one observer of a process: each has an inotify instance, of which a user has 128.

    It lives while anything is watched. Those who watch one folder share the watch.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self._folders: dict[Path, _Folder] = {}

    def watch(self, watcher: Watcher, path: Path, identity: Identity) -> None:
        """Have a watcher hear of a folder; nothing happens if it does.

        Raises:
            OSError: It is gone, or no watch or inotify instance is left.
            RuntimeError: No thread is left.
        """
        with self._lock:
            if self._observer is None or not self._observer.is_alive():
                self._folders.clear()
                self._observer = Observer()
                self._observer.start()
            known = self._folders.get(path)
            if known and known.identity == identity and watcher in known.watchers:
                return
            if known and known.identity != identity:  # another folder in its place
                self._drop(path)
            watch = self._observer.schedule(watcher, str(path), event_filter=HINTS)
            self._folders.setdefault(path, _Folder(identity, watch, set())).watchers.add(watcher)

    def leave(self, watcher: Watcher, path: Path) -> None:
        """Have a watcher hear of a folder no more."""
        with self._lock:
            known = self._folders.get(path)
            if known is None or watcher not in known.watchers or self._observer is None:
                return
            known.watchers.remove(watcher)
            if known.watchers:
                self._observer.remove_handler_for_watch(watcher, known.watch)
                return
            self._drop(path)
            if not self._folders:
                self._observer.stop()
                self._observer.join()
                self._observer = None

    def _drop(self, path: Path) -> None:
        """Watch a folder no more; who wants the one in its place asks at the next look."""
        folder = self._folders.pop(path)
        if self._observer is not None:
            self._observer.unschedule(folder.watch)


_observers = _Observers()


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
        self._watches: set[Path] = set()

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - any will do
        """Pass the hint on."""
        self._hint()

    def rearm(self, pending: Iterable[Path]) -> bool:
        """Watch what is there now; called at every look. Return whether events can be expected."""
        root = Path(os.path.realpath(self._output_dir))  # Path.resolve raises on links in a circle
        told = events_tell(self._mode, file_system(root))
        paths = (self._wake, root, *pending) if told else (self._wake,)
        wanted = {path: key for path in paths if (key := _identity(path)) is not None}
        for path in self._watches - wanted.keys():
            _observers.leave(self, path)
        self._watches &= wanted.keys()
        for path, identity in wanted.items():
            try:
                _observers.watch(self, path, identity)
            except (OSError, RuntimeError):  # gone again, or nothing left for it: rescans go on
                self._watches.discard(path)
            else:
                self._watches.add(path)
        return root in self._watches

    def close(self) -> None:
        """Stop watching."""
        for path in self._watches:
            _observers.leave(self, path)
        self._watches.clear()


def events_tell(mode: WatchMode, kind: str) -> bool:
    """Whether events are asked for: `mode` as in the settings, on a file system of that kind."""
    return mode == "events" or (mode == "auto" and kind in LOCAL)


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
