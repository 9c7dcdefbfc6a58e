"""Which checkpoints lie in an output directory, and which of them are whole.

One file per trainer says what its checkpoints are called and when one is complete; what lies inside
(`contents`, `files`) is common to all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from clipwatch.layouts import contents, diffusers_script, pipeline_folder, simpletuner
from clipwatch.layouts.contents import Unsupported
from clipwatch.layouts.files import NotReadable, NotWhole, refusal
from clipwatch.layouts.sighting import Partial, Sighting, Unusable, Whole

OLD_SECONDS = 60.0
"""Files untouched for this long are taken as settled at first sight."""


class Layout(Protocol):
    """How one trainer names and completes its checkpoints; a module fulfils it."""

    def step(self, name: str) -> int | None:
        """Return the global step that a folder's name tells, None if it is no checkpoint's name."""

    def owns(self, names: set[str]) -> bool:
        """Tell from the names in a checkpoint folder whether this trainer wrote it."""

    def settling(self, names: set[str], siblings_marked: bool) -> float:
        """Return how many settling times it must be unchanged: 0.0 when a marker says complete.

        Raises:
            NotWhole: It is known to be incomplete.
        """


LAYOUTS: tuple[Layout, ...] = (simpletuner, pipeline_folder, diffusers_script)
"""In this order: the first that owns a folder decides."""


class Scanner:
    """Looks at one output directory again and again and remembers what it saw.

    Args:
        output_dir: May be missing, a symlink, or made anew at any time.
        weights: "live" or "ema".
        settle_seconds: How long an unmarked checkpoint must be unchanged.
        known: What was whole before, by name: as long as its files are the same it still is.
        clock: Wall-clock seconds, as in file times.
    """

    def __init__(
        self,
        output_dir: Path,
        *,
        weights: str,
        settle_seconds: float,
        known: Mapping[str, Whole] = MappingProxyType({}),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.output_dir = output_dir
        self._weights = weights
        self._settle = settle_seconds
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}
        self._wholes = dict(known)
        self.settling = False
        """Whether the last scan saw a checkpoint that only has to stay unchanged."""

    def scan(self) -> list[Sighting]:
        """Look at every checkpoint folder; newest step first.

        Raises:
            FileNotFoundError: The output directory does not exist (yet).
            NotReadable: It may not be read; the text says what to do.
        """
        found = sorted(candidates(self.output_dir), key=lambda item: (-item[0], item[1]))
        guarded = any(_exists(path / simpletuner.GUARD) for _, _, path in found)
        newest_whole = None
        sightings = []
        self.settling = False
        for step, name, path in found:
            sighting = self._look(step, name, path, guarded)
            if isinstance(sighting.verdict, Whole) and newest_whole is None:
                newest_whole = step
            if isinstance(sighting.verdict, Partial) and newest_whole is not None:
                sighting = self._abandoned(sighting, newest_whole, sighting.verdict.reason)
            sightings.append(sighting)
        names = {sighting.name for sighting in sightings}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        self._wholes = {name: kept for name, kept in self._wholes.items() if name in names}
        return sightings

    def _look(self, step: int, name: str, path: Path, guarded: bool) -> Sighting:
        settlings = 0.0
        try:
            names = set(os.listdir(path))
            layout = next(layout for layout in LAYOUTS if layout.owns(names))
            settlings = layout.settling(names, guarded)
            weights = contents.find(path, self._weights)
            whole = self._wholes.get(name)
            if whole is not None and whole.weights == weights:
                return Sighting(step, name, path, whole)
            signature = str(weights.files)
            changed = [_changed(path / file.path) for file in weights.files]
            self._settled(name, signature, max(changed), settlings * self._settle)
            verdict: Whole | Partial | Unusable = Whole(weights, contents.verify(path, weights))
        except NotWhole as reason:
            verdict = Partial(str(reason))
        except Unsupported as reason:
            verdict = self._hopeless(name, path, settlings * self._settle, str(reason))
        except NotReadable as reason:
            verdict = Unusable("unreadable", str(reason))
        except PermissionError:
            verdict = Unusable("unreadable", refusal(path))
        except OSError:
            verdict = Partial("the folder is being deleted")
        if isinstance(verdict, Whole):
            self._wholes[name] = verdict
        return Sighting(step, name, path, verdict)

    def _settled(self, name: str, signature: str, changed: float, seconds: float) -> None:
        """Make sure that nothing changed for `seconds`, by our own clock or long before it began.

        Raises:
            NotWhole: It has to wait some more.
        """
        now = self._clock()
        seen = self._seen.get(name)
        if seen is None or seen[0] != signature:
            seen = self._seen[name] = (signature, now)
        age = now - changed
        left = seconds - max(now - seen[1], age if age >= OLD_SECONDS else 0.0)
        if left > 0:
            self.settling = True
            raise NotWhole("no marker says that it is complete: it must stay unchanged for a while")

    def _hopeless(self, name: str, path: Path, seconds: float, reason: str) -> Partial | Unusable:
        """Nothing here can be evaluated; but an unmarked folder may still get what can.

        The diffusers LoRA scripts save accelerate's state first and the LoRA file after it.
        """
        try:
            names = ",".join(sorted(os.listdir(path)))
            self._settled(name, names, _changed(path), seconds)
        except NotWhole:
            return Partial("nothing in it so far that can be evaluated")
        except OSError:
            return Partial("the folder is being deleted")
        return Unusable("unsupported", reason)

    def _abandoned(self, sighting: Sighting, newest: int, reason: str) -> Sighting:
        """One that is partial, untouched for long and below a whole one will not be finished."""
        try:
            age = self._clock() - sighting.path.stat().st_mtime
        except OSError:
            return sighting
        if age < max(OLD_SECONDS, 6 * self._settle):
            return sighting
        verdict = Unusable("abandoned", f"never finished (checkpoint {newest} is): {reason}")
        return replace(sighting, verdict=verdict)


def _exists(path: Path) -> bool:
    """Whether it is there as far as we can see; Path.exists raises where we may not look."""
    return os.path.exists(path)  # noqa: PTH110 - see above


def _changed(path: Path) -> float:
    """When a file, or a folder's list of files, changed last."""
    found = path.stat()
    return max(found.st_mtime, found.st_ctime)


def candidates(output_dir: Path) -> Iterator[tuple[int, str, Path]]:
    """Yield (step, name, path) of the folders that are named like checkpoints.

    Raises:
        FileNotFoundError: The output directory does not exist.
        NotReadable: It may not be read.
    """
    try:
        with os.scandir(output_dir) as entries:
            found = list(entries)
    except PermissionError as error:
        raise NotReadable(refusal(output_dir)) from error
    except NotADirectoryError as error:
        raise NotReadable(f"{output_dir} is a file, not an output directory") from error
    for entry in found:
        try:
            if not entry.is_dir():
                continue
        except OSError:
            continue
        step = step_of(entry.name)
        if step is not None and _is_checkpoint(entry.name, Path(entry.path)):
            yield step, entry.name, Path(entry.path)


def _is_checkpoint(name: str, path: Path) -> bool:
    """Folders with a number in their name count only if they hold a pipeline."""
    return simpletuner.step(name) is not None or _exists(path / pipeline_folder.INDEX)


def step_of(name: str) -> int | None:
    """Return the global step that a checkpoint's name tells, None if it tells none."""
    return next((step for layout in LAYOUTS if (step := layout.step(name)) is not None), None)


def look_once(path: Path, weights: str) -> Sighting:
    """Look at one checkpoint folder without waiting for it to settle.

    The step is 0 when its name tells none.
    """
    scanner = Scanner(path.parent, weights=weights, settle_seconds=0.0)
    return scanner._look(step_of(path.name) or 0, path.name, path, guarded=False)  # noqa: SLF001 - same file
