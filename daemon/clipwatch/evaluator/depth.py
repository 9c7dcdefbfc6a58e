"""How deep a model's config makes it, beside what its weights are for: known before it is built."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from clipwatch.evaluator.foreign import within
from clipwatch.layouts.files import NotReadable, NotWhole
from clipwatch.layouts.header import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COUNT: Final = re.compile(r"(layers?|blocks?|depths?)(_per_\w+)?$")
"""The end of a key that counts layers: num_hidden_layers, transformer_layers_per_block, depth."""

_EACH: Final = re.compile(r"layer|block|depth")
"""In a key whose list has an entry for each of them: block_out_channels, layer_types."""

_FEW: Final = 100
"""So many layers are built at once, whatever the weights are for."""


def check_depth(folder: Path) -> None:
    """Make sure that no model in a folder, or below it, has more layers than tensors.

    It would be built for hours, and its weights could not be right.

    Raises:
        ValueError: One has; the text names file and key.
    """
    for path in within(folder, "config.json"):
        weights = list(path.parent.glob("*.safetensors"))
        if not weights:
            continue
        tensors = sum(map(_tensors, weights))
        with suppress(json.JSONDecodeError, UnicodeDecodeError, RecursionError):  # told when loaded
            for key, layers in _layers(json.loads(path.read_bytes())):
                if layers > max(tensors, _FEW):
                    raise ValueError(
                        f"{path}: {key} asks for {layers} layers, and the weights beside it are"
                        f" {tensors} tensors"
                    )


def _tensors(file: Path) -> int:
    try:
        return len(read_header(file).tensors)
    except (NotWhole, NotReadable):  # told when it is loaded, if it is
        return 0


def _layers(config: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield each number of layers in a config, with its key."""
    match config:
        case dict():
            for name, value in config.items():
                yield from _layers(value, name)
        case list():
            if _EACH.search(key):
                yield key, len(config)
            for value in config:
                yield from _layers(value, key)
        case int() if _COUNT.search(key):
            yield key, config
