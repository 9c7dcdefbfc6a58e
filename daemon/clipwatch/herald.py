"""Advice on its way to people: a webhook, and what Apprise reaches."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from clipwatch import state as s
from clipwatch.diary import Diary
from clipwatch.errors import TrackerRefused, TrackerUnavailable
from clipwatch.events import AdviceGiven, AdviceNotSent, AdviceSent
from clipwatch.settings.values import Advice

SECONDS: Final = 15.0
"""A receiver that takes longer is asked again later."""

_PASSING: Final = (408, 425, 429)
_SERVER: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """Message: what came of it; without a `problem` the channel has taken the advice."""

    channel: str
    advice: tuple[AdviceGiven, ...]
    problem: str = ""
    refused: bool = False


Send = Callable[[str, AdviceGiven], None]
"""Takes a run's name and an advice; raises TrackerUnavailable or TrackerRefused."""


def channels(advice: Advice) -> dict[str, Send]:
    """Return by name how advice is sent, for each way that the settings name."""
    found: dict[str, Send] = {}
    if advice.webhook:
        found["webhook"] = lambda run, it: post(advice.webhook, as_json(run, it))
    if advice.apprise:
        found["apprise"] = lambda run, it: notify(advice.apprise, run, it)
    return found


def as_json(run: str, advice: AdviceGiven) -> dict[str, Any]:
    """Return the object that a webhook gets.

    `text` stands alone, as chat programs show it; `id` is the same when it is sent again.
    """
    return {
        "id": f"{run}/{s.advice_id(advice)}",
        "run": run,
        "step": advice.step,
        "kind": advice.kind,
        "scorer": advice.scorer,
        "text": f"{run}, step {advice.step}: {advice.kind}: {advice.text}",
    }


def post(address: str, content: Mapping[str, Any]) -> None:
    """Send JSON by POST; no error tells more of the address than its host.

    Raises:
        TrackerUnavailable: It was not taken, and may be another time.
        TrackerRefused: It will not be taken.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TrackerRefused("advice.webhook must be an http or https address", fix="correct it")
    body = json.dumps(content).encode()
    kind = {"Content-Type": "application/json", "User-Agent": "clipwatch"}
    request = Request(address, data=body, headers=kind, method="POST")  # noqa: S310 - checked above
    try:
        with urlopen(request, timeout=SECONDS):  # noqa: S310
            return
    except HTTPError as error:
        error.close()
        problem = f"{parts.hostname} answered {error.code}"
        if error.code in _PASSING or error.code >= _SERVER:
            raise TrackerUnavailable(problem) from None
        raise TrackerRefused(problem, fix="correct advice.webhook") from None
    except URLError as error:
        raise TrackerUnavailable(f"{parts.hostname}: {error.reason}") from None
    except (OSError, ValueError) as error:
        raise TrackerUnavailable(f"{parts.hostname}: {type(error).__name__}") from None


def notify(addresses: tuple[str, ...], run: str, advice: AdviceGiven) -> None:
    """Send through Apprise; it says of failures only that there was one.

    Raises:
        TrackerUnavailable: Not all addresses were reached.
        TrackerRefused: Apprise is not installed, or does not know an address.
    """
    try:
        import apprise
    except ImportError:
        fix = "pip install 'clipwatch[apprise]'"
        raise TrackerRefused("advice.apprise needs a package", fix=fix) from None
    everyone = apprise.Apprise()
    for number, address in enumerate(addresses, 1):
        if not everyone.add(address):
            message = f"Apprise does not know address {number} of advice.apprise"
            raise TrackerRefused(message, fix="correct it, by Apprise's own documentation")
    title = f"clipwatch: {run}, step {advice.step}: {advice.kind}"
    if not everyone.notify(title=title, body=advice.text):
        raise TrackerUnavailable("Apprise could not reach everyone")


class Herald:
    """Sends what was advised in a thread of its own, so that a slow receiver delays nobody.

    Args:
        advice: The settings.
        diary: Has what was advised, and gets what came of it.
        send: Called with each Told, from the thread.
        clock: The time, in UTC.
        luck: Gives numbers in 0..1 that spread the pauses.
    """

    def __init__(
        self,
        advice: Advice,
        diary: Diary,
        send: Callable[[Told], None],
        clock: Callable[[], datetime],
        luck: Callable[[], float],
    ) -> None:
        self._channels = channels(advice)
        self._diary = diary
        self._send = send
        self._clock = clock
        self._luck = luck
        self._busy: set[str] = set()
        self._tried: set[str] = set()
        self._jobs: SimpleQueue[tuple[str, Send, tuple[AdviceGiven, ...]]] = SimpleQueue()
        threading.Thread(target=self._work, name="advice", daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self._busy)

    def adopt(self, advice: Advice) -> None:
        """Send by these settings from here on; every channel may try again at once."""
        self._channels = channels(advice)
        self._tried.clear()

    def offer(self) -> None:
        """Set those channels to work that lack something and may try; each one after a start."""
        for name, send in self._channels.items():
            fresh = name not in self._tried  # a restart is a new chance
            new = s.unsent(self._diary.run, name, None if fresh else self._clock())
            if new and name not in self._busy:
                self._tried.add(name)
                self._busy.add(name)
                self._jobs.put((name, send, new))

    def told(self, told: Told) -> None:
        """Write down what came of it; the channel may work again."""
        self._busy.discard(told.channel)
        name, run = told.channel, self._diary.run
        stream = f"advice/{run.name}/{name}"
        if told.advice:
            self._diary.record(stream, AdviceSent(name, tuple(map(s.advice_id, told.advice))))
        if told.problem:
            attempt = run.channels.get(name, s.TrackerState()).attempt + 1
            again = None if told.refused else self._clock() + s.pause(attempt, self._luck())
            self._diary.record(stream, AdviceNotSent(name, told.problem, attempt, again))

    def _work(self) -> None:
        while True:
            channel, send, advice = self._jobs.get()
            sent: list[AdviceGiven] = []
            problem, refused = "", False
            try:
                with self._diary.during(channel, "sending advice"):
                    for it in advice:
                        send(self._diary.name, it)
                        sent.append(it)
            except (TrackerUnavailable, TrackerRefused) as error:
                problem, refused = str(error), isinstance(error, TrackerRefused)
            except Exception as error:  # noqa: BLE001 - a library's, whose text may hold an address
                problem = type(error).__name__
            self._send(Told(channel, tuple(sent), problem, refused))
