"""Some prompts out of many, the same ones wherever and whenever they are chosen."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from clipwatch.domain.protocol import Prompt

_SEED = "clipwatch prompts 1"


def stratified(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Return the prompts in an order of which every beginning speaks for the whole.

    It begins with one prompt of each category, the large categories first, and goes on in
    proportion to their sizes (Webster's method). Which prompt of a category comes when is decided
    by a hash of its id, so the order of the source has no part in it.
    """
    categories: dict[str, list[tuple[str, Prompt]]] = defaultdict(list)
    for prompt in prompts:
        digest = hashlib.sha256(f"{_SEED}\0{prompt.id}".encode()).hexdigest()
        categories[prompt.category].append((digest, prompt))
    placed = [
        (rank > 0, (2 * rank + 1) / len(members), digest, prompt.id, prompt)
        for members in categories.values()
        for rank, (digest, prompt) in enumerate(sorted(members, key=lambda it: it[0]))
    ]
    return [prompt for *_, prompt in sorted(placed, key=lambda it: it[:4])]


def subset(prompts: Sequence[Prompt], most: int | None) -> tuple[Prompt, ...]:
    """Return the first `most` of the stratified order, in the order of the source; None for all.

    Of two subsets the smaller one lies in the larger one.
    """
    if most is None:
        return tuple(prompts)
    chosen = {prompt.id for prompt in stratified(prompts)[:most]}
    return tuple(prompt for prompt in prompts if prompt.id in chosen)
