"""What W&B is told of a series: the run's config, its metrics, and a row for each result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from clipwatch_adapters._media import showcase
from clipwatch_adapters._scalars import Names, scalars
from clipwatch_adapters.wandb_session import STEP, Row

if TYPE_CHECKING:
    from clipwatch.events import ImageScore
    from clipwatch.protocol import EvaluationProtocol
    from clipwatch.trackers import Result, Series


def config(protocol: EvaluationProtocol) -> dict[str, Any]:
    """Return the protocol as flat values: prompts as their number, and the digest of all."""
    values: dict[str, Any] = msgspec.to_builtins(protocol)
    return values | {"prompts": len(protocol.prompts), "protocol": protocol.digest}


def metrics(series: Series, names: Names) -> tuple[str, ...]:
    """Return the tags of all scalars that the series has so far."""
    return tuple(dict.fromkeys(tag for each in series.results for tag in scalars(names, each)))


def row(series: Series, names: Names, result: Result) -> Row:
    """Return a result as W&B gets it."""
    scores = series.scores(result.evaluation)
    prompts = {prompt.id: prompt for prompt in series.protocol.prompts}
    by_image = {(score.prompt_id, score.index): score for score in scores}
    indices = range(series.protocol.images_per_prompt)
    advice = "\n".join(f"{each.kind}: {each.text}" for each in result.advice)
    return Row(
        seq=result.seq,
        values={
            **scalars(names, result),
            STEP: result.step,
            "clipwatch/checkpoint": result.checkpoint,
            "clipwatch/evaluation": result.evaluation,
            **({"clipwatch/advice": advice} if advice else {}),
        },
        samples=tuple(
            (
                str(series.images / (score.image or "")),
                f"{score.score:.4f} {prompts[score.prompt_id].text}",
            )
            for score in showcase(series.protocol, scores)
        ),
        columns=(
            *("prompt id", "category", "prompt", *(f"score {index}" for index in indices)),
            *(f"{word} score {index}" for word in names.scorers.values() for index in indices),
        ),
        table=tuple(
            (
                *(prompt.id, prompt.category, prompt.text),
                *(_score(by_image.get((prompt.id, index))) for index in indices),
                *(
                    _score(by_image.get((prompt.id, index)), name)
                    for name in names.scorers
                    for index in indices
                ),
            )
            for prompt in prompts.values()
        ),
        alerts=tuple(
            (f"clipwatch: {each.kind} at step {each.step}", each.text) for each in result.advice
        ),
    )


def _score(score: ImageScore | None, scorer: str | None = None) -> float | None:
    """Return an image's score, or what a further scorer gave it; None where there is none."""
    if score is None:
        return None
    return score.score if scorer is None else score.others.get(scorer)
