"""Looks at the checkpoints of one output directory, and judges each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.sighting import Partial, Sighting, Unusable, Weights, Whole
from clipwatch.layouts import contents, settling
from clipwatch.layouts.files import (
    Damaged,
    NotReadable,
    NotWhole,
    Unsupported,
    content_digest,
    refusal,
    sparse,
    stat,
)
from clipwatch.layouts.folders import LAYOUTS, candidates, exists, step_of
from clipwatch.layouts.settling import Settling, Stillness
from clipwatch.layouts.simpletuner import GUARD
from clipwatch.layouts.unchanged import Unchanged

_WAITING = "no marker says that it is complete: it must stay unchanged for a while"
_SPARSE = "parts of its weights were never written: it must stay unchanged for longer"
_UNPRINTABLE = "its name holds characters that cannot be printed: rename the folder"


class Scanner:
    """Looks at one output directory again and again and remembers what it saw.

    Args:
        output_dir: May be missing, a symlink, or made anew at any time.
        weights: Which are looked for.
        settle_seconds: How long an unmarked checkpoint must be unchanged.
        known: What was whole before, by name: as long as its files are the same it still is.
        clock: Seconds of a clock that nobody sets, to measure how long things stay unchanged.
        wall: Seconds of the clock of file times, for what lay there before the first scan.
    """

    def __init__(
        self,
        output_dir: Path,
        *,
        weights: TrainedWeights,
        settle_seconds: float,
        known: Mapping[str, Whole] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.output_dir = output_dir
        self._weights = weights
        self._settle = settle_seconds
        self._still = Stillness(clock, wall)
        self._digests: dict[str, tuple[int, str]] = {}
        self._wholes = dict(known)
        self._unchanged = Unchanged(wall)
        self._written_ns = 0
        self.settling = False
        """Whether the last scan saw a checkpoint that only has to stay unchanged."""

    def scan(self) -> list[Sighting]:
        """Look at every checkpoint folder; newest step first.

        Raises:
            FileNotFoundError: The output directory does not exist (yet).
            NotReadable: It may not be read; the text says what to do.
        """
        self.settling = False
        try:
            found = sorted(candidates(self.output_dir), key=lambda item: (-item[0], item[1]))
            guarded = any(exists(path / GUARD) for _, _, path in found)
            sightings = [
                self._look(step, name, path, guarded) if name.isprintable() else _shown(step, path)
                for step, name, path in found
            ]
        finally:
            self._still.first_look = False
        names = {sighting.name for sighting in sightings}
        self._still.keep(names)
        self._unchanged.keep(names)
        for kept in (self._digests, self._wholes):
            for name in kept.keys() - names:
                del kept[name]
        files = (f for whole in self._wholes.values() for f in whole.weights.files)
        self._written_ns = max((file.mtime_ns for file in files), default=0)
        return sightings

    def _look(self, step: int, name: str, path: Path, guarded: bool) -> Sighting:
        verdict: Whole | Partial | Unusable
        if self._unchanged.same(name):
            return Sighting(step, name, path, self._wholes[name])
        try:
            verdict = self._verdict(name, path, guarded)
        except NotReadable as reason:
            verdict = Unusable("unreadable", str(reason))
        except PermissionError:
            verdict = Unusable("unreadable", str(refusal(path)))
        except FileNotFoundError:
            verdict = Partial("the folder is being deleted")
        except OSError as error:
            told = f"it cannot be read: {error.strerror}"
            verdict = self._hopeless(name, path, 1.0, told, Unusable("unreadable", told))
        return Sighting(step, name, path, verdict)

    def _verdict(self, name: str, path: Path, guarded: bool) -> Whole | Partial | Unusable:
        settlings = 1.0
        try:
            names = set(os.listdir(path))
            layout = next(layout for layout in LAYOUTS if layout.owns(names))
            settlings = layout.settling(names, guarded)
            weights = contents.find(path, self._weights)
            whole = self._wholes.get(name)
            if whole is None or whole.weights != weights:
                digest = self._settled(name, path, weights, settlings)
                whole = self._wholes[name] = Whole(weights, digest)
            self._unchanged.remember(name, path, weights.files)
        except Settling as reason:
            self.settling = True
            return Partial(str(reason))
        except Unsupported as reason:
            # the diffusers LoRA scripts save accelerate's state first and the LoRA file after it
            waiting = "nothing in it so far that can be evaluated"
            last = Unusable("unsupported", str(reason))
            return self._hopeless(name, path, settlings, waiting, last)
        except NotWhole as reason:
            marked = "marked as complete, but " if settlings == 0.0 else ""
            if not marked and not isinstance(reason, Damaged):
                return self._unfinished(name, path, str(reason))
            last = Unusable("unreadable", f"{marked}{reason}")
            return self._hopeless(name, path, max(settlings, 1.0), str(reason), last)
        return whole

    def _settled(self, name: str, path: Path, weights: Weights, settlings: float) -> str:
        """Return the digest of weights to which nobody writes any more.

        The digest is taken twice: not every write to a mapped file tells in its times.

        Raises:
            Settling: They have to stay unchanged for some more time.
            NotWhole, Damaged, NotReadable, Unsupported: As `contents.find`.
        """
        contents.check_headers(path, weights)
        if settlings == 0.0 and _written_after_guard(path, weights):
            settlings = 1.0
        paths = [path / file.path for file in weights.files]
        holes = [sparse(file) for file in paths] if settlings > 0.0 else []
        if any(holes):
            settlings = settling.SPARSE_SETTLINGS
        signature, changed_ns = settling.of_files(path, weights.files)
        unchanged = self._still.seconds(name, "weights", signature, changed_ns)
        over = unchanged >= settlings * self._settle
        seen, before = self._digests.get(name, (0, ""))
        if not over and (unchanged == 0.0 or seen == signature):
            raise Settling(_SPARSE if any(holes) else _WAITING)
        digest = content_digest(path, weights.files)
        self._digests[name] = (signature, digest)
        same = seen != signature or before == digest
        if not same:
            self._still.restart(name, "weights")
        if not over or not same or stat(path, paths) != weights.files:
            raise Settling(_SPARSE if any(holes) else _WAITING)
        return digest

    def _hopeless(
        self, name: str, path: Path, settlings: float, waiting: str, last: Unusable
    ) -> Partial | Unusable:
        """Something stands there that will not do; it may still be about to be written."""
        unchanged = self._still.seconds(name, "folder", *settling.of_folder(path))
        if unchanged >= settlings * self._settle:
            return last
        self.settling = True
        return Partial(waiting)

    def _unfinished(self, name: str, path: Path, reason: str) -> Partial | Unusable:
        """Something lacks; it is waited for while the trainer shows that it is at it."""
        signature, changed_ns = settling.of_folder(path)
        superseded = self._written_ns > changed_ns
        patience = settling.OLD_SECONDS if superseded else settling.PATIENCE_SECONDS
        unchanged = self._still.seconds(name, "folder", signature, changed_ns)
        if unchanged < max(patience, 6 * self._settle):
            return Partial(reason)
        return Unusable(
            "abandoned", f"never finished, and nothing in it changes any more: {reason}"
        )


def _shown(step: int, path: Path) -> Sighting:
    """What a folder is called in the log whose name cannot stand there."""
    name = ascii(path.name)[1:-1]
    return Sighting(step, name, path.parent / name, Unusable("unsupported", _UNPRINTABLE))


def _written_after_guard(checkpoint: Path, weights: Weights) -> bool:
    """Whether the weights were written again, so that the guard does not speak of them."""
    try:
        guard = (checkpoint / GUARD).stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return any(file.mtime_ns > guard for file in weights.files)


def look_once(path: Path, weights: TrainedWeights) -> Sighting:
    """Look at one checkpoint folder without waiting for it to settle.

    The step is 0 when its name tells none.
    """
    scanner = Scanner(path.parent, weights=weights, settle_seconds=0.0)
    return scanner._look(step_of(path.name) or 0, path.name, path, guarded=False)  # noqa: SLF001 - same file
