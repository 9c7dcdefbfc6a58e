"""What `clipwatch status --json` and the health page's /status print. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from clipwatch.domain.delivered import owed
from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.state import Run, State
from clipwatch.domain.strengths import told
from clipwatch.results.progress import Hand, Watcher, progress
from clipwatch.results.view import advice, rows


def as_json(state: State, now: datetime, watched: Mapping[str, Watcher]) -> dict[str, Any]:
    """Return the object; times are ISO 8601 in UTC, spans in seconds.

    Args:
        state: All runs.
        now: In UTC.
        watched: Who watches which run.
    """
    return {"runs": [_run(run, now, watched.get(run.name)) for run in state.values()]}


def _run(run: Run, now: datetime, watcher: Watcher | None) -> dict[str, Any]:
    how = progress(run, now, watcher)
    return {
        "run": run.name,
        "output_dir": run.output_dir,
        "problem": run.problem or run.lacking or None,
        "watched": watcher is not None,
        "doing": (watcher.doing if watcher else "") or None,
        "now": _hand(run, how.hand) if how.hand else None,
        "beside": [_hand(run, it) for it in how.hands[1:]],
        "queue": {
            "evaluations": how.waiting,
            "seconds_left": how.left,
            "done_at": _time(how.done_at(now)),
        },
        "pace": how.pace
        and {
            "seconds": how.pace.seconds or None,
            "images": how.pace.images,
            "saved_every_seconds": how.pace.between or None,
        },
        "checkpoints": msgspec.to_builtins(rows(run)),
        "owed": {
            name: sum(map(len, owed(run, "tracker", name).values())) for name in run.tracker_names
        },
        "advice": [
            {
                "step": it.step,
                "unit": it.unit,
                "strength": _strength(run, _protocol(run, it)),
                "kind": it.kind,
                "scorer": it.scorer,
                "text": it.text,
            }
            for it in advice(run)
        ],
    }


def _hand(run: Run, hand: Hand) -> dict[str, Any]:
    course = hand.evaluation.course
    return {
        "step": hand.evaluation.step,
        "name": hand.evaluation.checkpoint,
        "strength": _strength(run, hand.evaluation.protocol),
        "images_done": hand.done,
        "images": hand.images,
        "images_per_second": hand.per_second or None,
        "seconds_left": hand.left,
        "since": _time(course.since if course else None),
    }


def _time(time: datetime | None) -> str | None:
    """Return a time as msgspec writes those of the rows."""
    return None if time is None else msgspec.to_builtins(time.astimezone(UTC))


def _protocol(run: Run, advice: AdviceGiven) -> str:
    return run.evaluations[advice.evaluation].protocol


def _strength(run: Run, protocol: str) -> float | None:
    """Return which of several strengths a protocol has."""
    return run.protocols[protocol].adapter_strength if told(run, protocol) else None
