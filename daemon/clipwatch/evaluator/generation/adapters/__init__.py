"""Adapters in a resident pipeline: the whole of one put in, its strength set, and taken out again.

`modules` reads what a file holds, `names` and `foreign` say which modules it means. `lora` and
`lycoris` put it in beside the layers, `rewritten` in place of their weights, which `formulas`
computes. What is left, `translation` has diffusers translate, and makes sure that nothing is lost.
`tokens` adds words that were learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from clipwatch.evaluator.failures import failing_as
from clipwatch.evaluator.generation.adapters.lora import Lora
from clipwatch.evaluator.generation.adapters.modules import modules_of, of_peft
from clipwatch.evaluator.generation.adapters.names import Names
from clipwatch.evaluator.generation.adapters.rewritten import Rewritten, is_ours
from clipwatch.evaluator.generation.adapters.tokens import Tokens
from clipwatch.evaluator.generation.weights import read_tensors
from clipwatch.evaluator.tensors import check_finite
from clipwatch.layouts.adapter_file import (
    METADATA_KEY,
    acting,
    adapter_config,
    kind_of,
    oft_terms,
)
from clipwatch.layouts.contents import PEFT_CONFIG, SCALED
from clipwatch.layouts.learned import Learned, learned_in
from clipwatch.layouts.single_file import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_TURNS: Final = "oft_R.weight"


class Adapter(Protocol):
    """An adapter that is in a pipeline."""

    @property
    def components(self) -> Collection[str]:
        """Name the pipeline's components that it is in."""

    def set_strength(self, strength: float) -> None:
        """Multiply what it adds to the denoiser, as SimpleTuner's validation does; 1.0 as trained.

        A text encoder's share acts in full. At 0.0 the base alone is left, but for a LyCORIS that
        sets magnitudes (DoRA, rescaled OFT): there these stay.
        """

    def remove(self) -> None:
        """Take it out; the base's weights are then what they were, bit by bit."""


class Joined:
    """Several adapters in one pipeline, which do not touch each other's places."""

    def __init__(self) -> None:
        self.parts: list[Adapter] = []

    @property
    def components(self) -> list[str]:
        """Name the pipeline's components that they are in."""
        return sorted({name for it in self.parts for name in it.components})

    @property
    def words(self) -> list[str]:
        """Name the words that were learned, as prompts name them."""
        return [word for it in self.parts if isinstance(it, Tokens) for word in it.words]

    def set_strength(self, strength: float) -> None:
        """Set that of each."""
        for it in self.parts:
            it.set_strength(strength)

    def remove(self) -> None:
        """Take all out, the last one first."""
        while self.parts:
            self.parts.pop().remove()


def apply(pipeline: Any, path: Path, *beside: Path, alpha: float | None) -> Joined:
    """Put all of an adapter into a pipeline, at strength 1.

    Args:
        pipeline: On its device; holds no other adapter.
        path: Its file, which is read and closed.
        beside: What else belongs to it: PEFT's config, which tells alphas; files of the tokens that
            were learned with it.
        alpha: Of a LoRA whose file tells none, None for its rank.

    Raises:
        EvaluationError: It cannot be applied, or only in part ("weights"); then nothing of it is
            in the pipeline.
    """
    found = Joined()
    names = Names(pipeline)
    learned: dict[str, Learned] = {}
    vectors: dict[str, torch.Tensor] = {}
    rest: dict[str, torch.Tensor] = {}
    told: dict[str, str] = {}
    configs = (it.read_text(encoding="utf-8") for it in beside if it.name == PEFT_CONFIG)
    config = {METADATA_KEY: next(configs, "{}")}
    for file in (path, *(it for it in beside if it.suffix == SUFFIX)):
        state, metadata = read_tensors(file)
        with failing_as("weights", str(file)):
            # ai-toolkit's alphas of a full LoKr, which mean nothing, are infinite in float16
            check_finite((name, it) for name, it in state.items() if it.dim())
        with failing_as("weights", f"{file} cannot be applied"):
            own = learned_in(state, metadata, file.name)
            learned |= {f"{file.name}: {name}": it for name, it in own.items()}
            vectors |= {f"{file.name}: {name}": state[name] for name in own}
            left = {name: state[name] for name in acting(state) if name not in own}
            if left and rest:
                raise ValueError(f"{path.name} is an adapter, too")
            if left:
                rest, told = left, {**config, **metadata}
                kind_of(state, told, file.name)
    try:
        with failing_as("weights", f"{path} cannot be applied"):
            if learned:
                found.parts.append(Tokens(names, pipeline, learned, vectors))
            if rest:
                found.parts.append(_network(names, pipeline, rest, told, alpha))
    except BaseException:
        found.remove()
        raise
    return found


def _network(
    names: Names,
    pipeline: Any,
    state: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    alpha: float | None,
) -> Adapter:
    """Put in what changes weights."""
    if kind_of(state, metadata) == "lora":
        return Lora(names, pipeline, state, metadata, alpha)
    config = adapter_config(metadata)
    pefts = config.get("peft_type") in SCALED
    modules = modules_of(of_peft(state, config) if pefts else state)
    if config.get("peft_type"):
        for tensors in (it for it in modules.values() if _TURNS in it):
            tensors["oft_R.terms"] = torch.tensor(oft_terms(config))
    if pefts or is_ours(names, modules):
        return Rewritten(names, modules)
    from clipwatch.evaluator.generation.adapters.lycoris import Lycoris

    return Lycoris(names, modules, metadata)
