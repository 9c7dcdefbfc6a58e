"""A run whose models lie on a Hub, and commands beside it in a clean environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from clipwatch.demo.models import CLIP
from corpus import check_whole
from hub_kit import Hub

PROGRESS = re.compile(
    r"^[0-9:]{8} (settings|doctor|prompts|models): .* \([0-9]+ s\)\n", re.MULTILINE
)
"""A line that tells what is in hand, and for how long by now."""


def write_hub(folder: Path, base: Path) -> Hub:
    """Return a Hub with a pipeline, pickles beside its weights, and a CLIP as the bot offers it."""
    pipeline, pickled, converted = (folder / name for name in ("pipeline", "pickled", "converted"))
    shutil.copytree(base, pipeline)
    (pipeline / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (pipeline / "flax_model.msgpack").write_bytes(b"another")
    shutil.copytree(CLIP, converted)
    (converted / "pytorch_model.bin").write_bytes(b"a pickle")
    shutil.copytree(converted, pickled)
    (pickled / "model.safetensors").unlink()
    return Hub(
        {"org/base": {"main": pipeline}, "org/clip": {"main": pickled, "refs/pr/7": converted}}
    )


def configure(project: Path, **changes: Any) -> None:
    """Change top-level keys of the project's config.json; None takes one out."""
    path = project / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config[f"--{key}"] = value
        if value is None:
            del config[f"--{key}"]
    path.write_text(json.dumps(config))


def use_hub(project: Path) -> None:
    """Name the Hub's models in the project's config.json."""
    configure(
        project,
        pretrained_model_name_or_path="org/base",
        pretrained_evaluation_model_name_or_path="org/clip",
    )


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment whose caches lie in `home`, without settings of this machine."""
    hidden = ("WANDB", "HF_", "HUGGING", "CLIPWATCH", "XDG_", "TRANSFORMERS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    own = {"HOME": str(home), "HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": "1"}
    return {**kept, **own, "WANDB_MODE": "offline", **more}


def clipwatch(
    *arguments: str | Path, cwd: Path, env: dict[str, str], before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would; `before` is what stands before it on the line.

    A slow machine hears on stderr what takes so long: the tests are not told.
    """
    done = subprocess.run(
        [*before, sys.executable, "-m", "clipwatch", *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    done.stderr = PROGRESS.sub("", done.stderr)
    return done


def findings(*arguments: str | Path, cwd: Path, env: dict[str, str]) -> dict[str, dict[str, str]]:
    """Return what `clipwatch doctor --json` finds, by check."""
    done = clipwatch("doctor", "--json", *arguments, cwd=cwd, env=env)
    assert not done.stderr, done.stderr
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    for it in found.values():
        check_whole(it["fix"])
        assert bool(it["fix"]) == (it["verdict"] != "ok"), it
    return found


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return all that tells of a change, of everything in a folder, but for times of reading."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        it = path.lstat()
        found[str(path)] = (
            it.st_ino,
            it.st_mode,
            it.st_uid,
            it.st_size,
            it.st_mtime_ns,
            it.st_ctime_ns,
        )
    return found
