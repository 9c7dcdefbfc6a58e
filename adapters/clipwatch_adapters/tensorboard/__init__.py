"""TensorBoard: a child run beside the trainer's own, so that both curves share one chart."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.kit.filesystems import make_private
from clipwatch.results.series import Result, Series
from clipwatch_adapters.shared.disk import plain_errors
from clipwatch_adapters.shared.numbers import FORM, Names
from clipwatch_adapters.tensorboard import event_files as _events
from clipwatch_adapters.tensorboard.charts import head
from clipwatch_adapters.tensorboard.records import Receipt, receipt, record
from clipwatch_adapters.tensorboard.trainers import inside, named_run, trainer_run


class _Held(msgspec.Struct, frozen=True):
    """A result found in our file: where its record lies, in bytes."""

    receipt: Receipt
    offset: int
    size: int


class TensorBoardTracker:
    """Write each series as a run of its own; one result is one record, hence shown whole or not.

    A file holds one record a step in the order of steps. A result that comes late, again for a
    step, or with what the file's head does not lay out, becomes a new file with the whole history,
    which then takes the old one's place.

    What another log wrote, before this one was begun or beside it, stays: under the same protocol
    in the same file, under another one in a folder of its own.
    """

    needs = "tensorboard"

    def __init__(self, target: Target) -> None:
        self._target = target
        self._earlier = target.where
        self._read: dict[str, Path] = {}  # by series, where its file was read last
        self._more: dict[str, tuple[str, ...]] = {}  # and what it had of another log

    def destination(self) -> str:
        """Tell the folder in which each series has one of its own, which may not exist yet."""
        return str(self._home())

    def published(self, series: Series) -> frozenset[int]:
        """Read our file back and remove what a killed publication left beside it.

        A result counts as published when its step shows it or a later one.
        """
        with plain_errors("TensorBoard", folder := self._folder(series)):
            self._move(folder.parent)
            with _events.locked(folder):
                _events.tidy(folder)
                held, _ = _read(_events.newest(folder))
        self._read[series.name] = folder
        known = {result.evaluation for result in series.results}
        found = (each.receipt.evaluation for each in held)
        self._more[series.name] = tuple(it for it in found if it not in known)
        shown = _standing(series, held)
        return frozenset(
            result.seq
            for result in series.results
            if result.step in shown and shown[result.step][0] >= result.seq
        )

    def more(self, series: Series) -> Sequence[str]:
        """Return which evaluations of another log stood in our file when it was read."""
        return self._more.get(series.name, ())

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Append the missing results when they come last, else write the whole history anew."""
        with plain_errors("TensorBoard", folder := self._folder(series)):
            self._move(folder.parent)
            if folder.is_relative_to(self._target.state_dir):
                make_private(folder)
            else:
                _events.make(folder)
            self._earlier = str(folder)
            with _events.locked(folder):
                _write(folder, series, missing)

    def clear(self, series: Series) -> None:
        """Write a file without the series' results; what another log wrote into it stays."""
        with plain_errors("TensorBoard", folder := self._folder(series)):
            self._move(folder.parent)
            with _events.locked(folder):
                _events.tidy(folder)
                held, _ = _read(path := _events.newest(folder))
                if path:
                    known = {result.evaluation for result in series.results}
                    others = {
                        each.receipt.step: each
                        for each in held
                        if each.receipt.evaluation not in known
                    }
                    write = partial(record, series, names := Names.of(series))
                    _events.replace(folder, _history(head(series, names), path, others, {}, write))

    def where(self, series: Series) -> str:
        """Return the run's folder, which may not exist yet; once it was read, where that was.

        The trainer's run may have appeared since.
        """
        return str(self._read.get(series.name) or self._folder(series))

    def hint(self, series: Series) -> str:
        """Return the command that shows the trainer's curves and ours in the same charts."""
        where = self.where(series)
        if Path(where).is_relative_to(self._target.state_dir) and not Path(where).is_dir():
            return ""  # the trainer's run may still come, and the first result goes there then
        return logdir_hint(self._target, where)

    def _folder(self, series: Series) -> Path:
        """Return the first folder that is free or holds this series, whichever log wrote it.

        In a home outside of the output directory other trainings may have theirs, too.
        """
        home, digests = self._home(), (series.digest, series.protocol.digest)
        other = f"clipwatch-{series.digest[:8]}"
        names = (series.name, other, f"{other}-{series.run}")
        alone = home.is_relative_to(self._target.output_dir)
        with plain_errors("TensorBoard", home):
            for name in names[:-1]:
                first = _first(home / name)
                same = first is not None and first.protocol in digests
                if first is None or (same and (alone or first.run == series.run)):
                    return home / name
        return home / names[-1]

    def _home(self) -> Path:
        """Return where all curves belong: in the trainer's run, where they were, or our own room.

        Curves that have begun in a trainer's run leave it only for one with the project's name,
        though it may not be written now, or is gone with its mount: two places would tell two
        stories.

        Raises:
            TrackerUnavailable: They are gone, and so is every run of the trainer's.
        """
        target, earlier = self._target, Path(self._earlier).parent if self._earlier else None
        ours = earlier is None or earlier.is_relative_to(target.state_dir)
        with plain_errors("TensorBoard", target.logging_dir):
            better = trainer_run(target) if ours else named_run(target)
            if better and better != earlier and _writable(better):
                return better
            if earlier and earlier.is_dir():
                return earlier
            trainers = trainer_run(target)
            if trainers and _writable(trainers):
                return trainers
        if not ours:
            raise TrackerUnavailable(
                f"TensorBoard: {earlier}, the trainer's run with the curves in it, is gone",
                fix="they go on when it is mounted again; made anew, it gets all of them again",
            )
        return inside(target.state_dir, target.project)

    def _move(self, home: Path) -> None:
        """Bring the curves that stand elsewhere to their new home, images and all.

        A kill leaves them there, here, or in both, where the next call goes on.
        """
        earlier = Path(self._earlier).parent if self._earlier else home
        if earlier == home or not earlier.is_dir():
            return
        if home.is_dir() and earlier.samefile(home):  # by a link, or at another mount point
            return
        for folder in sorted(path for path in earlier.iterdir() if path.is_dir()):
            if _events.newest(folder):
                _events.move(folder, home / folder.name)


def logdir_hint(target: Target, where: str) -> str:
    """Return the command that shows the trainer's curves and ours in the same charts."""
    if Path(where).is_relative_to(target.logging_dir):
        return f"tensorboard --logdir {shlex.quote(str(target.logging_dir))}"
    if not Path(where).is_relative_to(target.state_dir):  # in a run that lies elsewhere
        return f"tensorboard --logdir {shlex.quote(str(Path(where).parent))}"
    both = f"trainer:{target.logging_dir},clipwatch:{Path(where).parent}"
    return f"tensorboard --logdir_spec {shlex.quote(both)}"


def _writable(home: Path) -> bool:
    """Tell whether folders can be made in a folder.

    What may pass, like a stale handle, is raised: it must not move a curve elsewhere.
    """
    try:
        return home.is_dir() and os.access(home, os.W_OK | os.X_OK)
    except PermissionError:
        return False


def _first(folder: Path) -> Receipt | None:
    """Return what the first result in our file says of itself, None if there is none."""
    path = _events.newest(folder)
    for _, payload in _events.records(path) if path else ():
        try:
            found = receipt(payload)
        except ValueError:
            return None
        if found:
            return found
    return None


def _write(folder: Path, series: Series, missing: Sequence[int]) -> None:
    """Append the missing results when they come last, else write the whole history anew."""
    _events.tidy(folder)
    path = _events.newest(folder)
    held, ours = _read(path)
    shown = _standing(series, held)
    fresh: dict[int, Result] = {}
    for result in (series.results[seq] for seq in sorted(missing)):
        if result.step not in shown or shown[result.step][0] < result.seq:
            fresh[result.step] = result
    if not fresh:
        return
    names = Names.of(series)
    begun, write = head(series, names), partial(record, series, names)
    steps = [each.receipt.step for each in held]
    last = steps == sorted(shown) and min(fresh) > max(steps, default=math.inf)
    if path and ours and last and _bytes(path, 0, len(begun)) == begun:
        _events.append(path, (write(fresh[step]) for step in sorted(fresh)))
    else:
        kept = {step: each for step, (_, each) in shown.items()}
        _events.replace(folder, _history(begun, path, kept, fresh, write))


def _read(path: Path | None) -> tuple[list[_Held], bool]:
    """Return the results in our file in its order, and whether it may be appended to.

    It may if it is whole, and ours alone: one with a second name, as in a copy of the run that was
    made of links, is left as it is.
    """
    held: list[_Held] = []
    end = 0
    if path is None:
        return held, False
    for offset, payload in _events.records(path):
        try:
            found = receipt(payload)
        except ValueError:
            break  # whole, but not as we write it: mended like damage
        end = offset + len(payload) + _events.OVERHEAD
        if found:
            held.append(_Held(found, offset, end - offset))
    state = path.stat()
    return held, end == state.st_size and state.st_nlink == 1


def _standing(series: Series, held: Sequence[_Held]) -> dict[int, tuple[int, _Held]]:
    """Return step → (seq, record) of what stays.

    Points of another log, whose checkpoints may be gone, have seq -1: they stay until a result
    takes their step. What an earlier version wrote, under other names, counts as another log's, and
    so does a result without the numbers of a scorer that came later.
    """
    standing: dict[int, tuple[int, _Held]] = {}
    known = {result.evaluation: result for result in series.results}
    for each in held:
        step, result = each.receipt.step, known.get(each.receipt.evaluation)
        whole = (
            each.receipt.form == FORM and result and result.later.keys() <= {*each.receipt.later}
        )
        seq = result.seq if result and whole else -1
        if step not in standing or standing[step][0] <= seq:
            standing[step] = (seq, each)
    return standing


def _history(
    begun: bytes,
    path: Path | None,
    kept: dict[int, _Held],
    fresh: dict[int, Result],
    write: Callable[[Result], bytes],
) -> Iterator[bytes]:
    """Yield the parts of a whole file; kept records byte by byte, as their images may be gone."""
    yield begun
    for step in sorted(kept | fresh):
        if step in fresh:
            yield write(fresh[step])
        elif path is not None:
            yield _bytes(path, kept[step].offset, kept[step].size)


def _bytes(path: Path, offset: int, size: int) -> bytes:
    with _events.opened(path, "rb") as file:
        file.seek(offset)
        return file.read(size)
