"""The file of a part: lines that are only ever added, each with a checksum.

Behind the first, which says what it is, a line is an event of the log, or how it ended.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.importing import Told
from clipwatch.domain.names import leads_inside
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.questions import are_answered
from clipwatch.domain.state import name_evaluation
from clipwatch.domain.written import decode, encode
from clipwatch.executors.messages import Finished
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.ownfiles import read_own

FORMAT: Final = 1
"""Raised when an older clipwatch could not read the file any more."""

_E = TypeVar("_E")
_SLASHES: Final = 2  # between name, weights and protocol
_HEAD: Final = (RunStarted, ProtocolDefined, CheckpointCompleted)


class _Line(msgspec.Struct):
    """One line; `crc` is that of type, time and data, in the form of the log's."""

    type: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    data: msgspec.Raw
    crc: int


class Head(msgspec.Struct):
    """What the first line says."""

    format: int
    version: str
    shard: int
    of: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a file of a part holds.

    Attributes:
        path: The file; the images lie in its folder.
        told: RunStarted, ProtocolDefined and CheckpointCompleted, then what was evaluated.
        finished: How it ended; None for one that was killed, or goes on.
    """

    path: Path
    told: tuple[Told, ...]
    finished: Finished | None

    @property
    def run(self) -> RunStarted:
        """Of which run its checkpoint is."""
        return self._first(RunStarted)

    @property
    def protocol(self) -> ProtocolDefined:
        """Under which it was scored."""
        return self._first(ProtocolDefined)

    @property
    def checkpoint(self) -> CheckpointCompleted:
        """What was scored."""
        return self._first(CheckpointCompleted)

    @property
    def evaluation(self) -> str:
        """The evaluation's name."""
        return named(self.checkpoint, self.protocol)

    @property
    def scored(self) -> tuple[ImageScore, ...]:
        """Its images so far, in the order of the file."""
        events = (event for _, event in self.told)
        return tuple(
            it for event in events if isinstance(event, ImagesScored) for it in event.images
        )

    @property
    def evaluated(self) -> tuple[Told, ...]:
        """What happened to the evaluation."""
        return self.told[len(_HEAD) :]

    def _first(self, kind: type[_E]) -> _E:
        return next(event for _, event in self.told if isinstance(event, kind))


def named(checkpoint: CheckpointCompleted, protocol: ProtocolDefined) -> str:
    """Name the evaluation of a checkpoint under a protocol."""
    return name_evaluation(checkpoint.name, checkpoint.digest, protocol.digest)


def read(path: Path) -> Part | None:
    """Read a part; None for one in which nothing stands yet. What is just being written is left.

    Raises:
        ClipwatchError: It is damaged, cannot be read, or was written by a newer clipwatch.
    """
    try:
        data = read_own(path)
    except OSError as error:
        raise ClipwatchError(f"{path} cannot be read: {error.strerror}") from error
    return parsed(path, data)[0]


def line(what: Head | Finished | Event) -> bytes:
    """Return a line of a part's file."""
    if isinstance(what, Head | Finished):
        kind = "Part" if isinstance(what, Head) else "Finished"
        data = msgspec.json.encode(what).decode()
    else:
        kind, data = encode(what)
    time = datetime.now(UTC)
    written = _Line(kind, time, msgspec.Raw(data.encode()), _checksum(kind, time, data))
    return msgspec.json.encode(written) + b"\n"


def _checksum(kind: str, time: datetime, data: str) -> int:
    return zlib.crc32(msgspec.msgpack.encode((kind, time.isoformat(), data)))


def parsed(path: Path, data: bytes) -> tuple[Part | None, int]:
    """Return what stands in a part, None before its head is whole, and how much of it is sound.

    Raises:
        ClipwatchError: As `read`.
    """
    told: list[Told] = []
    finished: Finished | None = None
    sound = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if number == len(lines) or (number == len(lines) - 1 and not lines[-1] and _torn(line)):
            break  # which a kill or a power cut left, or is being written
        time, what = _read_line(path, number, line)
        if isinstance(what, Finished):
            finished = what
            told = _with_made(told, what.made)
        elif not isinstance(what, Head):
            told.append((time, what))
        if (number == 1) != isinstance(what, Head):
            raise _damaged(path, f"line {number} is out of place")
        sound += len(line) + 1
    if len(told) < len(_HEAD):
        return None, 0
    if tuple(type(event) for _, event in told[: len(_HEAD)]) != _HEAD:
        raise _damaged(path, "it does not begin with its run, protocol and checkpoint")
    part = Part(path, tuple(told), finished)
    if problem := next(_contradictions(part), ""):
        raise _damaged(path, problem)
    return part, sound


def _read_line(path: Path, number: int, line: bytes) -> tuple[datetime, Head | Finished | Event]:
    try:
        read = msgspec.json.decode(line, type=_Line)
        data = bytes(read.data).decode()
        if _checksum(read.type, read.time, data) != read.crc:
            raise _damaged(path, f"the checksum of line {number} is wrong")
        if read.type == "Part":
            head = msgspec.json.decode(data, type=Head)
            if head.format > FORMAT:
                raise ClipwatchError(
                    f"{path} was written by clipwatch {head.version}", fix="upgrade this one"
                )
            return read.time, head
        if read.type == "Finished":
            return read.time, msgspec.json.decode(data, type=Finished)
        return read.time, decode(read.type, data)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise _damaged(path, f"line {number}: {str(error).splitlines()[0]}") from error
    except KeyError as error:
        problem = f"{path}: line {number} is a {error.args[0]}, which this version does not know"
        raise ClipwatchError(problem, fix="upgrade clipwatch") from error


def _torn(line: bytes) -> bool:
    """Whether the last line is none: a power cut may leave a block of zeros."""
    try:
        msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError:
        return True
    return False


def _damaged(path: Path, what: str) -> ClipwatchError:
    return ClipwatchError(f"{path} is damaged: {what}", fix="remove it and score that shard again")


def _with_made(told: Sequence[Told], made: dict[str, str]) -> list[Told]:
    """Add what was known only in the end to the environment of the last attempt."""
    found = list(told)
    for place in reversed(range(len(found))):
        time, event = found[place]
        if isinstance(event, EvaluationStarted):
            found[place] = time, replace(event, environment=event.environment | made)
            break
    return found


def _contradictions(part: Part) -> Iterator[str]:
    """Yield what in a part cannot be: another machine's may hold anything."""
    checkpoint, protocol, own = part.checkpoint, part.protocol, part.evaluation
    if protocol.protocol.digest != protocol.digest:
        yield f"its protocol is not {protocol.digest}"
    if not leads_inside(own) or own.count("/") != _SLASHES:
        yield f"it is of a checkpoint called {checkpoint.name!r}"
    begun = (own, checkpoint.name, checkpoint.step, checkpoint.digest, protocol.digest)
    seeds = {(it.id, index): seed for it, index, seed in protocol.protocol.images()}
    asked = {it.id: it.questions for it in protocol.protocol.prompts}
    started = False
    for _, event in part.evaluated:
        match event:
            case EvaluationStarted(evaluation=other):
                started = True
                if replace(event, environment={}) != EvaluationStarted(*begun, environment={}):
                    yield f"it tells of {other}, too"
            case ImagesScored(evaluation=evaluation, images=images):
                if not started or evaluation != own:
                    yield f"it has images of {evaluation}"
                for it in images:
                    known = seeds.get((it.prompt_id, it.index)) == it.seed
                    known = known and are_answered(it.scores, it.answers, asked[it.prompt_id])
                    if not known or not _sound(it, protocol.protocol, own):
                        yield f"image {it.index} of prompt {it.prompt_id} is none of its protocol"
            case _:
                yield f"it tells of a {type(event).__name__}"


def _sound(image: ImageScore, protocol: EvaluationProtocol, evaluation: str) -> bool:
    names = {it.name for it in protocol.scorers}
    finite = image.scores.keys() == names and all(map(math.isfinite, image.scores.values()))
    name = (image.image or f"{evaluation}/none").removeprefix(f"{evaluation}/")
    return finite and "/" not in name and leads_inside(name)
