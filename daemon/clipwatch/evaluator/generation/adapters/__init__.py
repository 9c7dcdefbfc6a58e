"""Adapters in a resident pipeline: the whole of one put in, its strength set, and taken out again.

`modules` reads what a file holds, `names` and `foreign` say which modules it means. `lora` and
`lycoris` put it in beside the layers, `rewritten` in place of their weights, which `formulas`
computes. What is left, `translation` has diffusers translate, and makes sure that nothing is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from clipwatch.evaluator.failures import failing_as
from clipwatch.evaluator.generation.adapters.lora import Lora
from clipwatch.evaluator.generation.adapters.modules import modules_of
from clipwatch.evaluator.generation.adapters.names import Names
from clipwatch.evaluator.generation.adapters.rewritten import Rewritten, is_ours
from clipwatch.evaluator.generation.weights import read_tensors
from clipwatch.evaluator.tensors import check_finite
from clipwatch.layouts.adapter_file import METADATA_KEY, acting, kind_of
from clipwatch.layouts.contents import PEFT_CONFIG

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


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


def apply(
    pipeline: Any, path: Path, *, alpha: float | None, beside: Collection[Path] = ()
) -> Adapter:
    """Put all of an adapter into a pipeline, at strength 1.

    Args:
        pipeline: On its device; holds no other adapter.
        path: Its file, which is read and closed.
        alpha: Of a LoRA whose file tells none, None for its rank.
        beside: What else belongs to it: PEFT's config, which tells alphas.

    Raises:
        EvaluationError: It cannot be applied, or only in part ("weights"); then nothing of it is
            in the pipeline.
    """
    state, metadata = read_tensors(path)
    with failing_as("weights", str(path)):
        # ai-toolkit's alphas of a full LoKr, which mean nothing, are infinite in float16
        check_finite((name, it) for name, it in state.items() if it.dim())
    with failing_as("weights", f"{path} cannot be applied"):
        for config in (it for it in beside if it.name == PEFT_CONFIG):
            metadata = {METADATA_KEY: config.read_text(encoding="utf-8"), **metadata}
        kind = kind_of(state, metadata)
        used = {name: state[name] for name in acting(state)}
        names = Names(pipeline)
        if kind == "lora":
            return Lora(names, pipeline, used, metadata, alpha)
        modules = modules_of(used)
        if is_ours(names, modules):
            return Rewritten(names, modules)
        from clipwatch.evaluator.generation.adapters.lycoris import Lycoris

        return Lycoris(names, modules, metadata)
