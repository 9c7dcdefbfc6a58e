"""A trainer's own prompt file, and what all prompts in it alike ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipwatch import prompts
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import plain
from clipwatch.prompts import Asked
from clipwatch.settings.trainers import samplers
from clipwatch.settings.trainers.architectures import EMBEDDED, NOISE
from clipwatch.settings.trainers.left import (
    GUIDANCE,
    NEGATIVE,
    PROMPTS,
    REAL,
    SEED,
    SIZE,
    STEPS,
    Left,
    size,
)
from clipwatch.settings.trainers.place import Place
from clipwatch.settings.values import Given

Found = tuple[dict[str, Given], tuple[str, ...]]


def followed(left: Left, place: Place) -> Found:
    """Return the keys that a trainer's prompt file gives, and a line where it cannot be used."""
    named = left.prompts
    if named is None:
        return {}, ()
    file = place.file(str(named.value), named.file)
    if file is None:
        told = f"the training's prompts, {named.value!r}, are not here: set prompts (--prompts)"
        return {}, (named.told(told),)
    try:
        prompts.read(file)
        keys, remarks = _keys(prompts.shared(file), left)
    except SettingsError as error:
        return {}, (plain(f"{error}; the training's prompts are not used"),)
    return {PROMPTS: named.but(str(file)), **keys}, remarks


def _keys(asked: Sequence[Asked], left: Left) -> Found:
    by: dict[str, Asked] = {it.option.name: it for it in asked}
    keys: dict[str, Given] = {}
    remarks: tuple[str, ...] = ()
    sides = [by.get("width"), by.get("height")]
    if first := next(filter(None, sides), None):
        values = (
            it.option.value if it else usual for it, usual in zip(sides, left.sides, strict=True)
        )
        keys[SIZE] = _given(first, size(*values))
    for name, key in _of(left).items():
        if found := by.get(name):
            keys[key] = _given(found, found.option.value)
    if (sampler := by.get("sampler")) and left.family in NOISE:
        more, remarks = samplers.named(_given(sampler, sampler.option.value), spaced=left.both)
        keys |= more
    return keys, remarks


def _of(left: Left) -> dict[str, str]:
    """Return option → key; where a trainer has two scales an embedded one is the guidance."""
    keys = {"steps": STEPS, "seed": SEED, "negative_prompt": NEGATIVE}
    if left.both and left.family in EMBEDDED:
        return keys | {"scale": REAL, "guidance": GUIDANCE}
    return keys | {"scale": GUIDANCE} | ({} if left.both else {"guidance": GUIDANCE})


def _given(asked: Asked, value: Any) -> Given:
    source = plain(f"{asked.file.name}:{asked.line}")
    return Given(value, source, asked.option.written, asked.file, asked.line, trainers=True)
