"""How often is a blend of checkpoints better than the best, how often is that said, or wrongly?

    python benchmarks/blend.py [--quick] [--only simulated|trained] [--seeds N]

- simulated: searches in worlds whose truth is known: how often a blend is called better, by how
  much it is, and how often it is called so where it is not.
- trained: the demo's training with as many seeds. Its checkpoints are scored, and what
  `clipwatch blend` does is done; then best and blend are scored on other prompts and other noise,
  which tells by how much the blend is better in truth.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
from rich.console import Console as RichConsole

from clipwatch import __version__
from clipwatch.demo.models import CLIP
from clipwatch.demo.train import Options, train
from clipwatch.demo.world import captions
from clipwatch.domain.blends import Recipe, Search, families, near
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.domain.sighting import Whole
from clipwatch.domain.state import name_evaluation
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.executors import named
from clipwatch.executors.base import Slot
from clipwatch.executors.messages import Evaluate, Failed, Kept, Reply, Scored
from clipwatch.journal import Journal, log_file
from clipwatch.layouts import look_once
from clipwatch.loop.console import Console
from clipwatch.results.tables import score_table
from clipwatch.statistics import Comparison
from clipwatch.statistics.intervals import describe
from clipwatch.statistics.paired import compare
from clipwatch.statistics.scale import COSINE
from clipwatch.tasks.blend import search
from clipwatch.tasks.blend_outcome import Outcome
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

STEPS: Final = 4
"""Denoising steps of each image."""

RUN: Final = "demo"


class Here:
    """An executor whose evaluator lives in this process, as its imports cost more than its images.

    Args:
        evaluator: Keeps its models from request to request.
    """

    alive, silent_seconds = True, 0.0

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._kept = threading.Semaphore(0)

    def slots(self) -> tuple[Slot, ...]:
        """Return the processor."""
        return (Slot("cpu", "cpu"),)

    def start(self, _: Slot, receive: Callable[[Reply], None]) -> Here:
        """Have the replies taken."""
        self._receive = receive
        return self

    def evaluate(self, request: Evaluate) -> None:
        """Evaluate beside who waits for the replies."""
        threading.Thread(target=self._evaluator.evaluate, args=(request, self._send)).start()

    def kept(self, *, enough: bool = False) -> None:  # noqa: ARG002 - the interface
        """Let it go on."""
        self._kept.release()

    def kill(self) -> None:
        """Leave it to the next search."""

    def reads(self, path: Path) -> bool:  # noqa: ARG002 - the interface
        """All that is here is there."""
        return True

    def _send(self, reply: Reply) -> Kept | None:
        self._receive(reply)
        if not isinstance(reply, Scored):
            return None
        self._kept.acquire()
        return Kept()


def trained(place: Path, seeds: int, *, quick: bool, lora: bool) -> None:
    """Print a row for each training."""
    words = captions()
    asked = words[:: 18 if quick else 4]
    fresh = [it for it in words if it not in asked][: 12 if quick else None]
    steps, every = (12, 3) if quick else (80, 10)
    base = _base(place, 6 if quick else 150) if lora else place / "base"
    print(
        f"\n{'LoRA' if lora else 'whole UNet'}, {steps} steps, a checkpoint every {every};"
        f" {len(asked)} prompts, true difference on {len(fresh)} others, two images each"
    )
    print("\n| seed | best | blend | held out: best | blend | difference | called | images"
          " | true difference |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    evaluator, all_ = Evaluator(), list[tuple[bool, float | None]]()
    named.load = lambda settings: Here(evaluator)  # noqa: ARG005 - whatever the run
    for seed in range(seeds):
        run = place / f"{'lora' if lora else 'full'}-{seed}"
        with redirect_stdout(None):
            train(Options(base, run / "output", steps, every, lora=lora, seed=seed))
        found = _blended(run, evaluator, _protocol(base, asked), 4 * len(asked) if quick else None)
        it, true = found.tested, None
        if it:
            files = it.written.parent if lora else it.written.parent.parent
            how = _protocol(base, fresh, images_per_prompt=2, seed=1)
            both = (run / "output" / found.best.checkpoint, files)
            scores = [score_table(_images(evaluator, folder, how)) for folder in both]
            true = compare("best", scores[0], "blend", scores[1], COSINE)
        all_.append((bool(it and it.better), None if true is None else true.delta))
        cells = ["-", "-", "-", "not tested", str(found.images), "-"]
        if it and true:
            a, b = it.means
            called = "better" if it.better else "not surely"
            cells = [f"{a:.4f}", f"{b:.4f}", _told(it.found), called, str(found.images)]
            cells.append(_told(true))
        named_ = f"{found.best.step} | {found.blend.how}"
        print(f"| {seed} | {named_} | {' | '.join(cells)} |", flush=True)
    called_ = [truth for better, truth in all_ if better and truth is not None]
    known = [truth for _, truth in all_ if truth is not None]
    print(f"\n{len(called_)} of {seeds} called better, {sum(it <= 0 for it in called_)} of them"
          f" wrongly; {len(known)} tested, of which {sum(it > 0 for it in known)} are better in"
          " truth" + (f", by {fmean(known):+.4f} in the mean" if known else ""))  # fmt: skip


def _told(found: Comparison) -> str:
    return f"{found.delta:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _base(place: Path, steps: int) -> Path:
    """Return the demo's pipeline, trained for a while, for LoRAs of it."""
    folder = place / f"base-{steps}"
    if not (folder / "pipeline").exists():
        with redirect_stdout(None):
            train(Options(folder / "untrained", folder, steps, steps))
    return folder / "pipeline"


def _blended(
    run: Path, evaluator: Evaluator, how: EvaluationProtocol, images: int | None
) -> Outcome:
    """Have a training's checkpoints scored, as a log has it, and a blend searched."""
    state = run / "state"
    state.mkdir()
    with Journal(log_file(state)) as journal:
        began = RunStarted(str(run / "output"), how.digest, (), {}, __version__)
        journal.append(RUN, RUN, 0, [began, ProtocolDefined(how.digest, how)])
        for folder in sorted((run / "output").glob("checkpoint-*")):
            seen = look_once(folder, "live")
            if not isinstance(seen.verdict, Whole):
                raise SystemExit(seen.verdict.reason)
            it, digest = seen.verdict.weights, seen.verdict.digest
            files = (it.kind, it.component, it.files, digest)
            known = CheckpointCompleted(seen.step, seen.name, str(folder), *files)
            journal.append(RUN, folder.name, 0, [known])
            id_ = name_evaluation(seen.name, digest, how.digest)
            scored = _images(evaluator, folder, how)
            journal.append(
                RUN,
                evaluation_stream(RUN, id_),
                0,
                [
                    EvaluationStarted(id_, seen.name, seen.step, digest, how.digest, {}),
                    ImagesScored(id_, tuple(scored)),
                    EvaluationCompleted(id_, {"": describe(score_table(scored))}),
                ],
            )
    console = Console(RichConsole(quiet=True))
    try:
        return search(state, RUN, images, {"device": "cpu", "batch_size": "36"}, console)
    finally:
        console.close()


def _images(evaluator: Evaluator, folder: Path, how: EvaluationProtocol) -> list[ImageScore]:
    """Score weights."""
    seen = look_once(folder, "live").verdict
    if not isinstance(seen, Whole):
        raise SystemExit(seen.reason)
    it = seen.weights
    request = Evaluate(
        path=str(folder),
        kind=it.kind,
        component=it.component,
        files=it.files,
        protocol=how,
        done=(),
        images_dir=None,
        device="cpu",
        batch_size=36,
    )
    said: list[Reply] = []
    evaluator.evaluate(request, said.append)
    if failed := [it for it in said if isinstance(it, Failed)]:
        raise SystemExit(failed[0].reason)
    return [image for it in said if isinstance(it, Scored) for image in it.images]


def _protocol(
    base: Path, words: Sequence[str], images_per_prompt: int = 1, seed: int = 0
) -> EvaluationProtocol:
    return EvaluationProtocol(
        prompts=tuple(Prompt(text, text) for text in words),
        images_per_prompt=images_per_prompt,
        seed=seed,
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
