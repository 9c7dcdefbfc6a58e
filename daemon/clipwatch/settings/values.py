"""A value with its origin, and the settings that all values make together."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from clipwatch.domain.kinds import StageMode, WatchMode
from clipwatch.domain.protocol import EvaluationProtocol
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
class Advice:
    """When advice is given, and to whom it goes beside trackers and status.

    Attributes:
        low, saturated: Means, None for never.
        after: Checkpoints before a low mean is told.
        worth: Scorer → a difference of means that matters, above 0; None for no advice by it. Those
            that are not named go by their own scale. "" is the one that decides.
        stretch: Steps without a gain of `worth` that make a plateau.
        webhook: An address that gets JSON by POST, "" for none.
        apprise: Addresses for the package Apprise.
    """

    low: float | None
    saturated: float | None
    after: int
    worth: dict[str, float | None]
    stretch: int
    webhook: str = field(repr=False)
    apprise: tuple[str, ...] = field(repr=False)


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
        return plain(f"{self.source}: {self.key}: {secrets.masked(told)}")

    @property
    def shown(self) -> Any:
        """The value for a person, without secrets: a text, a number, a truth value or a tuple."""
        if self.secret:
            return secrets.HIDDEN
        shown = str(self.value) if isinstance(self.value, Path | Size) else self.value
        return secrets.masked(shown) if isinstance(shown, str) else shown


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value and where it came from, for `--print-settings`."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that clipwatch is told before it starts.

    Attributes:
        config: Absolute.
        output_dir: Absolute, not resolved through symlinks; may not exist yet.
        working_dir: The trainer's working directory.
        state_dir: Absolute, outside of output_dir; may not exist yet.
        trackers: Names of the adapters to publish to, in order, each once.
        project, run_name: The trainer's names for its tracker.
        logging_dir: Absolute; below output_dir unless the trainer names an absolute one.
        device: "cpu", "cuda", "cuda:N", "mps", or the UUID of a GPU or a part of one.
        give_way: Processor and disk are the training's first.
        share_gpu: A GPU that others compute on may be used.
        gpu_memory_gib: What may be taken of a GPU's memory; None for what fits `share_gpu`.
        batch_size: Images generated at once, at least 1; None to find out.
        baseline: The base model is scored, too.
        precision: An evaluation ends when half the interval of its mean is this; None for never.
        watch: "auto", "events" or "poll".
        rescan_seconds: Above 0.
        settle_seconds: How long a checkpoint without a completion mark must stay unchanged.
        stage: How checkpoints are kept from rotation: "auto", "reflink", "pin", "copy" or "off".
        stage_limit: How many are kept at once, at least 1.
        stall_seconds: Above 0; an evaluator that shows no sign of life for longer is ended.
        attention: "" for the pipeline's default, "native", or one of diffusers' backend names.
        keep_images: Of how many newest evaluations images are kept: -1 for all, 0 for none.
        max_attempts: At least 1.
        health_address: Where health and metrics are served, None for nowhere.
        drain_seconds: How long a stop may wait for what is left to evaluate.
        exit_when_done: What tells that the training is done, None to stay.
        advice: When advice is given, and to whom.
        options: The object of each tracker, {"wandb": {"entity": "..."}}, with its secrets.
        origins: Every value with its source, sorted by key, secrets hidden.
        remarks: What looks like a slip, and what is said of the prompts, a line each.
        doubts: Size, steps or guidance that hold, and can hardly be meant, a line each.
    """

    config: Path
    output_dir: Path
    working_dir: Path
    state_dir: Path
    trackers: tuple[str, ...]
    project: str
    run_name: str
    logging_dir: Path
    protocol: EvaluationProtocol
    device: str
    give_way: bool
    share_gpu: bool
    gpu_memory_gib: float | None
    batch_size: int | None
    baseline: bool
    precision: float | None
    watch: WatchMode
    rescan_seconds: float
    settle_seconds: float
    stage: StageMode
    stage_limit: int
    stall_seconds: float
    attention: str
    keep_images: int
    max_attempts: int
    health_address: Address | None
    drain_seconds: float
    exit_when_done: Ends | None
    advice: Advice
    options: dict[str, dict[str, str]] = field(repr=False)
    origins: tuple[Setting, ...]
    remarks: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person should know before anything is done by them."""
        return (*self.remarks, *self.doubts)

    def source(self, key: str) -> str:
        """Return where a key's value came from, "default" for nowhere, "" if it has none."""
        return next((it.source for it in self.origins if it.key == key), "")

    def as_text(self) -> dict[str, str]:
        """Return key → value for the log; without the sources, which move with every edit."""
        return {setting.key: text(setting.value) for setting in self.origins}


def text(value: Any) -> str:
    """Return a value as a user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value)
    return "" if value is None else str(value)
