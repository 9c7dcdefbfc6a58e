"""Looks at an address again and again, and copies what is due: in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Final

from clipwatch.domain.state import Run
from clipwatch.kit.errors import ClipwatchError
from clipwatch.layouts.claims import Layouts
from clipwatch.layouts.scanner import Elsewhere
from clipwatch.mirror.choosing import Done, Plan, away, done, over, plan
from clipwatch.mirror.copies import Copies
from clipwatch.mirror.entries import Entry, Found, RemoteFile, found
from clipwatch.mirror.remote import Kind, Remote, Unreachable

CLOSE_SECONDS: Final = 5.0
"""How long closing waits; a server that hangs must not hang us."""

TRIES: Final = 3
"""Failures in a row, a look apart, after which nobody who is in a hurry waits any more."""

AGAIN_SECONDS: Final = 300.0
"""Pause before a checkpoint that failed so often is tried again, while it is the same there."""

_FINAL: Final = ("missing", "refused")
"""What is told of an address at once."""

_log = logging.getLogger(__name__)


class _Changed(Exception):  # noqa: N818 - says what is so
    """A checkpoint was written anew, or deleted, while it was copied; or we are to end."""


_Since = dict[str, tuple[str, float]]
"""Name → how a checkpoint is signed, and when that was new."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """How often a checkpoint could not be copied, as it was signed, why, and when last."""

    signed: str
    times: int
    reason: str
    at: float

    @property
    def lasts(self) -> bool:
        """Whether it is told as one that cannot be had."""
        return self.times >= TRIES


class Mirror:
    """Keeps copies of those checkpoints that are to be evaluated; used from the loop's thread.

    Nothing is asked of the network before `tell` is called, and then from a thread of its own.

    Args:
        remote: What lies at the address.
        folder: For the copies; ours alone.
        hint: Called from the thread when there is news.
        during: Has something in hand inside, for a person: what, and what is done about it.

    Raises:
        OSError: The folder cannot be made.
    """

    def __init__(
        self,
        remote: Remote,
        folder: Path,
        hint: Callable[[], None],
        during: Callable[[str, str], AbstractContextManager[None]],
    ) -> None:
        self._remote, self._folder = remote, folder
        self._hint, self._during = hint, during
        self._copies = Copies(folder)
        self._since: _Since = {}
        self._failed: dict[str, _Failed] = {}
        self._failures = 0
        self._kind: Kind | None = None
        self._changed = threading.Condition()
        self._finished: Mapping[str, Done] | None = None
        self._planned: Mapping[str, Done] = {}  # what was finished when it was planned last
        self._waits = True
        self._layouts: Layouts = {}
        self._seconds, self._limit = 0.0, 1
        self._closed, self._until = False, inf  # closing waits no longer than that
        self._told: object = None
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self.judged: Mapping[str, float] = {}  # see `done`
        self.lock = threading.Lock()
        """Held while copies come and go, and by who looks at them."""
        self.problem = ""
        """What stands in the way just now, "" for nothing."""
        self.seen: Elsewhere | None = None
        """What lies there, another one after any change; None before the first look."""

    @property
    def busy(self) -> bool:
        """Whether something is still to be copied, or may be as it is asked anew."""
        return self._waits or not self._planned.keys() <= (self._finished or {}).keys()

    @property
    def lost(self) -> Kind | None:
        """Why nobody who is in a hurry should wait for the address, None where he may."""
        return self._kind if self._failures >= TRIES or self._kind in _FINAL else None

    @property
    def here(self) -> frozenset[str]:
        """The names of the checkpoints of which there is a copy."""
        return self._copies.names

    def adopt(self, layouts: Layouts, seconds: float, limit: int) -> None:
        """Look by these layouts, every so many seconds, and keep so many copies at once."""
        with self._changed:
            self._layouts, self._seconds, self._limit = layouts, seconds, limit

    def tell(self, run: Run | None) -> None:
        """Say what the log knows of the checkpoints; returns at once."""
        finished = done(run, self.judged) if run else {}
        with self._changed:
            if finished != self._finished and not self._closed:
                if self._finished is None:
                    self._thread.start()
                self._finished = finished
                self._changed.notify()

    def leave(self) -> None:
        """Copy no more; returns at once, so that several are waited for at the same time."""
        with self._changed:
            self._until = min(self._until, time.monotonic() + CLOSE_SECONDS)
            self._closed = True
            self._changed.notify()

    def close(self, run: Run | None) -> None:
        """Copy no more; copies that may still be needed stay for the next start.

        Raises:
            OSError: Another cannot be deleted.
        """
        self.leave()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, self._until - time.monotonic()))
        if run and not self._thread.is_alive():
            self._drop(done(run, self.judged))

    def _work(self) -> None:
        while not self._closed:
            with self._changed:
                finished, seconds = self._finished or {}, self._seconds
            copied = False
            try:
                copied = self._turn(finished, seconds)
                self._failures, self._kind = 0, None
                problem = next((it.reason for it in self._failed.values()), "")
            except Exception as error:  # noqa: BLE001 - the next look may do
                self._failures += 1
                self._kind = error.kind if isinstance(error, Unreachable) else "unreachable"
                problem = _told(error, self._remote.address)
            if problem or self.problem:
                self.problem = problem
                self._hint()
            if not copied:
                self._wait(finished, seconds)

    def _wait(self, finished: Mapping[str, Done], seconds: float) -> None:
        """Wait until the next look is due, or more is finished than is known."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished != finished, seconds)

    def _turn(self, finished: Mapping[str, Done], seconds: float) -> bool:
        """Look once, and copy one checkpoint at most; return whether one was."""
        self._drop(finished)
        seen, now = self._look(), time.monotonic()
        still = {name for name, (_, at) in self._since.items() if now - at >= seconds}
        rest = {it for it, f in self._failed.items() if f.lasts and now - f.at < AGAIN_SECONDS}
        todo = plan(seen.entries, still - rest, self._copies.had, finished, self._limit)
        with self.lock:
            self._publish(seen, todo, finished)
        self._copies.write(it.name for it in seen.entries)
        return todo.next is not None and self._copy(todo.next, finished)

    def _drop(self, finished: Mapping[str, Done]) -> None:
        """Delete copies that are of no use any more, and have nobody look for them."""
        if names := over(self._copies.had, finished):
            with self.lock:
                for name in names:
                    self._copies.drop(name)
                if seen := self.seen:
                    self.seen = replace(seen, away={**seen.away, **dict.fromkeys(names)})
            self._hint()

    def _look(self) -> Found:
        """See what lies there and here, and note since when each checkpoint is as it is.

        Raises:
            Unreachable, ClipwatchError: It cannot be listed, or a layout fails.
        """
        kept = [path for it in self._copies.had.values() for path in it.paths]
        seen = found(self._folder, self._remote.files(), self._layouts, kept)
        signed = {it.name: it.signature for it in seen.entries}
        self._since = _since(self._since, signed, time.monotonic())
        self._failed = {it: f for it, f in self._failed.items() if signed.get(it) == f.signed}
        return seen

    def _publish(self, seen: Found, todo: Plan, finished: Mapping[str, Done]) -> None:
        """Have the loop's thread know what lies there, and look if that is news; with the lock."""
        here = self._copies.names
        lasting = {name: it.reason for name, it in self._failed.items() if it.lasts}
        told = away(seen.entries, todo.waiting, here, self._remote.address, lasting)
        news = (seen.listing.root, told, sorted(here), seen.lying, sorted(self._since.items()))
        if news != self._told:
            self._told = news
            self.seen = Elsewhere(seen.listing, told)
            self._hint()
        self._waits = any(it.name not in lasting for it in todo.waiting)
        self._planned = finished

    def _copy(self, entry: Entry, finished: Mapping[str, Done]) -> bool:
        """Copy a checkpoint, and have it looked at; return whether that came to an end."""
        size = f"{entry.size / 2**20:,.0f} MiB"
        try:
            with self._during(entry.name, f"copying {size} from {self._remote.address}"):
                self._copies.make(entry, self._fetch)
            seen = self._look()  # it may be another one meanwhile
            if entry.signature not in {it.signature for it in seen.entries}:
                return False
            with self.lock:
                self._copies.take(entry)
                self._failed.pop(entry.name, None)
                todo = plan(seen.entries, (), self._copies.had, finished, self._limit)
                self._publish(seen, todo, finished)
            self._copies.write(it.name for it in seen.entries)
        except _Changed:
            return False
        except (ClipwatchError, OSError) as error:
            if isinstance(error, Unreachable) and error.kind == "missing":
                return False  # it was deleted meanwhile, or its folder is
            told, before = _told(error, self._remote.address), self._failed.get(entry.name)
            times = before.times + 1 if before else 1
            self._failed[entry.name] = _Failed(entry.signature, times, told, time.monotonic())
            return False
        finally:
            self._copies.forget()
        return True

    def _fetch(self, file: RemoteFile, to: Path) -> None:
        if self._closed:
            raise _Changed
        self._remote.fetch(file, to)


def _since(before: _Since, signed: Mapping[str, str], now: float) -> _Since:
    return {
        name: known if (known := before.get(name)) and known[0] == its else (its, now)
        for name, its in signed.items()
    }


def _told(error: Exception, address: str) -> str:
    """Return a line for a person; what nobody expected goes to the log of the process, too."""
    if isinstance(error, ClipwatchError):
        return str(error)
    if isinstance(error, OSError):
        return f"{address} cannot be copied here: {error.strerror or error}"
    _log.error("looking at %s failed", address, exc_info=error)
    return f"{address} cannot be looked at: {type(error).__name__}: {error}"
