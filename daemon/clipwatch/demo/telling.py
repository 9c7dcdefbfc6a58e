"""What the demo says while it runs: a drawing that moves in a terminal, lines elsewhere."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from clipwatch.domain.state import Run
from clipwatch.loop.console import Console
from clipwatch.loop.narration import narrate
from clipwatch.results.listing import brief
from clipwatch.results.painting import painted
from clipwatch.results.progress import Watcher

DRAWING = "drawing and encoding pictures"
"""What the training says before its first step."""

_STEP = re.compile(r"step (?P<done>\d+)/(?P<whole>\d+) loss (?P<loss>\S+) (?P<spent>\d+) s")


@dataclass(frozen=True, slots=True)
class Scene:
    """How far everything is.

    Attributes:
        run: As the daemon's log has it, None before its first word.
        training: The lines of the training's own log.
        over: The training has come to its end.
    """

    run: Run | None
    training: list[str]
    over: bool = False

    @property
    def step(self) -> re.Match[str] | None:
        """The training's last word on its steps."""
        found = (_STEP.match(line) for line in reversed(self.training))
        return next((it for it in found if it), None)

    @property
    def now(self) -> str:
        """What goes on, for a person."""
        if self.over:
            return "the training has ended; clipwatch scores and publishes what is left"
        if self.step is None:
            return DRAWING if DRAWING in self.training else "loading torch, making the model"
        done, whole = int(self.step["done"]), int(self.step["whole"])
        left = float(self.step["spent"]) / done * (whole - done)
        return (
            f"training: step {done} of about {whole}, loss {self.step['loss']}, {left:.0f} s left"
        )

    @property
    def pace(self) -> str:
        """How long the training takes on this machine, "" before its first steps."""
        if self.step is None:
            return ""
        done, whole = int(self.step["done"]), int(self.step["whole"])
        seconds = float(self.step["spent"]) / done * whole
        return f"by its first {done} steps the training takes about {seconds:.0f} s here"

    def scores(self) -> list[tuple[str, list[str]]]:
        """Return the finished evaluations with their lines, in the order in which they ended."""
        run = self.run
        ids = run.scored.get(run.protocol, ()) if run else ()
        done = ((id_, run.evaluations[id_].completed) for id_ in ids) if run else ()
        return [(id_, narrate(event)) for id_, event in done if event]


class Drawn:
    """The state as a table under a line that moves, for as long as the context lasts."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._spinner = Spinner("dots")
        self._began, self._since = time.monotonic(), datetime.now(UTC)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, scene: Scene) -> None:
        """Draw it."""
        run = scene.run
        width, height = self._console.size
        now = datetime.now(UTC)
        lines = brief(run, now, Watcher(self._since), width, height - 2) if run else []
        self._spinner.update(text=Text(f"{scene.now} ({time.monotonic() - self._began:.0f} s)"))
        drawn = map(painted, lines or ["no checkpoint yet"])
        self._live.update(Group(self._spinner, *drawn))

    def ending(self) -> None:
        """Say that the daemon is stopped, which takes a moment."""
        self._spinner.update(text=Text("all is scored and published; stopping the daemon"))


class Told:
    """A line for each score, and what goes on in between, for as long as the context lasts."""

    def __init__(self, console: RichConsole) -> None:
        self._console = Console(console)
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._console.close()

    def show(self, scene: Scene) -> None:
        """Say what is new."""
        self._console.working("demo", scene.now)
        if scene.pace:
            self._once("pace", [scene.pace])
        for id_, lines in scene.scores():
            self._once(id_, lines)

    def ending(self) -> None:
        """Say that the daemon is stopped, which takes a moment."""
        self._once("ending", ["all is scored and published; stopping the daemon"])

    def _once(self, key: str, lines: list[str]) -> None:
        if key not in self._told:
            self._told.add(key)
            for line in lines:
                self._console.say(line)
