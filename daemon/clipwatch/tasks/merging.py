"""Parts of an evaluation added up in a log; what is whole by that gets its result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from clipwatch.domain.events import EvaluationCompleted, EvaluationStarted, ImagesScored
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.importing import Told, moved
from clipwatch.domain.merging import Had, Key, additions, had, lacking, unlike
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.state import Evaluation, Run
from clipwatch.domain.strengths import title
from clipwatch.judging.base import Question
from clipwatch.judging.log_judge import judge
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.filesystems import make_private
from clipwatch.models.scorers import scales_of
from clipwatch.results.figures import plural
from clipwatch.results.reading import images_of
from clipwatch.settings import KEYS
from clipwatch.tasks.ours import Ours
from clipwatch.tasks.partfile import Part
from clipwatch.tasks.pictures import bring


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of an evaluation's parts: new scores, files, and whether it is whole since then."""

    scores: int
    images: int
    whole: bool
    notes: tuple[str, ...] = ()


class Merging:
    """The parts of one evaluation, and the run of this log that gets them.

    Args:
        ours: This log.
        state_dir: Its folder.
        run: The run's name.
        there: That of the parts' run.
        theirs: The evaluation, as the parts have it.
        own: Its name here.
        protocol: Under which it stands here.
        step: Of its checkpoint here.
        parts: In any order.
    """

    def __init__(
        self,
        ours: Ours,
        state_dir: Path,
        run: str,
        there: str,
        theirs: Evaluation,
        own: str,
        protocol: str,
        step: int,
        parts: Sequence[Part],
    ) -> None:
        self._ours, self._run, self._own, self._parts = ours, run, own, parts
        self._there, self._theirs, self._images = there, theirs, images_of(state_dir, run)
        place = (own, theirs.checkpoint, step, theirs.digest, protocol)
        self._begun = EvaluationStarted(*place, environment={})
        self._stream = evaluation_stream(run, own)
        self._version = 0  # up to which the stream was read
        self._known: dict[Key, Had] = {}
        self._latest = datetime.min.replace(tzinfo=UTC)
        self._scales = scales_of(parts[0].protocol.protocol)

    def merge(self, *, dry: bool) -> Merged:
        """Add what this log lacks, and complete what is whole.

        Raises:
            ClipwatchError: Two parts, or one and this log, have different scores for an image.
        """
        if self._is_scored:
            return Merged(0, 0, whole=False, notes=self._apart())
        known, scores, images = dict(self._had()), 0, 0
        fresh: list[tuple[Part, dict[Key, Had]]] = []
        for part in self._parts:
            new = self._lacking(known, part)
            known |= new
            fresh.append((part, new))
        for part, new in fresh:
            images += sum(self._bring(part, it, dry=dry) for it in new.values())
            told = self._ours.add(self._run, self._stream, partial(self._added, part))
            scores += sum(len(it.images) for _, it in told if isinstance(it, ImagesScored))
            if dry:
                self._known |= new
        total = len([*self._parts[0].protocol.protocol.images()])
        done = len(self._evaluation.done) if self._evaluation else 0
        if self._is_scored or (done == total and self._complete(dry=dry)):
            return Merged(scores, images, whole=True)
        name = title(self._mine, self._own)
        lacks = f"{name}: {done} of {plural(total, 'image')} are here: it waits for the others"
        return Merged(scores, images, whole=False, notes=(lacks,))

    @property
    def _mine(self) -> Run:
        return self._ours.state[self._run]

    @property
    def _evaluation(self) -> Evaluation | None:
        return self._mine.evaluations.get(self._own)

    @property
    def _is_scored(self) -> bool:
        return self._evaluation is not None and self._evaluation.state == "scored"

    def _had(self) -> dict[Key, Had]:
        """Return what is here at this moment; each event is read once."""
        if self._ours.journal is not None:
            new = [*self._ours.journal.read(self._version, stream=self._stream)]
            self._version += len(new)
            self._known |= had(it.event for it in new)
            times = (it.time for it in new if isinstance(it.event, ImagesScored))
            self._latest = max(self._latest, *times, self._latest)
        return self._known

    def _lacking(self, known: Mapping[Key, Had], part: Part) -> dict[Key, Had]:
        try:
            return lacking(known, str(part.path), part.scored, self._scales)
        except ValueError as error:
            fix = "remove the wrong one, and score its shard again"
            raise ClipwatchError(str(error), fix=fix) from error

    def _added(self, part: Part) -> Sequence[Told]:
        """Decide by what is here at this moment: a daemon may score the same."""
        if self._is_scored:
            return ()
        new = [it.image for it in self._lacking(self._had(), part).values()]
        source = EvaluationImported(self._own, str(part.path), self._there)
        return additions(part.evaluated, new, self._begun, source, self._evaluation) if new else ()

    def _bring(self, part: Part, new: Had, *, dry: bool) -> bool:
        """Have a file here before the log tells of it; one that it does not know is another."""
        if not new.image.image:
            return False
        name = new.image.image.removeprefix(f"{self._theirs.id}/")
        here = moved(new.image.image, self._theirs.id, self._own)
        if not dry:
            make_private((self._images / here).parent)
            (self._images / here).unlink(missing_ok=True)
        return bring(part.path.parent, name, self._images, here, dry=dry)

    def _apart(self) -> tuple[str, ...]:
        """Say which parts have other scores than the result that is here, and stays."""
        mine = self._had()
        found = []
        for part in self._parts:
            both = [
                (mine[key], it) for it in part.scored if (key := (it.prompt_id, it.index)) in mine
            ]
            if other := sum(bool(unlike(one.image, it, self._scales)) for one, it in both):
                count = plural(other, "image")
                found.append(f"{part.path} has other scores for {count}; those that were here stay")
        return tuple(found)

    def _complete(self, *, dry: bool) -> bool:
        """Write the result down, unless a daemon has just done so."""
        if dry or self._ours.journal is None:
            return True
        log, advice = str(self._ours.journal.path), _advice(self._mine.settings)
        found = judge(Question(log, self._run, self._own, **advice))
        ends = [part.finished for part in self._parts if part.finished]
        completed = EvaluationCompleted(
            self._own,
            found.scores,
            truncated=max((it.truncated for it in ends), default=0),
            categories=found.categories,
            against_base=found.against_base,
            against_best=found.against_best,
            answered=found.answered,
        )
        self._had()
        at = self._latest
        told: list[Told] = [(at, completed), *((at, it) for it in found.advice)]
        self._ours.add(self._run, self._stream, lambda: () if self._is_scored else told)
        return True


def _advice(told: Mapping[str, str]) -> dict[str, Any]:
    """Return from where on something is advised, by the settings with which a run was watched."""
    found: dict[str, Any] = {}
    for name in ("low", "saturated", "after", "worth", "stretch"):
        key, written = KEYS[f"advice.{name}"], told.get(f"advice.{name}", "")
        try:
            read = json.loads(written) if written.startswith("{") else written
            found[name] = key.becomes(key.read(read) if written else key.default)
        except ValueError:
            found[name] = key.becomes(key.default)
    return found
