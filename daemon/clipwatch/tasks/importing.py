"""Another log's results taken over into this one: nothing doubled, nothing there written to."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from clipwatch import __version__
from clipwatch.domain import importing
from clipwatch.domain.decided import Reference
from clipwatch.domain.events import EvaluationCompleted, ImagesDeleted, ImagesScored
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.importing import Taking, Told
from clipwatch.domain.names import evaluation_stream, votes_stream
from clipwatch.domain.state import Evaluation, Run, State
from clipwatch.journal import Recorded, log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.loop.console import Console
from clipwatch.loop.recognising import counterpart, free_name
from clipwatch.results.differences import unlike
from clipwatch.results.figures import plural
from clipwatch.results.named import run_named
from clipwatch.results.reading import images_of, read_images, read_votes
from clipwatch.tasks.merging import Merging
from clipwatch.tasks.ours import Ours, writing
from clipwatch.tasks.pictures import bring, is_name
from clipwatch.tasks.sources import Source, opened


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run of the other log, or would.

    Attributes:
        theirs: Its name there.
        run: Its name here.
        new: This log did not know it.
        taken: Results that were taken over.
        had: Those that were here.
        apart: Of those scored in both the greatest difference of the means.
        later: Results that were here and got the scores of scorers that came later.
        votes: Votes that were taken over.
        scores: Images whose scores came in parts.
        images: Files that were taken over.
        notes: What else is to be known, a line each: curves of their own, and what was left out.
    """

    theirs: str
    run: str
    new: bool
    taken: int = 0
    had: int = 0
    apart: float = 0.0
    later: int = 0
    votes: int = 0
    scores: int = 0
    images: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be taken over.

    Attributes:
        sources: A state directory, a log's file or a table; or files of parts (see `grouped`).
        runs: Beginnings of the names of its runs; () for all.
        into: Beginning of the name of the run here that gets them; "" for the one that it is.
        dry: Nothing is written, only told.
    """

    sources: tuple[Path, ...]
    runs: tuple[str, ...] = ()
    into: str = ""
    dry: bool = False


def take_over(state_dir: Path, asked: Asked, console: Console) -> list[Outcome]:
    """Take over what this log lacks; what came of each run with results.

    What an earlier call has taken over stays as it is, also where that was ended amid it. A daemon
    may watch the runs meanwhile, and publishes what is new.

    Args:
        state_dir: Of the log that is added to, absolute; made if it is not there.
        asked: What.
        console: Hears how far it is.

    Raises:
        ClipwatchError: The source cannot be read, or has nothing; the text says why.
        DiskFull: There is no space; what is taken over stays, and another call goes on.
    """
    log = log_file(state_dir)
    console.working("import", f"reading {asked.sources[0]}")
    state = read_state(log)
    protocols = {it: made for run in state.values() for it, made in run.protocols.items()}
    with opened(asked.sources, log, protocols) as source:
        named = [run_named(source.state, it) for it in asked.runs] or [*source.state.values()]
        runs = [it for it in {run.name: run for run in named}.values() if any(it.scored.values())]
        if not runs:
            told = "; ".join(source.left_out) or "nothing is scored there"
            raise ClipwatchError(f"{asked.sources[0]}: {told}")
        if asked.into and len(runs) > 1:
            names = ", ".join(it.name for it in runs)
            raise SettingsError("--into takes the results of one run", fix=f"name one of {names}")
        with writing(state_dir, dry=asked.dry) as ours:
            work = [_Work(ours, source, asked, run, state_dir, console) for run in runs]
            found = [it.outcome() for it in work]
    if source.left_out:
        left_out = (f"left out: {it}" for it in source.left_out)
        found[-1] = replace(found[-1], notes=(*found[-1].notes, *left_out))
    return found


class _Work:
    """One run of the other log.

    Args:
        ours: This log.
        source: The other one.
        asked: What is asked for.
        theirs: The run.
        state_dir: Of this log.
        console: Hears how far it is.
    """

    def __init__(
        self,
        ours: Ours,
        source: Source,
        asked: Asked,
        theirs: Run,
        state_dir: Path,
        console: Console,
    ) -> None:
        self._ours, self._source, self._asked, self._theirs = ours, source, asked, theirs
        self._state_dir, self._console = state_dir, console
        self._name = ""
        self._taken = self._scores = self._images = 0
        self._notes: list[str] = []
        self._others: dict[Reference, Reference] = {}  # of other runs, there → here

    def outcome(self) -> Outcome:
        """Take over what lacks of it."""
        new = self._begin()
        theirs, take = self._theirs, importing.taking(self._mine, self._theirs)
        self._add(f"run/{self._name}", self._surroundings)
        act = self._merge if self._source.parts else self._result
        for done, id_ in enumerate(take.fresh):
            told = f"{done} of {len(take.fresh)} results"
            self._console.working(theirs.name, told, done, len(take.fresh))
            act(id_, take)
        both = [(theirs.evaluations[it], self._mine.evaluations[take.ids[it]]) for it in take.both]
        later = sum(self._later(it, own, take) for it, own in both)
        votes = self._add(votes_stream(self._name), lambda: self._votes(take))
        for id_ in take.both if self._source.parts else ():
            self._merge(id_, take)
        means = [abs(it.clip.mean - own.clip.mean) for it, own in both if it.clip and own.clip]
        return Outcome(
            theirs=theirs.name,
            run=self._name,
            new=new,
            taken=self._taken,
            had=len(take.both),
            apart=max(means, default=0.0),
            later=later,
            votes=len(votes),
            scores=self._scores,
            images=self._images,
            notes=(*self._notes, *self._beside(take), *importing.left_out(theirs, take)),
        )

    @property
    def _mine(self) -> Run:
        return self._ours.state[self._name]

    def _beside(self, take: Taking) -> Iterator[str]:
        """Tell of results that this run's present curve does not show."""
        mine, there = self._mine, self._theirs.evaluations
        counts = Counter(take.protocols[there[it].protocol] for it in take.fresh)
        now = mine.protocols.get(mine.protocol)
        for digest, count in counts.items():
            if digest not in mine.present and now is not None:
                how = "; ".join(unlike(mine.protocols[digest], now))
                told = f"{plural(count, 'result')} under other settings, hence in another curve"
                yield f"{told} ({digest}): {how}"

    def _add(self, stream: str, decide: Callable[[], Sequence[Told]]) -> Sequence[Told]:
        return self._ours.add(self._name, stream, decide)

    def _begin(self) -> bool:
        """Find the run here, or begin it; return whether it is new.

        Raises:
            ClipwatchError: There is none, and none can be made of it; or it cannot be that one.
        """
        state, theirs = self._ours.state, self._theirs
        into = self._asked.into
        self._name = run_named(state, into).name if into else counterpart(state, theirs)
        if self._name:
            if unlike := importing.unlike_units(self._mine, theirs):
                raise ClipwatchError(f"{unlike}: one curve cannot show both")
            return False
        if self._source.state_dir is None and not self._source.parts:
            known = ", ".join(state)
            problem = (
                f"no run here has seen the weights of {theirs.name}, and a table tells no more"
            )
            raise ClipwatchError(problem, fix=f"name its run here with --into: {known}")
        free = theirs.name not in state and is_name(theirs.name)
        self._name = theirs.name if free else free_name(state, theirs.output_dir)

        def beginning() -> Sequence[Told]:
            if self._name in self._ours.state:
                problem = f"another clipwatch has just begun {self._name}"
                raise ClipwatchError(problem, fix="call it again")
            return importing.beginning(theirs, __version__)

        self._add(f"run/{self._name}", beginning)
        return True

    def _surroundings(self) -> Sequence[Told]:
        now, mine = datetime.now(UTC), self._mine
        take = importing.taking(mine, self._theirs)
        return [(now, it) for it in importing.surroundings(mine, self._theirs, take)]

    def _result(self, id_: str, take: Taking) -> None:
        """Take over one result, its images first: trackers may show it as soon as it is there."""
        theirs, found = self._theirs.evaluations[id_], list(self._read(id_))
        seq = next((it.seq for it in found if isinstance(it.event, EvaluationCompleted)), 0)
        origin = EvaluationImported(id_, str(self._source.path), self._theirs.name, seq)
        told = [(it.time, it.event) for it in found]

        def decide() -> Sequence[Told]:
            known = self._mine.evaluations.get(take.ids[id_])
            if known is not None and known.state == "scored":
                return ()
            return importing.result(told, self._mine, theirs, take, origin, self._elsewhere)

        self._bring(told, id_, take.ids[id_])
        self._add(evaluation_stream(self._name, take.ids[id_]), decide)
        self._taken += 1

    def _elsewhere(self, known: Reference) -> Reference:
        if known not in self._others:
            self._others[known] = _called(known, self._source.state, self._ours.state, self._name)
        return self._others[known]

    def _merge(self, id_: str, take: Taking) -> None:
        """Add up the parts of one evaluation."""
        theirs, own, mine = self._theirs.evaluations[id_], take.ids[id_], self._mine
        known = mine.checkpoints.get(theirs.checkpoint)
        parts = self._source.parts[evaluation_stream(self._theirs.name, id_)]
        merging = Merging(
            *(self._ours, self._state_dir, self._name, self._theirs.name, theirs, own),
            take.protocols[theirs.protocol],
            known.step if known else theirs.step,
            parts,
        )
        found = merging.merge(dry=self._asked.dry)
        self._taken += found.whole
        self._scores += found.scores
        self._images += found.images
        self._notes += found.notes

    def _bring(self, told: Sequence[Told], theirs: str, own: str) -> None:
        """Have the images of a result here, as far as they are kept there."""
        folder, here = self._source.state_dir, images_of(self._state_dir, self._name)
        if own in self._mine.evaluations and not self._asked.dry:
            shutil.rmtree(here / own, ignore_errors=True)  # begun here: those are other images
        if folder is None or not is_name(self._theirs.name):
            return
        there = images_of(folder, self._theirs.name)
        for name in dict.fromkeys(_kept(told)):
            now = importing.moved(name, theirs, own)
            self._images += bring(there, name, here, now, dry=self._asked.dry)

    def _later(self, theirs: Evaluation, own: Evaluation, take: Taking) -> bool:
        """Take over what scorers that came later gave images that were scored here, too."""
        names = (theirs.rescored.keys() & take.scorers) - own.rescored.keys()
        if not names or self._ours.journal is None:
            return False
        found = [(it.time, it.event) for it in self._read(theirs.id)]
        mine = read_images(self._ours.journal, self._name, own.id, further=False)
        if not importing.same_images(found, mine):
            return False

        def decide() -> Sequence[Told]:
            lacking = names - self._mine.evaluations[own.id].rescored.keys()
            return importing.later_scores(found, own.id, lacking)

        return bool(self._add(evaluation_stream(self._name, own.id), decide))

    def _votes(self, take: Taking) -> Sequence[Told]:
        journal = self._ours.journal
        known = {it.pair for it in read_votes(journal, self._name)} if journal else set()
        found = self._source.stream(votes_stream(self._theirs.name))
        told = ((it.time, it.event) for it in found)
        return importing.votes(told, known, self._mine, take)

    def _read(self, id_: str) -> Iterable[Recorded]:
        return self._source.stream(evaluation_stream(self._theirs.name, id_))


def _called(known: Reference, theirs: State, ours: State, own: str) -> Reference:
    """Return another run's evaluation as it is called here; as there, if nobody here knows the run.

    Args:
        known: As it is called there.
        theirs: The runs there.
        ours: Those here.
        own: The run here that asks.
    """
    other = theirs.get(known.run)
    name = counterpart(ours, other) if other else ""
    if not (other and name):
        return known
    ids = importing.taking(ours[name], other).ids
    return Reference(ids.get(known.evaluation, known.evaluation), "" if name == own else name)


def _kept(told: Iterable[Told]) -> list[str]:
    """Return the files of an evaluation's images that were not deleted."""
    names: list[str] = []
    for _, event in told:
        match event:
            case ImagesScored(images=images):
                names += [it.image for it in images if it.image]
            case ImagesDeleted():
                names.clear()
    return names
