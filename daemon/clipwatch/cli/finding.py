"""Which runs `start` is to watch, of several: looked for again and again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from clipwatch.cli.paths import Meant
from clipwatch.kit.errors import ClipwatchError
from clipwatch.loop.roster import News, Wanted
from clipwatch.settings.below import asks, configs_below, project_of
from clipwatch.settings.places import below
from clipwatch.settings.sources import OWN_FILE

AGAIN_SECONDS = 60.0
"""Pause before what could not be watched is tried again, though its file is as it was."""

Signature = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Tried:
    """A configuration as it was when it was read last, and what was said of it."""

    signature: Signature
    said: str = ""


class Finder:
    """Knows which configurations were read and what became of them; looked with from one thread.

    Args:
        configs: Those that the call names; or none,
        root: and the folder below which they are looked for.
        flags: Of the call, laid over each of them.
        cwd: The directory of the call, absolute.
    """

    def __init__(
        self, configs: Iterable[Path], root: Path | None, flags: Mapping[str, Any], cwd: Path
    ) -> None:
        self._named = tuple(dict.fromkeys(below(cwd, str(it)) for it in configs))
        self._root, self._flags, self._cwd = root, flags, cwd
        self._environ = dict(os.environ)
        self._tried: dict[Path, _Tried] = {}
        self._again: dict[Path, float] = {}  # when each is tried again, by time.monotonic()
        self._missing: frozenset[Path] = frozenset()
        self._problem: str | None = None  # of the root; None before the first look
        self.code = 0
        """The worst exit code of what could not be read."""

    def lost(self, config: Path, error: ClipwatchError | OSError | None) -> None:
        """Take note that a run is not watched; from any thread.

        What failed is tried again after a pause, what came to its end when its file is another.
        """
        self._again[config] = inf if error is None else time.monotonic() + AGAIN_SECONDS

    def look(self, watched: AbstractSet[Path]) -> News:
        """Say what is new.

        Args:
            watched: The configurations of the runs that are watched.
        """
        said: list[str] = []
        configs = self._configs(said)
        if configs is None:
            return News(said=tuple(said))
        missing = frozenset(it for it in watched if self._root and _missing(it))
        gone, self._missing = missing & self._missing, missing  # an editor may write it just now
        for config in self._tried.keys() - set(configs) - watched:
            del self._tried[config]
        passed: list[Path] = []
        tried = (self._try(it, said, passed) for it in configs if it not in watched)
        wanted = tuple(filter(None, tried))
        if passed and self._problem is None:
            number = f"{len(passed)} configuration{'s' * (len(passed) > 1)}"
            said.append(f"{number} ask for no CLIP scores and are passed over, as {passed[0]}")
        self._problem = ""
        return News(wanted, tuple(sorted(gone)), tuple(said))

    def _configs(self, said: list[str]) -> tuple[Path, ...] | None:
        """Return all configurations that are meant; None where nobody can look now."""
        if self._root is None:
            return self._named
        try:
            found = configs_below(self._root)
        except OSError as error:
            problem = f"{self._root} cannot be read: {error.strerror or error}"
            if problem != self._problem:
                said.append(f"{problem}: what is watched stays so")
            self._problem = problem
            return None
        if found.left and self._problem is None:
            said.append(f"not looked at below {self._root}: {found.left}")
        return found.configs

    def _try(self, config: Path, said: list[str], passed: list[Path]) -> Wanted | None:
        signature, before = _signature(config), self._tried.get(config)
        same = before is not None and before.signature == signature
        if same and time.monotonic() < self._again.get(config, inf):
            return None
        self._again.pop(config, None)
        try:
            if self._root and not asks(config, self._environ):
                passed.append(config)
                self._tried[config] = _Tried(signature)
                return None
            project = project_of(config, self._root) if self._root else None
            reread = Meant(config).reader(self._flags, self._cwd, working_dir=project)
            settings = reread()
        except (ClipwatchError, OSError) as error:
            text = f"{config}: not watched: {error}".replace(
                f"{config}: not watched: {config}", f"not watched: {config}"
            )
            if before is None or before.said != text:
                said.append(text)
            self._tried[config] = _Tried(signature, text)
            self.lost(config, error)
            self.code = max(self.code, getattr(error, "exit_code", 1))
            return None
        notes = [f"{config}: {note}" for note in settings.notes]
        said += notes if before is None or not same else []
        self._tried[config] = _Tried(signature)
        return Wanted(config, settings, reread)


def _missing(config: Path) -> bool:
    """Whether a file is surely not there: nobody deleted what cannot be looked at just now."""
    try:
        config.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _signature(config: Path) -> Signature:
    """Return what changes with a configuration, and with our own file beside it."""
    found: list[object] = []
    for path in (config, config.with_name(OWN_FILE)):
        try:
            at = path.stat()
            found += (at.st_ino, at.st_size, at.st_mtime_ns)
        except OSError as error:
            found.append(error.errno)
    return tuple(found)
