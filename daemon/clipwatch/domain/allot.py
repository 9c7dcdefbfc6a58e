"""Which slots do what: several checkpoints at once, or the prompts of one shared out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import cycle
from math import ceil

LOAD_IN_IMAGES = 8.0
"""What loading a checkpoint is taken to cost while nothing tells: as much as so many images."""

Image = tuple[str, int]
"""A prompt's id, and which of its images."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a slot takes for a checkpoint: to load it, and for each image.

    Only what they are to each other counts, so any unit will do, if it is the same for both.
    """

    loading: float = LOAD_IN_IMAGES
    each: float = 1.0


def allot(left: Sequence[int], slots: int, cost: Cost = Cost()) -> tuple[int, ...]:
    """Return how many of the free slots each of the first evaluations gets; the others wait.

    - If at least as many wait as slots are free, each of the first gets one: nothing is loaded
      twice, and no slot is idle.
    - Else all of them at once, with the slots dealt out evenly, or some first and the others after
      them with all the slots: whichever ends the queue sooner. What is loaded once in the one case
      is loaded in each slot in the other, and every further slot makes fewer images.
    - A slot that would take longer to load a checkpoint than to make its share of the images is not
      worth it, and stays free for what comes next.

    Args:
        left: Images that lack in each evaluation, in the order of the queue; none is 0.
        slots: That are free, or can be had; 0 or more.
        cost: Of a checkpoint in one slot.

    Returns:
        Numbers of slots, each at least 1, `slots` in all at most.
    """
    if len(left) >= slots:
        return (1,) * slots
    at_once = range(len(left), 0, -1)  # of two that end alike, the one that loads less
    plans = [_dealt(slots, count) for count in at_once]
    best = min(plans, key=lambda lanes: _end(left, lanes, cost), default=())
    return tuple(_useful(images, lane, cost) for images, lane in zip(left, best, strict=False))


def share_out(images: Sequence[Image], shares: int) -> list[tuple[Image, ...]]:
    """Return the images dealt out, prompt by prompt: all images of one stand in one share.

    Each share speaks for the whole as every beginning of the images does. There are as many as
    there are prompts at most, and none is empty.
    """
    prompts = list(dict.fromkeys(prompt for prompt, _ in images))
    dealt: list[list[Image]] = [[] for _ in range(min(shares, len(prompts)))]
    place = dict(zip(prompts, cycle(dealt), strict=False))
    for image in images:
        place[image[0]].append(image)
    return [tuple(it) for it in dealt]


def _dealt(slots: int, count: int) -> tuple[int, ...]:
    """Return the slots of each of `count` lanes, the first ones wider."""
    return tuple(slots // count + (lane < slots % count) for lane in range(count))


def _useful(images: int, slots: int, cost: Cost) -> int:
    """Return how many slots are worth their loading; 1 at least."""
    worth = images * cost.each / cost.loading if cost.loading > 0 else images
    return max(1, min(slots, int(min(images, worth))))  # which may be infinite


def _end(left: Sequence[int], lanes: Sequence[int], cost: Cost) -> float:
    """Return when the last evaluation ends, each taken up by the lane that is free first."""
    ends = [(0.0, lane) for lane in range(len(lanes))]
    for images in left:
        end, lane = ends[0]
        slots = _useful(images, lanes[lane], cost)
        heapreplace(ends, (end + cost.loading + cost.each * ceil(images / slots), lane))
    return max(ends)[0]
