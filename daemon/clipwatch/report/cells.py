"""Where on the page an image stands, and which there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipwatch.report.curves import Curve
from clipwatch.results.figures import plural
from clipwatch.results.reading import images_of
from clipwatch.results.results import Results

Cells = list[list[list[str | None]]]
"""Column, prompt, image: what the page shows, None where it has nothing."""


@dataclass(frozen=True, slots=True)
class Spot:
    """An image: its column, its prompt's place, its number."""

    column: int
    prompt: int
    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class Row:
    """The images of a prompt, of all checkpoints of a curve."""

    curve: int
    images: tuple[Spot, ...]


def empty(data: dict[str, Any]) -> Cells:
    """Return the cells of a curve, without images."""
    return [[[None] * len(it["seeds"]) for it in data["prompts"]] for _ in data["checkpoints"]]


def rows_of(
    results: Results, curve: Curve, data: dict[str, Any], number: int, state_dir: Path
) -> Iterator[Row]:
    """Yield the prompts that have images, those first that changed most from the first to the best.

    What an image is named in the log is a path below its run's folder, and nothing above it.
    """
    folder = images_of(state_dir, curve.run.name).resolve()
    places = {it["id"]: place for place, it in enumerate(data["prompts"])}
    found: dict[int, list[Spot]] = {}
    for column, evaluation in enumerate(curve.evaluations):
        for image in results.images(curve.run, evaluation):
            if image.image and image.prompt_id in places:
                path = folder / image.image
                inside = path.resolve().is_relative_to(folder)
                if inside and path.is_file():
                    place = places[image.prompt_id]
                    found.setdefault(place, []).append(Spot(column, place, image.index, path))
    last = -1 if data["best"] is None else data["best"]
    first, best = (data["checkpoints"][it]["scores"] for it in (0, last))

    def change(place: int) -> float:
        a, b = first[place], best[place]
        return abs(sum(b) / len(b) - sum(a) / len(a)) if a and b else 0.0

    for place in sorted(found, key=lambda it: (-change(it), it)):
        yield Row(number, tuple(found[place]))


def not_kept(data: dict[str, Any], rows: Sequence[Row]) -> str:
    """Say of how many scored images there is no file any more, "" if of none."""
    scores = [row for it in data["checkpoints"] for row in it["scores"] if row]
    lacking = sum(map(len, scores)) - sum(len(it.images) for it in rows)
    return f"Not kept any more: {plural(lacking, 'image')} (keep_images)." if lacking > 0 else ""
