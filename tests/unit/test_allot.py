"""Which slots do what: nothing is loaded twice unless the queue ends sooner by it."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.allot import LOAD_IN_IMAGES, Cost, allot, share_out

lefts = st.lists(st.integers(1, 500), min_size=1, max_size=8)
costs = st.builds(Cost, st.floats(0.0, 100.0), st.floats(0.01, 10.0))


@given(lefts, st.integers(0, 12), costs)
def test_no_slot_is_dealt_twice_and_the_first_comes_first(
    left: list[int], slots: int, cost: Cost
) -> None:
    """Never more than there are, none without an image; somebody begins if there is a slot."""
    found = allot(left, slots, cost)
    assert sum(found) <= slots
    assert len(found) <= len(left)
    assert all(1 <= it <= images for it, images in zip(found, left, strict=False))
    assert bool(found) == (slots > 0)


@given(lefts, st.integers(1, 12), costs)
def test_where_as_many_wait_as_slots_are_free_each_gets_one(
    left: list[int], slots: int, cost: Cost
) -> None:
    """So nothing is loaded twice, and no slot is idle, whatever it costs."""
    if len(left) >= slots:
        assert allot(left, slots, cost) == (1,) * slots


@given(lefts, st.integers(1, 12), costs, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_only_what_costs_are_to_each_other_counts(
    left: list[int], slots: int, cost: Cost, scale: float
) -> None:
    """Seconds of a slot, or such as a run of several slots tells: the same comes of both."""
    scaled = Cost(cost.loading * scale, cost.each * scale)
    assert allot(left, slots, scaled) == allot(left, slots, cost)


@pytest.mark.parametrize(
    ("left", "slots", "cost", "found"),
    [
        ([64], 2, Cost(1, 1), (2,)),  # the only one
        ([64], 4, Cost(20, 1), (3,)),  # each of four would load for longer than it makes images
        ([64], 4, Cost(100, 1), (1,)),
        ([4], 2, Cost(), (1,)),  # nothing is known: few images are not worth a load
        ([2 * int(LOAD_IN_IMAGES)], 2, Cost(), (2,)),
        ([64, 64], 4, Cost(10, 1), (2, 2)),  # both at once load four times, one by one eight
        ([64, 64], 3, Cost(1, 1), (3,)),  # 2 * (1 + 22) s against 1 + 64 s
        ([64, 64], 3, Cost(30, 1), (2, 1)),  # 30 + 64 s against 2 * (30 + 32) s
        ([64, 64], 3, Cost(0, 1), (3,)),
        ([64], 2, Cost(5e-324, 1), (2,)),
        ([10, 100], 3, Cost(1, 1), (3,)),  # the short one first, then all slots for the long one
        ([], 3, Cost(), ()),
    ],
)
def test_the_queue_ends_as_soon_as_it_can(
    left: list[int], slots: int, cost: Cost, found: tuple[int, ...]
) -> None:
    """Where fewer wait than slots are free they are shared out, at once or one after another."""
    assert allot(left, slots, cost) == found


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 6), st.data())
def test_each_share_speaks_for_the_whole(
    prompts: int, each: int, shares: int, data: st.DataObject
) -> None:
    """Every image is in one share, a prompt's in the same, and they differ by a prompt at most."""
    images = [(f"p{prompt}", index) for prompt in range(prompts) for index in range(each)]
    done = data.draw(st.sets(st.sampled_from(images), max_size=len(images) - 1))
    left = [it for it in images if it not in done]
    found = share_out(left, shares)
    assert sorted(chain(*found)) == sorted(left)
    named = [list(dict.fromkeys(prompt for prompt, _ in share)) for share in found]
    assert len(set(chain(*named))) == sum(map(len, named))
    assert len(found) == min(shares, sum(map(len, named)))
    assert max(map(len, named)) - min(map(len, named)) <= 1
    order = list(dict.fromkeys(prompt for prompt, _ in left))
    assert named == [order[first :: len(named)] for first in range(len(named))]


def test_of_nothing_there_is_no_share() -> None:
    """All images may be there, and only the end not be written down."""
    assert share_out([], 3) == []
