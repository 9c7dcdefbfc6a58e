"""clipwatch as a user runs it: real commands over real files, with tiny models."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.domain.events import ImageScore, ImagesScored
from clipwatch.journal import Journal, log_file

PROMPTS = [
    "one red circle on white",
    "two blue squares on black",
    "three green crosses on grey",
    "a lighthouse at dawn",
]
MODEL = "unet/diffusion_pytorch_model.safetensors"


def clipwatch(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clipwatch", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return our environment without settings, offline and on one core."""
    kept = {name: value for name, value in os.environ.items() if "WANDB" not in name}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}


def guarded(output: Path, base: Path, step: int) -> Path:
    """Write a full checkpoint as SimpleTuner does: the base's weights, moved a little by step."""
    folder = output / f"checkpoint-{step}"
    (folder / "unet").mkdir(parents=True)
    shutil.copy(base / "unet" / "config.json", folder / "unet")
    (folder / "training_state.json").write_text("{}")
    rng = np.random.default_rng(step)
    tensors = load_file(base / MODEL)
    for name, tensor in tensors.items():
        noise = rng.standard_normal(tensor.shape).astype(tensor.dtype)
        tensors[name] = tensor + 0.02 * noise
    save_file(tensors, folder / MODEL)
    (folder / ".guard").write_text("complete\n")
    return folder


def write_config(folder: Path, **own: object) -> None:
    """Write a config.json for a run without a checkpoint; `own` goes into our object."""
    own = {
        "prompts": "prompts.txt",
        "state_dir": "state",
        "device": "cpu",
        "baseline": False,
        **own,
    }
    config = {
        "output_dir": "output",
        "pretrained_model_name_or_path": "./base",
        "evaluation_type": "clip",
        "clipwatch": own,
    }
    (folder / "config.json").write_text(json.dumps(config))


def digests(folder: Path) -> dict[str, str]:
    """Return path → digest and mtime of every file below a folder."""
    return {
        str(path.relative_to(folder)): f"{hashlib.sha256(path.read_bytes()).hexdigest()} "
        f"{path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def open_to_others(folder: Path) -> list[Path]:
    """Return a folder and what is below it, as far as others than its owner may do anything."""
    return [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]


def points(run: Path, tag: str) -> list[tuple[int, float]]:
    """Read a curve with TensorBoard's own reader."""
    reader = EventAccumulator(str(run))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def status(project: Path) -> list[dict[str, Any]]:
    ended = clipwatch("status", "--json", "--state-dir", "state", cwd=project)
    assert ended.returncode == 0, ended.stderr
    listed: list[dict[str, Any]] = json.loads(ended.stdout)["runs"][0]["checkpoints"]
    return listed


@contextmanager
def daemon(project: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the daemon; what it says goes to the file `said`."""
    with (project / "said").open("wb") as said:
        process = subprocess.Popen(
            command("start", *arguments), cwd=project, env=environment(), stdout=said, stderr=said
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def scored_images(project: Path) -> list[ImageScore]:
    """Read from the log every image that was scored, in order; none before there is a log."""
    log = log_file(project / "state")
    if not log.exists():
        return []
    with Journal(log, read_only=True) as journal:
        events = [r.event for r in journal.read() if isinstance(r.event, ImagesScored)]
    return [image for event in events for image in event.images]


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
