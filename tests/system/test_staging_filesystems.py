"""Keeping checkpoints on real file systems: btrfs, xfs, overlay, tmpfs, and FUSE by bindfs.

bindfs treats open files as NFS and SMB do: who deletes them finds them under another name, and
cannot delete their folder. Where these cannot be mounted the tests are skipped.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clipwatch.domain.kinds import StageMode
from clipwatch.domain.state import Checkpoint
from clipwatch.kit.filesystems import LOCAL, file_system
from clipwatch.staging import copying, visitors
from staging_kit import before_chunks, descriptors, desk, full, intact, seen, trainer

Mount = Callable[..., Path]

MIB = 2**20


def run(*command: str | Path) -> None:
    """Run a program, or skip the test with what it says."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount file systems")
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")


@contextmanager
def unmounting(point: Path) -> Iterator[Path]:
    """Unmount at the end."""
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Return a function that mounts a new file system of a kind and returns where."""
    with ExitStack() as mounted:

        def mounts(kind: str, *, size: int = 512 * MIB, of: Path | None = None) -> Path:
            point = tmp_path / f"{kind}-{len(os.listdir(tmp_path))}"
            point.mkdir()
            if kind in {"btrfs", "xfs"}:
                image = point.with_suffix(".image")
                with image.open("wb") as file:
                    file.truncate(size)
                run(f"mkfs.{kind}", "-q", image)
                run("mount", "-o", "loop", image, point)
            elif kind == "tmpfs":
                run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", point)
            elif kind == "overlay":
                # its layers lie on a file system that can carry them, whatever holds tmp_path
                layers = mounts("tmpfs")
                folders = {name: layers / f"{name}dir" for name in ("lower", "upper", "work")}
                for folder in folders.values():
                    folder.mkdir()
                options = ",".join(f"{name}dir={folder}" for name, folder in folders.items())
                run("mount", "-t", "overlay", "-o", options, "none", point)
            elif kind == "read-only":
                assert of is not None
                run("mount", "--bind", of, point)
                run("mount", "-o", "remount,bind,ro", point)
            else:
                assert of is not None
                run("bindfs", of, point)  # of one thread: what was asked first is done first
            mounted.enter_context(unmounting(point))
            return point

        yield mounts


# --- Reflinks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_reflinks_take_no_space_and_outlive_everything(mount: Mount, kind: str) -> None:
    """On one btrfs or xfs: no data is copied, and neither writing nor deleting the original shows.

    A new daemon finds them again.
    """
    disk = mount(kind)
    checkpoint = full(disk / "output", 1, kilobytes=32 * 1024)
    os.sync()
    with desk(disk / "state" / "staged", "auto") as at:
        before = os.statvfs(disk)
        held = at.keep(checkpoint)
        os.sync()
        after = os.statvfs(disk)
        assert held.how == "reflink"
        assert (before.f_bfree - after.f_bfree) * after.f_frsize < 4 * MIB
        with (Path(checkpoint.path) / checkpoint.files[0].path).open("r+b") as original:
            original.write(bytes(MIB))
        assert intact(held, checkpoint)
        shutil.rmtree(checkpoint.path)
        assert intact(held, checkpoint)
    with desk(disk / "state" / "staged", "auto") as at:
        assert intact(at.keep(checkpoint), checkpoint)
        at.stage.want([])
    assert at.left == []


def test_a_reflink_is_made_across_mounts_of_one_file_system(mount: Mount) -> None:
    """As in a container that has the output directory read-only."""
    disk = mount("btrfs")
    full(disk / "output", 1)
    output = mount("read-only", of=disk / "output")
    with desk(disk / "staged", "reflink") as at:
        checkpoint = seen(output / "checkpoint-1")
        held = at.keep(checkpoint)
        shutil.rmtree(disk / "output" / "checkpoint-1")
        assert held.how == "reflink"
        assert intact(held, checkpoint)


def test_a_reflink_of_files_that_changed_is_refused(mount: Mount) -> None:
    """Those that were found are kept, or none."""
    disk = mount("btrfs")
    checkpoint = full(disk / "output", 1)
    (Path(checkpoint.path) / checkpoint.files[0].path).touch()
    with desk(disk / "staged", "auto") as at:
        assert at.fail(checkpoint)[0] == "changed"
    assert at.left == []


# --- Pins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tmpfs", "overlay", "btrfs"])
def test_without_reflinks_local_files_are_pinned(tmp_path: Path, mount: Mount, kind: str) -> None:
    """The trainer's rmtree succeeds, and what was deleted can still be read, also from overlayfs.

    btrfs cannot reflink to another file system.
    """
    output = mount(kind)
    checkpoint = full(output, 1, shards=2)
    with trainer() as other, desk(tmp_path / "staged", "auto") as at:
        held = at.keep(checkpoint)
        other.delete(checkpoint.path)
        assert other.outcome() == "deleted"
        assert held.how == "pin"
        assert held.files == checkpoint.files
        assert intact(held, checkpoint)
        at.stage.want([])
    assert at.left == []
    assert descriptors(below=output) == []


@pytest.mark.parametrize("mode", ["auto", "pin"])
def test_a_full_disk_is_left_to_the_trainer(tmp_path: Path, mount: Mount, mode: StageMode) -> None:
    """With less room than for two more checkpoints nothing is held: rotation must free space."""
    output = mount("tmpfs", size=60 * MIB)
    tight = full(output, 1, kilobytes=8 * 1024)  # with its optimizer 16 MiB
    with desk(tmp_path / "staged", mode) as at:
        assert at.keep(tight).how == "pin"
        (output / "other").write_bytes(bytes(14 * MIB))
        at.stage.want([])
        held = at.keep(tight)
        assert (held.path, held.files, held.how) == (tight.path, tight.files, "in place")
        assert at.stage.keys == frozenset()
    assert at.left == []


# --- FUSE, as NFS and SMB -------------------------------------------------------------------------


@pytest.fixture
def fuse(tmp_path: Path, mount: Mount) -> Path:
    """Where a folder is mounted by FUSE."""
    (tmp_path / "under").mkdir()
    point = mount("bindfs", of=tmp_path / "under")
    assert file_system(point) not in LOCAL
    return point


def test_an_open_file_stops_the_trainer_on_fuse(fuse: Path) -> None:
    """The hazard itself: were this to pass without an error, all the care below would be idle."""
    checkpoint = full(fuse, 1)
    with (Path(checkpoint.path) / checkpoint.files[0].path).open("rb"):
        with pytest.raises(OSError, match="not empty") as stopped:
            shutil.rmtree(checkpoint.path)
        assert stopped.value.errno == errno.ENOTEMPTY


def test_a_pin_is_refused_on_fuse(tmp_path: Path, fuse: Path) -> None:
    """It says what to set instead, and the trainer can delete."""
    checkpoint = full(fuse, 1)
    with desk(tmp_path / "staged", "pin") as at:
        kind, problem = at.fail(checkpoint)
        shutil.rmtree(checkpoint.path)
    assert kind == "stage"
    assert '"stage"' in problem
    assert at.left == []


@pytest.mark.parametrize("mode", ["auto", "copy"])
def test_on_fuse_files_are_copied_and_none_stays_open(
    tmp_path: Path, fuse: Path, mode: StageMode
) -> None:
    """The trainer's rmtree succeeds after the copy, which then is all there is."""
    checkpoint = full(fuse, 1, shards=3)
    with desk(tmp_path / "staged", mode) as at:
        held = at.keep(checkpoint)
        assert descriptors(below=fuse) == []
        shutil.rmtree(checkpoint.path)
        assert held.how == "copy"
        assert intact(held, checkpoint)


def test_between_two_files_on_fuse_the_trainer_can_delete(
    tmp_path: Path, fuse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file is next: nothing is open, the rmtree succeeds, the checkpoint has vanished."""
    make_folders = copying.make_folders
    for number in range(3):
        checkpoint = full(fuse, number, shards=3)
        made: list[str] = []

        def delete(
            folder: Path,
            name: str,
            number: int = number,
            checkpoint: Checkpoint = checkpoint,
            made: list[str] = made,
        ) -> None:
            if len(made) == number:
                assert descriptors(below=fuse) == []
                shutil.rmtree(checkpoint.path)
            made.append(name)
            make_folders(folder, name)

        with desk(tmp_path / "staged", "auto") as at, monkeypatch.context() as patch:
            patch.setattr(copying, "make_folders", delete)
            assert at.fail(checkpoint)[0] == "vanished"
        assert len(made) == number + 1
        assert at.left == []
    assert list(fuse.iterdir()) == []


def test_the_file_in_copy_is_closed_when_somebody_comes_to_delete(
    tmp_path: Path, fuse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An rmtree opens the folder first: that is seen, the file closed, and the rmtree succeeds.

    The trainer's process gets its turn between that look and the deletion, which is where it
    depends on luck in real life.
    """
    checkpoint = full(fuse, 1, kilobytes=4096)
    offsets: list[int] = []

    def come_and_go(offset: int) -> None:
        offsets.append(offset)
        if offset == 2 * copying.CHUNK:
            assert len(descriptors(below=fuse)) == 1
            os.listdir(Path(checkpoint.path) / "unet")

    wait = visitors.Visitors.wait

    def delete(watch: visitors.Visitors) -> None:
        assert descriptors(below=fuse) == []
        shutil.rmtree(checkpoint.path)
        wait(watch)

    monkeypatch.setattr(copying, "_move", before_chunks(come_and_go))
    monkeypatch.setattr(visitors.Visitors, "wait", delete)
    with desk(tmp_path / "staged", "auto") as at:
        assert at.fail(checkpoint)[0] == "vanished"
    assert offsets == [0, copying.CHUNK, 2 * copying.CHUNK]
    assert at.left == []
    assert list(fuse.iterdir()) == []


def test_who_only_looks_interrupts_a_copy_for_a_moment(
    tmp_path: Path, fuse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After somebody listed the folder the copy goes on where it was, and no byte is lost."""
    checkpoint = full(fuse, 1, kilobytes=2048)
    offsets: list[int] = []

    def look(offset: int) -> None:
        offsets.append(offset)
        if offset in {copying.CHUNK, 4 * copying.CHUNK}:
            os.listdir(checkpoint.path)

    waits: list[int] = []
    wait = visitors.Visitors.wait

    def waited(watch: visitors.Visitors) -> None:
        waits.append(len(descriptors(below=fuse)))
        wait(watch)

    monkeypatch.setattr(copying, "_move", before_chunks(look))
    monkeypatch.setattr(visitors.Visitors, "wait", waited)
    with desk(tmp_path / "staged", "auto") as at:
        held = at.keep(checkpoint)
    assert waits == [0, 0]
    name = checkpoint.files[0].path
    assert offsets == sorted(set(offsets))
    assert (Path(held.path) / name).read_bytes() == (Path(checkpoint.path) / name).read_bytes()


def test_a_trainer_deletes_on_fuse_at_any_moment(tmp_path: Path, fuse: Path) -> None:
    """Twenty times while files are copied: what is held is whole, and nothing keeps the folder.

    The rmtree itself fails when it comes to the very file that is being copied before that is
    closed (which a busy machine decides); then it succeeds when it is repeated.
    """
    moments = random.Random("fuse")
    with trainer() as other, desk(tmp_path / "staged", "auto") as at:
        for step in range(20):
            checkpoint = full(fuse, step, shards=3, kilobytes=2048)
            other.delete(checkpoint.path, after=moments.uniform(0.0, 0.02))
            at.stage.want([checkpoint])
            over = at.hears()
            held = at.stage.held(checkpoint)
            assert over.kind in {None, "vanished"}
            assert held is None or intact(held, checkpoint)
            if (outcome := other.outcome()) != "deleted":
                assert outcome == os.strerror(errno.ENOTEMPTY)
                assert descriptors(below=fuse) == []
                while any(Path(checkpoint.path).rglob(".fuse_hidden*")):
                    pass  # bindfs hears of it a little later
                other.delete(checkpoint.path)
                assert other.outcome() == "deleted"
            assert not Path(checkpoint.path).exists()


# --- A full disk of our own -----------------------------------------------------------------------


def test_a_copy_that_does_not_fit_is_not_begun(tmp_path: Path, mount: Mount) -> None:
    """It would leave less than a twentieth of a small disk: says so, and keeps one that fits."""
    state = mount("tmpfs", size=20 * MIB)
    large = full(tmp_path / "output", 1, kilobytes=19 * 1024 + 512)
    small = full(tmp_path / "output", 2, kilobytes=18 * 1024)
    with desk(state / "staged", "copy") as at:
        kind, problem = at.fail(large)
        assert kind == "disk"
        assert "less than 1 MiB free" in problem
        assert '"state_dir"' in problem
        assert intact(at.keep(small), small)


def test_a_disk_that_fills_during_a_copy(
    tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half copy gives its space back; when there is room again it is kept."""
    state = mount("tmpfs", size=20 * MIB)
    checkpoint = full(tmp_path / "output", 1, kilobytes=8 * 1024)

    def fill(offset: int) -> None:
        if offset == 4 * copying.CHUNK and not (state / "other").exists():
            with (state / "other").open("wb") as other, pytest.raises(OSError, match="No space"):
                other.write(bytes(20 * MIB))

    monkeypatch.setattr(copying, "_move", before_chunks(fill))
    with desk(state / "staged", "copy") as at:
        kind, problem = at.fail(checkpoint)
        assert kind == "disk"
        assert problem == f"cannot keep a checkpoint in {at.folder}: No space left on device"
        assert at.left == []
        (state / "other").write_bytes(b"")
        at.stage.want([])
        assert intact(at.keep(checkpoint), checkpoint)


def test_a_copy_on_the_disk_of_the_trainer_leaves_room_for_two_checkpoints(mount: Mount) -> None:
    """There it takes what the trainer's next checkpoints need."""
    disk = mount("tmpfs", size=40 * MIB)
    first, second = (full(disk / "output", step, kilobytes=2 * 1024) for step in (1, 2))
    with desk(disk / "staged", "copy") as at:
        assert at.keep(first).how == "copy"
        (disk / "other").write_bytes(bytes(20 * MIB))
        at.stage.want([first, second])
        over = at.hears()
        assert (over.checkpoint, over.kind) == (second, "disk")
        assert at.stage.held(first) is not None
