"""From events to the state they mean. Pure: what goes in is never changed.

A log of a million events is folded when a daemon starts, so the work for one event must not grow
with the log: all events of a call are worked into one copy of what they touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from sys import intern
from typing import Any, Final

from clipwatch.domain.decided import EvaluationOutdone
from clipwatch.domain.events import (
    AdviceGiven,
    AdviceNotSent,
    AdviceSent,
    CheckpointCompleted,
    CheckpointDiscarded,
    CheckpointFound,
    DestinationChanged,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationReopened,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
    ModelsChecked,
    NoLongerShown,
    OutputDirChecked,
    OutputDirMoved,
    ProtocolContinued,
    ProtocolDefined,
    Published,
    PublishFailed,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.further import EvaluationRescored, ImagesRescored, ScorerAdded
from clipwatch.domain.imported import EvaluationImported, MoreShown
from clipwatch.domain.losses import LossMeasured, LossNotMeasured, with_losses
from clipwatch.domain.receiving import Receiving
from clipwatch.domain.standing import Standing
from clipwatch.domain.state import (
    Checkpoint,
    Course,
    Evaluation,
    Further,
    Run,
    State,
    is_unfinished,
)
from clipwatch.domain.unscored import without_result
from clipwatch.domain.votes import Voted

_NONE: Final = frozenset[tuple[str, int]]()  # one for all: a long run has thousands
_EMPTY: Final[dict[str, Any]] = {}  # the same
_LARGE: Final = ("checkpoints", "evaluations")

THEN = ", then "

_ON_THE_WAY: Final = (
    EvaluationStarted,
    LossMeasured,
    LossNotMeasured,
    ImagesScored,
    EvaluationImported,
    EvaluationOutdone,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationReopened,
)
"""What happens to an evaluation until it is scored."""

Happened = tuple[str, Event, datetime]
"""The run, the event, and when."""


def evolve(state: State, happened: Iterable[Happened]) -> State:
    """Return the state after these events.

    Raises:
        KeyError: One cannot follow from those before it.
        TypeError: One is of a type that nobody knows.
    """
    drafts: dict[str, _Draft] = {}
    for run, event, time in _joined(happened):
        if isinstance(event, RunStarted):
            told = (event.output_dir, event.protocol, event.trackers, event.settings)
            drafts[run] = _Draft(
                Run(run, *told, first_dir=event.output_dir, there=time, begun=time)
            )
            continue
        if run not in drafts:
            drafts[run] = _Draft(state[run])
        drafts[run].take(event, time)
    return {**state, **{run: draft.final() for run, draft in drafts.items()}}


def _joined(happened: Iterable[Happened]) -> Iterator[Happened]:
    """Make one event of the batches of images that follow each other."""
    parts: list[ImageScore] = []
    open_: tuple[str, str, datetime] | None = None
    for run, event, time in happened:
        if isinstance(event, ImagesScored):
            if open_ is not None and open_[:2] != (run, event.evaluation):
                yield open_[0], ImagesScored(open_[1], tuple(parts)), open_[2]
                parts.clear()
            parts.extend(event.images)
            open_ = (run, event.evaluation, time)
            continue
        if open_ is not None:
            yield open_[0], ImagesScored(open_[1], tuple(parts)), open_[2]
            parts.clear()
            open_ = None
        yield run, event, time
    if open_ is not None:
        yield open_[0], ImagesScored(open_[1], tuple(parts)), open_[2]


class _Draft:
    """A run in the making; its collections are copies of its own, the large ones once needed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._trackers = Receiving(run.trackers)
        self._spent = dict(run.spent)
        self._batch_sizes = dict(run.batch_sizes)
        self._advice = list(run.advice)
        self._channels = Receiving(run.channels)
        self._present = run.present
        self._skipped = run.skipped
        self._touched: set[str] = set()  # names of checkpoints of which something was told

    @cached_property
    def _checkpoints(self) -> dict[str, Checkpoint]:
        return dict(self._run.checkpoints)

    @cached_property
    def _evaluations(self) -> dict[str, Evaluation]:
        return dict(self._run.evaluations)

    @cached_property
    def _standing(self) -> Standing:
        return Standing(self._run.scored, self._evaluations)

    def final(self) -> Run:
        """Return the run; nothing may be taken any more."""
        copied = {it: vars(self)[f"_{it}"] for it in _LARGE if f"_{it}" in vars(self)}
        standing: Standing | None = vars(self).get("_standing")
        run = replace(
            self._run,
            **copied,
            scored=standing.final() if standing else self._run.scored,
            trackers=self._trackers.final(),
            spent=self._spent,
            batch_sizes=self._batch_sizes,
            advice=tuple(self._advice),
            channels=self._channels.final(),
            skipped=self._skipped,
        )
        known = run.checkpoints
        again = known.keys() if run.present != self._present else known.keys() & self._touched
        open_ = {name for name in again if is_unfinished(run, known[name])}
        return replace(run, unfinished=(run.unfinished - again) | open_) if again else run

    def take(self, event: Event, time: datetime) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an event
        """Work an event in."""
        self._touch(event)
        if isinstance(event, _ON_THE_WAY) and _is_scored(self._evaluations, event.evaluation):
            return  # an import came first, and that stays
        match event:
            case ImagesScored(evaluation=id_, images=images):
                known = self._evaluations[id_]
                done = known.done | {(image.prompt_id, image.index) for image in images}
                # an answer without a new image is no progress: failures around it are in a row
                attempt = 0 if len(done) > len(known.done) else known.attempt
                course = known.course and replace(known.course, latest=time)
                known = replace(known, done=done, attempt=attempt, images_deleted=False)
                self._evaluations[id_] = replace(known, course=course)
            case LossMeasured(evaluation=id_) | LossNotMeasured(evaluation=id_):
                losses = with_losses(self._evaluations[id_].losses, event)
                self._evaluations[id_] = replace(self._evaluations[id_], losses=losses)
            case ImagesDeleted(evaluation=id_):
                self._evaluations[id_] = replace(self._evaluations[id_], images_deleted=True)
            case ScorerAdded(scorer=spec, digest=digest, told=told):
                further = {**self._run.further, spec.name: Further(spec, digest, told)}
                self._run = replace(self._run, further=further)
            case EvaluationRescored():
                self._evaluations[event.evaluation] = _rescored(self._evaluations, event, time)
                self._trackers.forget([event.evaluation])  # all who have the result get it again
            case CheckpointFound() | CheckpointCompleted() | CheckpointDiscarded():
                before = self._checkpoints.get(event.name)
                now = self._checkpoints[intern(event.name)] = _as_told(event, before, time)
                self._skipped += now.skipped - (before is not None and before.skipped)
                if now.state == "whole" and before and before.digest != now.digest:
                    self._trackers.forget(self._standing.back(now))
            case EvaluationStarted() as s:
                known_or_not = self._evaluations.get(s.evaluation)
                names = (intern(s.digest), intern(s.protocol))
                fresh = (intern(s.evaluation), intern(s.checkpoint), s.step, *names)
                known = known_or_not or Evaluation(*fresh, "running", rescored=_EMPTY)
                around = joined_texts(known.environment, s.environment)
                course, other = Course(time, len(known.done), time), s.reference or known.reference
                known = replace(known, state="running", environment=around, course=course)
                self._evaluations[known.id] = replace(known, reference=other)
            case EvaluationImported(evaluation=id_, source=source):
                known = self._evaluations[id_]  # at whose images nobody is here
                self._evaluations[id_] = replace(known, source=intern(source), course=None)
            case EvaluationCompleted():
                self._complete(event, time)
            case AdviceGiven(evaluation=id_, kind=kind, scorer=scorer):
                known_ones = ((it.evaluation, it.kind, it.scorer) for it in self._advice)
                if (id_, kind, scorer) not in known_ones:  # an import completed it, and we did
                    self._advice.append(event)
            case DestinationChanged(kind="tracker", name=name, place=place):
                self._trackers.moved(name, place, anew=True)
            case DestinationChanged(kind="channel", name=name, place=place):
                self._channels.moved(name, place, anew=False)  # what was sent there stays sent
            case ImagesRescored() | Voted() | DestinationChanged():
                pass  # not whole, read by who asks for votes, or of a later version
            case AdviceSent() as sent:
                protocol = sent.protocol or self._run.protocol
                self._channels.took(sent.channel, sent.destination, protocol, sent.advice)
            case AdviceNotSent() as f:
                self._channels.failed(f.channel, f.protocol or self._run.protocol, f)
            case EvaluationFailed() | EvaluationOutdone() | EvaluationReopened():
                self._evaluations[event.evaluation] = without_result(self._evaluations, event)
            case Published() as shown:
                protocol, ids = shown.protocol or self._run.protocol, shown.evaluations
                there = (*ids, *shown.again)
                self._trackers.took(shown.tracker, shown.destination, protocol, there, shown.where)
            case PublishFailed() as f:
                self._trackers.failed(f.tracker, f.protocol or self._run.protocol, f)
            case SettingsChanged(protocol=protocol, trackers=names) as c:
                self._run = replace(self._run, protocol=protocol, tracker_names=names)
                self._run = replace(self._run, settings=c.settings, beside=c.beside)
                self._trackers.forgive()
                self._channels.forgive()
                self._batch_sizes = {}  # the device may be another
            case ProtocolDefined(digest=digest, protocol=defined, label=label):
                protocols = {**self._run.protocols, digest: defined}
                labels = {**self._run.labels, digest: label} if label else self._run.labels
                self._run = replace(self._run, protocols=protocols, labels=labels)
                self._run = replace(self._run, protocol=self._run.protocol or digest)
            case ProtocolContinued(digest=digest, by=by, protocol=defined):
                protocols = {**self._run.protocols, digest: defined}
                continued = {**self._run.continued, by: digest}
                self._run = replace(self._run, protocols=protocols, continued=continued)
            case ModelsChecked(problem=problem):
                self._run = replace(self._run, lacking=problem)
            case OutputDirChecked(problem=problem):
                self._run = replace(self._run, problem=problem)
            case OutputDirMoved(output_dir=new):
                self._checkpoints.update(_moved(self._checkpoints, self._run.output_dir, new))
                self._run = replace(self._run, output_dir=new, there=time)
            case MoreShown() as m:
                self._trackers.shows_more(m.tracker, m.destination, m.protocol, m.evaluations)
            case NoLongerShown() as lost:
                self._trackers.lost(lost.tracker, lost.destination, lost.evaluations)
            case _:
                raise TypeError(f"no case for {event!r}")

    def _touch(self, event: Event) -> None:
        match event:
            case CheckpointFound() | CheckpointCompleted() | CheckpointDiscarded():
                self._touched.add(event.name)
            case EvaluationStarted():
                self._touched.add(event.checkpoint)
            case EvaluationCompleted() | EvaluationFailed() | EvaluationReopened():
                self._touched.add(self._evaluations[event.evaluation].checkpoint)
            case EvaluationOutdone(evaluation=id_):
                self._touched.add(self._evaluations[id_].checkpoint)

    def _complete(self, event: EvaluationCompleted, time: datetime) -> None:
        known = self._evaluations[event.evaluation]
        around = {**known.environment, **event.made}
        last = self._standing.last(known.protocol)
        before = last.environment if last else around
        told = self._skipped or self._run.settings.get("when_behind", "wait") != "wait"
        self._standing.add(known)
        for phase, seconds in event.phases.items() if not known.source else ():
            self._spent[phase] = self._spent.get(phase, 0.0) + seconds
        if event.batch_size and not known.source:
            self._batch_sizes[known.protocol] = event.batch_size
        # what counts failures is over: a reader that leaves the images out sees the same
        self._evaluations[known.id] = replace(
            known,
            state="scored",
            done=_NONE,
            clip=event.clip,
            finished=time,
            reason="",
            attempt=0,
            retry_at=None,
            images=event.images,
            seconds=event.seconds,
            loading=event.phases.get("load", 0.0),
            completed=_lean(event, known.id),
            course=None,
            images_deleted=False,
            environment=before if before == around else around,  # nearly all say the same
            skipped=self._skipped if told and not known.source else None,
        )
        if known.source:
            there = self._checkpoints.get(known.checkpoint)
            self._trackers.forget(self._standing.imported(known, there))


def _as_told(
    event: CheckpointFound | CheckpointCompleted | CheckpointDiscarded,
    before: Checkpoint | None,
    time: datetime,
) -> Checkpoint:
    """Return a checkpoint after an event of its own."""
    place = event.step, intern(event.name), event.path
    if isinstance(event, CheckpointFound):
        return Checkpoint(*place, "partial", event.reason, since=time, unit=event.unit)
    if isinstance(event, CheckpointCompleted):
        same = before if before and before.digest == event.digest else None
        asked = same is not None and (same.skipped or same.asked)
        made = (event.kind, event.component, event.files, intern(event.digest), time, event.unit)
        return Checkpoint(event.step, place[1], event.path, "whole", "", *made, asked=asked)
    gone = Checkpoint(*place, "discarded", intern(event.reason), since=time, unit=event.unit)
    if event.kind != "skipped" or before is None or before.kind is None:
        return gone
    kept = {it: getattr(before, it) for it in ("kind", "component", "files", "digest")}
    return replace(gone, skipped=True, **kept)


def _is_scored(known: Mapping[str, Evaluation], id_: str) -> bool:
    before = known.get(id_)
    return before is not None and before.state == "scored"


def _moved(known: Mapping[str, Checkpoint], old: str, new: str) -> dict[str, Checkpoint]:
    """Return by name the checkpoints that lay below a folder, as they lie below another."""
    return {
        name: replace(it, path=new + it.path.removeprefix(old))
        for name, it in known.items()
        if it.path.startswith(f"{old}/")
    }


def _rescored(
    known: Mapping[str, Evaluation], event: EvaluationRescored, time: datetime
) -> Evaluation:
    """Return an evaluation with a further scorer's numbers beside the others."""
    before = known[event.evaluation]
    if before.completed is None:
        raise KeyError(f"{before.id} is not scored")
    scores = {**before.completed.scores, event.scorer: event.summary}
    completed = replace(before.completed, scores=scores)
    return replace(before, completed=completed, rescored={**before.rescored, event.scorer: time})


def _lean(event: EvaluationCompleted, id_: str) -> EvaluationCompleted:
    """Return the same, which shares with the others what most have in common.

    Its phases, which each has of its own, are counted elsewhere.
    """
    made, categories = event.made or _EMPTY, event.categories or _EMPTY
    own = replace(event, evaluation=id_, made=made, categories=categories, phases=_EMPTY)
    return replace(own, answered=event.answered or _EMPTY)


def joined_texts(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return all that several attempts told of themselves, where they differ one after another."""
    found = {**now, **before}
    for key in before.keys() & now.keys():
        if now[key] not in before[key].split(THEN):
            found[key] = f"{before[key]}{THEN}{now[key]}"
    return found
