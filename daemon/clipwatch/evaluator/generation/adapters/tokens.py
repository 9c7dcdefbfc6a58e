"""Learned tokens (textual inversion): new words for tokenizers, with their embeddings.

As diffusers' `load_textual_inversion` adds them, which cannot give the base back bit by bit.
"""

from __future__ import annotations

import re
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from diffusers.loaders import TextualInversionLoaderMixin
from tokenizers import AddedToken

from clipwatch.evaluator.generation.adapters.names import Names, naming

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clipwatch.layouts.learned import Learned

_ENCODERS: Final = {
    "": ("text_encoder",),
    "2": ("text_encoder_2",),
    "clip_l": ("text_encoder",),
    "clip_g": ("text_encoder_2", "text_encoder"),
    "t5": ("text_encoder_3", "text_encoder_2", "text_encoder"),
}
"""Where the embeddings of each kind belong: the first that the pipeline has."""
_KINDS: Final = {"t5": "T5"}
_CLIP: Final = "CLIP"
"""What the name of an encoder's class has in it."""
_PAIR: Final = 2  # dimensions of a matrix


class Word(NamedTuple):
    """A word that prompts use.

    Attributes:
        name: As they write it; its further tokens are called name_1, name_2.
        vectors: (tokens, width).
        whole: Whether it means nothing within another word.
    """

    name: str
    vectors: torch.Tensor
    whole: bool

    @property
    def tokens(self) -> list[str]:
        """Their names."""
        return [self.name, *(f"{self.name}_{it}" for it in range(1, len(self.vectors)))]

    @property
    def pattern(self) -> str:
        """A regular expression that finds it in a prompt."""
        name = re.escape(self.name)
        return rf"(?<!\w){name}(?!\w)" if self.whole else name


class Tokens:
    """Learned tokens in a pipeline.

    Args:
        names: Of the pipeline's modules.
        pipeline: Holds none yet.
        learned: What each tensor is, by name.
        state: The tensors: a row a token, or one token alone.

    Raises:
        ValueError: Not all of them can be used; then none is in the pipeline.

    Attributes:
        words: By which prompts name them.
    """

    def __init__(
        self,
        names: Names,
        pipeline: Any,
        learned: Mapping[str, Learned],
        state: Mapping[str, torch.Tensor],
    ) -> None:
        self._attributes = vars(pipeline)
        self._before: dict[str, Any] = {}  # of these
        self._weights: list[tuple[Any, Any]] = []  # modules and what they had
        self._encoders = _placed(names, learned)
        self.words: list[str] = []
        several: dict[str, str] = {}
        try:
            for component, mine in self._encoders.items():
                with naming(component):
                    words = _words({name: (learned[name], state[name]) for name in mine})
                    several |= {it.name: it.pattern for it in words if len(it.vectors) > 1}
                    self._add(names.models[component], component, words)
                    self.words += [it.name for it in words if it.name not in self.words]
            if several and not isinstance(pipeline, TextualInversionLoaderMixin):
                raise ValueError(
                    f"{type(pipeline).__name__} takes no word of several tokens ({min(several)})"
                )
        except BaseException:
            self.remove()
            raise
        if several:
            self._put("maybe_convert_prompt", partial(_spelled, several))

    @property
    def components(self) -> list[str]:
        """Name the pipeline's text encoders that know them."""
        return list(self._encoders)

    def set_strength(self, strength: float) -> None:
        """Change nothing: like all that is of a text encoder they act in full."""

    def remove(self) -> None:
        """Put the base's own tokenizers and embeddings back."""
        for module, original in self._weights:
            original.data = original.data.to(module.weight.device)
            module.weight = original
        for name, value in self._before.items():
            self._attributes.pop(name, None)
            if value is not None:
                self._attributes[name] = value
        self._weights, self._before, self._encoders = [], {}, {}

    def _add(self, encoder: Any, component: str, words: list[Word]) -> None:
        """Add words to a text encoder and its tokenizer."""
        original = encoder.get_input_embeddings().weight
        name = component.replace("text_encoder", "tokenizer")
        if type(original) is not torch.nn.Parameter or not original.is_floating_point():
            raise ValueError("its embeddings are quantised")
        tokenizer = deepcopy(self._attributes[name])
        known = tokenizer.get_vocab()
        for word in words:
            if word.vectors.shape[1:] != original.shape[1:]:
                found, wanted = word.vectors.shape[1], original.shape[1]
                raise ValueError(f"{word.name!r} has vectors of {found} for {wanted}")
            if clash := [it for it in word.tokens if it in known]:
                raise ValueError(f"{clash[0]!r} is a token that its tokenizer has already")
            new = [AddedToken(it, single_word=word.whole, normalized=True) for it in word.tokens]
            tokenizer.add_tokens(new)
        places = tokenizer.convert_tokens_to_ids([it for word in words for it in word.tokens])
        size = max(len(original), max(places) + 1)
        table = original.data.new_zeros(size, original.shape[1])
        table[: len(original)] = original.data
        table[places] = torch.cat([it.vectors for it in words]).to(table)
        new_weight = torch.nn.Parameter(table, requires_grad=False)
        self._put(name, tokenizer)
        # T5 has the same one in two places
        for module in encoder.modules():
            if getattr(module, "weight", None) is original:
                self._weights.append((module, original))
                module.weight = new_weight
        original.data = original.data.cpu()

    def _put(self, name: str, value: Any) -> None:
        """Have the pipeline use something else; not by setattr, which changes its config."""
        self._before[name] = self._attributes.get(name)
        self._attributes[name] = value


def _placed(names: Names, learned: Mapping[str, Learned]) -> dict[str, list[str]]:
    """Return the tensors' names by the text encoder that they are for, none left out.

    Raises:
        ValueError: The pipeline has not the encoder of some.
    """
    encoders = [name for name in names.models if name.startswith("text_encoder")]
    found: dict[str, list[str]] = {}
    alone = all(it.encoder == "" for it in learned.values())
    for name, it in learned.items():
        kind = _KINDS.get(it.encoder, _CLIP)
        ways = (way for way in _ENCODERS[it.encoder] if way in encoders)
        fitting = (way for way in ways if kind in type(names.models[way]).__name__)
        component = next(fitting, "")
        if not component or (alone and len(encoders) > 1):
            has = ", ".join(type(names.models[way]).__name__ for way in encoders) or "none"
            wanted = it.encoder or "a model with one text encoder"
            raise ValueError(f"{ascii(name)[1:-1]} is for {wanted}, and the base model has {has}")
        found.setdefault(component, []).append(name)
    return found


def _words(tensors: Mapping[str, tuple[Learned, torch.Tensor]]) -> list[Word]:
    """Return the words of an encoder.

    Raises:
        ValueError: A tensor is no row of vectors, or two are for one word.
    """
    found: list[Word] = []
    for name, (told, tensor) in tensors.items():
        vectors = tensor if tensor.dim() > 1 else tensor.unsqueeze(0)
        if vectors.dim() != _PAIR or not vectors.is_floating_point() or not len(vectors):
            raise ValueError(f"{ascii(name)[1:-1]} is {tensor.dtype} {list(tensor.shape)}")
        rows = torch.split(vectors, 1) if told.each else [vectors]
        found += [Word(told.word.format(n), row, told.whole) for n, row in enumerate(rows)]
    if twice := {it.name for it in found if [w.name for w in found].count(it.name) > 1}:
        raise ValueError(f"it holds {min(twice)!r} twice")
    return found


def _spelled(several: Mapping[str, str], prompt: Any, tokenizer: Any) -> Any:
    """Write out the tokens of words that have several; diffusers' `maybe_convert_prompt`.

    Args:
        several: Word → its pattern.
        prompt: One, or a list of them.
        tokenizer: By which it will be read.
    """
    if isinstance(prompt, list):
        return [_spelled(several, it, tokenizer) for it in prompt]
    added = tokenizer.get_added_vocab()
    mine = sorted((word for word in several if word in added), key=len, reverse=True)

    def tokens(match: re.Match[str]) -> str:
        word, number = match[0], 1
        found = [word]
        while (name := f"{word}_{number}") in added:
            found.append(name)
            number += 1
        return " ".join(found)

    return re.sub("|".join(map(several.__getitem__, mine)), tokens, prompt) if mine else prompt
