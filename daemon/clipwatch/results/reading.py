"""From the log to scores and images: the one place that decodes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from clipwatch.domain.curves import series_name
from clipwatch.domain.deciding import is_part
from clipwatch.domain.events import (
    EvaluationCompleted,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
)
from clipwatch.domain.further import EvaluationRescored, ImagesRescored
from clipwatch.domain.losses import LossMeasured
from clipwatch.domain.names import evaluation_stream, votes_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Run
from clipwatch.domain.strengths import told
from clipwatch.domain.votes import Voted
from clipwatch.journal import Journal, log_file
from clipwatch.models.scorers import further_scales, scales_of
from clipwatch.results.series import Result, Series
from clipwatch.results.view import first_measured

Key = tuple[str, int]
"""A prompt's id, and which of its images."""


def read_images(
    journal: Journal, run: str, evaluation: str, *, further: bool = True
) -> tuple[ImageScore, ...]:
    """Read what was scored of an evaluation so far, in the order of the log.

    Of an image that was told twice the last counts, unless the evaluation was whole by then, as
    one that was imported meanwhile; one that was deleted has no file any more.
    Nothing for an evaluation that is unknown. With `further` the scores of scorers that came later
    are among them, where one has scored all.

    Raises:
        JournalError: The log cannot be read.
    """
    found: dict[Key, ImageScore] = {}
    later: dict[str, dict[Key, float]] = {}
    whole: set[str] = set()
    scored = False
    for recorded in journal.read(stream=evaluation_stream(run, evaluation)):
        match recorded.event:
            case ImagesScored(images=images) if not scored:
                found |= {(image.prompt_id, image.index): image for image in images}
            case EvaluationCompleted():
                scored = True
            case ImagesDeleted():
                found = {key: replace(image, image=None) for key, image in found.items()}
            case ImagesRescored(scorer=name, scores=scores):
                own = {(score.prompt_id, score.index): score.score for score in scores}
                later.setdefault(name, {}).update(own)
            case EvaluationRescored(scorer=name):
                whole.add(name)
    if further and whole:
        return tuple(
            replace(
                image, scores=image.scores | {it: later[it][key] for it in whole & later.keys()}
            )
            for key, image in found.items()
        )
    return tuple(found.values())


def read_rescored(journal: Journal, run: str, evaluation: str, scorer: str) -> dict[Key, float]:
    """Read what a scorer that came later gave the images of an evaluation so far.

    Raises:
        JournalError: The log cannot be read.
    """
    return {
        (score.prompt_id, score.index): score.score
        for recorded in journal.read(stream=evaluation_stream(run, evaluation))
        if isinstance(recorded.event, ImagesRescored) and recorded.event.scorer == scorer
        for score in recorded.event.scores
    }


def read_losses(journal: Journal, run: str, evaluation: str) -> LossMeasured | None:
    """Read the losses of an evaluation, the last ones if it has several; None without any.

    Raises:
        JournalError: The log cannot be read.
    """
    told = (it.event for it in journal.read(stream=evaluation_stream(run, evaluation)))
    return next((it for it in reversed([*told]) if isinstance(it, LossMeasured)), None)


def read_votes(journal: Journal, run: str) -> list[Voted]:
    """Read the votes on a run's images, in the order of the log.

    Raises:
        JournalError: The log cannot be read.
    """
    told = (it.event for it in journal.read(stream=votes_stream(run)))
    return [it for it in told if isinstance(it, Voted)]


def ordered(images: Iterable[ImageScore], protocol: EvaluationProtocol) -> tuple[ImageScore, ...]:
    """Return images in the protocol's order."""
    found = {(image.prompt_id, image.index): image for image in images}
    keys = ((prompt.id, index) for prompt, index, _ in protocol.images())
    return tuple(found[key] for key in keys if key in found)


def scores_of(
    log: Path, run: str, evaluation: str, protocol: EvaluationProtocol
) -> tuple[ImageScore, ...]:
    """Read the scores of one evaluation from a log's file, in the protocol's order.

    Raises:
        JournalError: It cannot be read.
    """
    with Journal(log, read_only=True) as journal:
        return ordered(read_images(journal, run, evaluation), protocol)


def series_of(run: Run, protocol: str, state_dir: Path, since: int = 0) -> Series:
    """Build the series of a run under any of its protocols; its scores are read when asked for.

    Args:
        run: As the log has it.
        protocol: The digest of one that the run knows.
        state_dir: The folder of the log and the images.
        since: The `seq` of its first result.

    Raises:
        KeyError: The run has no such protocol.
    """
    made = run.protocols[protocol]

    def scores(id_: str) -> tuple[ImageScore, ...]:
        return scores_of(log_file(state_dir), run.name, id_, made)

    scored, first = run.scored.get(protocol, ()), first_measured(run, protocol)
    results = tuple(_result(run, seq, scored[seq], first) for seq in range(since, len(scored)))
    images = images_of(state_dir, run.name)
    return Series(
        *(run.name, series_name(run, protocol), protocol, made, results, scores, images, run.unit),
        scales=further_scales(run) | scales_of(made),
        label=told(run, protocol),
    )


def images_of(state_dir: Path, run: str) -> Path:
    """Return the folder of a run's images; each evaluation has its own below it."""
    return state_dir / "images" / run


def page_of(state_dir: Path, run: str) -> Path:
    """Return the file of a run's page, which the daemon keeps where `report` is set."""
    return state_dir / "reports" / f"{run}.html"


def _result(run: Run, seq: int, id_: str, first: str) -> Result:
    evaluation = run.evaluations[id_]
    if not (evaluation.clip and evaluation.finished and evaluation.completed):
        raise ValueError(f"{id_} is scored but has no result")
    done = evaluation.completed
    return Result(
        seq=seq,
        step=evaluation.step,
        evaluation=id_,
        checkpoint=evaluation.checkpoint,
        scores=done.scores,
        finished=evaluation.finished,
        categories=done.categories,
        against_base=done.against_base,
        against_best=done.against_best,
        advice=tuple(it for it in run.advice if it.evaluation == id_),
        later=evaluation.rescored,
        skipped=evaluation.skipped,
        decision=done.decision,
        estimate=done.estimate,
        losses=evaluation.losses.tags(first) if evaluation.losses else {},
        part=is_part(run, evaluation),
        answered=done.answered,
    )
