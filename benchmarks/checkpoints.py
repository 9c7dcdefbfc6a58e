"""How long does it take to change from one checkpoint to the next?

    python benchmarks/checkpoints.py [--quick] [--shape sd15] [--device cuda]

Clipwatch holds the base model and swaps the trained weights. Against that stand two cold loads of
the base with the checkpoint in it, ready to compute:

- new process: Python, torch and diffusers are started, too, as by one job for each checkpoint.
- same process: ``from_pretrained`` again where the libraries are loaded already.

In both, every weight is read once after loading: on a CPU the libraries only map the files. All
files are in the page cache. Then checkpoints are changed 100 times, and memory is watched.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from transformers import CLIPModel, CLIPProcessor

from clipwatch.demo.world import captions
from clipwatch.domain.kinds import Dtype
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation.opening import DTYPES
from common import Goal, Row, begin, check_agreement, options, settle, show, take_turns, workplace
from evaluation import World, evaluate, load, naive, protocol_of
from shapes import PIPELINES, clip_folder, full_checkpoint, lora_checkpoint, pipeline_folder

SIDE: Final = 64
"""Of the one image that shows that both ways load the same weights, in pixels."""

AGREEMENT: Final = {"fp32": 1e-5, "bf16": 1e-3}
"""Cosines may differ by this much: here both generate one image at a time."""

GOAL: Final = Goal(0.1, faster=False)
MEMORY_GOAL: Final = 0.02
WARM_UP: Final = 10
"""Changes after which memory is expected to stay as it is."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = options("A change of checkpoints with the base resident, against a cold load.")
    parser.add_argument("--shape", choices=tuple(PIPELINES), default="demo")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), help="default fp32, on a GPU bf16")
    parser.add_argument("--changes", type=int, help="watched for memory (default 100, quick 12)")
    parser.add_argument("--cold", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    dtype: Dtype = chosen.dtype or ("bf16" if chosen.device.startswith("cuda") else "fp32")
    if chosen.cold:  # this is the new process
        base = pipeline_folder(chosen.folder, chosen.shape, DTYPES[dtype])
        touch(load(world_of(base, dtype, chosen.device, (chosen.cold,) * 2), chosen.cold))
        return
    begin(chosen.device, chosen.threads)
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    with workplace(chosen.folder) as place:
        base = pipeline_folder(place, chosen.shape, DTYPES[dtype])
        rows, notes = [], []
        for make in (full_checkpoint, lora_checkpoint):
            world = world_of(base, dtype, chosen.device, (make(base, 1), make(base, 2)))
            new = [sys.executable, __file__, "--shape", chosen.shape, "--dtype", dtype]
            new += ["--device", chosen.device, "--folder", str(place)]
            found, said = measure(world, new, rounds)
            rows += found
            notes += said
        changes = chosen.changes or (WARM_UP + 2 if chosen.quick else 100)
        notes += watch_memory(world, (full_checkpoint(base, 1), lora_checkpoint(base, 1)), changes)
        title = f"Change of checkpoints, {chosen.shape} in {dtype}, {chosen.device}"
        show(title, rows, notes)


def world_of(base: Path, dtype: Dtype, device: str, pair: tuple[Path, Path]) -> World:
    """Return a world of one prompt, one step and a small image."""
    scorer = clip_folder(base.parent, "demo")
    protocol = protocol_of(base, scorer, captions()[:1], dtype=dtype, side=SIDE, steps=1)
    return World(protocol, pair, base.with_name("images"), device)


def measure(world: World, new_process: Sequence[str], rounds: int) -> tuple[list[Row], list[str]]:
    """Measure changes to one kind of checkpoint; return rows and notes.

    Args:
        world: Names the two checkpoints.
        new_process: The command that loads the checkpoint named after ``--cold`` and ends.
        rounds: Counted rounds.
    """
    evaluator = Evaluator()
    scorer = Path(world.protocol.decides.model)
    clip = CLIPModel.from_pretrained(scorer, dtype=torch.float32).eval().to(world.device)
    processor = CLIPProcessor.from_pretrained(scorer)
    what = world.checkpoints[0].name.removeprefix(Path(world.protocol.base_model).name + "-")[:4]
    notes = [
        check_agreement(
            f"{what}, checkpoint {number}",
            evaluate(evaluator, world, checkpoint, 1)[0],
            naive(world, checkpoint, clip, processor),
            AGREEMENT[world.protocol.dtype],
        )
        for number, checkpoint in enumerate(world.checkpoints, start=1)
    ]
    turns = {name: itertools.cycle(world.checkpoints) for name in ("new", "same", "ours")}

    def cold() -> None:
        subprocess.run(
            [*new_process, "--cold", str(next(turns["new"]))], check=True, capture_output=True
        )

    runs: dict[str, Callable[[], object]] = {
        "new process": cold,
        "same process": lambda: touch(load(world, next(turns["same"]))),
        "ours": lambda: evaluate(evaluator, world, next(turns["ours"]), 1, skip=True),
    }
    # all of it was loaded once already, to compare cosines
    seconds = take_turns(runs, rounds, settle=partial(settle, world.device), warm_up=False)
    return [
        Row(what, f"cold load, {name}", seconds["ours"], seconds[name], GOAL)
        for name in ("new process", "same process")
    ], notes


def watch_memory(world: World, pair: tuple[Path, Path], changes: int) -> list[str]:
    """Change to and fro between full weights and a LoRA; return what became of the memory."""
    evaluator = Evaluator()
    used: list[int] = []
    taken: list[int] = []
    for number in range(changes):
        evaluate(evaluator, world, pair[number % 2], 1)
        used.append(psutil.Process().memory_info().rss)
        if world.device.startswith("cuda"):
            taken.append(torch.cuda.memory_allocated(world.device))
    return [
        memory_note(name, numbers) for name, numbers in (("RSS", used), ("CUDA", taken)) if numbers
    ]


def memory_note(name: str, numbers: Sequence[int]) -> str:
    """Say how far memory moved, in bytes, from after the warm-up to the last changes."""
    if len(numbers) <= WARM_UP:
        return f"{name}: {len(numbers)} changes are too few to tell; name more with --changes"
    first = statistics.median(numbers[WARM_UP - 2 : WARM_UP])
    last = statistics.median(numbers[-2:])
    verdict = "met" if last <= first * (1 + MEMORY_GOAL) else "NOT met"
    return (
        f"{name} over {len(numbers)} changes between full weights and LoRA, an image after each:"
        f" {first / 2**20:.1f} MiB after {WARM_UP}, {last / 2**20:.1f} MiB in the end"
        f" ({last / first - 1:+.2%}; within {MEMORY_GOAL:.0%}: {verdict})"
    )


@torch.no_grad()
def touch(pipeline: Any) -> float:
    """Read every weight once, so that all are in memory; return their sum."""
    models = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(float(weight.sum()) for model in models for weight in model.parameters())


if __name__ == "__main__":
    main()
