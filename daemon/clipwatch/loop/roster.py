"""Which runs a daemon has: they are taken on when they are wanted, and let go."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from clipwatch.journal import Journal, log_file
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.loop.console import Console
from clipwatch.loop.recognising import Recognised, known_runs, recognised
from clipwatch.loop.run import Parts
from clipwatch.loop.run_log import when_unlocked
from clipwatch.loop.supervisor import Supervisor
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that is to be watched.

    Attributes:
        config: Its configuration, by which it is known here.
        settings: As they were read.
        reread: Reads them again; may raise SettingsError.
    """

    config: Path
    settings: Settings
    reread: Callable[[], Settings]


@dataclass(frozen=True, slots=True)
class News:
    """What is new among the configurations.

    Attributes:
        wanted: Runs that are to be watched.
        gone: Configurations that are there no more.
        said: Lines for a person.
    """

    wanted: tuple[Wanted, ...] = ()
    gone: tuple[Path, ...] = ()
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Taken:
    """A run that is watched: its name, and its output directory without links."""

    run: str
    place: str


Lost = Callable[[Path, ClipwatchError | OSError | None], None]
"""Told that a run is not watched, or no more, and why; None where it came to its end."""


class Roster:
    """Has a supervisor watch what is wanted; used from the loop's thread.

    A log is opened once, however many of its runs are watched.

    Args:
        supervisor: Watches.
        console: Of all runs.
        lost: Told of each run that is not watched.
        check: Refuses settings that ask for what is not here.
        parts: What all runs meet the world with.
        once: Nobody waits for another program that keeps a log locked, or for a folder.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        console: Console,
        lost: Lost,
        check: Callable[[Settings], None],
        parts: Parts | None = None,
        *,
        once: bool,
    ) -> None:
        self._supervisor, self._console, self._lost = supervisor, console, lost
        self._check, self._parts, self._once = check, parts or Parts(), once
        self._taken: dict[Path, _Taken] = {}  # by configuration
        self._leaving: set[Path] = set()  # those of them that were let go of
        self._journals: dict[Path, tuple[Journal, int]] = {}  # log → how many runs have it
        self._told: dict[Path, str] = {}  # why which configuration is not watched
        self.code = 0
        """The worst exit code of what could not be watched."""

    @property
    def watched(self) -> frozenset[Path]:
        """The configurations of all runs that are watched; from any thread."""
        return frozenset(tuple(self._taken))

    def heed(self, news: News) -> None:
        """Take on what is wanted, and let go of what is gone."""
        for line in news.said:
            self._console.say(line)
        for config in news.gone:
            taken = self._taken.get(config)
            if taken and config not in self._leaving:  # a second order would end it at once
                self._leaving.add(config)
                self._console.say_of(taken.run, f"{config} is gone: watched no longer")
                self._supervisor.release(taken.run)
        for wanted in news.wanted:
            if wanted.config not in self._taken:
                self._heed(wanted)

    def _heed(self, wanted: Wanted) -> None:
        try:
            self._take(wanted)
        except (ClipwatchError, OSError) as error:
            code = error.exit_code if isinstance(error, ClipwatchError) else 1
            self.code = max(self.code, code)
            if self._told.get(wanted.config) != str(error):  # it is tried again and again
                self._console.say(f"not watched: {of_config(wanted.config, str(error))}")
            self._told[wanted.config] = str(error)
            self._lost(wanted.config, error)
        else:
            self._told.pop(wanted.config, None)

    def _take(self, wanted: Wanted) -> None:
        """Watch a run.

        Raises:
            ClipwatchError: It cannot be watched now, or others watch it.
        """
        settings = wanted.settings
        self._check(settings)
        state, output = settings.paths.state_dir, settings.paths.named
        place = output if isinstance(output, str) else os.path.realpath(output)
        log = log_file(state)
        for config, taken in self._taken.items():
            if taken.place == place:
                raise SettingsError(f"its output_dir {output} is watched already, by {config}")
        with ExitStack() as stack:
            found = self._recognised(log, output, settings.watching.layout)
            if any(taken.run == found.name for taken in self._taken.values()):
                raise SettingsError(f"{output} holds the weights of run {found.name}")
            stack.enter_context(exclusive(state, found.name))
            journal = self._opened(log)
            held = stack.pop_all()
        voice = self._console.of(found.name)
        voice.say(f"watching {output}, by {wanted.config}")
        self._taken[wanted.config] = _Taken(found.name, place)

        def ended(error: ClipwatchError | OSError | None) -> None:
            self._let_go(log, error)
            held.close()
            del self._taken[wanted.config]  # who sees it gone finds its lock free
            self._leaving.discard(wanted.config)
            self._lost(wanted.config, error)

        try:
            self._supervisor.watch(
                settings,
                journal,
                voice,
                name=found.name,
                reread=wanted.reread,
                parts=self._parts,
                ended=ended,
            )
        except (ClipwatchError, OSError) as error:  # what its executor needs is not here, say
            del self._taken[wanted.config]
            self._let_go(log, error)
            held.close()
            raise

    def _recognised(self, log: Path, output: Path | str, layout: str) -> Recognised:
        """Say which run a log has for a directory; one that is open is not read again."""
        if log in self._journals:
            state = self._supervisor.state(self._journals[log][0])
        else:
            read = partial(known_runs, log)
            state = when_unlocked(read, self._console.say, once=self._at_once)
        return recognised(state, output, layout)

    @property
    def _at_once(self) -> bool:
        """Whether a log that is locked is tried again later: the runs that there are go on."""
        return self._once or self._supervisor.begun

    def _opened(self, log: Path) -> Journal:
        journal, runs = self._journals.get(log, (None, 0))
        if journal is None:
            journal = when_unlocked(partial(Journal, log), self._console.say, once=self._at_once)
        self._journals[log] = journal, runs + 1
        return journal

    def _let_go(self, log: Path, error: ClipwatchError | OSError | None) -> None:
        journal, runs = self._journals.pop(log)
        if runs > 1:
            self._journals[log] = journal, runs - 1
        else:  # which vouches for it, where nothing was wrong
            journal.__exit__(type(error) if error else None)


def of_config(config: Path, text: str) -> str:
    """Return a line with the configuration that it is of, unless it begins with that."""
    return text if text.startswith(str(config)) else f"{config}: {text}"
