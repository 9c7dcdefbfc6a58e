"""The loop: one thread acts for every watched run, all else sends it messages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from clipwatch.domain.names import run_id
from clipwatch.journal import Journal
from clipwatch.loop.console import Console
from clipwatch.loop.inbox import Inbox, Letter, Look, Reload, Stop, Turn
from clipwatch.loop.run import Parts, WatchedRun
from clipwatch.loop.slots import Pool
from clipwatch.service.heartbeat import BEAT_SECONDS
from clipwatch.service.sd_notify import ServiceManager
from clipwatch.settings import Settings


class Supervisor:
    """Receives, dispatches and waits; `run` returns when all runs have ended.

    The runs share the slots for evaluations, and each has a log, an outbox and an end of its own.

    Args:
        once: Each run ends when everything that is there is evaluated and published.
        service: Is told that we are ready, alive, reloading and stopping.
    """

    def __init__(self, *, once: bool = False, service: ServiceManager | None = None) -> None:
        self._once = once
        self._service = service or ServiceManager({})
        self._inbox = Inbox()
        self._pool = Pool(lambda: self._inbox.put(Turn()))
        self._runs: dict[str, WatchedRun] = {}  # those that have not ended, by name
        self._statuses: dict[str, str] = {}  # of each that has had a turn, for a person

    def watch(
        self,
        settings: Settings,
        journal: Journal,
        console: Console,
        *,
        name: str = "",
        reread: Callable[[], Settings] | None = None,
        parts: Parts | None = None,
    ) -> WatchedRun:
        """Take a run on, before `run` is called.

        Args:
            settings: Of the run.
            journal: Open for writing; the caller holds the run's lock.
            console: To which it says what happens; each run has its own.
            name: The run's in the log, "" for the one that its path makes.
            reread: Reads the settings again; may raise SettingsError.
            parts: What it meets the world with.
        """
        name = name or run_id(settings.paths.named)
        self._runs[name] = WatchedRun(
            settings,
            name,
            journal,
            console,
            parts or Parts(),
            self._pool,
            self._inbox.of(name),
            partial(self._alive, name),
            once=self._once,
            reread=reread or (lambda: settings),
        )
        return self._runs[name]

    def stop(self) -> None:
        """Ask `run` to end; may be called from a signal handler or another thread."""
        self._inbox.put(Stop())
        for run in tuple(self._runs.values()):
            run.hurry()

    def reload(self) -> None:
        """Ask `run` to read the settings again; may be called as `stop`."""
        self._inbox.put(Reload())

    def run(self) -> int:
        """Work until told to stop. Return 0, or with `once` 1 if something failed.

        Raises:
            SettingsError: With `once`, when there is no output directory to look at.
            JournalError: A log cannot be read or written; nothing else was lost.
        """
        code = 0
        try:
            for run in self._runs.values():
                run.begin()
            self._service.ready()
            while True:
                code = max(code, self._turn())
                if not self._runs:
                    return code
                for letter in self._receive():
                    self._take(letter)
        finally:
            for run in self._runs.values():
                run.close()

    def _turn(self) -> int:
        """Let each run do what can be done; return the worst exit code of those that end."""
        worst = 0
        for name, run in tuple(self._runs.items()):
            code = run.turn()
            if code is not None:
                worst = max(worst, code)
                run.close()
                del self._runs[name], self._statuses[name]
        return worst

    def _receive(self) -> list[Letter]:
        """Wait for messages until something is due; a look comes last, and once for each run.

        Settings are read again once, however often that was asked for meanwhile.
        """
        patience = min(BEAT_SECONDS, self._service.patience)
        pause = min((run.pause for run in self._runs.values()), default=0.0)
        letters = self._inbox.receive(min(pause, patience))
        hinted = {letter.run for letter in letters if isinstance(letter.message, Look)}
        reloads = [letter for letter in letters if isinstance(letter.message, Reload)][:1]
        others = [it for it in letters if not isinstance(it.message, (Look, Reload))]
        look = [
            Letter(name, Look())
            for name, run in self._runs.items()
            if name in hinted or run.eyes.seconds_left <= 0
        ]
        return others + reloads + look

    def _take(self, letter: Letter) -> None:
        runs = self._runs.values()
        match letter.message:
            case Stop():
                self._service.stopping(max(run.stop() for run in runs))
            case Reload():
                self._service.reloading()
                for run in runs:
                    run.reload()
                self._service.ready()
            case Turn():
                pass  # each run has one anyway
            case message:
                if letter.run in self._runs:
                    self._runs[letter.run].take(message)

    def _alive(self, run: str, status: str) -> None:
        self._statuses[run] = status
        self._service.alive("; ".join(self._statuses.values()))
