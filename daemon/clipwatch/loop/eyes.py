"""What is seen of one output directory: its checkpoints, and the end of the training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from clipwatch.domain.events import OutputDirChecked
from clipwatch.domain.queue import newest_written, observe, partial, wholes
from clipwatch.domain.sighting import Partial, Sighting
from clipwatch.domain.state import Checkpoint, CheckpointKey
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.kit.filesystems import make_private
from clipwatch.layouts import Scanner
from clipwatch.layouts.files import NotReadable
from clipwatch.layouts.scanner import Elsewhere
from clipwatch.layouts.watch import Watcher
from clipwatch.loop.ending import TrainingEnd
from clipwatch.loop.run_log import RunLog
from clipwatch.mirror import Mirror, Remote, to_copy
from clipwatch.results import view
from clipwatch.service.claim import Claim
from clipwatch.service.wake import wake_folder
from clipwatch.settings import Settings
from clipwatch.settings.parts import Paths

PENDING_SECONDS = 1.0
"""Pause between looks while a checkpoint is being written."""

WATCHED = 16
"""Unfinished checkpoints whose events are hints, the newest: each one takes two threads."""


class _Taken(Exception):  # noqa: N818 - says what happened
    """Another clipwatch watches the directory."""


class Eyes:
    """Looks when something hints at news, and every so often; used from the loop's thread.

    Args:
        settings: Of the run.
        log: Gets what is seen.
        hint: Called from another thread when a look may be worth while.
        once: Nobody waits for a directory that is not there.
    """

    def __init__(
        self, settings: Settings, log: RunLog, hint: Callable[[], None], *, once: bool
    ) -> None:
        self._log = log
        self._hint = hint
        self._once = once
        self._look_at = 0.0  # by the clock that nobody sets
        self._ended = self._told = ""
        self._claim = Claim()
        self._mirror = self._mirrored(settings.paths)
        self._looked: Elsewhere | None = None
        self._scanned = (frozenset[str](), 0.0)  # the copies at the last look, and when that was
        self._open(settings)

    @property
    def settling(self) -> bool:
        """Whether something is watched that may be a checkpoint in a moment."""
        if (mirror := self._mirror) and (mirror.busy or mirror.seen is not self._looked):
            return True
        return self._scanner.settling

    @property
    def more(self) -> str:
        """What more lies there and is passed over, as `layouts.lying` tells it."""
        return self._scanner.lying

    @property
    def unread(self) -> str:
        """With `once`, what lies there of which nothing could be read, "" where something was."""
        return view.unread(self._log.run, self.more) if self._once else ""

    @property
    def seconds_left(self) -> float:
        """How long it is until the next look, 0.0 or less if it is due."""
        return self._look_at - time.monotonic()

    def lacks(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint has to be copied before anything can be done with it."""
        mirror = self._mirror
        return mirror is not None and not (checkpoint.is_base or checkpoint.name in mirror.here)

    def over(self, *, waiting: bool) -> bool:
        """Whether the training has ended, and what failed is not waited for any more.

        Args:
            waiting: Something is to be tried again.
        """
        end = self._training_end
        return end is not None and bool(self._ended) and (not waiting or end.waited)

    def adopt(self, settings: Settings) -> None:
        """Look by these settings from here on, and with fresh eyes."""
        self._watcher.close()
        self._open(settings)

    def look(self, held: AbstractSet[CheckpointKey]) -> bool:
        """Write down what is there; return whether the directory could be read.

        Args:
            held: What can be evaluated though its folder is gone.

        Raises:
            SettingsError: With `once`, when there is none.
            ClipwatchError: With `once`, when another clipwatch watches it.
        """
        run, problem, sightings = self._log.run, "", None
        output_dir = self._settings.paths.named
        try:
            if self._mirror:
                self._mirror.tell(run)
                problem = self._mirror.problem
            sightings = self._scan()
        except FileNotFoundError:
            problem = f"{output_dir} does not exist yet"
            if self._once:
                raise SettingsError(f"{output_dir} does not exist", key="output_dir") from None
        except NotReadable as error:
            problem = str(error)
        except _Taken as taken:
            if self._once:
                fix = "leave it to that one, or stop it first"
                raise ClipwatchError(str(taken), fix=fix) from None
            problem = f"{taken}: waiting until that ends"
        except ClipwatchError as error:  # a layout of another package fails on what lies there now
            if self._once:
                raise
            problem = str(error)
        except OSError as error:  # a dead mount, no file descriptor left, ...: until it is over
            problem = f"{output_dir} cannot be read: {error.strerror or error}"
        if problem != run.problem:
            self._log.record_run(OutputDirChecked(problem))
        if sightings is not None:
            seen = observe(run, sightings, held, self._settings.watching.only)
            self._log.record_run(*seen)
            if self._mirror:
                self._mirror.judged = _judged(sightings, *self._scanned)
            self._say_lying(checkpoints=bool(sightings))
            self._look_for_end(news=bool(seen))
        pending = partial(self._log.run)
        newest = pending[-WATCHED:]
        self._watcher.rearm((*(Path(it.path) for it in newest), *self._scanner.folders))
        seconds = self._settings.watching.rescan_seconds
        self._look_at = time.monotonic() + (min(seconds, PENDING_SECONDS) if pending else seconds)
        return sightings is not None

    def leave(self) -> None:
        """Have nothing copied any more; returns at once, and `close` waits for less then."""
        if self._mirror:
            self._mirror.leave()

    def close(self) -> None:
        """Watch no more."""
        if self._mirror:
            with suppress(OSError):  # a copy stays until the next start
                self._mirror.close(self._log.run if self._log.begun else None)
        self._watcher.close()
        self._claim.close()

    def _scan(self) -> list[Sighting] | None:
        """Look at what is there, None while nothing is known of an address."""
        paths, mirror = self._settings.paths, self._mirror
        if mirror is None:
            sightings = self._scanner.scan()
        elif self._once and mirror.lost and mirror.busy:
            if mirror.lost == "missing":
                raise SettingsError(mirror.problem, key="output_dir")
            raise ClipwatchError(mirror.problem)
        elif mirror.seen is None:
            return None
        else:
            with mirror.lock:
                self._looked, self._scanned = mirror.seen, (mirror.here, time.time())
                sightings = self._scanner.scan()
        if holder := self._claim.take(paths.output_dir, paths.address):
            raise _Taken(f"{paths.named} is watched by {holder}")
        return sightings

    def _elsewhere(self) -> Elsewhere | None:
        """Return what lies at an address; what is wanted anew has to be copied once more."""
        seen, run = self._looked, self._log.run
        if seen is None:
            return None
        again = [it for it in run.unfinished if seen.away.get(it, "") is None]
        wanted = dict.fromkeys(again, to_copy(self._settings.paths.address))
        return replace(seen, away={**seen.away, **wanted}) if again else seen

    def _mirrored(self, paths: Paths) -> Mirror | None:
        """Have what lies at an address copied, if the settings name one."""
        if not paths.address:
            return None
        return Mirror(Remote(paths.address), paths.output_dir, self._hint, self._log.during)

    def _open(self, settings: Settings) -> None:
        self._settings, watching = settings, settings.watching
        if mirror := self._mirror:
            limit = settings.staging.stage_limit
            mirror.adopt(watching.layouts, watching.rescan_seconds, limit)
        self._scanner = Scanner(
            settings.paths.output_dir,
            weights=settings.protocol.weights,
            settle_seconds=settings.watching.settle_seconds,
            known=wholes(self._log.run) if self._log.begun else {},
            layouts=settings.watching.layouts,
            elsewhere=self._elsewhere,
        )
        wake = wake_folder(settings.paths.state_dir)
        with suppress(OSError):  # hints are never needed
            make_private(wake)
        output = settings.paths.output_dir
        self._watcher = Watcher(output, wake, settings.watching.watch, self._hint)
        ends = settings.watching.exit_when_done
        self._training_end = TrainingEnd(ends, output) if ends else None

    def _say_lying(self, *, checkpoints: bool) -> None:
        """Say once what is passed over; without any checkpoint the line of a rest tells it."""
        if checkpoints and self.more and self.more != self._told:
            self._told = self.more
            self._log.say(f"also there: {self.more}")

    def _look_for_end(self, *, news: bool) -> None:
        """See whether the training has ended, and say so once."""
        if self._training_end is None:
            return
        if news:
            self._training_end.news()
        newest = newest_written(self._log.run)
        reason = self._training_end.look(newest, self._settings.watching.settle_seconds)
        if reason and not self._ended:
            self._log.say(f"the training has ended: {reason}; ending when all is published")
        self._ended = reason


def _judged(sightings: Sequence[Sighting], copies: AbstractSet[str], at: float) -> dict[str, float]:
    """Return the copies that need no further look, with the time of this one."""
    found = (it for it in sightings if not isinstance(it.verdict, Partial))
    return {it.name: at for it in found if it.name in copies}
