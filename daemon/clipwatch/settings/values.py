"""Values of the settings, and one on its way to them, with its origin."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from clipwatch.kit import secrets
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import plain, refused


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 for one that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Ends:
    """What tells that the training is done, any of them: its final export, a file, or idleness.

    `file` is a name below output_dir or absolute, "" for none; `idle_seconds` None for never.
    """

    export: bool
    file: str
    idle_seconds: float | None

    def __str__(self) -> str:
        idle = [] if self.idle_seconds is None else [f"idle:{self.idle_seconds:g}"]
        return ",".join(["export"] * self.export + [f"file:{self.file}"] * bool(self.file) + idle)


@dataclass(frozen=True, slots=True)
class Given:
    """A value on its way to the settings.

    Attributes:
        value: As written at first, as its key's reader returns it later.
        source: For a person: "config.json:12", "CLIPWATCH_DEVICE", "--device", "default".
        key: As the user wrote it, or would write it.
        file, line: Where it stands; no file for flags and environment, no line for defaults.
        secret: Its value is never shown.
        trainers: Written for the trainer, whose rules hold for it, and not for clipwatch alone.
    """

    value: Any
    source: str
    key: str
    file: Path | None = None
    line: int | None = None
    secret: bool = False
    trainers: bool = False

    def but(self, value: Any, remark: str = "") -> Given:
        """Return the same origin with another value, and say in the source why it is another."""
        source = f"{self.source} ({remark})" if remark else self.source
        return replace(self, value=value, source=source)

    def error(self, message: str, *, fix: str = "") -> SettingsError:
        """Return the error to raise: it names file, line and key, and tells no secret."""
        told, fix = (secrets.UNFIT, "") if self.secret else map(secrets.masked, (message, fix))
        return refused(told, fix=fix, file=self.file, line=self.line, key=self.key)

    def told(self, message: str) -> str:
        """Return a remark: one line that names file, line and key, and tells no secret."""
        told = message.replace(str(self.value), secrets.HIDDEN) if self.secret else message
        named = dict.fromkeys((self.source, self.key))  # of a flag both are the same
        return plain(f"{': '.join(named)}: {secrets.masked(told)}")

    @property
    def shown(self) -> Any:
        """The value for a person, without secrets: a text, a number, a truth value or a tuple."""
        if self.secret:
            return secrets.HIDDEN
        shown = str(self.value) if isinstance(self.value, Path | Size) else self.value
        if isinstance(shown, tuple):
            return tuple(secrets.masked(it) if isinstance(it, str) else it for it in shown)
        return secrets.masked(shown) if isinstance(shown, str) else shown


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value and where it came from, for `--print-settings`."""

    key: str
    value: Any
    source: str


def texts(written: str) -> tuple[str, ...]:
    """Return the texts that `text` has written as one."""
    if written.startswith("["):
        with suppress(ValueError):
            return tuple(json.loads(written))
    return tuple(filter(None, written.split(",")))


def text(value: Any) -> str:
    """Return a value as a user would write it; of texts with commas in them as JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        alone = not any("," in it for it in value if isinstance(it, str))
        return ",".join(map(str, value)) if alone else json.dumps(value)
    if isinstance(value, dict):
        return json.dumps(value)
    return "" if value is None else str(value)
