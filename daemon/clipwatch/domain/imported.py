"""Results that were made elsewhere, here and at trackers; a part of the log's vocabulary."""

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


@dataclass(frozen=True, slots=True)
class MoreShown:
    """A tracker was read and shows evaluations of a curve that this log lacks.

    Another log has them: a newer copy of this one, or another machine's. None: no more.
    """

    tracker: str
    evaluations: tuple[str, ...]
    destination: str
    protocol: str
