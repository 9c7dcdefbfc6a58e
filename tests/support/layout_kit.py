"""Checkpoint folders as the trainers leave them, and clocks that a test moves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.sighting import Partial, Sighting, Unusable, Whole
from clipwatch.layouts import Scanner

LORA = "pytorch_lora_weights.safetensors"
MODEL = "diffusion_pytorch_model.safetensors"
INDEX = f"{MODEL}.index.json"
SETTLE = 10.0


def weights(path: Path, value: float = 1.0, **tensors: int) -> None:
    """Write a safetensors file with the named tensors of the given lengths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = tensors or {"unet.lora_A.weight": 8}
    save_file({name: np.full(n, value, np.float32) for name, n in sizes.items()}, path)


def full(folder: Path, value: float = 1.0, component: str = "unet") -> Path:
    """Write a fully trained component."""
    weights(folder / component / MODEL, value, w=64)
    (folder / component / "config.json").write_text("{}")
    return folder


def simpletuner(folder: Path, value: float = 1.0, *, guard: bool = True) -> Path:
    """Write a LoRA checkpoint as SimpleTuner does."""
    (folder / ".guard").unlink(missing_ok=True)
    weights(folder / LORA, value)
    (folder / "training_state.json").write_text("{}")
    if guard:
        (folder / ".guard").write_text("complete\n")
    return folder


def diffusers_lora(folder: Path, value: float = 1.0) -> Path:
    """Write a LoRA checkpoint as the diffusers scripts do."""
    weights(folder / LORA, value)
    (folder / "random_states_0.pkl").write_bytes(b"")
    return folder


def index(folder: Path, weight_map: Any) -> Path:
    """Write the index of a sharded component."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder.parent


def tick(folder: Path) -> None:
    """Return when what is written next gets a later file time than what was written before."""
    probe = folder / "probe"
    probe.touch()
    begin = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == begin:
        probe.touch()


class Clock:
    """Time as a test wants it: `ahead` passes everywhere, `jump` is set on the wall clock only."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.jump = 0.0

    def monotonic(self) -> float:
        """Return seconds that nobody sets."""
        return self.ahead

    def wall(self) -> float:
        """Return the time of day; it starts at the files' own."""
        return time.time() + self.ahead + self.jump


def scanner(
    output: Path,
    clock: Clock | None = None,
    kind: TrainedWeights = "live",
    known: Mapping[str, Whole] = MappingProxyType({}),
) -> Scanner:
    """Return a scanner that settles for ten seconds of a test's clock."""
    clock = clock or Clock()
    return Scanner(
        output,
        weights=kind,
        settle_seconds=SETTLE,
        known=known,
        clock=clock.monotonic,
        wall=clock.wall,
    )


def look(
    output: Path, clock: Clock | None = None, kind: TrainedWeights = "live"
) -> dict[str, Sighting]:
    """Return by name what a first look sees."""
    return {sighting.name: sighting for sighting in scanner(output, clock, kind).scan()}


def verdict(scanning: Scanner) -> Whole | Partial | Unusable:
    """Return what a look says of the only checkpoint there is."""
    (sighting,) = scanning.scan()
    return sighting.verdict
