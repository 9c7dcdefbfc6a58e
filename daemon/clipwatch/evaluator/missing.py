"""Brings what a protocol names and the Hub's cache lacks, before it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipwatch.evaluator.failures import failing_as, from_hub
from clipwatch.evaluator.generation import opening
from clipwatch.evaluator.scorers import files

if TYPE_CHECKING:
    from clipwatch.domain.protocol import EvaluationProtocol


def fetch_missing(protocol: EvaluationProtocol) -> None:
    """Fetch what lacks of all models of a protocol.

    Raises:
        EvaluationError: One cannot be had ("model").
    """
    what = f"base model {protocol.base_model!r} cannot be loaded"
    with failing_as("model", what), from_hub(what):
        opening.locate(protocol)
    for part in protocol.parts:
        what = f"{part.name} from {part.model!r} cannot be loaded"
        with failing_as("model", what), from_hub(what):
            opening.locate_part(part)
    for scorer in protocol.scorers:
        files.fetch(scorer)
