"""A batch of encoded prompts, from what a pipeline's `encode_prompt` returned for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from clipwatch.evaluator.store import Part

_LAYERED: Final = 4  # dimensions


def join(rows: Sequence[Sequence[Any]], device: str, *, axis: int = 0) -> tuple[Part, ...]:
    """Return for a batch what `encode_prompt` would have, from what it returned for each prompt.

    Args:
        rows: For each prompt.
        device: Where the result goes.
        axis: Of the prompts, in tensors of four dimensions.
    """

    def joined(column: Sequence[Any]) -> Part:
        first = column[0]
        if isinstance(first, torch.Tensor):
            along = axis if first.dim() == _LAYERED else 0
            batched = first.shape[along] == 1  # others, as Flux's text ids, are the same for all
            return (torch.cat([*column], along) if batched else first).to(device)
        return moved(first and [it for part in column for it in part], device)

    return tuple(joined(column) for column in zip(*rows, strict=True))


def join_padded(rows: Sequence[Sequence[Any]], device: str) -> tuple[Part, ...]:
    """Do the same for embeddings of different lengths, which are all in use, and their mask.

    Further parts are as long as the embeddings.
    """

    def padded(column: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence([it[0] for it in column], batch_first=True)

    embeddings, _, *others = zip(*rows, strict=True)
    lengths = torch.tensor([it.shape[1] for it in embeddings])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    first, *rest = (padded(column).to(device) for column in (embeddings, *others))
    return first, None if mask.all() else mask.to(device), *rest


def join_listed(rows: Sequence[Sequence[Any]], device: str) -> list[Part]:
    """Do the same where a batch is a list of embeddings, one for each prompt."""
    return [moved(part, device) for row in rows for part in row]


def moved(part: Part, device: str) -> Part:
    """Return the same on another device."""
    if isinstance(part, list):
        return [it.to(device) for it in part]
    return None if part is None else part.to(device)


JOINS: Final[dict[str, Callable[[Sequence[Sequence[Any]], str], Any]]] = {
    "AuraFlowPipeline": join,
    "ChromaPipeline": join,
    "CogView4Pipeline": join,
    "ErnieImagePipeline": join_listed,
    "Flux2KleinPipeline": join,
    "Flux2Pipeline": join,
    "FluxPipeline": join,
    "HiDreamImagePipeline": partial(join, axis=1),  # Llama's layers stand before the prompts
    "IFPipeline": join,
    "KolorsPipeline": join,
    "Krea2Pipeline": join,
    "LongCatImagePipeline": join,
    "Lumina2Pipeline": join,
    "PixArtSigmaPipeline": join,
    "QwenImage21Pipeline": join_padded,
    "QwenImagePipeline": join_padded,
    "SanaPipeline": join,
    "StableDiffusion3Pipeline": join,
    "StableDiffusionPipeline": join,
    "StableDiffusionXLPipeline": join,
    "ZImagePipeline": join,
}
"""Pipelines whose `encode_prompt` is known to treat every prompt for itself, and how a batch is
made of what it returned for each."""

_UNMASKED: Final = frozenset({"CogView4Pipeline"})


def apart(name: str) -> bool:
    """Whether prompts are to have calls of their own, as others beside them change a picture.

    CogView4 pads a batch to its longest prompt and attends to the padding. Of a class that is not
    in JOINS nobody knows better.
    """
    return name in _UNMASKED or name not in JOINS
