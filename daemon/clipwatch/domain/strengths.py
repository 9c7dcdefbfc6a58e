"""LoRA strengths as an axis: protocols that are equal but for the strength, each with its curve."""

from __future__ import annotations

from collections.abc import Iterable

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import AT_STRENGTHS, BASE_NAME, Run

WITHOUT = 0.0
"""Stands for any strength where protocols are compared that may differ in it."""


def written(strength: float) -> str:
    """Return a strength as short as it can be told without loss: 0.6, 1."""
    short = f"{strength:g}"
    return short if float(short) == strength else repr(strength)


def label(strength: float) -> str:
    """Return what tells one of several strengths from the others."""
    return f"strength {written(strength)}"


def told(run: Run, protocol: str) -> str:
    """Return the label of a protocol that has others beside it, or had them earlier; else ""."""
    if protocol not in run.present:
        return run.labels.get(protocol, "")
    several = run.beside and protocol in run.protocols
    return label(run.protocols[protocol].adapter_strength) if several else ""


def has_none(run: Run, checkpoint: str) -> bool:
    """Whether a checkpoint is known to act at no strength: the base, or what is no adapter."""
    known = run.checkpoints.get(checkpoint)
    other = known is not None and known.kind is not None and known.kind not in AT_STRENGTHS
    return checkpoint == BASE_NAME or other


def ascending(run: Run, protocols: Iterable[str]) -> list[str]:
    """Return protocols in the order of their strengths, as a person reads them."""
    known = run.protocols
    return sorted(protocols, key=lambda it: known[it].adapter_strength if it in known else 0.0)


def title(run: Run, evaluation: str) -> str:
    """Name an evaluation for a person: its checkpoint, and the strength where there are several.

    The base, a full model and learned tokens have none, though they are scored under one of them.

    Args:
        run: Its run, which may not know it yet.
        evaluation: Its id, see `evaluation_id`.
    """
    checkpoint, _, rest = evaluation.partition("/")
    begun = "" if has_none(run, checkpoint) else rest.partition("/")[2]
    known = (it for it in run.protocols if begun and it.startswith(begun))
    at = told(run, next(known, ""))
    return f"{checkpoint} at {at}" if at else checkpoint


def alike(run: Run, protocol: str) -> list[str]:
    """Return the protocols of a run that differ from one in the strength alone, itself first."""
    own = run.protocols[protocol].at(WITHOUT)
    others = [it for it, made in run.protocols.items() if it != protocol and _same(made, own)]
    return [protocol, *others]


def base_of(run: Run, protocol: str) -> str:
    """Return the newest evaluation of the base model alone whose numbers hold under a protocol.

    Without an adapter no strength matters, so the base is scored under one of them; "" for none.
    """
    for it in alike(run, protocol):
        scored = run.scored.get(it, ())
        if found := [id_ for id_ in scored if run.evaluations[id_].of_base]:
            return found[-1]
    return ""


def _same(made: EvaluationProtocol, own: EvaluationProtocol) -> bool:
    return made.at(WITHOUT) == own
