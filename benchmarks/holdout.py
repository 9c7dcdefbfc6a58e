"""Does a held-out loss tell overfitting, how soon, how often wrongly, and what does it cost?

    python benchmarks/holdout.py [--quick] [--only simulated|planted]

- simulated: trainings whose truth is known; how often `overfit` is told in them, and when.
- planted: the demo's pipeline, trained on the whole world, learns eight pictures by heart. Each
  checkpoint gets its losses, and the scores of 144 prompts, which are asked for the advice that
  scores give. The seconds of both are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from clipwatch.demo.models import CLIP
from clipwatch.demo.train import Options, pipeline_class, save_checkpoint, train
from clipwatch.demo.world import captions, draw
from clipwatch.domain.events import WeightFile
from clipwatch.domain.losses import TIMES, Captioned, Example, LossMeasured, LossProtocol, LossSets
from clipwatch.domain.losses import Rows as LossRows
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.executors.messages import Evaluate, Failed, Finished, Measured, Reply, Scored
from clipwatch.judging.advice import plateau, regressed
from clipwatch.judging.overfit import Measured as Point
from clipwatch.judging.overfit import overfit
from clipwatch.models.scorers import scale_of
from clipwatch.results.tables import score_table
from clipwatch.statistics.means import Means
from common import begin, workplace

CHECKPOINTS: Final = 20
LEARNT: Final = 8
"""Pictures that are learnt by heart: few, and enough for an interval of the gap."""

PROMPTS: Final = 144
STEPS: Final = 30
"""Denoising steps of a picture, the settings' default."""


# --- simulated -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Course:
    """A kind of training: its true held-out and trained loss at each checkpoint, of 1 at first.

    Attributes:
        name: For a person.
        held, trained: Of the share of the training that is over, 0..1.
        wiggle: Standard deviation of what both have in common beside that at a checkpoint.
        overfits: It does.
    """

    name: str
    held: Callable[[float], float]
    trained: Callable[[float], float]
    wiggle: float = 0.0
    overfits: bool = False


def _falls(to: float) -> Callable[[float], float]:
    return lambda share: to + (1 - to) * float(np.exp(-4 * share))


def _turns(by: float) -> Callable[[float], float]:
    """Return a loss that falls by a tenth in a first third, and then rises by that share of it."""
    return lambda share: 0.9 + 0.1 * max(0.0, 1 - 3 * share) ** 2 + by * max(0.0, share - 1 / 3)


COURSES: Final = (
    Course("flat", lambda _: 1.0, lambda _: 1.0),
    Course("flat, wiggles .5 %", lambda _: 1.0, lambda _: 1.0, 0.005),
    Course("flat, wiggles 1 %", lambda _: 1.0, lambda _: 1.0, 0.01),
    Course("both fall by a tenth", _falls(0.9), _falls(0.9), 0.005),
    Course("the training's falls further", _falls(0.95), _falls(0.7), 0.005),
    Course("both rise", _turns(0.1), _turns(0.1), 0.005),
    Course("overfits by 3 %", _turns(0.045), _falls(0.7), 0.005, overfits=True),
    Course("overfits by 10 %", _turns(0.15), _falls(0.6), 0.005, overfits=True),
)


def simulated(trainings: int, images: int) -> None:
    """Print how often `overfit` is told in trainings of each kind, with and without a sample.

    An image has a level of its own, and at each checkpoint a change of its own of 2 % (sd).
    """
    print("\n| training of 20 checkpoints | told, held-out alone | at | with train_sample | at |")
    print("|---|---|---|---|---|")
    for course in COURSES:
        cells = []
        for sample in (False, True):
            found = [_told(course, images, seed, sample=sample) for seed in range(trainings)]
            told = [it for it in found if it]
            at = f"{median(told):g}" if told else "-"
            cells += [f"{100 * len(told) / trainings:.3g} %", at]
        print(f"| {course.name}{' (true)' if course.overfits else ''} | {' | '.join(cells)} |")
    print(f"\n{trainings} trainings of each kind, {images} images in each set, six times an image.")


def _told(course: Course, images: int, seed: int, *, sample: bool) -> int:
    """Return the checkpoint, from 1, at which it is told; 0 for never."""
    points: list[Point] = []
    for number, (point, _) in enumerate(training(course, images, seed), start=1):
        losses = point.losses if sample else replace(point.losses, trained=())
        points.append(Point(point.step, losses))
        if overfit(points):
            return number
    return 0


def training(course: Course, images: int, seed: int) -> Iterator[tuple[Point, float]]:
    """Yield what is measured at each checkpoint, and its held-out loss in truth."""
    random = np.random.default_rng(seed)
    size = (images, len(TIMES))
    levels = [1 + 0.3 * random.normal(size=size).clip(-2, 2) for _ in range(2)]
    plan = LossProtocol(_examples(images, 0), _examples(images, 1), seed, 32, 32)
    for number in range(CHECKPOINTS):
        share, wiggle = number / (CHECKPOINTS - 1), course.wiggle * random.normal()
        sets: list[LossRows] = []
        for level, truth in zip(levels, (course.held, course.trained), strict=True):
            own = 0.02 * random.normal(size=(images, 1))
            found = level * (truth(share) + wiggle + own)
            sets.append(tuple(tuple(map(float, row)) for row in found))
        yield Point(number, LossMeasured("", plan, sets[0], sets[1])), course.held(share) + wiggle


def _examples(images: int, which: int) -> tuple[Example, ...]:
    return tuple(Example(f"{which}-{number}", "") for number in range(images))


# --- planted -------------------------------------------------------------------------------------


def planted(place: Path, prompts: int, inference_steps: int, *, quick: bool) -> None:
    """Print a line for each checkpoint of a training that learns eight pictures by heart."""
    base = _base(place, 10 if quick else 80)
    held, trained = _pictures(place, quick=quick)
    run = place / "by-heart"
    steps, every = (16, 8) if quick else (160, 32)
    if not (run / f"checkpoint-{steps}").exists():
        _learn(base, run, trained, steps, every=every)
    sets = LossSets(held, trained)
    how = _protocol(base, prompts, inference_steps)
    evaluator, points, scores = Evaluator(), list[Point](), list[Any]()
    seconds: dict[str, list[float]] = {"loss": [], "images": []}
    scale = scale_of(how.decides)
    worth = scale.worth or 0.017
    print("\n| step | held out | trained on | clip/mean | told by the loss | told by scores |")
    print("|---|---|---|---|---|---|")
    for step in range(0, steps + 1, every):
        folder = base if step == 0 else run / f"checkpoint-{step}"
        said = _evaluated(evaluator, folder, how, sets, base=step == 0)
        loss, table, cost = said
        points.append(Point(step, loss))
        scores.append(table)
        seconds["loss"].append(loss.seconds)
        seconds["images"].append(cost)
        steps_so_far = [it.step for it in points]
        course = Means.shared(scores)
        by_scores = [
            name
            for name, text in (
                ("regressed", regressed(steps_so_far, course, worth) if len(points) > 2 else ""),  # noqa: PLR2004
                ("plateau", plateau(steps_so_far, course, worth, 100)),
            )
            if text
        ]
        means = (_mean(loss.held), _mean(loss.trained), float(course.values[-1]))
        cells = [str(step), *(f"{it:.4f}" for it in means)]
        told = ("overfit" if overfit(points) else "", ", ".join(by_scores))
        print(f"| {' | '.join((*cells, *told))} |", flush=True)
    ours, peer = (median(seconds[it][1:]) for it in ("loss", "images"))
    images = len(how.prompts)
    count = len(held) + len(trained)
    print(
        f"\n{count} images' losses {ours:.2f} s, {images} pictures of {how.inference_steps} steps"
        f" {peer:.2f} s: {peer / ours:.1f} times as long"
    )


def _base(place: Path, steps: int) -> Path:
    """Return the demo's pipeline, trained on the whole world."""
    folder = place / f"base-{steps}"
    if not (folder / "pipeline").exists():
        options = Options(folder / "untrained", folder, steps=steps, checkpoint_every=steps)
        train(options)
    return folder / "pipeline"


def _pictures(place: Path, *, quick: bool) -> tuple[tuple[Captioned, ...], tuple[Captioned, ...]]:
    """Draw pictures that are held out, and those that are learnt, each of another caption."""
    random = np.random.default_rng(1)
    words = [str(it) for it in random.permutation(captions())][: LEARNT + (6 if quick else 24)]
    found: list[Captioned] = []
    for number, caption in enumerate(words):
        path = place / f"picture-{number}.png"
        Image.fromarray(draw(caption, random)).save(path)
        found.append(Captioned(str(path), caption))
    return tuple(found[LEARNT:]), tuple(found[:LEARNT])


def _learn(base: Path, run: Path, pictures: Sequence[Captioned], steps: int, *, every: int) -> None:
    """Train the whole UNet on a few pictures, and save as the demo's training does."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    pipeline = pipeline_class().from_pretrained(base)
    words = [it.caption for it in pictures]
    with torch.no_grad():
        pixels = torch.from_numpy(np.stack([np.asarray(Image.open(it.path)) for it in pictures]))
        encoded = pipeline.vae.encode(pixels.permute(0, 3, 1, 2) / 127.5 - 1.0).latent_dist.mode()
        tokens = pipeline.tokenizer(
            words, padding="max_length", truncation=True, return_tensors="pt"
        )
        texts = pipeline.text_encoder(tokens.input_ids).last_hidden_state
    latents = encoded * pipeline.vae.config.scaling_factor
    last = pipeline.scheduler.config.num_train_timesteps
    unet = pipeline.unet.train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    options = Options(base, run)
    for step in range(1, steps + 1):
        noise, times = torch.randn_like(latents), torch.randint(0, last, (len(latents),))
        noisy = pipeline.scheduler.add_noise(latents, noise, times)
        wanted = pipeline.scheduler.get_velocity(latents, noise, times)
        found = unet(noisy, times, encoder_hidden_states=texts).sample
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(found, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % every == 0:
            save_checkpoint(options, step, unet, {}, random)


def _protocol(base: Path, prompts: int, steps: int) -> EvaluationProtocol:
    words = captions()
    chosen = [words[place * len(words) // prompts] for place in range(prompts)]
    return EvaluationProtocol(
        prompts=tuple(Prompt(text, text) for text in chosen),
        images_per_prompt=1,
        seed=0,
        negative_prompt="",
        inference_steps=steps,
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


def _evaluated(
    evaluator: Evaluator, folder: Path, how: EvaluationProtocol, sets: LossSets, *, base: bool
) -> tuple[LossMeasured, Any, float]:
    """Return a checkpoint's losses, its scores by prompt, and the seconds of its pictures."""
    files = [] if base else sorted(folder.rglob("*.safetensors"))
    stats = [(it.relative_to(folder).as_posix(), it.stat()) for it in files]
    request = Evaluate(
        path=str(folder),
        kind="base" if base else "full",
        component="" if base else "unet",
        files=tuple(WeightFile(name, it.st_size, it.st_mtime_ns, it.st_ino) for name, it in stats),
        protocol=how,
        done=(),
        images_dir=None,
        device="cpu",
        batch_size=16,
        losses=sets,
    )
    said: list[Reply] = []
    evaluator.evaluate(request, said.append)
    for reply in said:
        if isinstance(reply, Failed) or (isinstance(reply, Measured) and reply.problem):
            raise SystemExit(str(reply))
    loss = next(it for it in said if isinstance(it, Measured))
    if loss.protocol is None:
        raise SystemExit(loss.problem)
    images = [image for it in said if isinstance(it, Scored) for image in it.images]
    spent = next(it.phases for it in said if isinstance(it, Finished))
    measured = LossMeasured("", loss.protocol, loss.held, loss.trained, loss.seconds)
    return measured, score_table(images), spent["generate"]


def _mean(rows: LossRows) -> float:
    return float(np.mean(rows))


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds rather than minutes")
    parser.add_argument("--only", choices=("simulated", "planted"))
    parser.add_argument("--trainings", type=int, default=0, help="of each kind (default 200)")
    parser.add_argument("--prompts", type=int, default=0, help=f"pictures (default {PROMPTS})")
    parser.add_argument("--steps", type=int, default=0, help=f"of a picture (default {STEPS})")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the models made here for the next run")
    asked = parser.parse_args()
    begin("cpu", asked.threads)
    started = time.monotonic()
    if asked.only != "planted":
        simulated(asked.trainings or (4 if asked.quick else 200), 24)
    if asked.only != "simulated":
        with workplace(asked.folder) as place:
            prompts = asked.prompts or (8 if asked.quick else PROMPTS)
            planted(place, prompts, asked.steps or (2 if asked.quick else STEPS), quick=asked.quick)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
