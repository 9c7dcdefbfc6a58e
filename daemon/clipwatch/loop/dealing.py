"""Which of what waits goes to which slot: places are taken, and requests handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from errno import EAGAIN, EDQUOT, ENOMEM, ENOSPC
from pathlib import Path

from clipwatch.domain.allot import Cost, allot, share_out
from clipwatch.domain.kinds import FailureKind
from clipwatch.domain.queue import Pending
from clipwatch.domain.retries import batch_sizes
from clipwatch.domain.state import Checkpoint, Run, protocols_of
from clipwatch.domain.strengths import title
from clipwatch.executors.job import Job
from clipwatch.executors.messages import Failed
from clipwatch.kit.filesystems import make_private
from clipwatch.loop.attempt import Attempt, Share, memory_told, request
from clipwatch.loop.early import early
from clipwatch.loop.hand import Hand
from clipwatch.loop.keeping import Keeping
from clipwatch.loop.race import Race
from clipwatch.loop.run_log import RunLog
from clipwatch.pace import pace_of
from clipwatch.results.reading import images_of
from clipwatch.settings import Settings
from clipwatch.settings.simpletuner.rules import mistaken
from clipwatch.staging import Held

SHORTAGES: dict[int, FailureKind] = {
    ENOSPC: "disk",
    EDQUOT: "disk",
    ENOMEM: "memory",
    EAGAIN: "memory",
}
"""What an evaluator that cannot even be started fails for."""

_UNREAD = (
    "{} cannot be read where evaluations run: set stage to copy, and state_dir to a folder that is "
    "seen there"
)

Work = Attempt | Pending
"""What waits for a slot: an evaluation that is not begun, or what nobody makes of one in hand."""


class Unable(Exception):  # noqa: N818 - says what is so
    """Work that cannot be handed over, and why."""

    def __init__(self, work: Work, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.work = work.job.work if isinstance(work, Attempt) else work
        self.failed = Failed(kind, reason)


class Dealer:
    """Gives the slots that are free to what waits; used from the loop's thread.

    Args:
        settings: Of the run.
        log: Tells what is to be done, and hears what is.
        hand: Gets what is handed over.
        keeping: Has the checkpoints.
        race: Says how far each is made.
        clock: The time, in UTC.
    """

    def __init__(
        self,
        settings: Settings,
        log: RunLog,
        hand: Hand,
        keeping: Keeping,
        race: Race,
        clock: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self._log = log
        self._hand = hand
        self._keeping = keeping
        self._race = race
        self._clock = clock

    def deal(self, due: Sequence[Pending]) -> list[Unable]:
        """Hand out what is left of what is in hand, then what is due; return what fails."""
        hand, most = self._hand, self.settings.compute.most_slots
        places = ((it.id, self._keeping.held(it.checkpoint)) for it in due)
        held = {id_: place for id_, place in places if place}
        works: list[Work] = [*(it for it in hand.attempts.values() if it.lacks), *due]
        free = hand.seats.look(most) - len(hand.shares) if works else 0
        planned = list(zip(works, self._allot(works, free), strict=False))
        kept = [(it, width) for it, width in planned if isinstance(it, Attempt) or it.id in held]
        others = (it for it, _ in planned if isinstance(it, Pending) and it.id not in held)
        awaited = next(others, None)
        self._keeping.wait_for(awaited.checkpoint.name if awaited else "")
        try:
            self._take(kept)
        except Unable as error:
            return [error]
        if sum(width for _, width in kept) > len(hand.idle()):  # others have some of the slots
            alone = [it for it, _ in kept]
            kept = list(zip(alone, self._allot(alone, len(hand.idle())), strict=False))
        return [it for it in (self._hand_over(*it, held) for it in kept) if it]

    def _allot(self, works: Sequence[Work], slots: int) -> tuple[int, ...]:
        run = self._log.run
        left = [max(1, _left(run, it)) for it in works]
        weighed = 0 < len(works) < slots
        return allot(left, max(0, slots), _cost(run, self._clock()) if weighed else Cost())

    def _take(self, kept: Sequence[tuple[Work, int]]) -> None:
        """Have as many places as that needs, if there are so many.

        Raises:
            Unable: There is none.
        """
        seats = self._hand.seats
        more = sum(width for _, width in kept) - len(self._hand.idle())
        if more <= 0:
            seats.wait_no_more()
            return
        first, before = kept[0][0], frozenset(seats)
        try:
            refusal = seats.take(more, self.settings.compute.most_slots)
        except OSError as error:
            raise _not_started(first, error) from error
        if refusal is not None:
            raise Unable(first, "device", str(refusal))
        slots = [it.slot for it in seats if it not in before and it.slot]
        for told in dict.fromkeys(memory_told(self.settings, it) for it in slots):
            if told:
                self._log.say(told)  # before the first image is made

    def _hand_over(self, work: Work, width: int, held: dict[str, Held]) -> Unable | None:
        """Share work out to so many places that are free; return why it fails."""
        hand, settings = self._hand, self.settings
        barred = work.barred if isinstance(work, Attempt) else set[str]()
        places = [it for it in hand.idle() if it.slot and it.slot.name not in barred][:width]
        if not places:
            if isinstance(work, Attempt) and work.failed and hand.idle() and not hand.of(work):
                last = work.failed[-1]
                return Unable(work, last.kind, last.reason)  # as in every slot
            return None
        try:
            attempt = work if isinstance(work, Attempt) else self._begun(work, held[work.id])
        except Unable as error:
            return error
        run, images = self._log.run, images_of(settings.paths.state_dir, self._log.name)
        if evaluation := run.evaluations.get(attempt.job.id):
            evaluation = replace(evaluation, cramped=evaluation.cramped + attempt.cramped)
        batch = batch_sizes(run, evaluation, settings.compute.batch_size)
        dealt = share_out(attempt.left, len(places)) or [()]  # all are made, but none said so
        for seat, own in zip(places, dealt, strict=False):
            if seat.evaluator and seat.slot:
                share = Share(attempt, seat.evaluator, seat.slot, own)
                hand.put(seat, share)
                attempt.begin(share, request(settings, attempt, seat.slot, own, images, batch))
        return None

    def _begun(self, work: Pending, held: Held) -> Attempt:
        """Return a new attempt.

        Raises:
            Unable: It cannot be made.
        """
        settings, run = self.settings, self._log.run
        images = images_of(settings.paths.state_dir, self._log.name)
        try:
            make_private(images / work.id)
            readable = work.checkpoint.is_base or self._hand.seats.executor.reads(Path(held.path))
        except OSError as error:
            raise _not_started(work, error) from error
        if not readable:
            raise Unable(work, "stage", _UNREAD.format(held.path))
        evaluation, protocol = run.evaluations.get(work.id), run.protocols[work.protocol]
        done = len(evaluation.done) if evaluation else 0
        job = Job(work, protocol, title(run, work.id), done, held.path)
        kind = work.checkpoint.weights.kind
        if remark := _of_strength(run, work.checkpoint) or mistaken(settings, kind):
            self._log.say(f"{job.title}: {remark}")
        several = settings.compute.most_slots != 1
        ends = early(settings, self._log, work)
        most = self._race.images(work)
        return Attempt(job, held, self._log, ends, several=several, most=most)


def _left(run: Run, work: Work) -> int:
    if isinstance(work, Attempt):
        return len(work.left)
    protocol, evaluation = run.protocols[work.protocol], run.evaluations.get(work.id)
    images = len(protocol.prompts) * protocol.images_per_prompt
    return images - (len(evaluation.done) if evaluation else 0)


def _cost(run: Run, now: datetime) -> Cost:
    """Return what was measured of the run's checkpoints, as far as there is enough of them."""
    found = pace_of(run.protocols[run.protocol], run.settings, run, (), now.timestamp())
    each = (found.seconds - found.loading) / found.images
    return Cost(found.loading / found.times, each) if found.loading and each > 0 else Cost()


def _not_started(work: Work, error: OSError) -> Unable:
    kind = SHORTAGES.get(error.errno or 0, "internal")
    return Unable(work, kind, f"no evaluator can be started: {error}")


def _of_strength(run: Run, checkpoint: Checkpoint) -> str:
    """Say that several strengths are none for a checkpoint that is no adapter; else ""."""
    once = run.beside and len(protocols_of(run, checkpoint)) == 1
    return "it has no strength, and is scored once" if once else ""
