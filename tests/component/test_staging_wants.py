"""What is wanted is kept, what is not is let go, and a restart finds what a kill left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from clipwatch.domain.kinds import StageMode
from clipwatch.domain.state import Checkpoint
from clipwatch.staging import Held, Staged, copying, keep, kept
from examples import examples
from places import python_path
from staging_kit import Desk, before_chunks, descriptors, desk, full, intact, pipeline, seen
from world import checkpoint as write_lora

LOCAL_WAYS = ["pin", "copy"]


def test_the_first_one_comes_first(tmp_path: Path) -> None:
    """Checkpoints are kept in the order in which they are wanted."""
    checkpoints = [full(tmp_path, step) for step in (30, 10, 20)]
    with desk(tmp_path / "staged", "copy") as at:
        at.stage.want(checkpoints)
        assert [at.hears().checkpoint.step for _ in checkpoints] == [30, 10, 20]
        assert at.stage.keys == {(c.name, c.digest) for c in checkpoints}


@pytest.mark.parametrize("mode", ["auto", *LOCAL_WAYS])
def test_nothing_is_left_when_nothing_is_wanted(tmp_path: Path, mode: StageMode) -> None:
    """Neither a file in our folder nor one of the trainer's that is open."""
    checkpoints = [full(tmp_path / "output", step, shards=2) for step in range(3)]
    with desk(tmp_path / "staged", mode) as at:
        at.stage.want(checkpoints)
        assert [at.hears() for _ in checkpoints] == [Staged(c) for c in checkpoints]
        assert len(at.left) == 3
        at.stage.want(checkpoints[:1])
        assert [at.stage.held(c) is not None for c in checkpoints] == [True, False, False]
        at.stage.want([])
        assert at.stage.keys == frozenset()
    assert at.left == []
    assert descriptors(below=tmp_path / "output") == []


def test_no_descriptor_leaks(tmp_path: Path) -> None:
    """After a hundred times of keeping and letting go as many files are open as before."""
    checkpoints = [full(tmp_path, step, shards=3) for step in range(2)]
    before = sorted(descriptors())
    with desk(tmp_path / "pinned", "pin") as pins, desk(tmp_path / "copied", "copy") as copies:
        for round_ in range(100):
            for at in (pins, copies):
                assert at.keep(checkpoints[round_ % 2])
        assert len(descriptors(below=Path(checkpoints[1].path))) == 3
    assert sorted(descriptors()) == before


def test_a_copy_that_nobody_wants_any_more_is_given_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is unwanted in the middle of its copy leaves nothing and says nothing; the next is kept.

    Between two chunks of the first the second takes its place.
    """
    first, second = full(tmp_path, 1, kilobytes=1024), full(tmp_path, 2)
    chunks: list[int] = []
    with desk(tmp_path / "staged", "copy") as at:

        def change_mind(offset: int) -> None:
            chunks.append(offset)
            if chunks == [0, copying.CHUNK]:
                at.stage.want([second])

        monkeypatch.setattr(copying, "_move", before_chunks(change_mind))
        at.stage.want([first])
        assert at.hears() == Staged(second)
        assert chunks[2] == 0
        assert at.left == [f"{second.name}-{second.digest}"]
        assert at.silent
    assert caplog.records == []


def close_meanwhile(at: Desk) -> threading.Thread:
    """Begin to close a stage whose thread is busy."""
    closing = threading.Thread(target=at.stage.close)
    closing.start()
    while not at.stage._closed:
        pass
    return closing


def test_closing_gives_up_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that is to end does not wait for many GB, and leaves no half of them behind."""
    checkpoint = full(tmp_path, 1, kilobytes=1024)
    chunks: list[int] = []
    with desk(tmp_path / "staged", "copy") as at:

        def close(offset: int) -> None:
            chunks.append(offset)
            close_meanwhile(at)

        monkeypatch.setattr(copying, "_move", before_chunks(close))
        at.stage.want([checkpoint])
        at.stage._thread.join()
        assert chunks == [0]
        assert at.left == []
        assert at.silent


@pytest.mark.parametrize("mode", LOCAL_WAYS)
def test_closing_keeps_a_copy_that_is_whole_and_no_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: StageMode
) -> None:
    """Also one that is finished only when the daemon ends already; nobody hears of it then."""
    checkpoint = full(tmp_path, 1)
    with desk(tmp_path / "staged", mode) as at:

        def finished(path: Path, of: Checkpoint, how: str) -> Held:
            close_meanwhile(at)
            return kept.as_held(path, of, how)

        monkeypatch.setattr(keep, "as_held", finished)
        at.stage.want([checkpoint])
        at.stage._thread.join()
        assert len(at.left) == (mode == "copy")
        assert at.silent
    assert descriptors(below=Path(checkpoint.path)) == []


def test_what_failed_is_tried_again_when_it_comes_back(tmp_path: Path) -> None:
    """Not by itself, not because others are wanted too, but after it was left out once."""
    checkpoint, other = full(tmp_path, 1), full(tmp_path, 2)
    away = Path(checkpoint.path).rename(tmp_path / "away")
    with desk(tmp_path / "staged", "copy") as at:
        assert at.fail(checkpoint)[0] == "vanished"
        away.rename(checkpoint.path)
        at.stage.want([checkpoint, other])
        assert at.hears() == Staged(other)
        assert at.stage.held(checkpoint) is None
        at.stage.want([other])
        at.stage.want([checkpoint, other])
        assert at.hears() == Staged(checkpoint)
        assert at.stage.held(checkpoint) is not None


def test_a_pin_of_files_that_were_replaced_is_made_anew(tmp_path: Path) -> None:
    """The same weights in other files are kept again: the evaluator compares with the new ones."""
    checkpoint = full(tmp_path, 1)
    with desk(tmp_path / "staged", "pin") as at:
        at.keep(checkpoint)
        original = Path(checkpoint.path) / checkpoint.files[0].path
        original.with_suffix(".tmp").write_bytes(original.read_bytes())
        original.with_suffix(".tmp").rename(original)
        again = seen(Path(checkpoint.path))
        assert (again.digest, again.files) != (checkpoint.digest, checkpoint.files)
        assert at.stage.held(again) is None
        assert at.keep(again).files == again.files
        assert at.left == [f"{checkpoint.name}-{checkpoint.digest}.pin"]


def test_off_keeps_nothing(tmp_path: Path) -> None:
    """The checkpoint is held where it is, and does not count as kept."""
    checkpoint = full(tmp_path, 1)
    with desk(tmp_path / "staged", "off") as at:
        assert at.keep(checkpoint) == Held(checkpoint.path, checkpoint.files, "in place")
        assert at.stage.keys == frozenset()
        assert descriptors(below=Path(checkpoint.path)) == []
    assert not (tmp_path / "staged").exists()


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """A name with a slash in it is refused, whoever wrote it into the log."""
    checkpoint = replace(full(tmp_path, 1), name="../../checkpoint-1")
    with desk(tmp_path / "state" / "staged", "copy") as at:
        assert at.fail(checkpoint)[0] == "internal"
    assert at.left == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1"]


def test_a_name_may_hold_anything_else(tmp_path: Path) -> None:
    """Spaces, line feeds, suffixes like ours and letters of any script, also after a restart."""
    names = ["checkpoint 1.part", "1-0123456789abcdef", "step\n5", "模型-7", "a-1.pin", "-1"]
    lora = write_lora(tmp_path, 1)
    checkpoints = [replace(seen(lora), name=name) for name in names]
    with desk(tmp_path / "staged", "copy") as at:
        at.stage.want(checkpoints)
        assert [at.hears() for _ in names] == [Staged(c) for c in checkpoints]
    with desk(tmp_path / "staged", "copy") as at:
        assert at.stage.keys == {(c.name, c.digest) for c in checkpoints}


# --- Kill and restart -----------------------------------------------------------------------------

_DAEMON = """
import sys, time
from pathlib import Path
from staging_kit import Desk, before_chunks, seen
from clipwatch.staging import copying
folder, mode, *paths = sys.argv[1:]
*whole, last = [seen(Path(path)) for path in paths]
def stop_there(offset):
    if whole_are_held and offset:
        print("in the middle", flush=True)
        time.sleep(600)
whole_are_held = False
copying._move = before_chunks(stop_there)
desk = Desk(Path(folder), mode)
desk.stage.want(whole)
for _ in whole:
    assert not desk.hears().problem
whole_are_held = True
desk.stage.want([*whole, last])
if mode == "pin":
    assert not desk.hears().problem
    print("pinned", flush=True)
time.sleep(600)
"""


def killed_daemon(folder: Path, mode: StageMode, *checkpoints: Checkpoint) -> None:
    """Have a daemon keep checkpoints and kill it: in the middle of copying the last one."""
    paths = [checkpoint.path for checkpoint in checkpoints]
    command = [sys.executable, "-c", _DAEMON, str(folder), mode, *paths]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()


def test_kill_9_during_a_copy(tmp_path: Path) -> None:
    """The half copy is deleted at the next start; the whole one is used, without its original."""
    whole, half = full(tmp_path, 1), full(tmp_path, 2, kilobytes=1024)
    killed_daemon(tmp_path / "staged", "copy", whole, half)
    shutil.rmtree(whole.path)
    names = [f"{whole.name}-{whole.digest}", f"{half.name}-{half.digest}.part"]
    assert sorted(os.listdir(tmp_path / "staged")) == names
    with desk(tmp_path / "staged", "copy") as at:
        assert at.left == names[:1]
        assert at.stage.keys == {(whole.name, whole.digest)}
        assert at.stage.held(whole) is None
        assert intact(at.keep(whole), whole)
        at.stage.want([whole, half])
        assert at.hears() == Staged(half)


def test_kill_9_of_a_daemon_with_pins(tmp_path: Path) -> None:
    """Links to the files of a dead process lead nowhere, or anywhere: they are deleted."""
    checkpoint = full(tmp_path, 1)
    killed_daemon(tmp_path / "staged", "pin", checkpoint)
    assert len(os.listdir(tmp_path / "staged")) == 1
    with desk(tmp_path / "staged", "pin") as at:
        assert at.left == []
        assert at.stage.keys == frozenset()
        assert intact(at.keep(checkpoint), checkpoint)


def test_a_copy_of_an_earlier_life_counts_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may take a checkpoint that was rotated away for lost, at any moment."""
    checkpoint = full(tmp_path, 1)
    with desk(tmp_path / "staged", "copy") as at:
        at.keep(checkpoint)
    shutil.rmtree(checkpoint.path)
    holds, keys = kept.holds, list[frozenset[tuple[str, str]]]()
    with desk(tmp_path / "staged", "copy") as at:

        def look(folder: Path, of: Checkpoint) -> bool:
            keys.append(at.stage.keys)
            return holds(folder, of)

        monkeypatch.setattr(kept, "holds", look)
        at.keep(checkpoint)
        assert keys == [at.stage.keys] == [{(checkpoint.name, checkpoint.digest)}]


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_copy_of_an_earlier_life_is_made_anew(tmp_path: Path, damage: str) -> None:
    """What a power cut did to it is noticed; without the original it has vanished for good."""
    checkpoint = full(tmp_path, 1)
    with desk(tmp_path / "staged", "copy") as at:
        copied = Path(at.keep(checkpoint).path) / checkpoint.files[0].path

    def spoil() -> None:
        if damage == "gone":
            copied.unlink()
            return
        with copied.open("r+b") as file:
            if damage == "cut":
                file.truncate(1000)
            else:
                file.write(bytes(1000))

    spoil()
    with desk(tmp_path / "staged", "copy") as at:
        assert at.stage.keys
        assert intact(at.keep(checkpoint), checkpoint)
    spoil()
    shutil.rmtree(checkpoint.path)
    with desk(tmp_path / "staged", "copy") as at:
        assert at.fail(checkpoint)[0] == "vanished"
        assert at.left == []


def test_a_copy_whose_deletion_was_begun_is_not_taken_for_a_pipeline(tmp_path: Path) -> None:
    """Its weights may be there, and a file that only makes another picture of a prompt be gone."""
    checkpoint = pipeline(tmp_path, 1)
    with desk(tmp_path / "staged", "copy") as at:
        place = Path(at.keep(checkpoint).path)
    names = sorted(path.relative_to(place) for path in place.rglob("*") if path.is_file())
    assert len(names) == 6
    shutil.move(place, tmp_path / "copy")
    for name in names:
        shutil.copytree(tmp_path / "copy", place)
        (place / name).unlink()
        with desk(tmp_path / "staged", "copy") as at:
            held = at.keep(checkpoint)
            assert (Path(held.path) / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()
            at.stage.want([])
    shutil.copytree(tmp_path / "copy", place)
    shutil.rmtree(checkpoint.path)
    with desk(tmp_path / "staged", "copy") as at:
        assert intact(at.keep(checkpoint), checkpoint)  # one that is whole serves


def test_an_unwanted_copy_of_an_earlier_life_is_deleted(tmp_path: Path) -> None:
    """As everything else that is in our folder and that nobody knows."""
    checkpoint = full(tmp_path, 1)
    with desk(tmp_path / "staged", "copy") as at:
        at.keep(checkpoint)
    (tmp_path / "staged" / "file").touch()
    (tmp_path / "staged" / "link").symlink_to(tmp_path)
    (tmp_path / "staged" / "x-0123456789abcdef").symlink_to(tmp_path)
    with desk(tmp_path / "staged", "copy") as at:
        assert at.left == [f"{checkpoint.name}-{checkpoint.digest}"]
        at.stage.want([])
    assert at.left == []
    assert Path(checkpoint.path).exists()


# --- Everything at once ---------------------------------------------------------------------------

_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.permutations(range(3)).map(tuple), st.integers(0, 3)),
        st.tuples(st.sampled_from(["delete", "rewrite"]), st.integers(0, 2)),
        st.tuples(st.just("restart")),
    ),
    max_size=12,
)


@given(actions=_ACTIONS, mode=st.sampled_from(LOCAL_WAYS))
@examples(60, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happens_what_is_held_is_what_was_found(
    actions: list[tuple[object, ...]], mode: StageMode
) -> None:
    """Wants, deletions, new weights and restarts in any order.

    What is held has the digest of what was found as long as its files stat as they did; in the end
    nothing is left open or in our folder.
    """
    with tempfile.TemporaryDirectory() as name:
        output, staged = Path(name, "output"), Path(name, "staged")
        found = [seen(write_lora(output, step, float(step))) for step in range(3)]
        value, wanted = 3.0, list[Checkpoint]()
        at = Desk(staged, mode)
        for action in actions:
            match action:
                case ("want", order, count):
                    wanted = [found[n] for n in order[:count]]  # type: ignore[index]
                    at.stage.want(wanted)
                case ("delete", int(n)):
                    shutil.rmtree(found[n].path, ignore_errors=True)
                case ("rewrite", int(n)):
                    value += 1.0
                    found[n] = seen(write_lora(output, n, value))
                case ("restart",):
                    at.stage.close()
                    at = Desk(staged, mode)
                    at.stage.want(wanted)
            for checkpoint in wanted:
                held = at.stage.held(checkpoint)
                if held is not None and kept.as_held(Path(held.path), checkpoint, held.how) == held:
                    assert intact(held, checkpoint)
        at.stage.want([])
        at.stage.close()
        assert at.left == []
        assert descriptors(below=output) == []
