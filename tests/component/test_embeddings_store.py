"""The store gives back what it was given or nothing, and no fault of a disk stops an evaluation."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.evaluator import store as embeddings_store
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.store import Part, Store, pack, tensors_of, unpack
from tracker_disks import fill, mounted

pytestmark = kit.QUIET

PARTS: list[Part] = [
    torch.randn(1, 3, 5).to(torch.bfloat16),
    None,
    [torch.arange(4), torch.ones(2, 2, dtype=torch.bool)],
    [],
    torch.tensor([[float("-inf"), -0.0, 1e-45]]),
]

WRITER = """
import sys, torch
from pathlib import Path
from clipwatch.evaluator.store import Store
store = Store(Path(sys.argv[1]))
for turn in range(3):
    for number in range(40):
        assert store.write(f"key {number}", [torch.full((1, 50_000), float(number))])
        found = store.read(f"key {number}")
        assert found is not None and bool((found[0] == number).all()), number
"""


def same(found: list[Part] | None, expected: list[Part]) -> bool:
    """Whether both are the same, bit by bit."""
    return found is not None and bits(found) == bits(expected)


def bits(parts: list[Part]) -> list[Any]:
    return [
        part
        if part is None
        else [type(part), *((it.dtype, it.shape, bytes(it.untyped_storage())) for it in tensors)]
        for part, tensors in ((part, tensors_of(part)) for part in parts)
    ]


def kept(number: int) -> list[Part]:
    return [torch.full((1, 1000), float(number))]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Tensors of any type, lists and nothing come back bit by bit, for their own key alone."""
    folder = tmp_path / "state" / "embeddings"
    assert Store(folder).write("one", PARTS)
    store = Store(folder)
    assert same(store.read("one"), PARTS)
    assert store.has("one")
    assert store.read("two") is None
    assert not store.has("two")
    assert [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())] == [0o700, 0o600]


def test_no_folder_keeps_nothing() -> None:
    """A store without a folder takes everything and has nothing."""
    store = Store(None)
    assert not store.write("one", PARTS)
    assert not store.has("one")
    assert store.read("one") is None


def test_broken_files_are_not_read(tmp_path: Path) -> None:
    """Cut short, changed in any byte, another's, or no safetensors: not read, and written anew."""
    store = Store(tmp_path)
    store.write("one", PARTS)
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    luck = random.Random(0)
    faults = [b"", b"\0" * len(good), good[:8], os.urandom(300), pack("two", PARTS), good + b"\0"]
    faults += [good[:length] for length in range(0, len(good), 7)]
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= luck.randrange(1, 256)
        faults.append(bytes(bad))
    for bad_bytes in faults:
        file.write_bytes(bad_bytes)
        found = store.read("one")
        assert found is None or same(found, PARTS)
        if found is None:
            assert store.write("one", PARTS)
            assert same(store.read("one"), PARTS)
    assert sum(unpack(bad, "one") is None for bad in faults) > len(faults) * 0.9
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the files used least recently go, but none used since the start."""
    size = len(pack("key 0", kept(0)))
    monkeypatch.setattr(embeddings_store, "DISK_BYTES", 4 * size + 100)
    earlier = Store(tmp_path)
    for number in range(4):
        assert earlier.write(f"key {number}", kept(number))
        (newest,) = [it for it in tmp_path.iterdir() if it.stat().st_mtime > 1e9]
        os.utime(newest, (1000 + number, 1000 + number))
    store = Store(tmp_path)
    assert store.read("key 0") is not None
    assert [store.write(f"key {number}", kept(number)) for number in range(4, 9)] == [
        *(True, True, True),
        *(False, False),
    ]
    assert [number for number in range(9) if store.has(f"key {number}")] == [0, 4, 5, 6]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * size + 100


@pytest.mark.thorough
def test_processes_that_write_at_once(tmp_path: Path) -> None:
    """Three processes write and read the same keys: each reads only whole files, none is left."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert len([*tmp_path.iterdir()]) == 40
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


def test_a_file_of_another_process_that_goes_amid_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has just given its name, or deleted, keeps nothing from being written."""
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda it: iter([*listed(it), it / "gone.tmp"]))
    assert Store(tmp_path).write("key", [torch.zeros(1)])


@pytest.mark.thorough
def test_a_writer_that_is_killed(tmp_path: Path) -> None:
    """After a kill -9 at any moment what is there is whole."""
    for moment in range(5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) as writer:
            wanted = moment * 8
            while writer.poll() is None and len([*tmp_path.glob("*.safetensors")]) < wanted:
                time.sleep(0.001)
            writer.kill()
    store = Store(tmp_path)
    for number in range(40):
        found = store.read(f"key {number}")
        assert (found is not None) == store.has(f"key {number}")
        assert found is None or (tensors_of(found[0])[0] == number).all()


# --- disks ---------------------------------------------------------------------------------------


def full(folder: Path, _: pytest.MonkeyPatch) -> None:
    fill(folder)


def spared(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings_store, "SPARE_BYTES", 1 << 60)


def no_folder(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "cache").write_text("a file")


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("fault", [full, spared, no_folder])
def test_a_disk_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Any
) -> None:
    """A full disk, one with little to spare, or no folder: the scores are the same, said once."""
    monkeypatch.setattr(embeddings_store, "SPARE_BYTES", -(1 << 60))
    write_base_pipeline(tmp_path / "base")
    request = kit.request(tmp_path / "base", "pipeline", kit.protocol(tmp_path / "base"))
    request = kit.request(
        tmp_path / "base",
        "full",
        kit.protocol(tmp_path / "base"),
        files=tuple(it for it in request.files if it.path.startswith("unet")),
    )
    expected = kit.scores_of(Evaluator(), request)
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "none"):
        fault(tmp_path / "disk", monkeypatch)
        kept_there = msgspec.structs.replace(request, cache_dir=str(tmp_path / "disk" / "cache"))
        evaluator = Evaluator()
        for _ in range(2):
            assert kit.same(kit.scores_of(evaluator, kept_there), expected)
        assert not [*(tmp_path / "disk").rglob("*.tmp"), *(tmp_path / "disk").rglob("*.safet*")]
    said = [record.getMessage() for record in caplog.records if record.name.startswith("clipw")]
    assert len(said) == 1
    assert said[0].startswith("encoded prompts cannot be kept in ")
