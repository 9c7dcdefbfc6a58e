"""The TensorBoard adapter on disks that fail, with real full, read-only and broken file systems."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING

from clipwatch.delivery.trackers import Target
from clipwatch.domain.events import ImageScore
from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.results.series import Series
from clipwatch.testing.series import PROMPTS, make_protocol, make_series, make_target
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.tensorboard import event_files as _events
from clipwatch_adapters.tensorboard.records import PLUGIN
from tensorboard_kit import event_file
from tracker_disks import fill, mounted, mounted_by_a_server, run
from tracker_kit import bring

ORDERS = {"appended": [100, 200], "rewritten": [200, 100]}
"""Steps of two results, of which the second is added in either way."""


def target_in(tmp_path: Path) -> Target:
    """Return a target whose trainer run exists."""
    target = make_target(tmp_path)
    (target.logging_dir / target.project).mkdir(parents=True, exist_ok=True)
    return target


def begin(target: Target, series: Series) -> Target:
    """Publish the first result and return the target as the daemon knows it from then on."""
    tracker = TensorBoardTracker(target)
    tracker.publish(series, [0])
    return replace(target, where=tracker.where(series))


def shows_all(target: Target, series: Series) -> None:
    """Publish what lacks; expect one file in which each tag has one point a step, in order."""
    tracker = TensorBoardTracker(target)
    assert bring(tracker, series) == set(range(len(series.results)))
    file = event_file(Path(tracker.where(series)))
    assert file.name.startswith(_events.PREFIX)
    accumulator = EventAccumulator(str(file.parent), size_guidance={"scalars": 0}).Reload()
    means = {result.step: round(result.clip.mean, 4) for result in series.results}
    for tag in accumulator.Tags()["scalars"]:
        assert [point.step for point in accumulator.Scalars(tag)] == sorted(means)
    points = accumulator.Scalars("clip/mean")
    assert {point.step: round(point.value, 4) for point in points} == means


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Make the training's output directory a small disk of its own."""
    with mounted(tmp_path / "output", "-t", "tmpfs", "-o", "size=128k", "tmpfs"):
        yield tmp_path / "output"


@pytest.mark.parametrize("order", ORDERS)
def test_a_full_disk_may_pass(tmp_path: Path, disk: Path, order: str) -> None:
    """On a full disk nothing gets lost or stays in the way; with room again, all is shown once."""
    long = [replace(prompt, text=prompt.text * 100) for prompt in PROMPTS]  # more than a page
    series = make_series(tmp_path, ORDERS[order], protocol=make_protocol(long))
    target = begin(target_in(tmp_path), series)
    ballast = fill(disk)
    for _ in range(2):
        with pytest.raises(TrackerUnavailable, match=r"No space left.*tried again"):
            bring(TensorBoardTracker(target), series)
        assert os.listdir(target.where) == [event_file(Path(target.where)).name]
        assert TensorBoardTracker(target).published(series) == {0}
    ballast.unlink()
    shows_all(target, series)


def test_a_disk_that_is_full_from_the_start(tmp_path: Path, disk: Path) -> None:
    """Without room even for the first file the curve does not begin elsewhere."""
    series = make_series(tmp_path, [100])
    target = target_in(tmp_path)
    ballast = fill(disk)
    with pytest.raises(TrackerUnavailable, match="No space left"):
        bring(TensorBoardTracker(target), series)
    ballast.unlink()
    shows_all(target, series)
    assert not target.state_dir.exists()


def test_a_read_only_disk_is_refused(tmp_path: Path, disk: Path) -> None:
    """A curve that has begun does not move when its disk becomes read-only: somebody must mend."""
    series = make_series(tmp_path, [100, 200])
    target = begin(target_in(tmp_path), series)
    run("mount", "-o", "remount,ro", disk)
    with pytest.raises(TrackerRefused, match=r"Read-only file system.*let clipwatch write there"):
        bring(TensorBoardTracker(target), series)
    run("mount", "-o", "remount,rw", disk)
    shows_all(target, series)
    assert not target.state_dir.exists()


def test_a_disk_that_cannot_be_read_may_pass(tmp_path: Path) -> None:
    """Blocks that cannot be read are told and never taken for an empty curve."""
    image, output = tmp_path / "image", tmp_path / "output"
    image.write_bytes(bytes(4 << 20))
    run("mkfs.ext4", "-q", "-O", "^has_journal", image)
    series = make_series(tmp_path, [100, 200])
    with mounted(output, "-o", "loop", image):
        target = begin(target_in(tmp_path), series)
    whole = image.read_bytes()
    with mounted(output, "-o", "loop", image):
        os.truncate(image, len(whole) // 4)
        with pytest.raises(TrackerUnavailable, match=r"Input/output error.*tried again"):
            bring(TensorBoardTracker(target), series)
    image.write_bytes(whole)
    with mounted(output, "-o", "loop", image):
        shows_all(target, series)
    assert not target.state_dir.exists()


def test_a_mount_whose_server_died_may_pass(tmp_path: Path) -> None:
    """A folder behind a dead mount is told, and the curve is not begun anew elsewhere."""
    series = make_series(tmp_path, [100, 200])
    behind, output = tmp_path / "behind", tmp_path / "output"
    target = begin(target_in(tmp_path), series)
    output.rename(behind)
    output.mkdir()
    with mounted_by_a_server(behind, output) as server:
        assert TensorBoardTracker(target).published(series) == {0}
        server.kill()
        server.wait()
        with pytest.raises(TrackerUnavailable, match=r"not connected.*tried again"):
            bring(TensorBoardTracker(target), series)
    with mounted_by_a_server(behind, output):
        shows_all(target, series)
    assert not target.state_dir.exists()


def meanwhile(series: Series, act: Callable[[], None]) -> Series:
    """Return the series as one whose last result's scores are read while `act` happens."""

    def scores(evaluation: str) -> tuple[ImageScore, ...]:
        if evaluation == series.results[-1].evaluation:
            act()
        return series.scores(evaluation)

    return replace(series, scores=scores)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("at", ["clipwatch", "."])
def test_a_folder_replaced_by_a_file_amid_publishing(tmp_path: Path, order: str, at: str) -> None:
    """A file in the place of our folder or the trainer's run is named and kept; then all is shown.

    A trainer's run that is gone is waited for: two places would tell two stories.
    """
    series = make_series(tmp_path, ORDERS[order])
    target = begin(target_in(tmp_path), series)
    place = target.logging_dir / target.project / at

    def swap() -> None:
        shutil.rmtree(place)
        place.write_text("mine")

    with pytest.raises((TrackerRefused, TrackerUnavailable)) as told:
        bring(TensorBoardTracker(target), meanwhile(series, swap))
    assert place.read_text() == "mine"
    assert f"{place}" in str(told.value)
    with pytest.raises((TrackerRefused, TrackerUnavailable)):
        bring(TensorBoardTracker(target), series)
    assert place.read_text() == "mine"
    place.unlink()
    if at == ".":
        place.mkdir()
    shows_all(target, series)
    assert not target.state_dir.exists()


def test_a_curve_waits_for_a_trainers_run_that_is_gone(tmp_path: Path) -> None:
    """Unmounted, with an empty folder in its place, it is told; back again, all stands there."""
    series = make_series(tmp_path, [100, 200, 300])
    output = tmp_path / "output"
    disk = tmp_path / "disk"
    target = begin(target_in(tmp_path), series)
    output.rename(disk)
    for mount_point in (False, True):
        if mount_point:
            output.mkdir()
        tracker = TensorBoardTracker(target)
        for ask in (tracker.destination, lambda: tracker.where(series)):  # noqa: B023 - at once
            with pytest.raises(TrackerUnavailable, match="is gone"):
                ask()
        with pytest.raises(TrackerUnavailable, match=f"{target.logging_dir}.*is gone.*mounted"):
            bring(tracker, series)
        assert not target.state_dir.exists()
        assert not output.exists() or not os.listdir(output)
    output.rmdir()
    disk.rename(output)
    shows_all(target, series)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_deleted_amid_publishing(tmp_path: Path, order: str, again: bool) -> None:
    """Deleted under our hands, or made anew empty, the curve comes back whole."""
    series = make_series(tmp_path, ORDERS[order])
    target = begin(target_in(tmp_path), series)

    def delete() -> None:
        shutil.rmtree(target.where)
        if again:
            Path(target.where).mkdir()

    with pytest.raises(TrackerUnavailable):
        bring(TensorBoardTracker(target), meanwhile(series, delete))
    shows_all(target, series)


def test_a_folder_deleted_between_publications(tmp_path: Path) -> None:
    """What somebody deleted is all published again, with what came since."""
    series = make_series(tmp_path, [100, 200])
    target = begin(target_in(tmp_path), series)
    shutil.rmtree(target.where)
    shows_all(target, series)


def receipt_of(*strings: bytes) -> bytes:
    """Return a record's payload with a receipt as another version might write it."""
    value = Summary.Value(
        tag="clipwatch/receipt",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN)),
        tensor=TensorProto(dtype=DT_STRING, string_val=strings),
    )
    payload: bytes = Event(step=200, summary=Summary(value=[value])).SerializeToString()
    return payload


@pytest.mark.parametrize(
    "payload",
    [b"\xff" * 40, b"text", receipt_of(), receipt_of(b"\xff"), receipt_of(b'{"seq": 1}')],
    ids=["noise", "text", "empty", "damaged", "future"],
)
def test_a_sound_record_that_is_not_ours_is_no_obstacle(tmp_path: Path, payload: bytes) -> None:
    """A record that is whole but not ours, or of another version, is replaced with the file."""
    series = make_series(tmp_path, [100, 200])
    target = begin(target_in(tmp_path), series)
    file = event_file(Path(target.where))
    file.write_bytes(file.read_bytes() + _events.frame(payload))
    shows_all(target, series)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("number", [0, 9])
@pytest.mark.parametrize("trap", ["pipe", "link", "folder"])
def test_what_only_has_the_name_of_our_file_is_passed_by(
    tmp_path: Path, order: str, number: int, trap: str
) -> None:
    """A pipe holds nobody up, and the file that a link leads to keeps what is in it."""
    series = make_series(tmp_path, ORDERS[order])
    target = begin(target_in(tmp_path), series)
    thesis = tmp_path / "thesis"
    thesis.write_text("a year's work")
    planted = target.logging_dir / target.project / "clipwatch" / f"{_events.PREFIX}{number:010d}"
    make = {"pipe": os.mkfifo, "link": lambda at: at.symlink_to(thesis), "folder": os.mkdir}
    make[trap](planted)
    bring(TensorBoardTracker(target), series)
    assert TensorBoardTracker(target).published(series) == set(range(len(series.results)))
    assert thesis.read_text() == "a year's work"
    assert planted.lstat()


def test_a_backup_of_hard_links_keeps_its_curve(tmp_path: Path) -> None:
    """As `cp -al` and rsnapshot make them: a new generation empties only our name of the file."""
    series = make_series(tmp_path, ORDERS["rewritten"])
    target = begin(target_in(tmp_path), series)
    (ours,) = (target.logging_dir / target.project / "clipwatch").glob(f"{_events.PREFIX}*")
    backup = tmp_path / "backup"
    backup.hardlink_to(ours)
    before = backup.read_bytes()
    shows_all(target, series)
    assert backup.read_bytes() == before
    assert ours.read_bytes() == b""
