"""One run on one and on two slots of the processor: how much sooner is the queue done?

    python benchmarks/slots.py [--quick] [--rounds N]

Runs `clipwatch start --once` on checkpoints of the demo's pipeline with the demo's settings, with
`--device cpu` and with `--device cpu,cpu`, each evaluator on one thread, and compares the seconds
from the first start of an evaluator to the last result, those of the whole command, and all scores.
It needs two cores that do nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load_file, save_file

from clipwatch.demo.models import write_base_pipeline
from clipwatch.demo.show import prepare
from clipwatch.domain.events import EvaluationCompleted, EvaluationStarted, ImagesScored
from clipwatch.journal import Journal, log_file
from common import Goal, Row, check_agreement, show

WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
MOST = 1e-4
"""By so much a score of one slot and of two may differ."""

GOAL = Goal(1.7)


@dataclass(frozen=True, slots=True)
class Done:
    """A run: the seconds of the command, those from the first model loaded, and each score."""

    seconds: float
    spent: float
    scores: dict[tuple[str, str, int], float]


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one checkpoint of 16 prompts")
    parser.add_argument("--rounds", type=int, default=0, help="default 3, quick 1")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="clipwatch-slots-") as room:
        folder = Path(room) / "demo"
        config, _ = prepare(folder, lora=False)
        write_base_pipeline(folder / "base")
        for number in range(1, 2 if chosen.quick else 21):
            write_checkpoint(folder, 50 * number)
        more = ("--max-prompts", "16") if chosen.quick else ()
        both: dict[str, list[Done]] = {"cpu": [], "cpu,cpu": []}
        for _ in range(chosen.rounds or (1 if chosen.quick else 3)):
            for device, found in both.items():
                found.append(evaluate(config, folder / "state", device, *more))
    one, two = both.values()
    mine, theirs = two[0].scores, one[0].scores
    cosines = [mine[it] for it in theirs], list(theirs.values())
    notes = [check_agreement("two slots", *cosines, MOST)]
    rows = [
        Row("evaluating", "one slot", [it.spent for it in two], [it.spent for it in one], GOAL),
        Row("the command", "one slot", [it.seconds for it in two], [it.seconds for it in one]),
    ]
    cores = os.cpu_count()
    show(f"{len(theirs)} images on two slots of the processor, {cores} cores", rows, notes)


def write_checkpoint(folder: Path, step: int) -> None:
    """Write a full checkpoint as SimpleTuner does: the base's weights, moved a little by step."""
    made = folder / "output" / f"checkpoint-{step}"
    (made / "unet").mkdir(parents=True)
    shutil.copy(folder / "base" / "unet" / "config.json", made / "unet")
    rng = np.random.default_rng(step)
    tensors = load_file(folder / "base" / WEIGHTS)
    moved = {
        name: it + 0.02 * rng.standard_normal(it.shape).astype(it.dtype)
        for name, it in tensors.items()
    }
    save_file(moved, made / WEIGHTS)
    (made / "training_state.json").write_text("{}")
    (made / ".guard").write_text("complete\n")


def evaluate(config: Path, state: Path, device: str, *more: str) -> Done:
    """Score all that lies there into a new log.

    Raises:
        CalledProcessError: It failed; what it said stands above.
    """
    shutil.rmtree(state, ignore_errors=True)
    command = [sys.executable, "-m", "clipwatch", "start", "--once", "--config", str(config)]
    command += ["--state-dir", str(state), "--device", device, "--report-to", "none", *more]
    began = time.monotonic()
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    seconds = time.monotonic() - began
    with Journal(log_file(state), read_only=True) as journal:
        logged = list(journal.read())
    at = {
        kind: [it.time.timestamp() for it in logged if isinstance(it.event, kind)]
        for kind in (EvaluationStarted, EvaluationCompleted)
    }
    scores = {
        (it.event.evaluation, image.prompt_id, image.index): image.score
        for it in logged
        if isinstance(it.event, ImagesScored)
        for image in it.event.images
    }
    spent = max(at[EvaluationCompleted]) - min(at[EvaluationStarted])
    return Done(seconds, spent, scores)


if __name__ == "__main__":
    main()
