"""No checkpoint is taken before its last byte is written, whoever writes it and however slowly.

Each writer of safetensors files is a process of its own here, which stops after every piece until
the test has looked.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from clipwatch.domain.sighting import Partial, Unusable, Whole
from clipwatch.layouts.files import content_digest
from layout_kit import (
    INDEX,
    LORA,
    SETTLE,
    Clock,
    diffusers_lora,
    full,
    index,
    scanner,
    simpletuner,
    verdict,
    weights,
)
from writers import ALL, SEQUENTIAL, content, digest_of, stops, writer


@pytest.mark.parametrize("before", [False, True], ids=["new", "again"])
@pytest.mark.parametrize(
    ("how", "pause"),
    [*((how, SETTLE / 3.5) for how in ALL), *((how, 700.0) for how in SEQUENTIAL)],
)
def test_no_writer_is_read_before_it_is_done(
    tmp_path: Path, how: str, pause: float, before: bool
) -> None:
    """While it writes, also when it stalls for long, only what was complete before is taken.

    The last file of accelerate stands there from an earlier save, which is the worst case.
    """
    source, folder = tmp_path / "source.safetensors", tmp_path / "output" / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "random_states_0.pkl").write_bytes(b"")
    complete = set()
    if before or how == "overwritten":
        (folder / LORA).write_bytes(content(source, 1.0))
        complete.add(digest_of(folder / LORA, source))
    content(source, 2.0)
    final = digest_of(folder / LORA, source)
    clock = Clock()
    scanning = scanner(folder.parent, clock)
    looks = 0
    with writer(how, folder / LORA, source, stops=True) as process:
        for _ in stops(process):
            for _ in range(4):
                seen = verdict(scanning)
                there = (folder / LORA).exists() and (folder / LORA).read_bytes()
                if there == source.read_bytes():
                    complete.add(final)
                assert not isinstance(seen, Whole) or seen.digest in complete
                clock.ahead += pause / 4
                looks += 1
    assert looks >= 40
    scanning.scan()
    clock.ahead += SETTLE
    whole = verdict(scanning)
    assert isinstance(whole, Whole)
    assert whole.digest == final


@pytest.mark.parametrize("how", SEQUENTIAL)
def test_no_writer_is_overtaken_by_rescans(tmp_path: Path, how: str) -> None:
    """Nobody waits for anybody: the writer writes while one look follows the other."""
    source, folder = tmp_path / "source.safetensors", tmp_path / "output" / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "random_states_0.pkl").write_bytes(b"")
    content(source, 2.0)
    final = digest_of(folder / LORA, source)
    clock = Clock()
    scanning = scanner(folder.parent, clock)
    looks = 0
    with writer(how, folder / LORA, source, stops=False) as process:
        while not isinstance(seen := verdict(scanning), Whole):
            clock.ahead += SETTLE / 100
            looks += 1
        assert seen.digest == final
        assert process.wait() == 0
    assert looks >= 100


@pytest.mark.parametrize("how", SEQUENTIAL)
@pytest.mark.thorough(but=1)
def test_what_a_killed_writer_leaves_is_never_read_but_told(tmp_path: Path, how: str) -> None:
    """Killed after any piece but the last: given up with the reason, never taken for complete."""
    source = tmp_path / "source.safetensors"
    whole = content(source, 2.0)
    killed = 0
    while True:
        folder = tmp_path / f"output-{killed}" / "checkpoint-5"
        folder.mkdir(parents=True)
        (folder / "random_states_0.pkl").write_bytes(b"")
        with writer(how, folder / LORA, source, stops=True) as process:
            stopping = stops(process)
            if not all(next(stopping, "ended") is None for _ in range(killed + 1)):
                break
            process.kill()
        if (folder / LORA).exists() and (folder / LORA).read_bytes() == whole:
            break
        clock = Clock()
        scanning = scanner(folder.parent, clock)
        for _ in range(700):
            assert not isinstance(verdict(scanning), Whole)
            clock.ahead += 1
        told = verdict(scanning)
        assert isinstance(told, Unusable)
        assert told.kind in {"abandoned", "unreadable"}
        killed += 1
    assert killed >= 10


def test_a_write_that_no_file_time_tells_is_seen(tmp_path: Path) -> None:
    """Pages of a mapped file that are written again change nothing but the content."""
    clock = Clock()
    folder = diffusers_lora(tmp_path / "checkpoint-5")
    scanning = scanner(tmp_path, clock)
    with (folder / LORA).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[-4:] = b"once"
        scanning.scan()
        clock.ahead = 5
        scanning.scan()
        mapped[-4:] = b"more"
        clock.ahead = 10
        assert isinstance(verdict(scanning), Partial)
    scanning.scan()
    clock.ahead = 20
    whole = verdict(scanning)
    assert isinstance(whole, Whole)
    assert whole.digest == content_digest(folder, whole.weights.files)


def with_hole(path: Path, begin: int, end: int) -> None:
    """Leave a part of a file's tensors unwritten."""
    source = path.with_name("whole")
    names = (f"unet.lora_{half}.weight" for half in "AB")
    save_file({name: np.zeros(1_500_000, np.uint8) for name in names}, source)
    data = source.read_bytes()
    source.unlink()
    with path.open("wb") as file:
        file.truncate(len(data))
        for first, last in ((0, begin), (end, len(data))):
            os.pwrite(file.fileno(), data[first:last], first)
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) == len(data):
            pytest.skip("this file system keeps no holes")


def test_zeros_that_a_copy_left_out_cost_time_only(tmp_path: Path) -> None:
    """Holes amid the file: a writer that stalls, or a sparse copy; it settles much longer."""
    folder = diffusers_lora(tmp_path / "checkpoint-5")
    with_hole(folder / LORA, 1_200_000, 1_800_000)
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    clock.ahead = 599
    waiting = verdict(scanning)
    assert isinstance(waiting, Partial)
    assert waiting.reason.startswith("parts of its weights were never written")
    clock.ahead = 600
    assert isinstance(verdict(scanning), Whole)


def test_a_file_whose_end_was_never_written_is_not_read(tmp_path: Path) -> None:
    """Space that was reserved up to the end and not filled: told, and taken once it is."""
    folder = diffusers_lora(tmp_path / "checkpoint-5")
    with_hole(folder / LORA, 1_200_000, 9_000_000)
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    clock.ahead = 600
    told = verdict(scanning)
    assert isinstance(told, Unusable)
    assert told.reason.endswith(f"{LORA} has its full size, but its end is not written")
    weights(folder / LORA)
    scanning.scan()
    clock.ahead = 610
    assert isinstance(verdict(scanning), Whole)


# Several files -----------------------------------------------------------------------------------

SHARDS = [f"diffusion_pytorch_model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
MAP = {f"w{n}": name for n, name in enumerate(SHARDS)}


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 0, 1, 2], [0, 3, 2, 1]])
def test_shards_are_complete_with_their_index_only(tmp_path: Path, order: list[int]) -> None:
    """In whatever order shards and index (3) come, nothing is taken before the last of them."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    folder = tmp_path / "checkpoint-5" / "unet"
    folder.mkdir(parents=True)
    (folder.parent / "random_states_0.pkl").write_bytes(b"")
    for part in order:
        assert not isinstance(verdict(scanning), Whole)
        clock.ahead += 300
        assert not isinstance(verdict(scanning), Whole)
        if part == 3:
            index(folder, MAP)
        else:
            weights(folder / SHARDS[part], **{f"w{part}": 64})
    scanning.scan()
    clock.ahead += SETTLE
    whole = verdict(scanning)
    assert isinstance(whole, Whole)
    assert [file.path for file in whole.weights.files] == [f"unet/{name}" for name in SHARDS]


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [
        (INDEX, "unet/ has shards but no index yet"),
        (SHARDS[1], f"unet/{SHARDS[1]} is not there yet (1 shards lack)"),
    ],
)
def test_parts_that_never_come_are_not_waited_for_without_end(
    tmp_path: Path, lacking: str, reason: str
) -> None:
    """Shards without index, index without shards: ten minutes, then told; back when they come."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    folder = tmp_path / "checkpoint-5" / "unet"
    index(folder, MAP)
    for n, name in enumerate(SHARDS):
        weights(folder / name, **{f"w{n}": 64})
    (folder / lacking).rename(tmp_path / "kept")
    assert verdict(scanning) == Partial(reason)
    clock.ahead = 600
    assert verdict(scanning) == Unusable(
        "abandoned", f"never finished, and nothing in it changes any more: {reason}"
    )
    (tmp_path / "kept").rename(folder / lacking)
    scanning.scan()
    clock.ahead = 660
    assert isinstance(verdict(scanning), Whole)


def test_config_json_decides_nothing_but_in_a_pipeline(tmp_path: Path) -> None:
    """Weights go into the base model, which has its own; a whole pipeline brings its own."""
    old = Clock(ahead=3600)
    alone = full(tmp_path / "a" / "checkpoint-5")
    (alone / "unet" / "config.json").unlink()
    assert isinstance(verdict(scanner(tmp_path / "a", old)), Whole)
    pipeline = full(tmp_path / "b" / "checkpoint-5")
    (pipeline / "model_index.json").write_text('{"unet": ["diffusers", "U"]}')
    assert isinstance(verdict(scanner(tmp_path / "b", old)), Whole)
    (pipeline / "unet" / "config.json").unlink()
    assert "unet/ has no config.json" in str(verdict(scanner(tmp_path / "b", old)))


def test_a_pipeline_saved_again_is_not_read_without_its_weights(tmp_path: Path) -> None:
    """The index of an earlier save stands while the trained part is written anew."""
    pipeline = full(tmp_path / "checkpoint-5")
    weights(pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    (pipeline / "vae" / "config.json").write_text("{}")
    names = '{"unet": ["diffusers", "U"], "vae": ["diffusers", "V"]}'
    (pipeline / "model_index.json").write_text(names)
    next((pipeline / "unet").glob("*.safetensors")).unlink()
    seen = verdict(scanner(tmp_path, Clock(ahead=300)))
    assert seen == Partial("unet/ has no weights yet")


def test_a_temporary_file_beside_a_complete_one_is_passed_over(tmp_path: Path) -> None:
    """What safetensors 0.8 left behind when it was killed does not stand in the way."""
    folder = simpletuner(tmp_path / "checkpoint-5")
    (folder / ".tmpAb3xYz").write_bytes(b"half")
    assert isinstance(verdict(scanner(tmp_path)), Whole)
