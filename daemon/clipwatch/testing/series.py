"""Made-up series of results with scores and real images, and a target to publish them to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from clipwatch.delivery.trackers import Target
from clipwatch.domain.events import AdviceGiven, ImageScore
from clipwatch.domain.kinds import AdviceKind
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.results.series import Result, Series
from clipwatch.statistics import Comparison, Summary, summarize

PROMPTS = (
    Prompt("red-cube", "a red cube on a table", "objects"),
    Prompt("blue-ball", "a blue ball | in the grass", "objects"),
    Prompt("old-town", "an old town at night", "places"),
    Prompt("harbour", "a harbour in the fog", "places"),
)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_protocol(
    prompts: Sequence[Prompt] = PROMPTS, images_per_prompt: int = 1, seed: int = 0
) -> EvaluationProtocol:
    """Return a protocol as a small SDXL run would have it."""
    return EvaluationProtocol(
        prompts=tuple(prompts),
        images_per_prompt=images_per_prompt,
        seed=seed,
        negative_prompt="",
        inference_steps=20,
        guidance=5.0,
        width=64,
        height=64,
        scheduler="euler",
        base_model="some/base",
        base_revision="",
        base_variant="",
        weights="live",
        dtype="bf16",
        scorers=(ScorerSpec("", "some/clip"),),
    )


def make_series(
    folder: Path,
    steps: Sequence[int],
    *,
    name: str = "clipwatch",
    protocol: EvaluationProtocol | None = None,
    images: bool = True,
) -> Series:
    """Return a series with one result per entry of `steps`, `seq` in their order.

    The scores differ by result and image and depend on nothing else. With `images`, each score
    names a PNG below `folder`/images, which is written here.
    """
    protocol = protocol or make_protocol()
    scores: dict[str, tuple[ImageScore, ...]] = {}
    results = []
    for seq, step in enumerate(steps):
        evaluation = f"{name}-{seq}"
        scores[evaluation] = tuple(
            ImageScore(prompt.id, index, seed, {"": round(0.2 + 0.01 * seq + 0.001 * place, 4)})
            for place, (prompt, index, seed) in enumerate(protocol.images())
        )
        if images:
            scores[evaluation] = tuple(
                replace(score, image=_draw(folder / "images", evaluation, score))
                for score in scores[evaluation]
            )
        clip = summarize([score.score for score in scores[evaluation]])
        finished = START + timedelta(minutes=seq)
        results.append(Result(seq, step, evaluation, f"checkpoint-{step}", {"": clip}, finished))
    return Series(
        *("run", name, protocol.digest, protocol, tuple(results)),
        *(scores.__getitem__, folder / "images"),
    )


def _beside(first: Any, siglip: Any, odd: Any) -> dict[str, Any]:
    return {"": first, "siglip": siglip, "odd | name": odd}


def with_everything(series: Series) -> Series:
    """Return the series with all that a result may have; advice comes with each second one.

    The categories are the prompts' own; "siglip" and "odd | name" are the further scorers.
    """

    def scores(evaluation: str) -> tuple[ImageScore, ...]:
        return tuple(
            replace(image, scores=_beside(image.score, image.score / 2, image.score * 10))
            for image in series.scores(evaluation)
        )

    def full(result: Result) -> Result:
        base, clip = series.results[0], result.clip
        later = result.seq > 0
        kinds: tuple[AdviceKind, ...] = ("regressed", "plateau") if result.seq % 2 else ()
        return replace(
            result,
            scores=_beside(_estimated(clip), _estimated(clip, 0.1), _estimated(clip, 2)),
            categories={
                name: _estimated(clip, 0.01 * place)
                for place, name in enumerate(sorted({p.category for p in series.protocol.prompts}))
            },
            against_base=_compared(base, result) if later else None,
            against_best=replace(_compared(series.results[result.seq - 1], result), picked=2)
            if later
            else None,
            advice=tuple(
                AdviceGiven(result.evaluation, result.step, kind, f"Seen: {kind} <b>*now*</b>.")
                for kind in kinds
            ),
        )

    return replace(series, results=tuple(map(full, series.results)), scores=scores)


def _estimated(clip: Summary, shift: float = 0) -> Summary:
    """Return a summary that lies higher by `shift`, with an interval, of two images a prompt."""
    mean = clip.mean + shift
    return Summary(
        mean,
        clip.min + shift,
        clip.max + shift,
        clip.std,
        clip.n,
        prompts=max(1, clip.n // 2),
        se=0.005,
        low=mean - 0.01,
        high=mean + 0.01,
    )


def _compared(one: Result, other: Result) -> Comparison:
    delta = other.clip.mean - one.clip.mean
    return Comparison(
        *(one.evaluation, other.evaluation, 4, delta, delta - 0.02, delta + 0.03, 0.5),
        *(2, 0, 2, 0.05, "inconclusive"),
    )


def _draw(images: Path, evaluation: str, score: ImageScore) -> str:
    """Write a plain PNG whose colour comes from the score; return its name below `images`."""
    name = f"{evaluation}/{score.prompt_id}-{score.index}.png"
    path = images / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = round(score.score * 1000) % 256
    Image.new("RGB", (64, 48), (shade, 255 - shade, 128)).save(path)
    return name


def make_target(folder: Path, *, project: str = "project", where: str = "") -> Target:
    """Return a target whose folders lie below `folder`; only the output directory exists."""
    output_dir = folder / "output"
    output_dir.mkdir(parents=True, exist_ok=True)
    return Target(
        output_dir=output_dir,
        first_dir=output_dir,
        logging_dir=output_dir / "logs",
        working_dir=folder,
        project=project,
        run_name="run",
        state_dir=folder / "state" / "tracker",
        where=where,
        options={},
    )
