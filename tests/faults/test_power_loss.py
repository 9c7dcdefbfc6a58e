"""Power that is lost at any moment: what was told to be written is there, and nothing misleads.

By a model that is harsher than a file system with a journal; see `power`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from clipwatch.evaluator.store import Store
from clipwatch.journal import Journal, Recorded, log_file
from clipwatch.journal.projection import Projection
from clipwatch.journal.repair.inspection import verify
from clipwatch.service.heartbeat import heartbeats
from clipwatch.staging.kept import left_behind, looked_at
from clipwatch.testing.series import make_target
from clipwatch_adapters.tensorboard import event_files
from clipwatch_adapters.tensorboard.records import receipt
from clipwatch_adapters.wandb.files import finished_rows, matching
from clipwatch_adapters.wandb.offline import OfflineRuns
from clipwatch_adapters.wandb.session import EVALUATION
from fast_world import Training
from places import SUPPORT, python_path
from power import Disk, File, Recording, Tree, here, lay, record
from power_state import ROUNDS, encoded, pixels
from power_trackers import noted
from staging_kit import pipeline

CUT = "clipwatch.db-wal: its last write is not whole: a power cut interrupted it, or it is damaged"
NONE = "file: there is no log in it"


def without_shm(tree: Tree) -> Tree:
    """Leave out what is mapped, not written; SQLite makes it anew."""
    return {
        name: without_shm(what) if isinstance(what, dict) else what
        for name, what in tree.items()
        if not name.endswith("-shm")
    }


def branch(tree: Tree, *names: str) -> Tree:
    """Return what is left of a folder, nothing if that is."""
    for name in names:
        below = tree.get(name, {})
        assert isinstance(below, dict)
        tree = below
    return tree


def logged(state: Path) -> list[Recorded]:
    """Return the whole log."""
    with Journal(log_file(state), read_only=True) as journal:
        return list(journal.read())


def files(folder: Path) -> dict[str, bytes]:
    """Return what a checkpoint holds, without our note."""
    found = {str(it.relative_to(folder)): it for it in folder.rglob("*") if it.is_file()}
    return {name: it.read_bytes() for name, it in found.items() if name != ".whole"}


def recorded(program: Path, root: Path, *arguments: Path) -> Recording:
    """Record one of our programs; the disk as it is played is the real one."""
    environment = os.environ | {"PYTHONPATH": python_path(), "TOLD": str(root / "told")}
    command = [sys.executable, str(program), str(root), *map(str, arguments)]
    recording = record(command, root, environment)
    assert without_shm(recording.end().now()) == without_shm(here(root))
    return recording


def told(disk: Disk) -> int:
    """Return how many events writers knew to be in the log."""
    lines = disk.root.get(b"told")
    return int(lines.now().split()[-1]) if isinstance(lines, File) and lines.now() else 0


def whole_log(state: Path, log: list[Recorded], least: int) -> str:
    """Return what a loss left of a log to be mended; it holds `least` events or more, in order."""
    path = log_file(state)
    if not path.exists():
        assert least == 0
        return "gone"
    found = list(verify(path))
    events = [it for it in found if isinstance(it, Recorded)]
    faults = [str(it) for it in found if not isinstance(it, Recorded)]
    assert set(faults) <= {CUT, NONE}
    assert events == log[: len(events)]
    assert len(events) >= least
    with Journal(path) as journal:
        assert Projection(journal).seq == len(events)
    if CUT in faults:
        assert list(verify(path)) == events or not events
    return "torn" if CUT in faults else "whole"


WRITER = """
import sys
from pathlib import Path
from clipwatch.domain.events import OutputDirChecked, RunStarted
from fast_daemon import Telling

root = Path(sys.argv[1])
with Telling(root / "a" / "state" / "clipwatch.db") as journal:
    for number in range(10):
        (root / "loose").write_bytes(b"%d" % number * 9000)
        event = OutputDirChecked(f"{number:<3000}")
        journal.append("r", "s", number, [event if number else RunStarted("/o", "p", (), {}, "1")])
"""


def test_what_an_append_told_is_in_the_log_whatever_else_is_lost(tmp_path: Path) -> None:
    """600 losses while it is made, its folders' own names among them, and 60 at any moment.

    A file that nobody synced is torn.
    """
    root, script = tmp_path / "root", tmp_path / "writer.py"
    root.mkdir()
    script.write_text(WRITER)
    recording = recorded(script, root)
    log, luck = logged(root / "a" / "state"), Random(1)
    made = next(n for n, it in enumerate(recording.calls) if it.path.endswith(b"told"))
    making = replace(recording, calls=recording.calls[:made])
    different: dict[str, Tree] = {}
    for disk in chain(making.cuts(600, luck), recording.cuts(60, luck)):
        tree = disk.lost(luck)
        if different.setdefault(repr(tree), tree) is tree:
            lay(tree, place := tmp_path / str(len(different)))
            whole_log(place / "a" / "state", log, told(disk))
    assert len({repr(tree.get("loose")) for tree in different.values()}) > 10


def test_what_trackers_were_told_is_there_or_is_told_again(tmp_path: Path) -> None:
    """At 200 moments: TensorBoard's curve, also as it moves into the trainer's run, and notes.

    No note says of a run of W&B's that was lost that somebody has taken it away.
    """
    (root := tmp_path / "root").mkdir()
    recording = recorded(SUPPORT / "power_trackers.py", root)
    luck = Random(3)
    different: dict[str, Tree] = {}
    for disk in recording.cuts(200, luck):
        tree, least = disk.lost(luck), told(disk)
        if different.setdefault(repr((least, tree)), tree) is not tree:
            continue
        lay(tree, place := tmp_path / str(len(different)))
        state = make_target(place).state_dir
        note = state / "note"
        assert note.read_bytes() in {noted(n) for n in range(least, 5)} if least else True
        runs = matching(state / "offline" / "wandb", "*")
        there = {row[EVALUATION] for run in runs for row in finished_rows(run) or ()}
        assert {str(n) for n in range(least)} <= there
        assert OfflineRuns(state / "offline", "id").held() <= there
        files = [it for it in place.rglob(f"{event_files.PREFIX}*") if it.stat().st_size]
        shown = [len([1 for _, it in event_files.records(file) if receipt(it)]) for file in files]
        assert max(shown, default=0) >= least
        shutil.rmtree(place)
    assert len(different) > 50


@pytest.mark.thorough
def test_power_lost_amid_a_daemon(tmp_path: Path) -> None:
    """200 losses over three lives: what was told is in the log, what is left of copies is whole.

    A daemon that is started on what is left ends as one that never lost it: 8 times.
    """
    training = Training(tmp_path / "training", own={"stage": "copy"})
    recording = recorded(SUPPORT / "power_daemon.py", training.folder)
    log, state = training.logged(), training.run
    assert state is not None
    training.steps = 50
    whole = Training(tmp_path / "whole")
    for _ in range(6):
        whole.train()
    whole.finish()
    results = whole.results()
    training.train()  # a result that is new makes TensorBoard's curve whole
    luck = Random(1)
    found: Counter[str] = Counter()
    goes_on = set(luck.sample(range(200), 8))
    for number, disk in enumerate(recording.cuts(200, luck)):
        tree = disk.lost(luck)
        lay(branch(tree, "state"), place := tmp_path / "left" / str(number))
        found[whole_log(place, log, told(disk))] += 1
        assert len(heartbeats(place)) <= 1
        for kept in left_behind(place / "staged" / state.name).values():
            copy = next(
                it for it in state.checkpoints.values() if str(it.digest) in str(kept.folder)
            )
            found["copy"] += looked_at(kept, copy) is not None
        if number in goes_on:
            shutil.rmtree(training.state)
            shutil.copytree(place, training.state, symlinks=True)
            shutil.rmtree(training.curve, ignore_errors=True)
            lay(branch(tree, "output", "logs", "kills", "clipwatch"), training.curve)
            training.finish_with(results)
    assert found["whole"] > 100
    assert found["copy"] > 10


@pytest.mark.thorough
def test_power_lost_amid_what_the_evaluator_and_trackers_write(tmp_path: Path) -> None:
    """200 losses: each file of ours is whole, not there, or known to be broken."""
    (root := tmp_path / "root").mkdir()
    checkpoint = pipeline(tmp_path / "source", 1, kilobytes=12288)
    recording = recorded(SUPPORT / "power_state.py", root, Path(checkpoint.path))
    log = logged(root / "state")
    luck = Random(2)
    found: Counter[str] = Counter()
    for number, disk in enumerate(recording.cuts(200, luck)):
        lay(disk.lost(luck), place := tmp_path / str(number))
        state = place / "state"
        found[whole_log(state, log, told(disk))] += 1
        store = Store(state / "encoded")
        for n in range(ROUNDS):
            image = state / "images" / "e" / f"{n}.png"
            if image.exists():
                assert np.array_equal(np.asarray(Image.open(image)), pixels(n).numpy())
                found["image"] += 1
            if (parts := store.read(f"prompt {n}")) is not None:
                assert isinstance(parts[0], torch.Tensor)
                assert torch.equal(parts[0], encoded(n))
                found["encoded"] += 1
            assert store.write(f"prompt {n}", [encoded(n)])  # over what may be broken
        for kept in left_behind(state / "staged").values():
            if (copy := looked_at(kept, checkpoint)) is not None:
                assert copy.folder is not None
                assert files(copy.folder) == files(Path(checkpoint.path))
                found["copy"] += 1
        note = state / "tracker" / "offline"
        if note.exists():
            assert OfflineRuns(note, "id").held() in (set(), {0, 1})
        for file in place.rglob(f"{event_files.PREFIX}*"):
            found["curve"] += any(True for _ in event_files.records(file))
        shutil.rmtree(place)
    assert all(found[it] > 0 for it in ("whole", "image", "encoded", "copy", "curve"))
