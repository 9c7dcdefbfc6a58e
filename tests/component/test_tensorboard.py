"""The TensorBoard adapter on disk: what it writes, what it leaves alone, what it survives."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from clipwatch.delivery.trackers import Target
from clipwatch.kit.errors import TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import PROMPTS, make_protocol, make_series, make_target
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.tensorboard import event_files as _events
from examples import examples
from tensorboard_kit import event_file
from tracker_kit import bring


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Return a target whose trainer run exists."""
    target = make_target(tmp_path)
    (target.logging_dir / target.project).mkdir(parents=True)
    return target


def event_files(target: Target) -> list[Path]:
    """Return the files of the run "clipwatch" below the trainer's run, but for outdated ones."""
    files = (target.logging_dir / target.project / "clipwatch").iterdir()
    return sorted(file for file in files if file.stat().st_size)


def shown(folder: Path, tag: str = "clip_count/images") -> list[tuple[int, float]]:
    """Return (step, value) as TensorBoard's own Python reader finds them, in the file's order."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    if tag not in accumulator.Tags()["scalars"]:
        return []
    return [(point.step, round(point.value, 4)) for point in accumulator.Scalars(tag)]


def means(series: Series, seqs: Sequence[int]) -> list[tuple[int, float]]:
    """Return the points of clip/mean that the results `seqs` make, one a step, by step."""
    last = {series.results[seq].step: series.results[seq] for seq in sorted(seqs)}
    return [(step, round(result.clip.mean, 4)) for step, result in sorted(last.items())]


@given(
    steps=st.lists(st.integers(0, 6).map(lambda n: n * 100), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
    batch=st.integers(1, 4),
)
@examples(40)
def test_any_order_ends_in_one_sorted_curve(
    steps: list[int], order: random.Random, batch: int
) -> None:
    """However results arrive, each step ends with one record, sorted, of its latest result."""
    with TemporaryDirectory() as folder:
        target = make_target(Path(folder))
        series = make_series(Path(folder), steps, images=False)
        tracker = TensorBoardTracker(target)
        seqs = list(range(len(steps)))
        order.shuffle(seqs)
        for start in range(0, len(seqs), batch):
            tracker.publish(series, seqs[start : start + batch])
            came = seqs[: start + batch]
            assert shown(Path(tracker.where(series)), "clip/mean") == means(series, came)
            assert tracker.published(series) >= set(came)
        assert tracker.published(series) == set(seqs)


def damaged(*changes: Callable[[bytes], bytes]) -> None:
    """Damage a file of three results in each way; what lacks is told and then written as if new.

    The bytes are those of the first time, hence every reader finds each point once, and its value.
    """
    with TemporaryDirectory() as folder:
        target = make_target(Path(folder))
        protocol = make_protocol(PROMPTS[:1])
        series = make_series(Path(folder), [100, 200, 300], protocol=protocol, images=False)
        TensorBoardTracker(target).publish(series, [0, 1, 2])
        run = Path(TensorBoardTracker(target).where(series))
        file = event_file(run)
        whole = file.read_bytes()
        for change in changes:
            event_file(run).write_bytes(damage := change(whole))
            tracker = TensorBoardTracker(target)
            assert tracker.published(series) < {0, 1, 2} or damage == whole
            assert bring(tracker, series) == {0, 1, 2}
            assert event_file(run).read_bytes() == whole


def record_ends(whole: bytes) -> list[int]:
    """Return where each record of a file ends, and 0."""
    ends = [0]
    while ends[-1] < len(whole):
        length = int.from_bytes(whole[ends[-1] : ends[-1] + 8], "little")
        ends.append(ends[-1] + length + _events.OVERHEAD)
    return ends


@given(part=st.floats(0, 1, exclude_max=True))
@examples(60)
def test_a_file_torn_at_any_byte_is_mended(part: float) -> None:
    """Cut anywhere, the file tells truly what it still holds, and publishing restores it."""
    damaged(lambda whole: whole[: int(part * len(whole))])


@pytest.mark.thorough
def test_a_last_record_torn_at_every_byte_is_mended() -> None:
    """A kill amid a record leaves any number of its bytes: none of them is in the way."""
    size = 0

    def cut(left: int) -> Callable[[bytes], bytes]:
        def change(whole: bytes) -> bytes:
            nonlocal size
            start = record_ends(whole)[-2]
            size = len(whole) - start
            return whole[: start + left]

        return change

    damaged(cut(0))
    damaged(*(cut(left) for left in range(1, size)))
    assert size > 300


@pytest.mark.parametrize("count", range(5))
def test_a_file_torn_between_records_is_mended(count: int) -> None:
    """Cut after any whole record, even before the first, the file is mended as well."""
    damaged(lambda whole: whole[: record_ends(whole)[count]])


@given(part=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@examples(60)
def test_a_file_changed_at_any_bit_is_mended(part: float, bit: int) -> None:
    """One flipped bit anywhere is noticed, and publishing restores the file."""

    def flip(whole: bytes) -> bytes:
        data = bytearray(whole)
        data[int(part * len(whole))] ^= 1 << bit
        return bytes(data)

    damaged(flip)


@given(part=st.floats(0, 1, exclude_max=True), noise=st.just(bytes(16)) | st.binary(min_size=1))
@examples(60)
def test_a_file_overwritten_anywhere_is_mended(part: float, noise: bytes) -> None:
    """Zeros, as a network file system leaves them, or any bytes: noticed, and mended."""

    def overwrite(whole: bytes) -> bytes:
        at = int(part * len(whole))
        return whole[:at] + noise + whole[at + len(noise) :]

    damaged(overwrite)


def test_a_later_step_is_appended(target: Target, tmp_path: Path) -> None:
    """Steps that come in order grow one file, so that every reader can follow it."""
    series = make_series(tmp_path, [100, 200])
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])
    (file,) = event_files(target)
    before = file.read_bytes()
    tracker.publish(series, [1])
    assert event_files(target) == [file]
    assert file.read_bytes().startswith(before)


def test_a_repeated_publication_changes_nothing(target: Target, tmp_path: Path) -> None:
    """Publishing what is there already writes no byte and touches no file."""
    series = make_series(tmp_path, [100, 200, 100])
    TensorBoardTracker(target).publish(series, [0, 1, 2])
    before = [(file, file.stat()) for file in event_files(target)]
    for missing in ([0, 1, 2], [0], []):
        TensorBoardTracker(target).publish(series, missing)
    assert [(file.stat().st_mtime_ns, file.stat().st_ino) for file in event_files(target)] == [
        (stat.st_mtime_ns, stat.st_ino) for _, stat in before
    ]


def test_a_replay_gives_the_same_bytes(tmp_path: Path) -> None:
    """One by one, late, or all at once elsewhere: the same results make the same file."""
    series = make_series(tmp_path, [300, 100, 200, 100])
    files = []
    for name, batches in {"slow": [[0], [1], [2], [3]], "once": [[0, 1, 2, 3]]}.items():
        tracker = TensorBoardTracker(make_target(tmp_path / name))
        for batch in batches:
            tracker.publish(series, batch)
        files.append(event_file(Path(tracker.where(series))).read_bytes())
    assert files[0] == files[1]


def test_images_outlive_their_files(target: Target, tmp_path: Path) -> None:
    """A new generation keeps the images it showed, though retention removed the originals."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0, 1])
    shutil.rmtree(series.images)
    tracker.publish(series, [2])
    accumulator = EventAccumulator(tracker.where(series)).Reload()
    assert [event.step for event in accumulator.Tensors("clipwatch/image/red-cube")] == [100, 300]
    assert [step for step, _ in shown(Path(tracker.where(series)))] == [100, 200, 300]


def test_what_a_kill_left_is_removed(target: Target, tmp_path: Path) -> None:
    """At the next look an unfinished generation is gone, and the one before the newest empty.

    The empty one is kept for a day, for readers that have to come by.
    """
    series = make_series(tmp_path, [100, 200])
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0, 1])
    (file,) = event_files(target)
    newer = file.with_name(f"{_events.PREFIX}{7:010d}")
    shutil.copy(file, newer)
    file.with_name(_events.UNFINISHED).write_bytes(file.read_bytes()[:100])
    assert tracker.published(series) == {0, 1}
    assert event_files(target) == [newer]
    assert sorted(file.parent.iterdir()) == [file, newer]
    emptied = file.stat().st_mtime
    os.utime(file, (emptied, emptied - _events.EMPTY_SECONDS - 60))
    assert tracker.published(series) == {0, 1}
    assert sorted(file.parent.iterdir()) == [newer]


def test_files_of_others_are_left_alone(target: Target, tmp_path: Path) -> None:
    """What we did not write stays as it is, also in our own folder."""
    series = make_series(tmp_path, [200, 100])
    folder = target.logging_dir / target.project / "clipwatch"
    folder.mkdir()
    foreign = folder / "events.out.tfevents.1700000000.host.1.0"
    foreign.write_bytes(b"not ours")
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])
    tracker.publish(series, [1])
    assert foreign.read_bytes() == b"not ours"
    assert len(event_files(target)) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE])
def test_what_may_pass_is_unavailable(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A full disk or a failing mount asks for a later try, which then mends all."""
    series = make_series(tmp_path, [100, 300, 200])
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])

    def fail(_fd: int) -> None:
        raise OSError(code, os.strerror(code))

    for seq in (1, 2):  # appended, then rewritten
        with monkeypatch.context() as fault:
            fault.setattr(os, "fsync", fail)
            with pytest.raises(TrackerUnavailable, match=os.strerror(code)):
                tracker.publish(series, [seq])
        tracker.publish(series, [seq])
    assert shown(Path(tracker.where(series)), "clip/mean") == means(series, [0, 1, 2])
    assert len(event_files(target)) == 1


def test_points_of_a_lost_log_stay_under_the_same_protocol(target: Target, tmp_path: Path) -> None:
    """With a new log the old points stay where nothing takes their step, but count as nothing."""
    old = make_series(tmp_path / "old", [100, 200, 300])
    TensorBoardTracker(target).publish(old, [0, 1, 2])
    fresh = make_series(tmp_path / "new", [300, 200])
    fresh = replace(
        fresh,
        results=tuple(replace(r, evaluation=f"new-{r.seq}") for r in fresh.results),
        scores=lambda name: old.scores(name.replace("new", "clipwatch")),
    )
    tracker = TensorBoardTracker(target)
    assert tracker.published(fresh) == frozenset()
    tracker.publish(fresh, [0, 1])
    assert tracker.published(fresh) == {0, 1}
    assert shown(Path(tracker.where(fresh)), "clip/mean") == [
        *means(old, [0]),
        *means(fresh, [0, 1]),
    ]


def test_another_protocol_never_takes_the_folder_of_one(target: Target, tmp_path: Path) -> None:
    """A new log with other prompts has a folder of its own; the old log finds its own again."""
    old = make_series(tmp_path / "old", [100, 200])
    TensorBoardTracker(target).publish(old, [0, 1])
    (file,) = Path(TensorBoardTracker(target).where(old)).iterdir()
    before = file.read_bytes()
    other = make_series(tmp_path / "new", [100, 300], protocol=make_protocol(seed=1))
    tracker = TensorBoardTracker(target)
    assert tracker.published(other) == frozenset()
    tracker.publish(other, [0, 1])
    place = Path(tracker.where(other))
    assert place.name == f"clipwatch-{other.digest[:8]}"
    assert shown(place, "clip/mean") == means(other, [0, 1])
    assert file.read_bytes() == before
    assert TensorBoardTracker(target).published(old) == {0, 1}
    later = replace(other, name=f"clipwatch-{other.digest[:8]}")  # of a log that has both
    assert TensorBoardTracker(target).published(later) == {0, 1}


def test_weights_that_came_back_stand_again(target: Target, tmp_path: Path) -> None:
    """The last result of a step is shown, though an earlier file had it before another one."""
    series = make_series(tmp_path, [100, 100, 200])
    TensorBoardTracker(target).publish(series, [0, 1, 2])
    first, second, third = series.results
    back = (replace(second, seq=0), replace(third, seq=1), replace(first, seq=2))
    again = replace(series, results=back)
    tracker = TensorBoardTracker(target)
    assert tracker.published(again) == {0, 1}
    tracker.publish(again, [2])
    assert tracker.published(again) == {0, 1, 2}
    assert shown(Path(tracker.where(again)), "clip/mean") == means(series, [0, 2])


@given(data=st.binary(max_size=300) | st.binary(min_size=3000, max_size=3100))
def test_a_record_is_as_tensorboard_writes_it(data: bytes) -> None:
    """Lengths and checksums equal those of TensorBoard's own writer."""
    reference = io.BytesIO()
    RecordWriter(reference).write(data)
    assert _events.frame(data) == reference.getvalue()


def test_torch_is_not_imported() -> None:
    """The daemon publishes without torch and without TensorFlow."""
    code = (
        "import sys, clipwatch_adapters.tensorboard\n"
        "print({'torch', 'tensorflow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
