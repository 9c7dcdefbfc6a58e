"""The stage: keeps those checkpoints that are wanted, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipwatch.domain.kinds import FailureKind, StageMode
from clipwatch.domain.state import Checkpoint, CheckpointKey
from clipwatch.staging.copying import Unwanted
from clipwatch.staging.keep import keep
from clipwatch.staging.kept import Held, Kept, key, left_behind, looked_at
from clipwatch.staging.originals import NotKept

CLOSE_SECONDS: Final = 5.0
"""How long closing waits; a network file system that hangs must not hang us."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Staged:
    """Message: an attempt to keep a checkpoint is over; `problem` is "" when it is held.

    Otherwise `problem` is a line for a person, and `kind` says of which kind the failure is.
    """

    checkpoint: Checkpoint
    kind: FailureKind | None = None
    problem: str = ""


class Stage:
    """Keeps checkpoints from rotation for as long as they are wanted.

    What failed is tried again when it was left out of `want` and comes back. Copies outlive us and
    serve the next start; pins end with us, and what an earlier life left of them is deleted.

    Args:
        folder: Ours alone; need not exist.
        mode: The setting "stage".
        receive: Called when an attempt is over, from the thread.

    Raises:
        OSError: The folder is there but cannot be tidied.
    """

    def __init__(self, folder: Path, mode: StageMode, receive: Callable[[Staged], None]) -> None:
        self._folder = folder
        self._mode = mode
        self._receive = receive
        self._changed = threading.Condition()
        self._kept = left_behind(folder)
        self._wanted: dict[CheckpointKey, Checkpoint] = {}
        self._failed: set[Checkpoint] = set()
        self._looked_at: frozenset[CheckpointKey] = (
            frozenset()
        )  # what an earlier life kept, at hand just now
        self._unwanted: list[Kept] = []
        self._asked = self._closed = False
        self._thread = threading.Thread(target=self._work, name="stage", daemon=True)
        self._thread.start()

    def want(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Keep these, the first one first, and let go of all others; returns at once."""
        wanted = {key(checkpoint): checkpoint for checkpoint in checkpoints}
        with self._changed:
            if self._asked and list(wanted.items()) == list(self._wanted.items()):
                return  # as at nearly every turn: the thread need not wake up for it
            self._asked, self._wanted = True, wanted
            self._failed &= set(checkpoints)
            self._drop(lambda key, kept: not kept.serves(self._wanted.get(key)))

    def held(self, checkpoint: Checkpoint) -> Held | None:
        """Return a checkpoint as it is held; None while that is in the making, or failed."""
        with self._changed:
            kept = self._kept.get(key(checkpoint))
            return kept.held if kept is not None and kept.serves(checkpoint) else None

    @property
    def keys(self) -> frozenset[CheckpointKey]:
        """Name and digest of what stays when the trainer deletes it, as far as is known."""
        with self._changed:
            stay = {key_ for key_, kept in self._kept.items() if kept.folder is not None}
            return self._looked_at | stay

    def close(self) -> None:
        """Let go of pins and of what is not wanted; other copies stay for the next start."""
        with self._changed:
            self._closed = True
            self._drop(lambda _, kept: not kept.durable)
        self._thread.join(CLOSE_SECONDS)

    def _drop(self, condition: Callable[[CheckpointKey, Kept], bool]) -> None:
        """Hand what the condition holds for to the thread, which lets go of it."""
        for key_ in [key_ for key_, kept in self._kept.items() if condition(key_, kept)]:
            self._unwanted.append(self._kept.pop(key_))
        self._changed.notify()

    def _next(self) -> Checkpoint | None:
        """Return what is to be kept next."""
        if self._closed:
            return None
        for key_, checkpoint in self._wanted.items():
            kept = self._kept.get(key_)
            if checkpoint not in self._failed and (kept is None or kept.held is None):
                return checkpoint
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._unwanted or self._next())
                unwanted, self._unwanted = self._unwanted, []
                checkpoint = self._next()
            for kept in unwanted:
                kept.release()
            if checkpoint is not None:
                self._attempt(checkpoint)
            elif not unwanted:
                return

    def _attempt(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, and say what came of it if it is still wanted then."""
        kept, over = None, Staged(checkpoint)
        try:
            kept = self._recovered(checkpoint) or keep(
                checkpoint,
                self._folder,
                self._mode,
                lambda: not self._closed and self._wanted.get(key(checkpoint)) == checkpoint,
            )
        except Unwanted:
            return
        except NotKept as error:
            over = Staged(checkpoint, error.kind, str(error))
        except Exception as error:  # noqa: BLE001 - the others still want to be kept
            _log.exception("keeping %s failed", checkpoint.path)
            over = Staged(checkpoint, "internal", f"{type(error).__name__}: {error}")
        with self._changed:
            wanted = self._wanted.get(key(checkpoint)) == checkpoint
            if kept is None:
                self._failed |= {checkpoint} if wanted else set()
            elif wanted and (kept.durable or not self._closed):
                self._kept[key(checkpoint)] = kept
            else:
                self._unwanted.append(kept)
            self._looked_at = frozenset()
            told = wanted and not self._closed
        if told:
            self._receive(over)

    def _recovered(self, checkpoint: Checkpoint) -> Kept | None:
        """Return what an earlier life kept, unless it is spoiled: then it is deleted."""
        with self._changed:
            left = self._kept.pop(key(checkpoint), None)
            if left is None:
                return None
            self._looked_at = frozenset({key(checkpoint)})
        kept = looked_at(left, checkpoint)
        if kept is None:
            left.release()
            self._looked_at = frozenset()
        return kept
