"""A daemon's sign of life in its state directory, for who cannot ask it over the network.

RUN.alive is touched at each turn of the loop, so that its age tells whether the loop goes round;
its content tells whose it is. Imports little: `clipwatch health` must answer at once.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clipwatch.kit.ownfiles import read_own, write_private

BEAT_SECONDS = 10.0
"""The longest that a loop with nothing to do waits."""

STALE_SECONDS = 120.0
"""A loop that has not gone round for so long hangs: the same two minutes as WatchdogSec."""

SUFFIX = ".alive"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What stands in the file.

    Attributes:
        run: The run's name.
        output_dir: Which it watches.
        pid: Of the daemon, in `namespace`.
        namespace: The kernel's name for the daemon's PID namespace; "" where there is none.
        status: A line for a person.
        since: Unix time of the daemon's start; 0 where it does not tell.
        doing: What is in hand beside images, for a person.
    """

    run: str
    output_dir: str
    pid: int
    namespace: str
    status: str
    since: float = 0.0
    doing: str = ""


@dataclass(frozen=True, slots=True)
class FoundHeartbeat:
    """A heartbeat as it was found: how many seconds old it is, and whether its process is there."""

    heartbeat: Heartbeat
    age: float
    gone: bool

    @property
    def problem(self) -> str:
        """Why this daemon is not well, "" if it is."""
        if self.gone:
            return f"its process {self.heartbeat.pid} is gone"
        hangs = self.age > STALE_SECONDS
        return f"its loop has stood still for {self.age:.0f} s" if hangs else ""


class HeartbeatFile:
    """Keeps a daemon's heartbeat; used from the loop's thread.

    Args:
        state_dir: Exists.
        run: The run's name.
        output_dir: Which is watched.
    """

    def __init__(self, state_dir: Path, run: str, output_dir: Path | str) -> None:
        self._path = state_dir / f"{run}{SUFFIX}"
        mine = (run, str(output_dir), os.getpid(), _namespace())
        self._mine = Heartbeat(*mine, "", time.time())
        self._touched = float("-inf")

    def beat(self, status: str, doing: str = "") -> None:
        """Show that the loop goes round; a disk that takes it not just now is no reason to stop."""
        now = time.monotonic()
        with suppress(OSError):
            if (status, doing) != (self._mine.status, self._mine.doing):
                self._mine = replace(self._mine, status=status, doing=doing)
                write_private(self._path, json.dumps(asdict(self._mine)).encode(), lasting=False)
            elif now - self._touched >= BEAT_SECONDS / 2:
                os.utime(self._path, follow_symlinks=False)
            else:
                return
            self._touched = now

    def stop(self) -> None:
        """Take the heartbeat away: the daemon ends."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def heartbeats(state_dir: Path) -> list[FoundHeartbeat]:
    """Return the heartbeats of all daemons with this state directory, sorted by run."""
    found = []
    for path in sorted(state_dir.glob(f"*{SUFFIX}")):
        with suppress(OSError, ValueError, TypeError):  # it ends just now
            heartbeat = Heartbeat(**json.loads(read_own(path)))
            age = time.time() - path.stat().st_mtime
            here = heartbeat.namespace == _namespace() != ""
            gone = here and not Path(f"/proc/{heartbeat.pid}").exists()
            found.append(FoundHeartbeat(heartbeat, age, gone))
    return found


def _namespace() -> str:
    """Return the name of our PID namespace: a number of another container's means nothing here."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it points to no path
    except OSError:
        return ""
