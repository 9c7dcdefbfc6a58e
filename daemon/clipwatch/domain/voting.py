"""Which two images a voter is shown next: without names, so that every vote tells something new."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations

from clipwatch.domain.kinds import Choice, Question
from clipwatch.domain.votes import Voted

Image = tuple[str, int]
"""A prompt's id, and which of its images."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is asked: two images of a prompt from the same noise; fields as in `Voted`."""

    id: str
    question: Question
    prompt_id: str
    index: int
    left: str
    right: str

    def voted(self, choice: Choice) -> Voted:
        """Return the vote of who chose so."""
        asked = self.question, self.prompt_id, self.index
        return Voted(self.id, *asked, self.left, self.right, choice)


def next_pair(
    images: Mapping[str, AbstractSet[Image]], votes: Iterable[Voted], question: Question, seed: str
) -> Pair | None:
    """Return what is asked next, None when all was.

    Two evaluations that met least, of these two with few votes; then a prompt on which they met
    least, of these one with few votes. Lots decide the rest, and who stands on the left. The same
    votes and seed draw the same lots.

    Args:
        images: By evaluation, of which images there are files.
        votes: All so far; those on another question do not count.
        question: What is asked.
        seed: Of the lots.
    """
    mine = [it for it in votes if it.question == question]
    met = Counter(frozenset((it.left, it.right)) for it in mine)
    on = Counter((frozenset((it.left, it.right)), it.prompt_id) for it in mine)
    shown = Counter(name for it in mine for name in (it.left, it.right))
    asked = Counter(it.prompt_id for it in mine)
    done = {(frozenset((it.left, it.right)), it.prompt_id, it.index) for it in mine}

    def lot(*what: object) -> str:
        return _digest(seed, question, len(mine), *what)

    def by_pair(two: tuple[str, str]) -> tuple[int, int, str]:
        return met[frozenset(two)], shown[two[0]] + shown[two[1]], lot(*two)

    for two in sorted(combinations(sorted(images), 2), key=by_pair):
        both = frozenset(two)
        there = [it for it in images[two[0]] & images[two[1]] if (both, *it) not in done]
        if there:
            _, _, _, image = min((on[both, it[0]], asked[it[0]], lot(*it), it) for it in there)
            (_, left), (_, right) = sorted((lot(*image, it), it) for it in two)
            return Pair(_digest(seed, question, *image, left, right), question, *image, left, right)
    return None


def _digest(*what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
