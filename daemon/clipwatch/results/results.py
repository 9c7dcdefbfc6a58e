"""The results in a log: every run, every protocol, every scorer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clipwatch.domain.events import EvaluationCompleted, ImageScore, ProtocolDefined
from clipwatch.domain.fold import evolve
from clipwatch.domain.losses import LOSS, LossMeasured
from clipwatch.domain.state import Evaluation, Run
from clipwatch.domain.votes import Voted
from clipwatch.journal import Journal, Recorded
from clipwatch.kit.errors import ClipwatchError
from clipwatch.models.scorers import further_scales, scales_of
from clipwatch.results.reading import read_images, read_votes
from clipwatch.results.tables import loss_table, score_tables
from clipwatch.statistics.scale import LOSSES, UNKNOWN, Scale
from clipwatch.statistics.scores import Scores


class Results:
    """The results in a log, as they were when it was opened; each one's images are read once.

    Who needs the curves of a run, such as a tracker or a page, takes `reading.series_of`.

    Attributes:
        state: All runs; what was scored of each, and under which protocols.
        protocols: By digest, in the order of their first use.
        folder: That of the log and the images.
    """

    def __init__(self, journal: Journal) -> None:
        events = journal.landmarks()
        self.state = evolve({}, ((it.run, it.event, it.time) for it in events))
        defined = (it.event for it in events if isinstance(it.event, ProtocolDefined))
        self.protocols = {event.digest: event.protocol for event in defined}
        self.folder = journal.path.parent
        self._journal = journal
        self._images: dict[tuple[str, str], tuple[ImageScore, ...]] = {}
        self._losses = {(run, it.evaluation): it for run, it in _measured(events)}
        self._measured_on: dict[tuple[str, str], str] = {}  # by run and protocol

    def images(self, run: Run, evaluation: Evaluation) -> tuple[ImageScore, ...]:
        """Return what was scored of an evaluation, in the order of the log."""
        key = run.name, evaluation.id
        if key not in self._images:
            self._images[key] = self.read(run, evaluation)
        return self._images[key]

    def read(self, run: Run, evaluation: Evaluation) -> tuple[ImageScore, ...]:
        """Return `images` without keeping them, for who goes through all."""
        return read_images(self._journal, run.name, evaluation.id)

    def scores(self, run: Run, evaluation: Evaluation, scorer: str | None = None) -> Scores:
        """Return an evaluation's scores by a scorer, None for the one that decides.

        By LOSS its losses on held-out images, turned (see `tables.loss_table`).

        Raises:
            ClipwatchError: There is no such scorer; the text names those that there are.
        """
        if scorer == LOSS:
            return loss_table(self.losses(run, evaluation))
        images = self.images(run, evaluation)
        tables = score_tables(images)
        if scorer and scorer not in tables:
            known = ", ".join(filter(None, tables)) or "none"
            where = f"{run.name}@{evaluation.step}"
            raise ClipwatchError(f"{where} has no scores of {scorer!r}; further scorers: {known}")
        return tables[scorer or ""]

    def losses(self, run: Run, evaluation: Evaluation) -> LossMeasured:
        """Return the losses of an evaluation.

        Raises:
            ClipwatchError: It has none.
        """
        if found := self._losses.get((run.name, evaluation.id)):
            return found
        told = f"{run.name}@{evaluation.step} has no held-out loss"
        raise ClipwatchError(told, fix="set holdout to measure it for checkpoints to come")

    def texts(self, run: Run, evaluation: Evaluation, scorer: str | None = None) -> dict[str, str]:
        """Return by the ids of `scores` the texts of the prompts, or the captions of the images.

        Raises:
            ClipwatchError: As `scores`, of losses.
        """
        if scorer == LOSS:
            measured = self.losses(run, evaluation)
            held = measured.protocol.held
            return {id_: it.caption for id_, it in zip(loss_table(measured), held, strict=True)}
        return {it.id: it.text for it in self.protocols[evaluation.protocol].prompts}

    def has(self, run: Run, evaluation: Evaluation, scorer: str | None) -> bool:
        """Whether an evaluation has scores by a scorer: one that came later scored some alone.

        Of losses it has those that are compared: on the images of the newest ones beside it.
        """
        if scorer == LOSS:
            by = evaluation.losses.by if evaluation.losses else ""
            return bool(by) and by == self._newest_losses(run, evaluation.protocol)
        if not scorer or scorer not in run.further:
            return True
        return evaluation.completed is not None and scorer in evaluation.completed.scores

    def _newest_losses(self, run: Run, protocol: str) -> str:
        """Return what the newest losses were measured on, of those that could be beside it."""
        key = run.name, protocol
        if key not in self._measured_on:
            beside = run.present if protocol in run.present else (protocol,)
            ids = {id_ for it in beside for id_ in run.scored.get(it, ())}
            told = [it.losses.by for id_, it in run.evaluations.items() if id_ in ids and it.losses]
            self._measured_on[key] = next(filter(None, reversed(told)), "")
        return self._measured_on[key]

    def votes(self, run: Run) -> list[Voted]:
        """Return the votes on a run's images, in the order of the log."""
        return read_votes(self._journal, run.name)

    def scale(self, run: Run, evaluation: Evaluation, scorer: str | None = None) -> Scale:
        """Return the scale of a scorer, None for the one that decides."""
        if scorer == LOSS:
            return LOSSES
        scales = scales_of(self.protocols[evaluation.protocol], evaluation.environment)
        return (further_scales(run) | scales).get(scorer or "", UNKNOWN)


def _measured(events: Iterable[Recorded]) -> Iterator[tuple[str, LossMeasured]]:
    """Yield losses and their runs; what comes behind a result is no part of it, as in the fold."""
    whole: set[tuple[str, str]] = set()
    for it in events:
        match it.event:
            case EvaluationCompleted(evaluation=id_):
                whole.add((it.run, id_))
            case LossMeasured(evaluation=id_) if (it.run, id_) not in whole:
                yield it.run, it.event


@contextmanager
def open_results(log: Path) -> Iterator[Results]:
    """Open a log's file for questions.

    Raises:
        ClipwatchError: There is none.
        JournalError: It cannot be read.
    """
    if not log.exists():
        raise ClipwatchError(
            f"there is no log in {log.parent}", fix="name the folder with --state-dir"
        )
    with Journal(log, read_only=True) as journal:
        yield Results(journal)


def scored(run: Run, protocol: str) -> list[Evaluation]:
    """Return what was scored under a protocol, in the order in which it was."""
    return [run.evaluations[id_] for id_ in run.scored.get(protocol, ())]
