"""Which of diffusers' attention backends computes; diffusers has one for the whole process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from clipwatch.evaluator.failures import EvaluationError, failing_as
from clipwatch.evaluator.generation.opening import DENOISERS

if TYPE_CHECKING:
    import torch


def _active() -> str:
    """Ask diffusers itself: another pipeline of this process may have switched."""
    return str(_AttentionBackendRegistry.get_active_backend()[0].value)


_AT_START: Final = _active()
_OWN: Final = "_attention_backend"
"""Of an attention processor; None for the process's."""


def use_attention(pipeline: Any, asked: str) -> None:
    """Have a pipeline's denoisers use a backend, "" for the one that diffusers begins with.

    Raises:
        EvaluationError: Nothing of it can be switched, or there is no such backend ("model").
    """
    models = [it for name in DENOISERS if (it := pipeline.components.get(name)) is not None]
    parts = [part for it in models for part in _parts(it) if hasattr(part, _OWN)]
    if asked not in {"", "native"} and not parts:
        raise EvaluationError(
            "model",
            f"attention {asked!r}: {type(pipeline).__name__} has no attention that can be switched",
            fix="set attention to 'native'",
        )
    wanted = asked or _AT_START
    # another pipeline may have switched the process, and left this one behind
    told = (_active(), *(getattr(it, _OWN) or wanted for it in parts))
    if not parts or all(it == wanted for it in told):
        return
    with failing_as("model", f"attention {wanted!r} cannot be used; set attention to 'native'"):
        for model in models:
            model.set_attention_backend(wanted)


def _parts(model: torch.nn.Module) -> list[Any]:
    """Return the attention processors of a diffusers model."""
    return [part.processor for part in model.modules() if hasattr(part, "processor")]
