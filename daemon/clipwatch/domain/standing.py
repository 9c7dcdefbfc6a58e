"""Which results a run has, the last of a checkpoint's standing for it; a part of the fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from clipwatch.domain.state import Checkpoint, Evaluation, evaluation_id


class Standing:
    """Evaluations by protocol in the making, in the order of their scoring.

    Args:
        before: As they were; never changed.
        known: All evaluations, with what happens to them meanwhile.
    """

    def __init__(
        self, before: Mapping[str, Sequence[str]], known: Mapping[str, Evaluation]
    ) -> None:
        self._scored = {protocol: list(ids) for protocol, ids in before.items()}
        self._known = known
        self._counts: Counter[tuple[str, str]] | None = None  # by protocol and checkpoint

    def final(self) -> dict[str, Sequence[str]]:
        """Return all of them; nothing may be added any more."""
        return {protocol: tuple(ids) for protocol, ids in self._scored.items()}

    def last(self, protocol: str) -> Evaluation | None:
        """Return what was scored last under a protocol."""
        ids = self._scored.get(protocol)
        return self._known[ids[-1]] if ids else None

    def add(self, fresh: Evaluation) -> None:
        """Add what is scored."""
        self._scored.setdefault(fresh.protocol, []).append(fresh.id)
        if self._counts is not None:
            self._counts[fresh.protocol, fresh.checkpoint] += 1

    def back(self, checkpoint: Checkpoint) -> Iterator[str]:
        """Let weights that came back stand for their step again; yield which results do."""
        for protocol, ids in self._scored.items():
            id_ = evaluation_id(checkpoint, protocol)
            if id_ not in self._known:  # most are new, and a long log has many
                continue
            own = [it for it in ids if self._known[it].checkpoint == checkpoint.name]
            if id_ in own[:-1]:
                yield self._let(ids, id_)

    def imported(self, fresh: Evaluation, there: Checkpoint | None) -> Iterator[str]:
        """Let what was imported last stand only if no better one does; yield which does again.

        That is the one of the weights that lie there now, else the one that was finished last.
        """
        if self._counts is None:  # once, as a long log has many
            all_ = (self._known[it] for ids in self._scored.values() for it in ids)
            self._counts = Counter((it.protocol, it.checkpoint) for it in all_)
        if self._counts[fresh.protocol, fresh.checkpoint] == 1:
            return
        ids, present = self._scored[fresh.protocol], there and evaluation_id(there, fresh.protocol)
        own = [it for it in ids if self._known[it].checkpoint == fresh.checkpoint]
        best = max(own, key=lambda it: (it == present, _finished(self._known[it])))
        if best != own[-1]:
            yield self._let(ids, best)

    @staticmethod
    def _let(ids: list[str], stand: str) -> str:
        ids.remove(stand)
        ids.append(stand)
        return stand


def _finished(evaluation: Evaluation) -> float:
    return evaluation.finished.timestamp() if evaluation.finished else 0.0
