"""The training is never touched: same bytes, same end, and nothing of it opened for writing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.events import (
    EVENT_TYPE_CLOSED_NO_WRITE,
    EVENT_TYPE_OPENED,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from real_world import (
    clipwatch,
    command,
    daemon,
    digests,
    environment,
    guarded,
    points,
    status,
    until,
)

OWN = "logs/shapes/clipwatch"


def train(base: Path, output: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the demo's trainer to its end on the first core."""
    arguments = ["--base", base, "--output-dir", output, "--project", "shapes"]
    arguments += ["--steps", "20", "--checkpoint-every", "10", "--threads", "1"]
    return subprocess.run(
        [sys.executable, "-m", "clipwatch.demo.train", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    )


def weights(output: Path) -> dict[str, str]:
    """Return the digests of all that the trainer writes, but for its own clock in its own logs."""
    kept = digests(output)
    return {name: at.split()[0] for name, at in kept.items() if not name.startswith("logs/")}


def losses(output: Path) -> list[tuple[int, float]]:
    """Return the trainer's own curve."""
    return points(output / "logs/shapes", "train_loss")


def without_times(said: bytes) -> list[bytes]:
    """Return what the trainer printed, without the seconds it took."""
    return re.sub(rb" \d+ s$", b"", said, flags=re.MULTILINE).splitlines()


@pytest.mark.thorough
def test_a_training_beside_clipwatch_is_the_training_without_it(project: Path, base: Path) -> None:
    """Every byte that the trainer writes, its exit code and its steps are the same."""
    alone = train(base, project / "alone")
    with daemon(project, "--report-to", "tensorboard") as process:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
        beside = train(base, project / "output")
        until(lambda: [item["state"] for item in status(project)] == ["published"] * 2)
        process.terminate()
        assert process.wait(60) == 0
    assert alone.returncode == beside.returncode == 0
    assert b"step 20/20" in beside.stdout
    assert without_times(alone.stdout) == without_times(beside.stdout)
    assert weights(project / "alone") == weights(project / "output")
    assert losses(project / "alone") == losses(project / "output")
    assert [step for step, _ in points(project / "output" / OWN, "clip/mean")] == [10, 20]


class Recorder(FileSystemEventHandler):
    """Keeps every event that is more than reading."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the path."""
        if event.event_type not in (EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE):
            self.seen += [os.fsdecode(path) for path in (event.src_path, event.dest_path) if path]


@contextmanager
def recorded(folder: Path) -> Iterator[list[str]]:
    """Yield the paths at or below a folder that anybody creates, writes, moves or deletes."""
    recorder, observer = Recorder(), Observer()
    observer.schedule(recorder, str(folder), recursive=True)
    observer.start()
    try:
        yield recorder.seen
        (folder / "the-end").touch()  # events come in order: after this one there are no more
        until(lambda: str(folder / "the-end") in recorder.seen)
    finally:
        observer.stop()
        observer.join()


@pytest.mark.thorough
def test_nothing_below_the_output_directory_is_written_but_our_own_run(
    project: Path, base: Path
) -> None:
    """The kernel's own record: outside of the child run no file or folder is changed by us."""
    output = project / "output"
    for step in (1, 2):
        guarded(output, base, step)
    with recorded(output) as paths:
        ended = clipwatch("start", "--once", cwd=project)
        assert ended.returncode == 0, ended.stderr
    ours = str(output / OWN)
    assert any(path.startswith(ours) for path in paths)
    others = {path for path in paths if not path.startswith(ours)}
    # a folder is modified when something is made in it: our run in the trainer's, nothing else
    assert others == {str(output / "the-end"), str(output), str(output / "logs/shapes")}


@pytest.mark.thorough
def test_an_output_directory_that_is_mounted_read_only_is_evaluated(
    project: Path, base: Path
) -> None:
    """Nothing depends on writing there when the logs lie elsewhere."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("a read-only mount can only be made by root")
    output = project / "output"
    guarded(output, base, 1)
    before = digests(output)
    mounted = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    start = command("start", "--once", "--report-to", "wandb")
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted, "sh", output, *start],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert [item["state"] for item in status(project)] == ["published"]
    assert digests(output) == before
