"""diffusion-pipe: stepN and epochN in a folder that is called by the time of its start.

Source: diffusion-pipe, utils/saver.py (Saver.save_adapter, save_full_model): each GPU leaves its
part in tmp/, the file is written, the training's .toml is copied beside it, and tmp/ is removed.
A training that is resumed goes on in its folder; another one has another.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from clipwatch.domain.kinds import TrainedWeights, Unit
from clipwatch.layouts import contents
from clipwatch.layouts.base import Candidate, Inspection, Listing, NotWhole, Unsupported
from clipwatch.layouts.pipeline_parts import INDEX

_NAME = re.compile(r"(?P<unit>step|epoch)(?P<number>\d{1,18})", re.ASCII)
_RUN = re.compile(r"\d{8}_\d{2}-\d{2}-\d{2}", re.ASCII)


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Those of the folder, or of the newest training in it."""
    runs = sorted(name for name in listing.folders if _RUN.fullmatch(name))
    for place in (listing, *(listing.inside(name) for name in runs[-1:])):
        for name in place.folders:
            match = _NAME.fullmatch(name)
            if match and not place.holds(f"{name}/{INDEX}"):
                unit: Unit = "step" if match["unit"] == "step" else "epoch"
                yield Candidate(int(match["number"]), unit, name, place.root / name)


_MODEL = "model.safetensors"
"""Of whole models."""


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """The configuration is the last file that comes, and tmp/ goes then."""
    names = os.listdir(candidate.root)
    configs = [candidate.root / name for name in names if name.endswith(".toml")]
    if "tmp" in names:
        raise NotWhole("tmp/ is still in it: diffusion-pipe is writing it, or was stopped")
    if weights == "ema":
        raise Unsupported('it holds no EMA weights: set "weights": "live"')
    files = [name for name in (*contents.ADAPTERS, _MODEL) if name in names]
    if not files and any(name.endswith(".safetensors") for name in names):
        raise Unsupported(f"its weights are neither an adapter nor in one file ({_MODEL})")
    if not files:
        raise NotWhole("no weights in it yet")
    found = contents.adapter(candidate.root, files[0])
    if not configs:
        raise NotWhole("no .toml in it: diffusion-pipe is writing it, or was stopped while it did")
    if candidate.unit == "epoch" and any(map(_saves_steps, configs)):
        raise Unsupported(
            "it counts epochs, and the training saves steps as well: one curve cannot show both"
        )
    marked = max(config.stat().st_mtime_ns for config in configs)
    again = any(file.mtime_ns > marked for file in found.files)
    return Inspection(found, 1.0 if again else 0.0)


def _saves_steps(config: Path) -> bool:
    try:
        return bool(tomllib.loads(config.read_text(encoding="utf-8")).get("save_every_n_steps"))
    except (OSError, ValueError, RecursionError):
        return False
