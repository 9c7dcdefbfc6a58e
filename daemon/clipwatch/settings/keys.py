"""What a field of the settings says of itself, and the one loop that fills all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from clipwatch.settings import readers
from clipwatch.settings.readers import Reader
from clipwatch.settings.values import Given

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """A key that clipwatch evaluates.

    Attributes:
        name: In files; CLIPWATCH_<NAME> in the environment.
        read: Makes the typed value.
        default: Typed; None where it depends on other keys.
        meaning: One line for a person.
        blank: The empty text is a value; elsewhere it counts as not given.
        secret: Its value is never shown.
        flag: On the command line, "" for --<name> with dashes.
        trainers: It is also read from the top level of the trainer's config.json.
        becomes: Makes what the field holds of the value that is shown to a person.
    """

    name: str
    read: Reader
    default: Any
    meaning: str
    blank: bool = False
    secret: bool = False
    flag: str = ""
    trainers: bool = False
    becomes: Callable[[Any], Any] = lambda value: value


def own(name: str, default: Any, meaning: str, read: Reader | None = None, **more: Any) -> Any:
    """Return a field of a part of the settings that holds a key's value.

    Args:
        name: As a Key's.
        default: As a Key's.
        meaning: As a Key's.
        read: May be left out where the field's type says it: bool, str and Literal.
        **more: What else a Key has.
    """

    def key(hint: Any) -> Key:
        return Key(name, read or _reader(hint), default, meaning, **more)

    return field(repr=not more.get("secret"), metadata={Key: key})


def trainers(name: str, default: Any, meaning: str, read: Reader | None = None, **more: Any) -> Any:
    """Return a field as `own`, for a key that the trainer has as well."""
    return own(name, default, meaning, read, trainers=True, **more)


def keys_of(part: type[Any]) -> Mapping[str, Key | type[Any]]:
    """Return field → its key, or the part that it holds; other fields are left out."""
    hints = get_type_hints(part)
    found: dict[str, Key | type[Any]] = {}
    for it in fields(part):
        hint = hints[it.name]
        if Key in it.metadata:
            found[it.name] = it.metadata[Key](hint)
        elif is_dataclass(hint) and isinstance(hint, type) and keys_of(hint):
            found[it.name] = hint
    return found


def all_keys(part: type[Any]) -> Iterator[Key]:
    """Yield the keys of a part and of all parts in it."""
    for it in keys_of(part).values():
        yield from (it,) if isinstance(it, Key) else all_keys(it)


def built(part: type[T], given: Mapping[str, Given], **others: Any) -> T:
    """Return a part and all parts in it, filled with what is given.

    Args:
        part: A dataclass.
        given: By the names of the keys.
        **others: Its fields that have no key.
    """
    filled = {
        name: it.becomes(given[it.name].value) if isinstance(it, Key) else built(it, given)
        for name, it in keys_of(part).items()
        if name not in others
    }
    return part(**filled, **others)


def _reader(hint: Any) -> Reader:
    """Return what reads values of a type: its list of words is the list of choices."""
    if get_origin(hint) is Literal:
        return readers.one_of(*get_args(hint))
    known: dict[Any, Reader] = {bool: readers.flag, str: readers.text}
    return known[hint]
