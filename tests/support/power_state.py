"""Writes each file of ours that is not a daemon's own, again and again, for power to be lost."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from clipwatch.domain.events import Event, OutputDirChecked, RunStarted
from clipwatch.domain.state import Checkpoint
from clipwatch.evaluator.images import save_image
from clipwatch.evaluator.store import Store
from clipwatch.staging.keep import keep
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.shared.batches import NOTE
from clipwatch_adapters.shared.disk import write_private
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.wandb.offline import OfflineRuns
from fast_daemon import Telling
from staging_kit import seen

ROUNDS = 3
STEPS = (10, 20, 15)
KEPT = b'{"offline-run-1-id": [0, 1]}'


def pixels(number: int) -> torch.Tensor:
    """Return what an image shows."""
    noise = torch.Generator().manual_seed(number)
    return torch.randint(256, (64, 64, 3), dtype=torch.uint8, generator=noise)


def encoded(number: int) -> torch.Tensor:
    """Return what a prompt is encoded to."""
    return torch.full((77, 64), float(number))


def _events(journal: Telling) -> None:
    """Add 30 commits; the -wal is moved into the log and begun anew several times."""
    journal._db.execute("PRAGMA wal_autocheckpoint = 20")
    version = journal.version("s")
    for number in range(version, version + 30):
        event: Event = OutputDirChecked(f"{number:<3000}")
        first = RunStarted("/out", "p", (), {}, "1")
        journal.append("r", "s", number, [event if number else first])


def _write(root: Path, checkpoint: Checkpoint) -> None:
    state, target = root / "state", make_target(root)
    series = make_series(root, STEPS)
    store = Store(state / "encoded")
    for number in range(ROUNDS):
        kept = keep(checkpoint, state / "staged", "copy", lambda: True)
        with Telling(state / "clipwatch.db") as journal:
            _events(journal)
            list(journal.read())  # so that its end vouches for all of it
        save_image(pixels(number), state / "images" / "e" / f"{number}.png")
        store.write(f"prompt {number}", [encoded(number)])
        TensorBoardTracker(target).publish(series, [number])
        (target.logging_dir / target.project).mkdir(parents=True, exist_ok=True)  # its run appears
        offline = target.state_dir / "offline"
        offline.mkdir(exist_ok=True)
        write_private(offline / NOTE, KEPT, lasting=True)
        OfflineRuns(offline, "id").note()
        kept.release()


if __name__ == "__main__":
    _write(Path(sys.argv[1]), seen(Path(sys.argv[2])))
