"""The models of a run: fetched if they lack, and known by content before anything is scored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from clipwatch.domain.curves import with_protocols
from clipwatch.domain.events import ModelsChecked, SettingsChanged
from clipwatch.domain.protocol import EvaluationProtocol, Input
from clipwatch.executors.fetching import fetch
from clipwatch.executors.messages import Coming, Fetched, Missed
from clipwatch.kit.errors import ClipwatchError
from clipwatch.loop.run_log import RunLog
from clipwatch.models.identity import Identities, ModelError

MODELS = "models"
"""What is in hand here, for a person."""

AGAIN_SECONDS = 30.0
"""Pause before models that cannot be used are looked at again."""

Told = tuple[tuple[str, ...], dict[str, str], str]
"""Trackers, settings and version, as SettingsChanged has them."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Message: what identifies the files of the models `asked` for, or why they cannot be used.

    `commits` are those of models from the Hub, as in an evaluation's environment.
    """

    asked: EvaluationProtocol
    inputs: tuple[Input, ...] = ()
    commits: dict[str, str] = field(default_factory=dict)
    problem: str = ""


class Preparing:
    """Has the models read, and fetched if they lack, in a thread of its own.

    Args:
        asked: The protocols of the settings, without the identity of their files, which are the
            same for all: they differ in the strength alone.
        log: Gets what is found.
        send: Takes the messages that belong to `prepared`, from that thread.
        identities: What is known of files.
    """

    def __init__(
        self,
        asked: Sequence[EvaluationProtocol],
        log: RunLog,
        send: Callable[[Prepared], None],
        identities: Identities,
    ) -> None:
        self._asked, *self._beside = asked
        self._log = log
        self._send = send
        self._identities = identities
        self._known: EvaluationProtocol | None = None  # what is asked for, as its files are
        self._again = 0.0  # by the clock that nobody sets
        self.busy = False
        self.answered = False
        """Whether it was found out for what is asked now; what was written down may be older."""

    def adopt(self, asked: Sequence[EvaluationProtocol]) -> EvaluationProtocol:
        """Ask for these protocols from here on; return the first as its files are, if known."""
        first, *beside = asked
        if (first, beside) != (self._asked, self._beside):
            self._known, self.answered = None, False
        self._asked, self._beside, self._again = first, beside, 0.0
        return self._known or first

    def ready(self) -> bool:
        """Whether the files are those that were told last; if not, they are looked at anew.

        Costs a stat for each file.
        """
        if self.busy:
            return False
        if self._known and self._identities.unchanged(self._asked):
            return True
        if time.monotonic() >= self._again:
            self.busy = True
            work = threading.Thread(target=self._work, args=(self._asked,), name="models")
            work.daemon = True
            work.start()
        return False

    def prepared(self, message: Prepared, told: Told) -> EvaluationProtocol | None:
        """Write down which protocols the files make; return the first, None for files of no use.

        Args:
            message: What was found.
            told: The trackers, settings and version that a change of the protocol is told with.
        """
        self.busy = False
        if message.asked != self._asked:  # the settings were read again meanwhile
            return None
        run = self._log.run
        self._known, self.answered = None, True
        if message.problem != run.lacking:
            self._log.record_run(ModelsChecked(message.problem))
        if message.problem:
            self._again = time.monotonic() + AGAIN_SECONDS
            return None
        protocol = self._known = replace(self._asked, inputs=message.inputs)
        beside = (replace(it, inputs=message.inputs) for it in self._beside)
        (digest, *others), new = with_protocols(run, (protocol, *beside), message.commits)
        self._log.record_run(*new)
        if (digest, *others) != self._log.run.present:
            if parts := _other_parts(run.protocols.get(run.protocol), protocol):
                self._log.say(f"{', '.join(parts)}: other files than before make another curve")
            self._log.record_run(SettingsChanged(digest, *told, tuple(others)))
        return protocol

    def _work(self, asked: EvaluationProtocol) -> None:
        try:
            with self._log.during(MODELS, "reading their files"):
                inputs = inputs_of(asked, self._identities, self._log.say, self._log.working)
            self._send(Prepared(asked, inputs, self._identities.commits(asked)))
        except (ModelError, ClipwatchError) as error:
            self._send(Prepared(asked, problem=str(error)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop has to hear of it
            self._send(Prepared(asked, problem=f"{type(error).__name__}: {error}"))


def inputs_of(
    asked: EvaluationProtocol,
    identities: Identities,
    say: Callable[[str], None],
    working: Callable[..., None],
) -> tuple[Input, ...]:
    """Return what identifies the files of a protocol's models, which are fetched if they lack.

    Args:
        asked: The protocol.
        identities: What is known of files.
        say: See `fetch_models`.
        working: As there, with MODELS before all else.

    Raises:
        ModelError: They cannot be used.
        ClipwatchError: They cannot be had.
    """
    try:
        return identities.inputs(asked)
    except ModelError as error:
        if not error.remote:
            raise
        say(f"{error}: fetching it")
    fetch_models(asked, say, partial(working, MODELS))
    working(MODELS, "reading their files")
    return identities.inputs(asked)


def _other_parts(before: EvaluationProtocol | None, now: EvaluationProtocol) -> list[str]:
    """Name what is loaded from other files, where nothing but that differs."""
    if before is None or replace(before, inputs=()) != replace(now, inputs=()):
        return []
    known = {it.part: it.digest for it in before.inputs}
    return [it.part for it in now.inputs if known.get(it.part) != it.digest]


def fetch_models(
    protocol: EvaluationProtocol,
    say: Callable[[str], None],
    working: Callable[[str, float, float], None],
) -> None:
    """Fetch what lacks of a protocol's models, and tell of each.

    Args:
        protocol: Names the models.
        say: Takes a line for each model that came.
        working: Takes what is done just now, how much of it, and of how much.

    Raises:
        ClipwatchError: One cannot be had.
    """
    problems = []
    for reply in fetch(protocol):
        match reply:
            case Coming():
                working(reply.text, reply.done, reply.total)
            case Missed(reason=reason):
                problems.append(reason)
            case Fetched(part=part, name=name, new=new) if new:
                say(f"{part} {name}: fetched, {new / 1e6:.0f} MB")
    if problems:
        raise ClipwatchError("; ".join(problems))
