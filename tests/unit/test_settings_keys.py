"""A setting is a field with its key, in whatever part: the rest follows from it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

import pytest

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.settings.asked import Pictures
from clipwatch.settings.keys import Key, all_keys, built, keys_of, own, trainers
from clipwatch.settings.readers import whole
from clipwatch.settings.settings import KEYS, TRAINER_KEYS, Settings
from clipwatch.settings.values import Given

Colour = Literal["red", "green", "blue"]


@dataclass(frozen=True)
class Paint:
    """A part."""

    colour: Colour = own("paint.colour", "red", "of the wall")
    coats: int | None = trainers(
        "coats", "auto", "how many", whole(1), becomes=lambda it: None if it == "auto" else it
    )


@dataclass(frozen=True)
class House:
    """Parts, a key and what has none."""

    paint: Paint
    lit: bool = own("lit", True, "the lamp is on")
    owner: str = own("owner", "", "who lives there", blank=True, secret=True)
    address: str = ""


def given(**values: object) -> dict[str, Given]:
    """Return what is given for a house: the defaults, and these."""
    defaults = {key.name: key.default for key in all_keys(House)}
    return {name: Given(it, "test", name) for name, it in (defaults | values).items()}


def test_a_field_and_its_key_are_all_that_a_setting_needs() -> None:
    """The loop reads every field with a key, also in parts of parts, and takes the others."""
    assert [key.name for key in all_keys(House)] == ["paint.colour", "coats", "lit", "owner"]
    assert built(House, given(), address="x") == House(Paint("red", None), True, "", "x")
    found = built(House, given(coats=3, owner="me", lit=False) | {"other": Given(1, "", "other")})
    assert found == House(Paint("red", 3), lit=False, owner="me")
    assert [key.name for key in all_keys(House) if key.trainers] == ["coats"]


def test_a_secret_is_not_in_what_is_printed() -> None:
    """A field with a secret is left out of the text of its part."""
    assert "me" not in repr(built(House, given(owner="me")))


def test_the_words_of_a_type_are_the_choices() -> None:
    """A Literal is read as one of its words, a bool as a yes or no, a str as a text."""
    colour, lit = keys_of(Paint)["colour"], keys_of(House)["lit"]
    assert isinstance(colour, Key)
    assert isinstance(lit, Key)
    assert [colour.read(word) for word in get_args(Colour)] == ["red", "green", "blue"]
    with pytest.raises(ValueError, match='must be red, green or blue, not "pink"'):
        colour.read("pink")
    assert lit.read("off") is False


def test_no_key_has_two_fields() -> None:
    """Each key of clipwatch stands in one part."""
    names = [key.name for part in (Pictures, Settings) for key in all_keys(part)]
    assert sorted(names) == sorted(KEYS)
    assert KEYS.keys() > TRAINER_KEYS


def test_pictures_are_the_protocols_fields() -> None:
    """What is handed over by name is there under that name, and may be such a value."""
    ours, theirs = get_type_hints(Pictures), get_type_hints(EvaluationProtocol)
    assert ours.keys() <= theirs.keys()
    assert set(keys_of(Pictures)) == {it.name for it in fields(Pictures)}
    for name, hint in ours.items():
        allowed = theirs[name]
        assert hint == allowed or hint in get_args(allowed), name
