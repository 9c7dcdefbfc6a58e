"""Output directories as trainers left them: see tests/data/trainers."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
from functools import cache
from pathlib import Path
from typing import Any

from clipwatch.domain.sighting import Sighting, Whole
from clipwatch.layouts import Scanner
from clipwatch.layouts.claims import chosen
from places import ROOT

Seen = dict[str, tuple[int, str, str]]


@cache
def _runs() -> dict[str, dict[str, dict[str, Any]]]:
    with lzma.open(ROOT / "tests/data/trainers/runs.json.xz") as packed:
        found: dict[str, dict[str, dict[str, Any]]] = json.load(packed)
    return found


def names() -> tuple[str, ...]:
    """Return the names of all runs."""
    return tuple(_runs())


def written(run: str, folder: Path) -> Path:
    """Write a run's files into a folder, in the order of their times."""
    for name, it in sorted(_runs()[run].items(), key=lambda item: item[1]["mtime"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(it))
        path.chmod(it["mode"])
        os.utime(path, ns=(it["mtime"], it["mtime"]))
    return folder


def content(told: dict[str, Any]) -> bytes:
    """Return the bytes of a file: equal data of the trainer's are equal data here."""
    if "header" not in told:
        return str(told["text"]).encode()
    header = str(told["header"]).encode()
    tensors = json.loads(header)
    tensors.pop("__metadata__", None)
    size = max(it["data_offsets"][1] for it in tensors.values())
    data = hashlib.shake_256(told["data"].encode()).digest(size)
    return len(header).to_bytes(8, "little") + header + data


def file(run: str, name: str) -> bytes:
    """Return the bytes of one file of a run."""
    return content(_runs()[run][name])


def looked(folder: Path, weights: Any = "live", layout: str = "auto") -> list[Sighting]:
    """Return what one look sees, the newest step first."""
    layouts = chosen(layout)
    return Scanner(folder, weights=weights, settle_seconds=0.0, layouts=layouts).scan()


def seen(folder: Path, weights: Any = "live", layout: str = "auto") -> Seen:
    """Return name → step, unit, and the kind of what is whole or the reason why it is not."""
    return {it.name: (it.step, it.unit, told(it)) for it in looked(folder, weights, layout)}


def told(sighting: Sighting) -> str:
    """Return the kind of a whole checkpoint, else the reason."""
    verdict = sighting.verdict
    return verdict.weights.kind if isinstance(verdict, Whole) else verdict.reason
