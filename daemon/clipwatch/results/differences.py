"""In what two results differ that were not made alike, told to a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Evaluation
from clipwatch.kit.textfiles import plain

LISTED: Final = 12
"""So many things of a kind stand in one sentence."""

VALUE: Final = 60
"""Characters of a setting that a message shows."""


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: of many the first ones and the last."""
    if len(names) > LISTED:
        names = [*names[: LISTED - 1], "...", names[-1]]
    return ", ".join(names)


def unlike(a: EvaluationProtocol, b: EvaluationProtocol) -> list[str]:
    """Return in which fields two protocols differ, with both values; of prompts how many do."""
    first: Mapping[str, object] = a.written()
    second: Mapping[str, object] = b.written()
    return [
        _prompts(a, b)
        if name == "prompts"
        else f"{name} {_value(value)} and {_value(second[name])}"
        for name, value in first.items()
        if value != second[name]
    ]


def circumstances(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return in which circumstances these were made that differ and may matter, with the values.

    The GPU's own number does not matter, its kind does. What is not known is not told.
    """
    keys = dict.fromkeys(key for it in evaluations for key in it.environment if key != "gpu")
    found = {
        key: list(dict.fromkeys(it.environment[key] for it in evaluations if key in it.environment))
        for key in keys
    }
    return [f"{key}: {listed(values)}" for key, values in found.items() if len(values) > 1]


def _prompts(a: EvaluationProtocol, b: EvaluationProtocol) -> str:
    one, other = set(a.prompts), set(b.prompts)
    if one == other:
        return "prompts in another order"
    lacking = f"{len(one - other)} of {len(one)} and {len(other - one)} of {len(other)}"
    return f"prompts ({lacking} are not in the other)"


def _value(value: object) -> str:
    return plain(json.dumps(value, ensure_ascii=False), VALUE)
