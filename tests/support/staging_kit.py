"""Checkpoints to keep, a stage that keeps them, and a trainer that deletes them meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from safetensors.numpy import save_file

from clipwatch.domain.kinds import FailureKind, StageMode
from clipwatch.domain.sighting import Whole
from clipwatch.domain.state import Checkpoint
from clipwatch.layouts import look_once
from clipwatch.layouts.files import content_digest
from clipwatch.staging import Held, Stage, Staged

MODEL = "diffusion_pytorch_model"


def full(output: Path, step: int, *, shards: int = 1, kilobytes: int = 64) -> Checkpoint:
    """Write a checkpoint with a UNet in `shards` files, and as much of what is not to be kept."""
    folder = output / f"checkpoint-{step}"
    (folder / "unet").mkdir(parents=True)
    names = [f"{MODEL}-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)]
    if shards == 1:
        names = [f"{MODEL}.safetensors"]
    else:
        weight_map = ", ".join(f'"w{n}": "{name}"' for n, name in enumerate(names))
        index = folder / "unet" / f"{MODEL}.safetensors.index.json"
        index.write_text(f'{{"weight_map": {{{weight_map}}}}}')
    noise = np.random.default_rng(step)
    for n, name in enumerate(names):
        values = noise.standard_normal(kilobytes * 256, np.float32)
        save_file({f"w{n}": values}, folder / "unet" / name)
    (folder / "unet" / "config.json").write_text("{}")
    (folder / "optimizer.bin").write_bytes(noise.bytes(kilobytes * 1024))
    (folder / "random_states_0.pkl").write_bytes(b"pickle")
    return seen(folder)


def pipeline(output: Path, step: int, *, kilobytes: int = 64) -> Checkpoint:
    """Write a checkpoint that is a whole pipeline: a UNet, and a tokenizer of two files."""
    folder = output / f"checkpoint-{step}"
    for name, text in {
        "model_index.json": '{"_class_name": "X", "unet": ["d", "U"], "tokenizer": ["t", "T"]}',
        "unet/config.json": "{}",
        "tokenizer/vocab.json": '{"a": 1}',
        "tokenizer/added_tokens.json": '{"b": 2}',
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    values = np.random.default_rng(step).standard_normal(kilobytes * 256, np.float32)
    save_file({"w": values}, folder / "unet" / f"{MODEL}.safetensors")
    return seen(folder)


def seen(folder: Path) -> Checkpoint:
    """Return a checkpoint as the supervisor knows it."""
    found = look_once(folder, "live")
    assert isinstance(found.verdict, Whole), found.verdict
    weights, digest = found.verdict.weights, found.verdict.digest
    what = (weights.kind, weights.component, weights.files, digest)
    return Checkpoint(found.step, found.name, str(found.path), "whole", "", *what)


class Desk:
    """A stage, and the messages that it sends."""

    def __init__(self, folder: Path, mode: StageMode) -> None:
        self.folder = folder
        self._messages: SimpleQueue[Staged] = SimpleQueue()
        self.stage = Stage(folder, mode, self._messages.put)

    def hears(self) -> Staged:
        """Wait for the next message."""
        return self._messages.get(timeout=60)

    @property
    def silent(self) -> bool:
        """Whether no message waits."""
        return self._messages.empty()

    def keep(self, checkpoint: Checkpoint) -> Held:
        """Have one checkpoint held."""
        self.stage.want([checkpoint])
        assert self.hears() == Staged(checkpoint)
        held = self.stage.held(checkpoint)
        assert held is not None
        return held

    def fail(self, checkpoint: Checkpoint) -> tuple[FailureKind, str]:
        """Return the kind of problem that there is with keeping a checkpoint, and its text."""
        self.stage.want([checkpoint])
        over = self.hears()
        assert over.checkpoint == checkpoint
        assert over.kind
        assert over.problem
        assert "\n" not in over.problem
        assert self.stage.held(checkpoint) is None
        assert self.stage.keys == frozenset()
        return over.kind, over.problem

    @property
    def left(self) -> list[str]:
        """What lies in the stage's folder."""
        return sorted(os.listdir(self.folder)) if self.folder.exists() else []


@contextmanager
def desk(folder: Path, mode: StageMode) -> Iterator[Desk]:
    """Open a stage and close it at the end."""
    made = Desk(folder, mode)
    try:
        yield made
    finally:
        made.stage.close()


def intact(held: Held, checkpoint: Checkpoint) -> bool:
    """Whether what is held is what was found, byte for byte as far as the digest tells."""
    return content_digest(Path(held.path), held.files) == checkpoint.digest


def descriptors(below: Path | None = None) -> list[str]:
    """Return what this process has open, or of that what lies below a folder."""
    found = []
    for entry in os.scandir("/proc/self/fd"):
        try:
            found.append(str(Path(entry.path).readlink()))
        except FileNotFoundError:  # the scan's own
            continue
    return [path for path in found if below is None or Path(path).is_relative_to(below)]


def before_chunks(action: Callable[[int], object]) -> Callable[[int, int, int], int]:
    """Return a stand-in for copying's `_move` that first calls `action` with the chunk's offset."""
    from clipwatch.staging import copying

    move = copying._move

    def moved(source: int, target: int, offset: int) -> int:
        action(offset)
        return move(source, target, offset)

    return moved


_TRAINER = """
import os, shutil, sys, time
for line in sys.stdin:
    delay, path = line.rstrip("\\n").split(" ", 1)
    time.sleep(float(delay))
    try:
        shutil.rmtree(path)
        print("deleted", flush=True)
    except OSError as error:
        print(os.strerror(error.errno), flush=True)
"""


class Trainer:
    """A process that deletes checkpoints as diffusers and accelerate do: with shutil.rmtree."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _TRAINER]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def delete(self, path: str, after: float = 0.0) -> None:
        """Delete a checkpoint after some seconds; does not wait for that."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{after} {path}\n")
        self._process.stdin.flush()

    def outcome(self) -> str:
        """Wait for the deletion: "deleted", or why not."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


@contextmanager
def trainer() -> Iterator[Trainer]:
    """Have a trainer's process and end it."""
    made = Trainer()
    try:
        yield made
    finally:
        made.close()
