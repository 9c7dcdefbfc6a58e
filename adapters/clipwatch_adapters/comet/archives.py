"""Read the archives of Comet's offline experiments, without Comet's package.

Such a zip file holds a message a line in messages.json, and files that these name. Each row has one
asset of ours, the table of its scores, whose metadata names the row. `test_comet.py` holds this
against archives by the real package.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from clipwatch.kit.decoding import decoder
from clipwatch_adapters.shared.disk import private

ROW = "clipwatch row"
"""In the metadata of an asset: the row that it came with."""

MESSAGES, HEAD = "messages.json", "experiment.json"


class Metric(msgspec.Struct):
    """A number in an archive, under Comet's names."""

    metricName: str  # noqa: N815
    metricValue: float  # noqa: N815
    step: int | None = None


class Payload(msgspec.Struct):
    """What a message tells; much more is in it."""

    metric: Metric | None = None
    metadata: dict[str, Any] | None = None


class Message(msgspec.Struct):
    """A line of messages.json."""

    payload: Payload


def held(archive: Path) -> frozenset[str] | None:
    """Return the ids of the rows in an archive, None if it is damaged or was not finished.

    Raises:
        OSError: It cannot be read, or is a link or a pipe.
    """
    try:
        named = [(it.payload.metadata or {}).get(ROW) for it in messages(archive)]
    except (ValueError, FileNotFoundError):
        return None
    return frozenset(it for it in named if isinstance(it, str))


def points(archive: Path) -> list[tuple[str, int, float]]:
    """Return name, step and value of all numbers in an archive, in their order.

    Raises:
        OSError: As `held`.
        ValueError: It is damaged.
    """
    found = (it.payload.metric for it in messages(archive))
    return [(it.metricName, it.step, it.metricValue) for it in found if it and it.step is not None]


def messages(archive: Path) -> Iterator[Message]:
    """Yield the messages of an archive.

    Raises:
        OSError: As `held`.
        ValueError: It is damaged.
    """
    try:
        with open(archive, "rb", opener=private) as file, zipfile.ZipFile(file) as opened:
            opened.getinfo(HEAD)
            lines = opened.read(MESSAGES).splitlines()
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{archive} is no archive of Comet's") from error
    for line in lines:
        yield decoder(Message).decode(line)
