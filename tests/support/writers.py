"""Writers of safetensors files, each a process of its own that stops after every piece."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from clipwatch.layouts.files import content_digest, stat

WRITER = """
import mmap, os, random, sys
how, path, source, stops = sys.argv[1:]
with open(source, "rb") as file:
    data = file.read()
header = 8 + int.from_bytes(data[:8], "little")
cuts = [0, header, *range(header + 4096, len(data), (len(data) - header) // 9), len(data)]
pieces = [(begin, data[begin:end]) for begin, end in zip(cuts, cuts[1:])]

def stop():
    if stops == "yes":
        print("look", flush=True)
        sys.stdin.readline()

def grow(path):
    with open(path, "wb", buffering=0) as file:
        for _, piece in pieces:
            stop()
            file.write(piece)

def fill(path, pieces):
    with open(path, "wb", buffering=0) as file:
        file.truncate(len(data))
        for begin, piece in pieces:
            stop()
            os.pwrite(file.fileno(), piece, begin)

def fill_mapped(path, pieces):
    with open(path, "w+b", buffering=0) as file:
        file.truncate(len(data))
        with mmap.mmap(file.fileno(), len(data)) as mapped:
            for begin, piece in pieces:
                stop()
                mapped[begin:begin + len(piece)] = piece
            stop()

def overwrite(path):
    with open(path, "r+b", buffering=0) as file:
        for begin, piece in pieces:
            stop()
            os.pwrite(file.fileno(), piece, begin)

match how:
    case "growing":
        grow(path)
    case "filled":
        fill(path, pieces)
    case "filled in any order":
        random.Random(1).shuffle(pieces)
        fill(path, pieces)
    case "filled through a map":
        fill_mapped(path, pieces)
    case "renamed":
        aside = os.path.join(os.path.dirname(path), ".tmpAb3xYz")
        fill(aside, pieces)
        stop()
        os.rename(aside, path)
    case "overwritten":
        overwrite(path)
"""

SEQUENTIAL = ["growing", "filled", "filled through a map", "renamed"]
ALL = [*SEQUENTIAL, "filled in any order", "overwritten"]


def content(path: Path, value: float) -> bytes:
    """Return a file of ten tensors without a zero in it."""
    names = (f"unet.{n}.lora_{half}.weight" for n in range(5) for half in "AB")
    tensors = {name: np.full((64, 65), value + n, np.float32) for n, name in enumerate(names)}
    save_file(tensors, path)
    return path.read_bytes()


@contextmanager
def writer(how: str, target: Path, source: Path, *, stops: bool) -> Iterator[subprocess.Popen[str]]:
    """Start a writer that copies `source` to `target` in its own way."""
    command = [sys.executable, "-c", WRITER, how, str(target), str(source), "yes" if stops else ""]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def stops(process: subprocess.Popen[str]) -> Iterator[None]:
    """Yield whenever the writer has stopped, and let it go on afterwards."""
    assert process.stdin is not None
    assert process.stdout is not None
    while process.stdout.readline():
        yield
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.wait() == 0


def digest_of(target: Path, source: Path) -> str:
    """Return the digest that a checkpoint has when `target` holds what `source` holds."""
    copy = source.parent / "copy" / target.name
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(source.read_bytes())
    return content_digest(copy.parent, stat(copy.parent, [copy]))
