"""How often is a blend of checkpoints better than the best, how often is that said, or wrongly?

    python benchmarks/blend.py [--quick] [--only simulated|trained] [--seeds N]

- simulated: searches in worlds whose truth is known: how often a blend is called better, by how
  much it is, and how often it is called so where it is not.
- trained: the demo's training with as many seeds. `clipwatch start --once` scores its checkpoints,
  `clipwatch blend` searches; then best and blend are scored on other prompts and other noise, which
  tells by how much the blend is better in truth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch

from clipwatch.demo.models import CLIP
from clipwatch.demo.train import Options, train
from clipwatch.demo.world import captions
from clipwatch.domain.blends import Recipe, Search, families, near
from clipwatch.domain.events import WeightFile
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.executors.messages import Evaluate, Failed, Reply, Scored
from clipwatch.results.tables import score_table
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import COSINE
from clipwatch.statistics.scores import Scores
from common import begin, workplace

Array = np.ndarray[Any, np.dtype[np.float64]]

# --- simulated -----------------------------------------------------------------------------------

PROMPTS: Final = 144
CHECKPOINTS: Final = 12
SPREAD: Final = 0.03
"""Standard deviation of a prompt's score of one checkpoint beside its score of another."""


@dataclass(frozen=True, slots=True)
class World:
    """A training whose truth is known.

    Attributes:
        name: For a person.
        gain: By how much the average of very many equal checkpoints is above each of them.
        rise: By how much the last checkpoint is above the first.
        wiggle: Standard deviation of a checkpoint's true mean around that.
    """

    name: str
    gain: float = 0.0
    rise: float = 0.0
    wiggle: float = 0.0

    def truth(self, means: Array, shares: Array) -> float:
        """Return a blend's true mean."""
        return float(shares @ means) + self.gain * (1 - float(shares @ shares))


WORLDS: Final = (
    World("all equal, no gain"),
    World("wiggles .003, no gain", wiggle=0.003),
    World("rises by .03, no gain", rise=0.03),
    World("gain .005", 0.005),
    World("gain .01, wiggles .003", 0.01, wiggle=0.003),
    World("gain .02, wiggles .003", 0.02, wiggle=0.003),
    World("gain .02, rises by .03", 0.02, 0.03),
)


def simulated(runs: int) -> None:
    """Print a row for each world."""
    print("\n| world | searches | tested | called better | wrongly | truth of the tested, mean"
          " | images, of evaluations |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for world in WORLDS:
        found = [_search(world, np.random.default_rng([seed, 7])) for seed in range(runs)]
        tested = [truth for truth, better, _ in found if better is not None]
        called = [truth for truth, better, _ in found if better]
        truth = f"{fmean(tested):+.4f}" if tested else "-"
        wrong = sum(it <= 0 for it in called)
        cells = (runs, len(tested), len(called), wrong, truth)
        images = fmean(cost for *_, cost in found) / PROMPTS
        print(f"| {world.name} | {' | '.join(map(str, cells))} | {images:.1f} |", flush=True)


def _search(world: World, generator: np.random.Generator) -> tuple[float, bool | None, int]:
    """Return a blend's truth less the best's, whether it is called better, and its images.

    None instead of a verdict where no blend was tested.
    """
    order = [str(it) for it in range(CHECKPOINTS)]
    means = np.linspace(0, world.rise, CHECKPOINTS)
    means += world.wiggle * generator.normal(size=CHECKPOINTS)
    noise = SPREAD / np.sqrt(2) * generator.normal(size=(PROMPTS, CHECKPOINTS))
    scores = means + noise
    best = int(scores.mean(axis=0).argmax())
    half = PROMPTS // 2
    own = SPREAD / 4  # of a blend, beside the noise of what it is made of

    def scored(recipe: Recipe, prompts: slice) -> list[float]:
        shares = np.zeros(CHECKPOINTS)
        shares[[int(name) for name, _ in recipe.shares]] = [share for _, share in recipe.shares]
        seed = np.random.default_rng(list(shares.tobytes()))
        beside = own * seed.normal(size=PROMPTS)
        found = world.truth(means, shares) + noise @ shares + beside
        return [float(it) for it in found[prompts]]

    singles = {name: float(scores[:half, it].mean()) for it, name in enumerate(order)}
    top = max(singles, key=lambda it: singles[it])
    search = Search(lambda recipe, count: scored(recipe, slice(0, count)), half, 8 * PROMPTS - half)
    found = search.run(families(order, singles), partial(near, order, top=top))
    shares = np.zeros(CHECKPOINTS)
    for name, share in found.recipe.shares:
        shares[int(name)] = share
    truth = world.truth(means, shares) - float(means[best])
    if found.mean <= scores[: found.prompts, best].mean():
        return truth, None, search.used
    tables = [
        {str(it): [value] for it, value in enumerate(values)}
        for values in (scores[half:, best].tolist(), scored(found.recipe, slice(half, PROMPTS)))
    ]
    verdict = compare("best", tables[0], "blend", tables[1], COSINE).verdict
    return truth, verdict == "better", search.used + half


# --- trained -------------------------------------------------------------------------------------

STEPS: Final = 5
"""Denoising steps of each image."""


def trained(place: Path, seeds: int, *, quick: bool, lora: bool) -> None:
    """Print a row for each training."""
    words = captions()
    asked = words[::9] if quick else words[::3]
    fresh = [it for it in words if it not in asked][: 12 if quick else None]
    steps, every = (12, 3) if quick else (120, 15)
    base = place / "base"
    if lora:
        base = _base(place, 6 if quick else 150)
    print(
        f"\n{'LoRA' if lora else 'whole UNet'}, {steps} steps, a checkpoint every {every};"
        f" {len(asked)} prompts, true difference on {len(fresh)} others, two images each"
    )
    print("\n| seed | blend | held out: best | blend | difference | called | images"
          " | true difference |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    evaluator, all_ = Evaluator(), list[tuple[bool, float | None]]()
    for seed in range(seeds):
        run = place / f"{'lora' if lora else 'full'}-{seed}"
        if not (run / "state").exists():
            train(Options(base, run / "output", steps, every, lora=lora, seed=seed))
        found = _blended(run, base, asked, quick=quick)
        it = found["tested"]
        better = bool(it and it["better"])
        truth = None
        if it:
            checkpoint = run / "output" / found["best"]["checkpoint"]
            both = [
                _score(evaluator, folder, base, fresh, lora=lora)
                for folder in (checkpoint, _folder(Path(it["written"]), lora=lora))
            ]
            true = compare("best", both[0], "blend", both[1], COSINE)
            truth = true.delta
        all_.append((better, truth))
        cells = ["-", "-", "-", "not tested", found["images"], "-"]
        if it and truth is not None:
            ends = f"{it['delta']:+.4f} ({it['ci'][0]:+.4f} to {it['ci'][1]:+.4f})"
            told = f"{true.delta:+.4f} ({true.low:+.4f} to {true.high:+.4f})"
            called = "better" if better else "not surely"
            cells = [f"{it['best']:.4f}", f"{it['blend']:.4f}", ends, called, found["images"], told]
        print(f"| {seed} | {found['blend']['how']} | {' | '.join(map(str, cells))} |", flush=True)
    called = [truth for better, truth in all_ if better and truth is not None]
    known = [truth for _, truth in all_ if truth is not None]
    print(f"\n{len(called)} of {seeds} called better, {sum(it <= 0 for it in called)} of them"
          f" wrongly; {len(known)} tested, of which {sum(it > 0 for it in known)} are better in"
          " truth" + (f", by {fmean(known):+.4f} in the mean" if known else ""))  # fmt: skip


def _folder(written: Path, *, lora: bool) -> Path:
    """Return a blend's folder, of which the command names the one file."""
    return written.parent if lora else written.parent.parent


def _base(place: Path, steps: int) -> Path:
    """Return the demo's pipeline, trained for a while, for LoRAs of it."""
    folder = place / f"base-{steps}"
    if not (folder / "pipeline").exists():
        train(Options(folder / "untrained", folder, steps, steps))
    return folder / "pipeline"


def _blended(run: Path, base: Path, asked: Sequence[str], *, quick: bool) -> dict[str, Any]:
    """Have a training's checkpoints scored, and a blend searched; return what that says."""
    (run / "prompts.txt").write_text("\n".join(asked), encoding="utf-8")
    config = {
        "output_dir": "output",
        "evaluation_type": "clip",
        "report_to": "none",
        "pretrained_model_name_or_path": str(base),
        "pretrained_evaluation_model_name_or_path": str(CLIP),
        "validation_resolution": "32x32",
        "validation_num_inference_steps": STEPS,
        "validation_guidance": 3.0,
        "clipwatch": {
            "prompts": "prompts.txt",
            "device": "cpu",
            "baseline": False,
            "batch_size": 36,
            "settle_seconds": 0,
            "state_dir": "state",
        },
    }
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _clipwatch(run, "start", "--config", "config.json", "--once")
    images = ["--images", str(4 * len(asked))] if quick else []
    said = _clipwatch(run, "blend", "--state-dir", "state", "--json", *images)
    found: dict[str, Any] = json.loads(said)
    return found


def _clipwatch(run: Path, *words: str) -> str:
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-m", "clipwatch", *words],
        cwd=run,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"clipwatch {words[0]}: {done.stderr}")
    return done.stdout


def _score(
    evaluator: Evaluator, folder: Path, base: Path, words: Sequence[str], *, lora: bool
) -> Scores:
    """Score weights on prompts and noise that no search has seen."""
    files = sorted(folder.glob("*.safetensors" if lora else "unet/*.safetensors"))
    stats = [(it.relative_to(folder).as_posix(), it.stat()) for it in files]
    request = Evaluate(
        path=str(folder),
        kind="lora" if lora else "full",
        component="" if lora else "unet",
        files=tuple(WeightFile(name, it.st_size, it.st_mtime_ns, it.st_ino) for name, it in stats),
        protocol=_protocol(base, words),
        done=(),
        images_dir=None,
        device="cpu",
        batch_size=36,
    )
    said: list[Reply] = []
    evaluator.evaluate(request, said.append)
    if failed := [it for it in said if isinstance(it, Failed)]:
        raise SystemExit(failed[0].reason)
    return score_table([image for it in said if isinstance(it, Scored) for image in it.images])


def _protocol(base: Path, words: Sequence[str]) -> EvaluationProtocol:
    return EvaluationProtocol(
        prompts=tuple(Prompt(text, text) for text in words),
        images_per_prompt=2,
        seed=1,
        negative_prompt="",
        inference_steps=STEPS,
        guidance=3.0,
        width=32,
        height=32,
        scheduler="",
        base_model=str(base),
        base_revision="",
        base_variant="",
        weights="live",
        dtype="fp32",
        scorers=(ScorerSpec("", str(CLIP)),),
    )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds rather than minutes")
    parser.add_argument("--only", choices=("simulated", "trained"))
    parser.add_argument("--runs", type=int, default=0, help="of each simulated world (default 500)")
    parser.add_argument("--seeds", type=int, default=0, help="trainings (default 10)")
    parser.add_argument("--lora", action="store_true", help="train LoRAs, not the whole UNet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the models made here for the next run")
    asked = parser.parse_args()
    begin("cpu", asked.threads)
    started = time.monotonic()
    if asked.only != "trained":
        simulated(asked.runs or (5 if asked.quick else 500))
    if asked.only != "simulated":
        seeds = asked.seeds or (1 if asked.quick else 10)
        with workplace(asked.folder) as place:
            trained(place.absolute(), seeds, quick=asked.quick, lora=asked.lora)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
