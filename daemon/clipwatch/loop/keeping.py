"""What is kept from rotation for its evaluation, and what is waited for until it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipwatch.domain.queue import Pending, to_keep
from clipwatch.domain.state import Checkpoint, CheckpointKey
from clipwatch.loop.run_log import RunLog
from clipwatch.settings import Settings
from clipwatch.staging import Held, Stage, Staged


class Keeping:
    """Has the checkpoints that are due kept; used from the loop's thread.

    Args:
        settings: Of the run.
        log: Says what is waited for.
        send: Takes the messages of what could not be kept, from any thread.
    """

    def __init__(self, settings: Settings, log: RunLog, send: Callable[[Staged], None]) -> None:
        self._settings = settings
        self._log = log
        self._send = send
        self._awaited = ""  # the checkpoint that is evaluated as soon as it is kept
        self._stage = self._new_stage()

    @property
    def keys(self) -> frozenset[CheckpointKey]:
        """What is kept."""
        return self._stage.keys

    def adopt(self, settings: Settings) -> None:
        """Keep as these settings say from here on."""
        old, self._settings = self._settings, settings
        if old.staging.stage != settings.staging.stage:
            self._stage.close()
            self._stage = self._new_stage()

    def want(
        self, in_hand: Sequence[Checkpoint], due: Sequence[Pending], slots: int
    ) -> list[Pending]:
        """Keep what is in hand, then what is due; return what of that is kept, or will be soon.

        With several slots there are as many more as there are further slots.
        """
        most = self._settings.staging.stage_limit + slots - 1
        wanted = to_keep(self._log.run, in_hand, due, self._stage.keys, most)
        self._stage.want(wanted)
        names = {it.name for it in wanted}
        return [it for it in due if it.checkpoint.is_base or it.checkpoint.name in names]

    def held(self, checkpoint: Checkpoint) -> Held | None:
        """Return a checkpoint as it can be read now; None while it is not kept yet."""
        if checkpoint.is_base:  # which no trainer deletes
            return Held(checkpoint.path, (), "in place")
        return self._stage.held(checkpoint)

    def wait_for(self, name: str) -> None:
        """Say which checkpoint is to be kept before anything can be done about it; "" for none."""
        if name == self._awaited:
            return
        if self._awaited:
            self._log.rested(self._awaited)
        if name:
            self._log.working(name, "keeping it from deletion")
        self._awaited = name

    def close(self) -> None:
        """Keep nothing more."""
        self._stage.close()

    def _new_stage(self) -> Stage:
        folder = self._settings.paths.state_dir / "staged" / self._log.name
        return Stage(folder, self._settings.staging.stage, self._send)
