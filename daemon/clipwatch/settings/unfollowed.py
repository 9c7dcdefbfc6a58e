"""What all prompts of a file ask for alike, where the settings say otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from clipwatch.kit.textfiles import plain
from clipwatch.prompts import Asked, shared
from clipwatch.settings.trainers.left import GUIDANCE, NEGATIVE, REAL, SEED, SIZE, STEPS
from clipwatch.settings.values import Given

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "steps": (STEPS,),
    "seed": (SEED,),
    "negative_prompt": (NEGATIVE,),
    "scale": (GUIDANCE, REAL),
    "guidance": (GUIDANCE, REAL),
}
_STEP: Final = 16  # sizes are multiples of it


def told(file: Path, given: Mapping[str, Given]) -> tuple[str, ...]:
    """Return a line that names what is not followed, and the keys to set.

    Args:
        file: Of prompts.
        given: As all of it holds in the end.

    Raises:
        SettingsError: The file cannot be read any more.
    """
    differ = list(_differ(shared(file), given))
    if not differ:
        return ()
    options = ", ".join(f"{it.option.written} {it.option.value!r}" for it, _ in differ)
    keys = ", ".join(dict.fromkeys(key for _, key in differ))
    text = f"all its prompts ask for {options}, and the settings do not: set {keys} to follow"
    return (plain(f"{file.name}: {text}"),)


def _differ(asked: Sequence[Asked], given: Mapping[str, Given]) -> Iterator[tuple[Asked, str]]:
    size = given[SIZE].value
    sides = {"width": size.width, "height": size.height}
    for it in asked:
        name, value = it.option.name, it.option.value
        if name in sides and isinstance(value, int) and abs(sides[name] - value) >= _STEP:
            yield it, SIZE
        elif name in _KEYS and all(given[key].value != value for key in _KEYS[name]):
            yield it, _KEYS[name][0]
