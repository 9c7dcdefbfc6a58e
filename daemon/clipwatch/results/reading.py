"""From the log to scores and images: the one place that decodes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clipwatch.domain.curves import series_name
from clipwatch.domain.events import ImageScore, ImagesScored, Voted
from clipwatch.domain.names import evaluation_stream, votes_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Run
from clipwatch.domain.strengths import told
from clipwatch.journal import Journal, log_file
from clipwatch.models.scorers import scales_of
from clipwatch.results.series import Result, Series


def read_images(journal: Journal, run: str, evaluation: str) -> tuple[ImageScore, ...]:
    """Read what was scored of an evaluation so far, in the order of the log.

    Of an image that was told twice the last counts. Nothing for an evaluation that is unknown.

    Raises:
        JournalError: The log cannot be read.
    """
    found = {
        (image.prompt_id, image.index): image
        for recorded in journal.read(stream=evaluation_stream(run, evaluation))
        if isinstance(recorded.event, ImagesScored)
        for image in recorded.event.images
    }
    return tuple(found.values())


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


def series_of(run: Run, protocol: str, state_dir: Path) -> Series:
    """Build the series of a run under any of its protocols; its scores are read when asked for.

    Args:
        run: As the log has it.
        protocol: The digest of one that the run knows.
        state_dir: The folder of the log and the images.

    Raises:
        KeyError: The run has no such protocol.
    """
    made = run.protocols[protocol]

    def scores(id_: str) -> tuple[ImageScore, ...]:
        return scores_of(log_file(state_dir), run.name, id_, made)

    results = tuple(_result(run, seq, id_) for seq, id_ in enumerate(run.scored.get(protocol, ())))
    images = images_of(state_dir, run.name)
    return Series(
        *(run.name, series_name(run, protocol), protocol, made, results, scores, images, run.unit),
        scales=scales_of(made),
        label=told(run, protocol),
    )


def images_of(state_dir: Path, run: str) -> Path:
    """Return the folder of a run's images; each evaluation has its own below it."""
    return state_dir / "images" / run


def _result(run: Run, seq: int, id_: str) -> Result:
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
    )
