"""5,000 prompts in one evaluation: is memory flat, progress visible, and a kill no loss?

    python benchmarks/many_prompts.py [--quick]

Runs `clipwatch start --once` on a checkpoint of the demo's pipeline (two steps an image), ends the
daemon with kill -9 in the middle, starts it again, and compares the memory of daemon and evaluator
early and late.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from clipwatch.demo.models import CLIP, write_base_pipeline
from clipwatch.domain.events import ImagesScored
from clipwatch.journal import Journal, log_file

MIB = 1 << 20


@dataclass
class Watched:
    """What was seen of a daemon: (images so far, its MiB, its evaluator's MiB)."""

    seen: list[tuple[int, float, float]] = field(default_factory=list)

    def flat(self, place: int) -> str:
        """Compare the medians of the second and the last fifth: the first one loads and tries."""
        fifth = max(1, len(self.seen) // 5)
        early = statistics.median(row[place] for row in self.seen[fifth : 2 * fifth])
        late = statistics.median(row[place] for row in self.seen[-fifth:])
        return f"{early:.0f} MiB early, {late:.0f} MiB late ({late / early - 1:+.1%})"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="400 prompts")
    prompts = 400 if parser.parse_args().quick else 5000
    with TemporaryDirectory(prefix="clipwatch-many-") as room:
        folder = Path(room)
        write_run(folder, prompts)
        began = time.monotonic()
        first = start(folder, until=prompts // 2)
        second = start(folder, until=prompts)
        seconds = time.monotonic() - began
        images = scored(folder)
        rows = [
            (f"{prompts} prompts, all scored", f"{len(images)} in {seconds:.0f} s"),
            ("scored twice, after a kill -9 in the middle", str(len(images) - len(set(images)))),
            ("the daemon's memory", second.flat(1)),
            ("the evaluator's memory, first start", first.flat(2)),
            ("the evaluator's memory, second start", second.flat(2)),
            ("size of the log", f"{log_file(folder / 'state').stat().st_size / MIB:.1f} MiB"),
        ]
    print("| what | found |\n|---|---|")
    for what, found in rows:
        print(f"| {what} | {found} |")


def write_run(folder: Path, prompts: int) -> None:
    """Write a base pipeline, a checkpoint with its weights, and a configuration."""
    base = folder / "base"
    write_base_pipeline(base)
    checkpoint = folder / "output" / "checkpoint-100"
    shutil.copytree(base / "unet", checkpoint / "unet")
    (checkpoint / "training_state.json").write_text("{}")
    (checkpoint / ".guard").write_text("complete\n")
    config = {
        "output_dir": "output",
        "evaluation_type": "clip",
        "pretrained_model_name_or_path": str(base),
        "pretrained_evaluation_model_name_or_path": str(CLIP),
        "validation_resolution": "32x32",
        "validation_num_inference_steps": 2,
        "clipwatch": {
            "prompts": f"compositional:{prompts}",
            "state_dir": "state",
            "device": "cpu",
            "baseline": False,
            "keep_images": 0,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))


def start(folder: Path, *, until: int) -> Watched:
    """Run the daemon until it has so many images or ends; kill it if it has not ended."""
    watched = Watched()
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (folder / "said").open("wb") as said:
        command = [sys.executable, "-m", "clipwatch", "start", "--once"]
        daemon = subprocess.Popen(command, cwd=folder, env=environ, stdout=said, stderr=said)
        process = psutil.Process(daemon.pid)
        while daemon.poll() is None:
            time.sleep(0.5)
            done = len(scored(folder))
            children = process.children()
            if children and done:
                memory = [it.memory_info().rss / MIB for it in (process, children[0])]
                watched.seen.append((done, memory[0], memory[1]))
            if until <= done < total(folder):
                daemon.send_signal(signal.SIGKILL)
        if daemon.wait() not in (0, -signal.SIGKILL):
            sys.exit((folder / "said").read_text())
    return watched


def total(folder: Path) -> int:
    """Return how many images there are to be."""
    config = json.loads((folder / "config.json").read_text())
    return int(config["clipwatch"]["prompts"].partition(":")[2])


def scored(folder: Path) -> list[tuple[str, int]]:
    """Return (prompt, index) of every image in the log."""
    if not log_file(folder / "state").exists():
        return []
    with Journal(log_file(folder / "state"), read_only=True) as journal:
        events = [it.event for it in journal.read() if isinstance(it.event, ImagesScored)]
    return [(it.prompt_id, it.index) for event in events for it in event.images]


if __name__ == "__main__":
    main()
