"""Has advice sent: to each channel what it lacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue

from clipwatch.delivery.channels import Send, channels
from clipwatch.domain.delivered import advice_id, unsent
from clipwatch.domain.events import AdviceGiven, AdviceNotSent, AdviceSent
from clipwatch.domain.retries import pause
from clipwatch.domain.state import TrackerState
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.loop.diary import Diary
from clipwatch.settings import Advice


@dataclass(frozen=True, slots=True)
class Told:
    """Message: what came of it; without a `problem` the channel has taken the advice."""

    channel: str
    advice: tuple[AdviceGiven, ...]
    problem: str = ""
    refused: bool = False


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
            new = unsent(self._diary.run, name, None if fresh else self._clock())
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
            self._diary.record(stream, AdviceSent(name, tuple(map(advice_id, told.advice))))
        if told.problem:
            attempt = run.channels.get(name, TrackerState()).attempt + 1
            again = None if told.refused else self._clock() + pause(attempt, self._luck())
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
