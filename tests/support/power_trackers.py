"""Writes what trackers leave on disks, and says how far it is, for power to be lost."""

from __future__ import annotations

import sys
from pathlib import Path
from zlib import crc32

from clipwatch.kit.filesystems import make_private
from clipwatch.testing.series import make_series, make_target
from clipwatch_adapters.shared.disk import write_private
from clipwatch_adapters.shared.frames import FRAME, WHOLE
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.wandb.files import HEADER
from clipwatch_adapters.wandb.offline import OfflineRuns
from clipwatch_adapters.wandb.session import EVALUATION

STEPS = (10, 20, 30, 15)
MOVES_AT = 2
"""Before this result the trainer's run appears."""


def noted(number: int) -> bytes:
    """Return what the note says when so many results were published."""
    return b"%d" % number * 3000


def _part(tag: bytes, content: bytes) -> bytes:
    """Return a protobuf field with its length."""
    return tag + bytes([len(content)]) + content


def finished_run(evaluation: int) -> bytes:
    """Return a `.wandb` file with one row and its end."""
    item = _part(b"\x0a", EVALUATION.encode()) + _part(b"\x82\x01", f'"{evaluation}"'.encode())
    record = _part(b"\x12", _part(b"\x0a", item)) + _part(b"\x92\x01", b"")
    head = FRAME.pack(0, len(record), WHOLE)[-1:]
    return HEADER + FRAME.pack(crc32(head + record), len(record), WHOLE) + record


def _write(root: Path) -> None:
    target = make_target(root)
    tensorboard = TensorBoardTracker(target)
    series = make_series(root, STEPS, images=False)
    offline = target.state_dir / "offline"
    make_private(offline)
    for number in range(len(STEPS)):
        if number == MOVES_AT:
            make_private(target.logging_dir / target.project)
        tensorboard.publish(series, [number])
        run = offline / "wandb" / f"offline-run-{number}-id"
        run.mkdir(parents=True)  # as W&B does: nothing is synced
        (run / f"run-{number}.wandb").write_bytes(finished_run(number))
        OfflineRuns(offline, "id").note()
        write_private(target.state_dir / "note", noted(number + 1), lasting=True)
        (root / "told").write_bytes(b"%d" % (number + 1))


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
