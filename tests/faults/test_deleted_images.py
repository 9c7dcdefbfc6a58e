"""kill -9 around the deletion of images: nobody looks for what is gone, and nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clipwatch.domain.events import ImagesDeleted
from clipwatch.results.reading import images_of
from fast_world import Training
from places import python_path

DAEMON = """
import os, shutil, signal, sys
from pathlib import Path
from types import SimpleNamespace

import fast_daemon
from clipwatch.domain.events import ImagesDeleted
from clipwatch.loop import pruning

folder, place = sys.argv[1:]
append = fast_daemon.Telling.append


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def telling(self, run, stream, expected, events):
    if place == "before" and any(isinstance(it, ImagesDeleted) for it in events):
        die()
    return append(self, run, stream, expected, events)


def deleting(path, ignore_errors):
    if place == "after":
        shutil.rmtree(path)
    die()


fast_daemon.Telling.append = telling
pruning.shutil = SimpleNamespace(rmtree=deleting)
fast_daemon.main(Path(folder), "once", dict(os.environ), Path(folder, "said"))
"""


def deletions(training: Training) -> list[str]:
    """Return whose images the log says were deleted."""
    told = (it.event for it in training.logged())
    return [it.evaluation for it in told if isinstance(it, ImagesDeleted)]


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_a_kill_around_a_deletion(tmp_path: Path, place: str) -> None:
    """The log never says that images are there which are gone; the next start takes the rest."""
    training = Training(tmp_path, own={"keep_images": 1})
    for _ in range(4):
        training.train()
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "GENERATED": str(training.generated),
        "TOLD": str(training.told),
        "PYTHONPATH": python_path(),
    }
    command = [sys.executable, "-c", DAEMON, str(tmp_path), place]
    ended = subprocess.run(command, env=environ, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, (tmp_path / "said").read_text()
    run = training.run
    assert run
    images = images_of(training.state, run.name)
    gone = {it for it in run.evaluations if not (images / it).is_dir()}
    told = deletions(training)
    assert gone <= set(told)
    assert (len(gone), len(told)) == {"before": (0, 0), "between": (0, 1), "after": (1, 1)}[place]
    training.finish()
    told = deletions(training)
    run = training.run
    assert run
    means = {it.id: it.clip.mean for it in run.evaluations.values() if it.clip}
    (scored,) = run.scored.values()
    assert set(told) == means.keys() - {scored[-1], max(means, key=means.__getitem__)}
    assert len(set(told)) == len(told)
    assert {it for it in means if not (images / it).is_dir()} == set(told)
