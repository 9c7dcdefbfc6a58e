"""Small folders as trainers leave them, to be read for settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipwatch.settings.settings import KEYS
from clipwatch.settings.trainers import Found, found


def put(folder: Path, name: str, content: str | bytes | dict[str, Any] | list[Any]) -> Path:
    """Write a file below a folder: bytes, a text, or JSON of anything else."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return path


def base(folder: Path, name: str) -> str:
    """Make what looks like a folder of diffusers."""
    return str(put(folder, f"{name}/model_index.json", "{}").parent)


def weights(folder: Path, name: str, **metadata: str) -> Path:
    """Write a whole safetensors file of one tensor with this metadata."""
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": metadata, "x": tensor}).encode()
    return put(folder, name, len(header).to_bytes(8, "little") + header + bytes(4))


def values(told: Found) -> dict[str, Any]:
    """Return key → value as its reader makes it: every value is one that it takes."""
    return {name: KEYS[name].read(given.value) for name, given in told.keys}


def read(folder: Path, *files: Path) -> dict[str, Any]:
    """Return the values that are found in a folder."""
    return values(found(folder, files))
