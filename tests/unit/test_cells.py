"""Lines fit the terminal, whatever is in them: CJK, emoji, marks, Arabic, control characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from clipwatch.kit.cells import cut, padded, wrapped
from clipwatch.kit.textfiles import printable
from clipwatch.results.columns import Column, lay_out

ODD = "学習 🙂👩‍👧❤️ e\u0301 مرحبا עברית \u202eabc\x1b[31m\n\t\u200b　한"
texts = st.text(
    alphabet=st.one_of(st.sampled_from(ODD), st.characters(exclude_characters="…")), max_size=60
)
widths = st.integers(1, 120)


@given(texts, widths)
def test_what_is_cut_fits(text: str, width: int) -> None:
    """And begins as the whole did; what fits is left as it is."""
    text = printable(text)
    found = cut(text, width)
    assert cell_len(found) <= width
    assert (found == text) == (cell_len(text) <= width)
    if found != text:
        head, _, tail = found.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


@given(texts, widths, st.booleans())
def test_what_is_padded_has_its_width(text: str, width: int, right: bool) -> None:
    """So that columns stand below each other."""
    found = padded(cut(printable(text), width), width, right=right)
    assert cell_len(found) == width


@given(texts, st.integers(4, 120))
def test_what_is_wrapped_fits_and_is_whole(text: str, width: int) -> None:
    """Nothing is lost; only what has a slash, as a path, may be longer than a line."""
    text = printable(text)
    lines = wrapped(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        assert cell_len(line) <= width or "/" in line


def test_paths_are_never_broken() -> None:
    """They are to be copied."""
    path = "/a/very/long/" + "x" * 50
    assert wrapped(f"tensorboard: {path}, and more", 20) == [
        "tensorboard:",
        f"  {path},",
        "  and more",
    ]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("checkpoint-500", 14, "checkpoint-500"),
        ("checkpoint-500", 9, "chec…-500"),
        ("学習学習学習", 7, "学…習"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_the_middle_goes(text: str, width: int, expected: str) -> None:
    """The end of a name is what tells it from others; a sign of two cells is not halved."""
    assert cut(text, width) == expected


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=5), st.integers(12, 120))
def test_columns_fit(rows: list[tuple[str, str, str]], width: int) -> None:
    """The least important go first, then names are cut."""
    names, numbers, others = (
        [printable(it) for it in column] for column in zip(*rows, strict=True)
    )
    columns = [
        Column("step", [str(place) for place in range(len(rows))]),
        Column("number", numbers, 2),
        Column("other", others, 1, right=False),
        Column("name", names, 3, right=False, least=4),
    ]
    lines = lay_out(columns, width)
    assert len(lines) == len(rows) + 2
    assert all(cell_len(it) <= width for it in lines)
    assert all(it.split()[0] == str(place) for place, it in enumerate(lines[2:]))


def test_the_least_important_column_goes_first() -> None:
    """As soon as the others would not fit; a name is cut before anything goes for it."""
    columns = [
        Column("step", ["100"]),
        Column("std", ["0.1234"], 2),
        Column("name", ["a-long-name"], 1, right=False, least=6),
    ]
    assert lay_out(columns, 25)[2] == " 100  0.1234  a-long-name"
    assert lay_out(columns, 21)[2] == " 100  0.1234  a-l…ame"
    assert lay_out(columns, 19)[2] == " 100  a-long-name"
    assert lay_out(columns, 8)[2] == " 100"
