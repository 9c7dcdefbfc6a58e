"""What is asked of, and said by, the process that judges an evaluation (see `judge`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from clipwatch.domain.events import AdviceGiven
from clipwatch.kit.environment import environment
from clipwatch.kit.errors import ClipwatchError
from clipwatch.statistics import Comparison, Summary

PATIENCE_SECONDS = 600.0
"""The largest logs take a few seconds."""

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_TOLD = 300


@dataclass(frozen=True, slots=True)
class Question:
    """Which evaluation of which log, and from where on what is advised (see settings.Advice)."""

    log: str
    run: str
    evaluation: str
    low: float | None
    saturated: float | None
    after: int
    worth: dict[str, float | None]
    stretch: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the scores say; fields as in EvaluationCompleted."""

    scores: dict[str, Summary]
    categories: dict[str, Summary] = field(default_factory=dict)
    against_base: Comparison | None = None
    against_best: Comparison | None = None
    advice: tuple[AdviceGiven, ...] = ()


Judge = Callable[[Question], Judgement]


def ask(question: Question) -> Judgement:
    """Have a process of its own judge: numpy and scipy would double the daemon's memory.

    Raises:
        ClipwatchError: It did not come to an end; the text says why.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "clipwatch.judging.answer"],
            input=msgspec.json.encode(question),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            env=environment(os.environ, 2) | _ONE_THREAD,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClipwatchError(f"it could not be judged: {error}") from error
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").strip().splitlines()
        told = lines[-1][:_TOLD] if lines else f"exit code {ended.returncode}"
        raise ClipwatchError(f"it could not be judged: {told}")
    return msgspec.json.decode(ended.stdout, type=Judgement)
