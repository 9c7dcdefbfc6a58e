"""How far each checkpoint is made where only the best is asked for, as `clipwatch rank` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

from clipwatch.domain.decided import EvaluationOutdone
from clipwatch.domain.events import EvaluationReopened
from clipwatch.domain.queue import Pending
from clipwatch.domain.state import Evaluation, evaluation_of, protocols_of
from clipwatch.loop.attempt import in_order
from clipwatch.loop.run_log import RunLog
from clipwatch.models.scorers import scales_of
from clipwatch.results.reading import read_images
from clipwatch.results.tables import score_table
from clipwatch.settings import Settings
from clipwatch.statistics.scores import prompt_means


class Race:
    """Has checkpoints made in rounds, and lets those be that are surely not the best.

    All that is decided follows from the scores in the log (see `statistics.racing`): after a kill,
    and where others have come, it is worked out anew from the first round on.

    Args:
        settings: Of the run; without `race` everything is made to its end.
        log: Tells what is due and what is scored, and hears who is outdone.
        clock: The time, in UTC.
    """

    def __init__(self, settings: Settings, log: RunLog, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self._log, self._clock = log, clock
        self._prompts = 0  # that all are to have; 0 before the first round
        self._seen: list[tuple[str, str, int]] = []  # of which that was worked out
        self._means: dict[tuple[str, str, int], dict[str, float]] = {}  # as in `_seen`

    def due(self, in_hand: Collection[str], *, ready: bool) -> list[Pending]:
        """Return what is to be evaluated now; when a round is over, write down who is left.

        Args:
            in_hand: The evaluations of which images are made just now.
            ready: The protocol is that of the models as they are now.
        """
        if not (self.settings.evaluating.race and ready):
            return self._log.due
        if not in_hand:
            self._look()
        return [it for it in self._log.due if it.checkpoint.is_base or self._lacks(it)]

    def images(self, work: Pending) -> int | None:
        """Return how many of its images, in their order, are made for now; None for all."""
        if not self.settings.evaluating.race or work.checkpoint.is_base:
            return None
        return self._prompts * self._log.run.protocols[work.protocol].images_per_prompt

    def _lacks(self, work: Pending) -> bool:
        protocol, known = self._log.run.protocols[work.protocol], self._log.run.evaluations
        if self._prompts >= len(protocol.prompts):
            return True  # be it but its result
        done = known[work.id].done if work.id in known else frozenset()
        return not done.issuperset(in_order(protocol, early=True)[: self.images(work)])

    def _look(self) -> None:
        """Work out who is left, unless nothing has come since."""
        run, due = self._log.run, [it for it in self._log.due if not it.checkpoint.is_base]
        there = (it for it in run.checkpoints.values() if it.state == "whole" and not it.is_base)
        only = self.settings.watching.only
        named = [it for it in there if not only or it.name in only]
        both = [(it, protocol) for it in named for protocol in protocols_of(run, it)]
        begun = [found for it in both if (found := evaluation_of(run, *it))]
        seen = [_key(it) for it in begun] + [(it.id, "", 0) for it in due]
        if seen != self._seen:
            self._judge(begun, due)
            self._seen = seen

    def _judge(self, begun: Sequence[Evaluation], due: Sequence[Pending]) -> None:
        from clipwatch.statistics.racing import race  # numpy: a daemon that idles for days lacks it

        run = self._log.run
        protocol = run.protocols[run.protocol]
        order = list(dict.fromkeys(prompt for prompt, _ in in_order(protocol, early=True)))
        around = next((it.environment for it in begun if it.environment), {})
        means = {it.id: dict[str, float]() for it in due}
        means |= {it.id: self._means_of(it, protocol.images_per_prompt) for it in begun}
        coming = {it.id for it in due}
        found = race(means, order, scales_of(protocol, around)[""], coming)
        self._prompts = found.prompts
        for id_ in coming & found.outdone.keys():
            it = found.outdone[id_]
            told = EvaluationOutdone(id_, it.by, it.prompts, len(order), it.delta)
            self._log.record_evaluation(id_, told)
        for known in begun:  # beside others it was; it goes on where these have come further
            before = known.outdone if known.state == "outdone" else None
            if before and known.id not in found.outdone and before.prompts < found.prompts:
                self._log.record_evaluation(known.id, EvaluationReopened(known.id, self._clock()))

    def _means_of(self, evaluation: Evaluation, images: int) -> dict[str, float]:
        """Return the means of the prompts of which all images are there."""
        key = _key(evaluation)
        if key not in self._means:
            made = self._log.read(
                lambda it: read_images(it, self._log.name, evaluation.id, further=False)
            )
            table = score_table(made).items()
            whole = {prompt: scores for prompt, scores in table if len(scores) == images}
            self._means[key] = prompt_means(whole)
        return self._means[key]


def _key(evaluation: Evaluation) -> tuple[str, str, int]:
    return evaluation.id, evaluation.state, len(evaluation.done)
