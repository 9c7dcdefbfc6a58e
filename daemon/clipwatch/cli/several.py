"""Several runs from their configurations to their ends, as `start` has them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from clipwatch.cli.finding import Finder
from clipwatch.cli.watching import expect, obey_signals, runs_on
from clipwatch.executors.named import LOCAL
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.processes import give_way, return_memory
from clipwatch.loop.console import Console
from clipwatch.loop.objects import ObjectConsole
from clipwatch.loop.overview import overview
from clipwatch.loop.roster import Roster
from clipwatch.loop.supervisor import Supervisor
from clipwatch.service.sd_notify import ServiceManager
from clipwatch.settings import Settings, readers

LOOK_SECONDS = 5.0
"""Pause between two looks for configurations."""

SHARE = 0.05
"""The most of the time that goes into looking for them."""


def watch_several(
    finder: Finder, root: Path | None, flags: Mapping[str, Any], *, once: bool, objects: bool
) -> int:
    """Watch all runs that are found until they end, and with a root until told to stop.

    Args:
        finder: Says which.
        root: The folder in which runs come and go, None for none.
        flags: Of the call.
        once: Each ends when everything that is there is evaluated and published.
        objects: Say everything as objects on stdout, for machines.

    Returns:
        The exit code: the worst of all runs, 0 when it was stopped.

    Raises:
        SettingsError: There is no such folder; or with `once`, no configuration in it.
    """
    if root is not None and not root.is_dir():
        raise SettingsError(f"there is no folder {root}", fix="correct the path of --runs")
    first = finder.look(frozenset())
    if all(it.settings.service.give_way for it in first.wanted):
        give_way()
    return_memory()
    console = ObjectConsole() if objects else Console()
    lasting = root is not None and not once
    supervisor = Supervisor(once=once, lasting=lasting, service=ServiceManager(os.environ))
    roster = Roster(supervisor, console, finder.lost, partial(_check, once=once), once=once)
    obey_signals(supervisor)
    _serve(supervisor, console, flags, lasting=lasting)
    roster.heed(first)
    if root is not None and not first.wanted:
        told = f"no configuration below {root} asks for CLIP scores"
        if once:
            raise SettingsError(told, fix="see docs/runs.md for which are found")
        console.say(f"{told} yet; looked for every {LOOK_SECONDS:g} s")
    if not roster.watched and not lasting:
        return max(roster.code, finder.code)
    console.show(partial(_drawn, supervisor))
    ended = threading.Event()
    if not once:
        looking = (finder, roster, supervisor, ended)
        threading.Thread(target=_look, args=looking, name="looking", daemon=True).start()
    try:
        code = supervisor.run()
    finally:
        ended.set()
        console.close()
    return max(code, roster.code, finder.code) if once else code


def _look(finder: Finder, roster: Roster, supervisor: Supervisor, ended: threading.Event) -> None:
    """Have the roster know what is new, until the daemon ends."""
    pause = LOOK_SECONDS
    while not ended.wait(pause):
        began = time.monotonic()
        news = finder.look(roster.watched)
        supervisor.soon(partial(roster.heed, news))
        pause = max(LOOK_SECONDS, (time.monotonic() - began) / SHARE)


def _check(settings: Settings, *, once: bool) -> None:
    if settings.compute.executor == LOCAL:
        runs_on(settings.compute.device)
    if once and not settings.paths.address:
        expect(settings.paths.output_dir)


def _drawn(supervisor: Supervisor, width: int, height: int) -> list[str]:
    return overview(supervisor.statuses, width, height)


def _serve(
    supervisor: Supervisor, console: Console, flags: Mapping[str, Any], *, lasting: bool
) -> None:
    """Serve health where the call says so, also while there is no run."""
    given = flags.get("health_address") or os.environ.get("CLIPWATCH_HEALTH_ADDRESS", "")
    try:
        address = readers.address(given)
    except ValueError as error:
        raise SettingsError(str(error), key="health_address") from None
    if address is None or not lasting:
        return
    try:
        console.say(f"health and metrics on http://{supervisor.shared.desk.keep(address)}")
    except OSError as error:
        console.say(f"no health page: {address}: {error.strerror or error}; name another one")
