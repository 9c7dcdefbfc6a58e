"""What another log knows and this one lacks, as events of this one. Pure.

Results are known by their evaluations, as everywhere: the same weights under the same protocol are
one. What is here stays, and what is taken over keeps its own times.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from clipwatch.domain.decided import Reference
from clipwatch.domain.events import (
    AdviceGiven,
    CheckpointCompleted,
    CheckpointDiscarded,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
    OutputDirMoved,
    ProtocolContinued,
    ProtocolDefined,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.further import EvaluationRescored, ImagesRescored, ScorerAdded
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.losses import LossMeasured, LossNotMeasured
from clipwatch.domain.names import leads_inside
from clipwatch.domain.state import Checkpoint, Evaluation, Run, name_evaluation
from clipwatch.domain.votes import Voted
from clipwatch.statistics import Comparison

Told = tuple[datetime, Event]
"""An event, and when it happened."""

_MADE: Final = (
    EvaluationStarted,
    LossMeasured,
    LossNotMeasured,
    ImagesScored,
    EvaluationCompleted,
)

ELSEWHERE: Final = "it does not lie here: its result was imported"


@dataclass(frozen=True, slots=True)
class Taking:
    """What this log lacks of a run of another one.

    Attributes:
        ids: Evaluation there → here, of all that are scored there, each once, under names that are
            safe to make folders of.
        fresh: Those there that are not scored here, in the order of their scoring.
        both: Those there that are scored here, too.
        protocols: Digest there → here.
        scorers: Those that came later and are the same here, or can become so.
    """

    ids: Mapping[str, str]
    fresh: tuple[str, ...]
    both: tuple[str, ...]
    protocols: Mapping[str, str]
    scorers: frozenset[str]


def taking(mine: Run, theirs: Run) -> Taking:
    """Say what is taken over into a run of this log."""
    protocols = {it: _standing(mine, theirs, it) for it in theirs.scored}
    scored = [theirs.evaluations[id_] for ids in theirs.scored.values() for id_ in ids]
    named = {
        name_evaluation(it.checkpoint, it.digest, protocols[it.protocol]): it.id for it in scored
    }
    ids = {there: own for own, there in named.items() if leads_inside(own)}
    there = {it.id for it in mine.evaluations.values() if it.state == "scored"}
    fresh = tuple(it for it, own in ids.items() if own not in there)
    both = tuple(it for it, own in ids.items() if own in there)
    return Taking(ids, fresh, both, protocols, frozenset(_alike(mine, theirs)))


def beginning(theirs: Run, version: str) -> list[Told]:
    """Return what makes another log's run one of this one, which does not know it; no results.

    Raises:
        ValueError: Nobody knows when it began.
    """
    if (began := theirs.begun) is None:
        raise ValueError(f"{theirs.name} has no beginning")
    settings = (theirs.tracker_names, dict(theirs.settings), version)
    told: list[Event] = [RunStarted(theirs.first_dir, theirs.protocol, *settings)]
    told += [_defined(theirs, it) for it in theirs.protocols]
    told += [
        ProtocolContinued(digest, by, theirs.protocols[digest])
        for by, digest in theirs.continued.items()
    ]
    if theirs.beside:
        told.append(SettingsChanged(theirs.protocol, *settings, theirs.beside))
    moved = OutputDirMoved(theirs.output_dir)
    later: list[Told] = [(theirs.there or began, moved)]
    return [(began, it) for it in told] + later * (theirs.output_dir != theirs.first_dir)


def surroundings(mine: Run, theirs: Run, take: Taking) -> list[Event]:
    """Return what a run has to know before the results come: protocols, scorers, checkpoints."""
    fresh = [theirs.evaluations[it] for it in take.fresh]
    lacking = dict.fromkeys(
        it.protocol for it in fresh if take.protocols[it.protocol] == it.protocol
    )
    told: list[Event] = [_defined(theirs, it) for it in lacking if it not in mine.protocols]
    further = {it: theirs.further[it] for it in sorted(take.scorers - mine.further.keys())}
    told += [ScorerAdded(it.spec, it.digest, it.told) for it in further.values()]
    done = {(it.checkpoint, it.digest) for it in map(theirs.evaluations.__getitem__, take.ids)}
    places = _places(mine, theirs)
    told += [
        _checkpoint(mine, theirs, known, places[name], scored=(name, known.digest) in done)
        for name, known in theirs.checkpoints.items()
        if name not in mine.checkpoints and any(name == it for it, _ in done)
    ]
    return told


def result(
    told: Sequence[Told],
    mine: Run,
    theirs: Evaluation,
    take: Taking,
    source: EvaluationImported,
    elsewhere: Callable[[Reference], Reference],
) -> list[Told]:
    """Return a result as this log's: all that another one tells of it, but for its failures.

    Args:
        told: What happened to the evaluation there.
        mine: The run that gets it.
        theirs: The evaluation, as it is there.
        take: What is taken over.
        source: Where it comes from, unless the other log has it from elsewhere itself.
        elsewhere: Names an evaluation of another run there as it is called here.
    """

    def pointed(known: Reference) -> Reference:
        here = take.ids.get(known.evaluation, known.evaluation)
        return elsewhere(known) if known.run else Reference(here)

    id_, protocol = take.ids[theirs.id], take.protocols[theirs.protocol]
    known = mine.checkpoints.get(theirs.checkpoint)
    step = known.step if known else theirs.step
    origin = next((it for _, it in told if isinstance(it, EvaluationImported)), source)
    given = {(_protocol(mine, it), it.kind, it.scorer) for it in mine.advice}
    found: list[Told] = []
    for time, event in _until_scored(told):
        match event:
            case EvaluationStarted():
                began = replace(event, evaluation=id_, step=step, protocol=protocol)
                other = event.reference and pointed(event.reference)
                found.append((time, replace(began, reference=other)))
                if len(found) == 1:
                    found.append((time, replace(origin, evaluation=id_)))
            case ImagesScored(images=images):
                own = tuple(replace(it, image=_own(it.image, theirs.id, id_)) for it in images)
                found.append((time, ImagesScored(id_, own)))
            case EvaluationCompleted():
                found.append((time, replace(_completed(event, take, pointed), evaluation=id_)))
            case AdviceGiven() if (protocol, event.kind, event.scorer) not in given:
                found.append((time, replace(event, evaluation=id_, step=step)))
            case LossMeasured() | LossNotMeasured() | ImagesDeleted():
                found.append((time, replace(event, evaluation=id_)))
    return found + later_scores(told, id_, take.scorers)


def _until_scored(told: Iterable[Told]) -> Iterator[Told]:
    """Leave out what was made when all was there already, as one that was imported meanwhile."""
    scored = False
    for time, event in told:
        again = isinstance(event, _MADE)
        if not (scored and again):
            yield time, event
        scored = scored or isinstance(event, EvaluationCompleted)


def moved(image: str, before: str, now: str) -> str:
    """Return an image's file, in the folder of its evaluation, where that has another name."""
    return f"{now}/{image.removeprefix(f'{before}/')}" if image.startswith(f"{before}/") else image


def _own(image: str | None, before: str, now: str) -> str | None:
    """Return an image's file here; None where there is none, or it could be any file."""
    own = moved(image or "", before, now)
    return own if leads_inside(own) else None


def later_scores(told: Iterable[Told], id_: str, scorers: Container[str]) -> list[Told]:
    """Return what scorers that came later gave an evaluation's images."""
    return [
        (time, replace(event, evaluation=id_))
        for time, event in told
        if isinstance(event, ImagesRescored | EvaluationRescored) and event.scorer in scorers
    ]


def votes(told: Iterable[Told], known: Container[str], mine: Run, take: Taking) -> list[Told]:
    """Return the votes that this log lacks; a question is answered once.

    Args:
        told: The other log's.
        known: The questions (`Voted.pair`) that were answered here.
        mine: The run, with all results.
        take: What was taken over.
    """
    found: list[Told] = []
    for time, event in told:
        if not isinstance(event, Voted) or event.pair in known:
            continue
        sides = take.ids.get(event.left, ""), take.ids.get(event.right, "")
        if all(it in mine.evaluations for it in sides):
            found.append((time, replace(event, left=sides[0], right=sides[1])))
    return found


def same_images(told: Iterable[Told], mine: Iterable[ImageScore]) -> bool:
    """Whether an evaluation's images are those that were scored here: of a copy, or imported."""
    theirs: dict[tuple[str, int], ImageScore] = {}
    for _, event in _until_scored(told):
        if isinstance(event, ImagesScored):
            theirs |= {(it.prompt_id, it.index): it for it in event.images}
    own = {(it.prompt_id, it.index): it for it in mine}
    return theirs.keys() == own.keys() and all(
        (it.scores, it.pixels) == (own[key].scores, own[key].pixels) for key, it in theirs.items()
    )


def left_out(theirs: Run, take: Taking) -> list[str]:
    """Return what is not taken over, and why."""
    used = {name for it in theirs.evaluations.values() for name in it.rescored}
    odd = sum(map(len, theirs.scored.values())) - len(take.ids)
    unnamed = [f"left out: results whose names cannot be taken over: {odd}"] if odd else []
    return unnamed + [
        f"left out: the scores by {name!r}: here that is another scorer"
        for name in sorted(used - take.scorers)
    ]


def unlike_units(mine: Run, theirs: Run) -> str:
    """Return why two runs cannot be one curve, "" if they can."""
    if not (mine.counts and theirs.counts) or mine.unit == theirs.unit:
        return ""
    return f"{theirs.name} counts {theirs.unit}s, where {mine.name} counts {mine.unit}s"


def _standing(mine: Run, theirs: Run, digest: str) -> str:
    """Return under which protocol results stand here: an older form may have gone on."""
    forms = [digest, *(by for by, its in theirs.continued.items() if its == digest)]
    known = (mine.continued.get(it, it) for it in forms)
    return next((it for it in known if it in mine.protocols), digest)


def _defined(theirs: Run, digest: str) -> ProtocolDefined:
    return ProtocolDefined(digest, theirs.protocols[digest], theirs.labels.get(digest, ""))


def _alike(mine: Run, theirs: Run) -> Iterator[str]:
    """Yield the scorers that came later and bear no other one's name here."""
    taken = {it.name for made in mine.protocols.values() for it in made.scorers}
    for name, known in theirs.further.items():
        own = mine.further.get(name)
        if own is None and name not in taken:
            yield name
        if own is not None and (own.spec, own.digest) == (known.spec, known.digest):
            yield name


def _places(mine: Run, theirs: Run) -> dict[str, int]:
    """Return the steps of their checkpoints here: of files a place that no other one has."""
    places = {it.name: it.step for it in mine.checkpoints.values()}
    for it in sorted(theirs.checkpoints.values(), key=lambda it: it.step):
        if it.name not in places:
            taken = it.unit == "file" and it.step in places.values()
            places[it.name] = max(places.values()) + 1 if taken else it.step
    return places


def _checkpoint(mine: Run, theirs: Run, known: Checkpoint, step: int, *, scored: bool) -> Event:
    """Tell of a checkpoint as if it lay here; weights without a result are none to wait for."""
    path = known.path
    if path == theirs.output_dir or path.startswith(f"{theirs.output_dir}/"):
        path = mine.output_dir + path.removeprefix(theirs.output_dir)
    if known.state == "whole" and known.kind and scored and _stays_inside(known):
        whole = known.weights
        made = (whole.kind, whole.component, whole.files)
        return CheckpointCompleted(step, known.name, path, *made, known.digest, known.unit)
    reason = known.reason if known.state == "discarded" and not known.skipped else ELSEWHERE
    return CheckpointDiscarded(step, known.name, path, "vanished", reason, known.unit)


def _stays_inside(known: Checkpoint) -> bool:
    """Whether a copy of it would lie where it belongs; another one's log may name any file."""
    return "/" not in known.digest and all(leads_inside(it.path) for it in known.files)


def _completed(
    event: EvaluationCompleted, take: Taking, pointed: Callable[[Reference], Reference]
) -> EvaluationCompleted:
    """Return a result that names others as they are called here."""
    found, told = event.decision, event.estimate
    return replace(
        event,
        against_base=_named(event.against_base, take),
        against_best=_named(event.against_best, take),
        decision=found and replace(found, reference=pointed(found.reference)),
        estimate=told and replace(told, on=tuple(take.ids.get(it, it) for it in told.on)),
    )


def _named(known: Comparison | None, take: Taking) -> Comparison | None:
    if known is None:
        return None
    return replace(known, a=take.ids.get(known.a, known.a), b=take.ids.get(known.b, known.b))


def _protocol(run: Run, advice: AdviceGiven) -> str:
    return run.evaluations[advice.evaluation].protocol
