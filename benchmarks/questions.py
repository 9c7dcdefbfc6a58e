"""Answers to prompts' questions: do intervals of skills hold, and what do they cost a long run?

python benchmarks/questions.py [--quick]
"""

from __future__ import annotations

import argparse
import gc
import random
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t

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
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.domain.questions import Answered, Question
from clipwatch.domain.state import name_evaluation
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import state_of
from clipwatch.judging.questions import answered
from clipwatch.statistics import Summary, summarize
from daemon import PROTOCOL

SKILLS = ("count", "attribute", "object", "position", "verb")
PROMPTS, ASKED = 800, 5
BATCH = 8


def drawn(prompts: int, luck: np.random.Generator) -> tuple[list[ImageScore], list[Prompt]]:
    """Return prompts with one to eight questions, and answers that are alike within a prompt.

    How many questions of a skill a prompt has depends on how hard it is, as in GenEval 2: long
    prompts are the hard ones.
    """
    images, asked = [], []
    for n in range(prompts):
        ease = luck.normal()
        count = 1 + luck.binomial(7, 1 / (1 + np.exp(ease)))
        skills = luck.choice(SKILLS[:3], count)
        values = 1 / (1 + np.exp(-(2 * ease + luck.normal(size=count) + 0.5)))
        questions = tuple(Question("?", "Yes", str(it)) for it in skills)
        answers = {"q": tuple(values.tolist())}
        asked.append(Prompt(f"p{n}", f"number {n}", questions=questions))
        images.append(ImageScore(f"p{n}", 0, 0, {"": 0.0}, answers=answers))
    return images, asked


def coverage(trials: int, prompts: int) -> None:
    """Print how often intervals of a skill hold the mean of all prompts that there could be."""
    luck = np.random.default_rng(0)
    truth = answered(*drawn(200 * prompts, luck))["q"]
    held = {
        "of prompts, as told": 0,
        "of answers, as if each were by itself": 0,
        "whole prompts": 0,
    }
    for _ in range(trials):
        images, asked = drawn(prompts, luck)
        found = answered(images, asked)["q"]
        told, mean = found.skills["count"], truth.skills["count"].mean
        half = t.ppf(0.975, told.n - 1) * told.std / np.sqrt(told.n - 1)
        held["of prompts, as told"] += _holds(told, mean)
        held["of answers, as if each were by itself"] += abs(told.mean - mean) <= half
        held["whole prompts"] += _holds(found.geometric, truth.geometric.mean)
    print(f"\n95 % intervals, {prompts} prompts, {trials} trials\n")
    print("| interval | holds |\n|---|---|")
    for name, count in held.items():
        print(f"| {name} | {100 * count / trials:.1f} % |")


def _holds(told: Summary, mean: float) -> bool:
    return told.low is not None and told.high is not None and told.low <= mean <= told.high


def protocol(prompts: int) -> EvaluationProtocol:
    """Return one with as many prompts, each with its questions."""
    questions = tuple(Question(f"Is there a {it} in the image?", "Yes", it) for it in SKILLS)
    texts = (f"photo {n} of two animals in front of a landscape" for n in range(prompts))
    made = tuple(Prompt(f"p{n:04}", it, questions=questions) for n, it in enumerate(texts))
    return replace(PROTOCOL, prompts=made, images_per_prompt=1)


def cost(checkpoints: int, prompts: int) -> None:
    """Print what the log and the state of a run hold for a checkpoint, with answers and without."""
    print(f"\n{checkpoints} checkpoints, {prompts} prompts with {ASKED} questions\n")
    print("| | log, KB a checkpoint | state, KB a checkpoint |\n|---|---|---|")
    for name, asks in (("without answers", False), ("with answers", True)):
        with tempfile.TemporaryDirectory() as folder:
            log = log_file(Path(folder))
            write(log, checkpoints, protocol(prompts), asks=asks)
            size = log.stat().st_size
            gc.collect()
            tracemalloc.start()
            with Journal(log, read_only=True) as journal:
                state = state_of(journal)
                gc.collect()
                held = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            if len(state["run"].evaluations) != checkpoints:
                raise SystemExit("the log is not what was written")
        print(f"| {name} | {size / checkpoints / 1000:.0f} | {held / checkpoints / 1000:.1f} |")


def write(log: Path, checkpoints: int, made: EvaluationProtocol, *, asks: bool) -> None:
    """Write a run whose checkpoints are all scored."""
    luck = random.Random(0)  # noqa: S311 - made up
    with Journal(log) as journal:
        began = RunStarted("/out", made.digest, (), {}, "1"), ProtocolDefined(made.digest, made)
        journal.append("run", "run", 0, began)
        for step in range(1, checkpoints + 1):
            name, digest = f"checkpoint-{step}", f"{step:016x}"
            seen = CheckpointCompleted(step, name, f"/out/{name}", "lora", "", (), digest)
            journal.append("run", "run", step + 1, [seen])
            id_ = name_evaluation(name, digest, made.digest)
            images = [
                ImageScore(
                    it.id,
                    0,
                    seed,
                    {"": luck.random(), "questions": luck.random()},
                    answers={"questions": tuple(luck.random() for _ in it.questions)}
                    if asks
                    else {},
                )
                for it, _, seed in made.images()
            ]
            told: dict[str, Answered] = answered(images, made.prompts)
            means = {
                it: summarize([each.scores[it] for each in images]) for it in ("", "questions")
            }
            journal.append(
                "run",
                evaluation_stream("run", id_),
                0,
                [
                    EvaluationStarted(id_, name, step, digest, made.digest, {}),
                    *(
                        ImagesScored(id_, tuple(images[n : n + BATCH]))
                        for n in range(0, len(images), BATCH)
                    ),
                    EvaluationCompleted(id_, means, answered=told),
                ],
            )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try whether it runs")
    quick = parser.parse_args().quick
    coverage(*((20, 30) if quick else (2000, 200)))
    cost(*((2, 10) if quick else (100, PROMPTS)))


if __name__ == "__main__":
    main()
