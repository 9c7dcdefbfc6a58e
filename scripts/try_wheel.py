"""Build the wheel, look into it, install it alone, and run the demo's first checkpoint from it.

    python scripts/try_wheel.py

The environment is a fresh one in a temporary folder, with pip and constraints.txt, and nothing of
this tree is on its path. Ends with 0 when that checkpoint's scores are published.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

HOLDS = (
    "clipwatch/py.typed",
    "clipwatch_adapters/py.typed",
    "clipwatch/demo/models/LICENSE.md",
    "clipwatch/demo/models/clip/model.safetensors",
    "clipwatch/demo/models/vae/diffusion_pytorch_model.safetensors",
    "clipwatch/journal/schema.sql",
    "clipwatch/prompts/library.json",
    "clipwatch/systemd/clipwatch@.service",
    ".dist-info/licenses/LICENSE",
)
"""How names in the wheel end."""

FIRST_CHECKPOINT_SECONDS = 600.0


def main() -> int:
    """Try it; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="clipwatch-wheel-") as folder:
        work = Path(folder)
        say("building")
        pip = [sys.executable, "-m", "pip", "--quiet"]
        run([*pip, "wheel", "--no-deps", "--wheel-dir", work, ROOT], work)
        [wheel] = work.glob("*.whl")
        for fault in (found := list(faults(wheel))):
            say(f"{wheel.name}: {fault}")
        if found:
            return 1
        say(f"installing {wheel.name} into a fresh environment; this takes some minutes")
        venv.create(work / "venv", with_pip=True)
        programs = work / "venv" / "bin"
        alone = [str(programs / "python"), "-m", "pip", "--quiet"]
        # what is imported is compiled then, most never is
        install = [*alone, "install", "--no-compile"]
        run([*install, "--constraint", ROOT / "constraints.txt", wheel], work)
        run([*alone, "check"], work)
        say("running the demo")
        found_step = first_checkpoint(programs / "clipwatch", work)
        say(f"the scores of step {found_step} are published: the wheel works")
    return 0


def faults(wheel: Path) -> Iterator[str]:
    """Say what the wheel lacks, has too much, or shows wrongly on an index page."""
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        page = content.read(metadata).decode()
    for end in HOLDS:
        if not any(name.endswith(end) for name in names):
            yield f"has no {end}"
    for name in names:
        if not re.match(r"clipwatch(_adapters)?/|clipwatch-[^/]+\.dist-info/", name):
            yield f"has {name}, which belongs to none of its packages"
    for link in re.findall(r"\]\(([^)\s]+)\)", page):
        if "://" not in link:
            yield f"its page has the link {link}, which leads nowhere on an index"


def first_checkpoint(program: Path, work: Path) -> int:
    """Run the demo until a checkpoint's scores are published, and stop it; return the step."""
    with (work / "said").open("wb") as said:
        demo = subprocess.Popen(
            [program, "demo", "--directory", work / "demo", "--steps", "50"],
            cwd=work,
            env=environment(),
            stdout=said,
            stderr=said,
        )
    try:
        ends = time.monotonic() + FIRST_CHECKPOINT_SECONDS
        while time.monotonic() < ends:
            step = published(program, work)
            if step:
                return step
            if demo.poll() is not None:
                break
            time.sleep(2)
        raise SystemExit(f"no checkpoint was published:\n{(work / 'said').read_text()[-2000:]}")
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(120)


def published(program: Path, work: Path) -> int:
    """Return the newest step that every tracker shows, 0 for none."""
    state = work / "demo" / "state"
    command: list[str | Path] = [program, "status", "--json", "--state-dir", state]
    told = run(command, work, check=False)
    runs: list[dict[str, Any]] = json.loads(told)["runs"] if told.startswith("{") else []
    listed = [it for found in runs for it in found["checkpoints"] if it["state"] == "published"]
    return max((it["step"] for it in listed), default=0)


def run(command: Sequence[str | Path], work: Path, *, check: bool = True) -> str:
    """Run a program outside of this tree; return what it prints."""
    return subprocess.run(
        command, cwd=work, env=environment(), check=check, stdout=subprocess.PIPE, text=True
    ).stdout


def environment() -> dict[str, str]:
    """Return ours without what would bring this tree, or settings, into the other one."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CLIPWATCH_"))}


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
