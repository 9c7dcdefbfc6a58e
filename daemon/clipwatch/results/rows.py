"""Every image that was scored, as a row of a table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clipwatch.domain.kinds import Unit
from clipwatch.domain.state import Evaluation, Run
from clipwatch.domain.strengths import has_none
from clipwatch.results.reading import images_of, ordered
from clipwatch.results.results import Results, scored

DECIDES = "clip"
"""The scorer that decides, by the name under which its numbers are published."""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """What one scorer gave one image; the fields are a table's columns, in their order.

    `strength` is None where the checkpoint acts at none, `image` where the file is not kept.
    `finished` is when its evaluation was, UTC, ISO 8601.
    """

    run: str
    protocol: str
    strength: float | None
    step: int
    unit: Unit
    checkpoint: str
    evaluation: str
    prompt_id: str
    prompt: str
    category: str
    index: int
    seed: int
    scorer: str
    score: float
    image: str | None
    finished: str = ""


def image_rows(results: Results, runs: Iterable[Run]) -> Iterator[ImageRow]:
    """Yield the images of runs: by protocol, step and scoring, each evaluation in its own order.

    An image is one row for each scorer, the one that decides first. One evaluation is held at once.

    Raises:
        JournalError: The log cannot be read.
    """
    for run in runs:
        for protocol in run.scored:
            for evaluation in sorted(scored(run, protocol), key=lambda it: it.step):
                yield from _rows(results, run, evaluation)


def _rows(results: Results, run: Run, evaluation: Evaluation) -> Iterator[ImageRow]:
    made = results.protocols[evaluation.protocol]
    prompts = {prompt.id: prompt for prompt in made.prompts}
    folder = str(images_of(results.folder, run.name))
    none, unit = has_none(run, evaluation.checkpoint), run.unit
    finished = evaluation.finished.isoformat() if evaluation.finished else ""
    for image in ordered(results.read(run, evaluation), made):
        prompt = prompts[image.prompt_id]
        strength = made.adapter_strength if prompt.strength is None else prompt.strength
        path = os.path.join(folder, image.image) if image.image else ""  # noqa: PTH118 - a million
        kept = path if os.path.isfile(path) else None  # noqa: PTH113
        for scorer in sorted(image.scores):
            yield ImageRow(
                run=run.name,
                protocol=evaluation.protocol,
                strength=None if none else strength,
                step=evaluation.step,
                unit=unit,
                checkpoint=evaluation.checkpoint,
                evaluation=evaluation.id,
                prompt_id=prompt.id,
                prompt=prompt.text,
                category=prompt.category,
                index=image.index,
                seed=image.seed,
                scorer=scorer or DECIDES,
                score=image.scores[scorer],
                image=kept,
                finished=finished,
            )
