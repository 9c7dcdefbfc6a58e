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

from clipwatch.evaluator.embeddings_store import Part, Store, tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.nn import Module

_log = logging.getLogger(__name__)

MEMORY_BYTES: Final = 1 << 30
"""The most that stays in host memory: some 200 prompts of the largest families, else thousands."""

PADDED: Final = frozenset({"QwenImagePipeline"})
"""Those that pad a batch to its longest prompt and return a mask (None if nothing is padded)."""

COVERED: Final = PADDED | {
    "AuraFlowPipeline",
    "ChromaPipeline",
    "FluxPipeline",
    "Lumina2Pipeline",
    "PixArtSigmaPipeline",
    "SanaPipeline",
    "StableDiffusion3Pipeline",
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "ZImagePipeline",
}
"""Pipelines whose `encode_prompt` is known to treat every prompt for itself."""


class PromptEncoder:
    """Stands in for a pipeline's `encode_prompt`: every prompt is encoded by itself, and once.

    A pipeline whose class is not COVERED keeps its own.

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
        name = type(pipeline).__name__
        self._padded = name in PADDED
        if name not in COVERED:
            tell_uncovered(name)
            return
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

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have the text encoders out of the pipeline's sight, so that only `_encode` needs them."""
        with self._shown(dict.fromkeys(self._encoders)):
            yield

    def _encode(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return what the pipeline's own `encode_prompt` does."""
        given = self._signature.bind(*args, **kwargs)
        given.apply_defaults()
        rows = rows_of(given.arguments)
        if rows is None:
            with self._at_hand():
                return tuple(self._original(*args, **kwargs))
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
        return join_padded(parts, self._device) if self._padded else join(parts, self._device)

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
        return json.dumps([self._made_by, arguments], sort_keys=True, default=repr)

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
    return name.startswith(("text_encoder", "tokenizer"))


def rows_of(arguments: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Split the arguments of `encode_prompt` into those of a call for each prompt.

    Returns:
        None if they cannot be told apart: tensors among them, several images a prompt.
    """
    prompts = arguments["prompt"]
    lists = [value if isinstance(value, list) else [value] for value in arguments.values()]
    tensors = any(isinstance(it, torch.Tensor) for values in lists for it in values)
    if not isinstance(prompts, list) or tensors or arguments.get("num_images_per_prompt", 1) != 1:
        return None

    def part(name: str, value: Any, index: int) -> Any:
        texts = name.startswith(("prompt", "negative_prompt")) and isinstance(value, list)
        return [value[index]] if texts else value

    return [
        {name: part(name, value, index) for name, value in arguments.items()}
        for index in range(len(prompts))
    ]


def join(rows: Sequence[Sequence[Any]], device: str) -> tuple[Part, ...]:
    """Return for a batch what `encode_prompt` would have, from what it returned for each prompt."""

    def joined(column: Sequence[Any]) -> Part:
        first = column[0]
        if isinstance(first, torch.Tensor):
            batched = len(first) == 1  # others, such as Flux's text ids, are the same for all
            return (torch.cat([*column]) if batched else first).to(device)
        return moved(first and [it for part in column for it in part], device)

    return tuple(joined(column) for column in zip(*rows, strict=True))


def join_padded(rows: Sequence[Sequence[Any]], device: str) -> tuple[Part, ...]:
    """Do the same for embeddings of different lengths, which are all in use, and their mask."""
    embeddings = [row[0][0] for row in rows]
    lengths = torch.tensor([len(it) for it in embeddings])
    padded = torch.nn.utils.rnn.pad_sequence(embeddings, batch_first=True)
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
    return padded.to(device), None if mask.all() else mask.to(device)


def moved(part: Part, device: str) -> Part:
    """Return the same on another device."""
    if isinstance(part, list):
        return [it.to(device) for it in part]
    return None if part is None else part.to(device)
