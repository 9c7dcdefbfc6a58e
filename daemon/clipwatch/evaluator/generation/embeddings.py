"""Prompts are encoded once: what a pipeline's `encode_prompt` returned is kept and given again."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.generation.joins import JOINS, moved
from clipwatch.evaluator.store import Part, Store, tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.nn import Module

_log = logging.getLogger(__name__)

MEMORY_BYTES: Final = 1 << 30
"""The most that stays in host memory: some 200 prompts of the largest families, else thousands."""


class PromptEncoder:
    """Stands in for a pipeline's `encode_prompt`: every prompt is encoded by itself, and once.

    A pipeline whose class is not in JOINS keeps its own. `encode_prompt` is one name in all
    families; what comes with `prompt_embeds=` has each family's own names and rules.

    Args:
        pipeline: On its device.
        device: That device.
        made_by: What decides, beside a call's arguments, over what it returns: part of every key,
            so JSON values; None if that is unknown, and nothing outlives a checkpoint.
        resident: The text encoders may stay on the device; else they wait in host memory.
    """

    def __init__(
        self,
        pipeline: Any,
        device: str,
        made_by: Mapping[str, Any] | None,
        *,
        resident: bool = True,
    ) -> None:
        self._pipeline = pipeline
        self._device = device
        self._resident = resident
        self._place = device if resident else "cpu"  # of the text encoders
        self._made_by = made_by
        self._store = Store(None)
        self._texts: tuple[str, ...] = ()
        self._memory: dict[str, list[Part]] = {}
        self._used = 0  # bytes in memory
        self._own = False
        self._room = True  # for all that is to be kept
        self._encoders: dict[str, Module] = {}
        self._length: int | None = None
        name = type(pipeline).__name__
        if name not in JOINS:
            tell_uncovered(name)
            return
        self._join = JOINS[name]
        self._encoders = text_encoders(pipeline)
        self._original = pipeline.encode_prompt
        self._signature = inspect.signature(self._original)
        pipeline.encode_prompt = self._encode

    def begin(self, texts: Sequence[str], store: Store, *, own: bool) -> None:
        """Go over to another checkpoint.

        Args:
            texts: All prompts that will be asked for.
            store: Of what the base's text encoders made.
            own: The checkpoint's are others, so that nothing is taken from it or left to it.
        """
        own = own or self._made_by is None
        if own or self._own or self._texts != tuple(texts):
            self._memory.clear()
            self._used = 0
        self._own, self._texts, self._room = own, tuple(texts), True
        self._store = Store(None) if own else store

    def turn_to(self, texts: Sequence[str]) -> None:
        """Have other texts asked for from here on, of the same checkpoint; nothing is forgotten."""
        self._texts, self._room = tuple(texts), True

    @contextmanager
    def away(self, length: int | None = None) -> Iterator[None]:
        """Have the text encoders out of the pipeline's sight, so that only `_encode` needs them.

        Args:
            length: Of texts in tokens, which not every pipeline hands on; None for its default.
        """
        self._length = length
        with self._shown(dict.fromkeys(self._encoders)):
            yield

    def _encode(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the pipeline's own `encode_prompt` does."""
        given = self._signature.bind(*args, **kwargs)
        given.apply_defaults()
        if self._length and "max_sequence_length" in given.arguments:
            given.arguments["max_sequence_length"] = self._length
        if any(isinstance(it, torch.Tensor) for it in given.arguments.values()):
            return self._original(*args, **kwargs)  # which needs no text encoder for them
        rows = rows_of(given.arguments)
        if rows is None:
            with self._at_hand():
                return self._original(*given.args, **given.kwargs)
        keys = [self._key(row) for row in rows]
        found = {key: kept for key in keys if (kept := self._find(key))}
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in found}
        if missing:
            with self._at_hand():
                found |= {key: self._make(key, row) for key, row in missing.items()}
                self._make_others(rows[0])
        elif self._room:
            self._move("cpu")
        parts = [found[key] for key in keys]
        return self._join(parts, self._device)

    def _find(self, key: str) -> list[Part] | None:
        if (parts := self._memory.get(key)) is None and (parts := self._store.read(key)):
            self._remember(key, parts)
        return parts

    def _make(self, key: str, row: Mapping[str, Any]) -> list[Part]:
        given = inspect.BoundArguments(self._signature, dict(row))
        parts = [moved(part, "cpu") for part in self._original(*given.args, **given.kwargs)]
        remembered = self._remember(key, parts)
        written = self._store.write(key, parts)
        self._room = self._room and (remembered or written)
        return parts

    def _make_others(self, row: Mapping[str, Any]) -> None:
        """Encode the rest as well, as the text encoders are at hand, as far as it can be kept."""
        if row["prompt"][0] not in self._texts:  # a negative prompt in a call of its own
            return
        for text in dict.fromkeys(self._texts):
            other = {**row, "prompt": [text]}
            key = self._key(other)
            if self._room and key not in self._memory and not self._store.has(key):
                self._make(key, other)

    def _remember(self, key: str, parts: list[Part]) -> bool:
        size = sum(it.numel() * it.element_size() for part in parts for it in tensors_of(part))
        if self._used + size > MEMORY_BYTES:
            return False
        self._memory[key] = parts
        self._used += size
        return True

    def _key(self, row: Mapping[str, Any]) -> str:
        arguments = {name: value for name, value in row.items() if name != "device"}
        maker = [self._made_by, getattr(self._pipeline, "system_message", None)]
        return json.dumps([*maker, arguments], sort_keys=True, default=repr)

    @contextmanager
    def _at_hand(self) -> Iterator[None]:
        """Have the text encoders in the pipeline and on its device; off it again if all is kept."""
        self._move(self._device)
        with self._shown(self._encoders):
            yield
        if self._room or not self._resident:
            self._move("cpu")

    @contextmanager
    def _shown(self, encoders: Mapping[str, Module | None]) -> Iterator[None]:
        # not by setattr, after which the pipeline's config would not know their classes any more
        attributes = vars(self._pipeline)
        before = {name: attributes[name] for name in encoders}
        attributes.update(encoders)
        try:
            yield
        finally:
            attributes.update(before)

    def _move(self, device: str) -> None:
        if self._device.startswith("cuda") and self._place != device:
            self._place = device
            for model in self._encoders.values():
                model.to(device)
            torch.cuda.empty_cache()


@cache
def tell_uncovered(name: str) -> None:
    """Say once of a pipeline class that nothing is kept for it."""
    _log.warning("%s: its prompts are encoded anew for every batch", name)


def text_encoders(pipeline: Any) -> dict[str, Module]:
    """Return a pipeline's text encoders by name."""
    return {
        name: part
        for name, part in pipeline.components.items()
        if is_text_part(name) and isinstance(part, torch.nn.Module)
    }


def is_text_part(name: str) -> bool:
    """Whether a pipeline's component of this name has to do with the encoding of prompts."""
    return name.startswith(("text_", "tokenizer", "processor"))


def rows_of(arguments: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Split the arguments of `encode_prompt` into those of a call for each prompt.

    Returns:
        None if they cannot be told apart: several images a prompt, or no list of prompts.
    """
    prompts = arguments["prompt"]
    if not isinstance(prompts, list) or arguments.get("num_images_per_prompt", 1) != 1:
        return None

    def part(name: str, value: Any, index: int) -> Any:
        texts = name.startswith(("prompt", "negative_prompt")) and isinstance(value, list)
        return [value[index]] if texts else value

    return [
        {name: part(name, value, index) for name, value in arguments.items()}
        for index in range(len(prompts))
    ]
