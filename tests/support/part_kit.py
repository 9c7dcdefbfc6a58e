"""Parts of an evaluation as `clipwatch score --save` writes them, with scores that a test knows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.merging import Key, Shard
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.executors.messages import Finished
from clipwatch.tasks import parts
from clipwatch.tasks.partfile import named
from results_kit import DEFAULTS, call

PROMPTS = tuple(
    Prompt(f"p{n}", f"picture {n}", category=("colour", "count")[n % 2]) for n in range(5)
)


def made(**changes: Any) -> EvaluationProtocol:
    """Return a protocol of five prompts in two categories, two images each."""
    return EvaluationProtocol(**{"prompts": PROMPTS, **DEFAULTS, "images_per_prompt": 2, **changes})


MADE = made()
ALL = Shard()
KEYS = ALL.keys(MADE)


def seen(step: int = 500, path: str = "/out", weights: str = "a") -> CheckpointCompleted:
    """Return a checkpoint that is whole, in a folder of `path`."""
    files = (WeightFile("w.safetensors", 1, 1, 1),)
    name = f"checkpoint-{step}"
    return CheckpointCompleted(
        step, name, f"{path}/{name}", "lora", "", files, f"{weights}{step:07}" * 2
    )


ID = named(seen(), ProtocolDefined(MADE.digest, MADE))
"""Of the usual evaluation."""


def imported(folder: Path, *sources: Path | str) -> list[str]:
    """Import into a state directory; return what is said of the runs."""
    said = call(folder, "import", *map(str, sources))
    assert (said.exit_code, said.stderr) == (0, ""), said.output
    return [it for it in said.stdout.splitlines() if not it.startswith("a clipwatch that watches")]


def refused(folder: Path, *sources: Path | str) -> str:
    """Return why an import is refused, in one line."""
    said = call(folder, "import", *map(str, sources))
    assert said.exit_code == 1, said.output
    assert said.stderr.count("\n") == 1
    return said.stderr


def score(key: Key, step: int = 500) -> float:
    """Return the score of an image; no two are the same."""
    return random.Random(f"{key} {step}").uniform(0.1, 0.4)


def part(
    place: Path,
    shard: Shard = ALL,
    *,
    checkpoint: CheckpointCompleted | None = None,
    protocol: EvaluationProtocol = MADE,
    keys: Iterable[Key] | None = None,
    other: Mapping[Key, float] | None = None,
    path: str = "/out",
    device: str = "cpu",
    finished: bool = True,
    drawn: bool = False,
) -> Path:
    """Write a part, or go on with it; return its file.

    Args:
        place: The folder of all parts.
        shard: Which it is.
        checkpoint: What is scored.
        protocol: Under which.
        keys: The images that are made; those of the shard that lack.
        other: Scores of images that are not `score`.
        path: The output directory.
        device: On which.
        finished: Whether it came to its end.
        drawn: Whether the images have files.
    """
    whole = checkpoint or seen(path=path)
    defined = ProtocolDefined(protocol.digest, protocol)
    id_ = named(whole, defined)
    begun = (id_, whole.name, whole.step, whole.digest, defined.digest)
    seeds = {(it.id, index): seed for it, index, seed in protocol.images()}
    with parts.writing(place, shard, RunStarted(path, "", (), {}, "1"), defined, whole) as writing:
        had = {(it.prompt_id, it.index) for it in writing.scored}
        todo = [it for it in keys or shard.keys(protocol) if it not in had]
        if todo:
            writing.keep(EvaluationStarted(*begun, environment={"device": device}))
        for start in range(0, len(todo), 3):
            images = []
            for key in todo[start : start + 3]:
                name = f"{key[0]}-{key[1]}.png"
                if drawn:
                    (writing.path.parent / name).write_text(f"{whole.name} {key}")
                own = (other or {}).get(key, score(key, whole.step))
                image = f"{id_}/{name}" if drawn else None
                images.append(ImageScore(*key, seeds[key], {"": own}, image))
            writing.keep(ImagesScored(id_, tuple(images)))
        if finished:
            writing.keep(Finished(1, 2.0, made={"vae": "whole"}))
        return writing.path
