"""Which models leave memory: those used least recently, as far as what is asked for needs it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.evaluator.room import to_go

HELD = {"clip": 2, "a": 7, "b": 7, "odd": None, "c": 7}
"""The one used least recently first; nobody knows what "odd" takes."""


@pytest.mark.parametrize(
    ("wanted", "need", "free", "gone"),
    [
        ({"clip", "a", "odd"}, 0, 0, []),  # all that is asked for is there
        ({"clip", "a"}, 0, 0, ["odd"]),  # which goes whenever it is not asked for
        ({"clip", "new"}, 9, 10, ["odd"]),  # there is room
        ({"clip", "new"}, 9, 8, ["odd", "a"]),
        ({"clip", "a", "new"}, 9, 1, ["odd", "b", "c"]),
        ({"clip", "new"}, 99, 1, ["odd", "a", "b", "c"]),  # what never fits is tried alone
        ({"clip", "a"}, 0, -1, ["odd", "b"]),  # others took the memory meanwhile
    ],
)
def test_what_goes(wanted: set[str], need: float, free: float, gone: list[str]) -> None:
    """For a pipeline of so many bytes beside so many free ones."""
    assert to_go(HELD, wanted, need, free) == gone


@given(
    st.lists(st.none() | st.integers(0, 100), max_size=8),
    st.sets(st.integers(0, 9)),
    st.integers(0, 500),
    st.integers(-100, 500),
)
def test_never_more_than_fits_and_no_more_goes_than_it_takes(
    sizes: list[int | None], wanted: set[int], need: int, free: int
) -> None:
    """What is asked for stays; of the others the one used least recently is the first to go."""
    held = dict(enumerate(sizes))
    gone = to_go(held, wanted, need, free)
    assert len(set(gone)) == len(gone)
    assert not wanted.intersection(gone)
    stay = held.keys() - wanted - set(gone)
    freed = free + sum(held[it] or 0 for it in gone)
    assert need <= freed or not stay
    known = [it for it, size in held.items() if size is not None and it not in wanted]
    assert {it for it in held if held[it] is None} - wanted <= set(gone)
    went = [it for it in gone if it in known]
    assert went == known[: len(went)]
    if went:
        assert need > freed - (held[went[-1]] or 0)
