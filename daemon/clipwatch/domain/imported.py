"""Where a result came from that was made elsewhere; a part of the log's vocabulary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EvaluationImported:
    """A result was made elsewhere: in a run of another log, and finished there as event `seq`.

    `source` is that log, or a table of `clipwatch export`, which knows no events: `seq` is 0.
    """

    evaluation: str
    source: str
    run: str
    seq: int = 0
