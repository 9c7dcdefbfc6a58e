"""What clipwatch does with each option of the trainer: followed, told, refused, or no matter."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clipwatch.kit.textfiles import plain
from clipwatch.settings.settings import TRAINER_KEYS
from clipwatch.settings.simpletuner.tables import every_option, option_of
from clipwatch.settings.values import Given

FILE = Path(__file__).with_name("answers.toml")
FOLLOWED, TOLD, REFUSED, NONE = "followed", "told", "refused", "none"
KINDS = (FOLLOWED, TOLD, REFUSED, NONE)

_SLIP = 0.9  # likeness (difflib) from which a key that nobody knows looks misspelt
_YES = ("1", "true", "yes", "y", "on")
_NO = ("0", "false", "no", "n", "off")
_LISTS = ("report_to", "validation_guidance_skip_layers")
"""The option that takes a whole list, and the one of which more is said elsewhere (rules.py)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of an option.

    Attributes:
        kind: One of KINDS.
        text: How it is followed, what to tell when it is set, or why it does not matter.
        families: For which families it holds; () for all.
        harmless: Values that are as good as the default.
        values: The only values that count; () for all.
    """

    kind: str
    text: str
    families: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    def concerns(self, family: str, value: str) -> bool:
        """Whether it holds for a family and a value that is not the default."""
        if self.families and family not in self.families:
            return False
        return value not in self.harmless and (not self.values or value in self.values)


@cache
def answers() -> Mapping[str, Answer]:
    """Return option → answer, of the options of all versions."""
    return {
        name: _answer(kind, known)
        for kind in KINDS
        for name, known in _read().get(kind, {}).items()
    }


def families() -> Mapping[str, str]:
    """Return family, or family/flavour → what is told of it, whatever is set."""
    return _read()["families"]


def of_family(family: str, flavour: str) -> tuple[str, ...]:
    """Return what is told of a family and of one of its flavours."""
    told = families()
    return tuple(told[name] for name in (family, f"{family}/{flavour}") if name in told)


def assessed(
    written: Mapping[str, Iterable[Given]], ours: Collection[str], family: str
) -> Iterator[str]:
    """Yield a remark for each key of the trainer's file that changes pictures and is not followed.

    Args:
        written: Option → what stands there.
        ours: Keys and objects that clipwatch reads in its own object.
        family: By the name that the tables have, "" for none.

    Raises:
        SettingsError: A key is set that makes the model one that cannot be scored, or an object.
    """
    unknown: list[Given] = []
    told: dict[str, list[Given]] = {}
    for name, places in written.items():
        *_, given = places  # the last one counts
        answer = answers().get(name)
        yield from _misplaced(places, ours, name if answer else "")
        if name in TRAINER_KEYS:
            yield from _not_single(name, given, simpletuner=bool(family))
        if answer is None:
            unknown += [given] if name not in ours else []
            continue
        value = changed(name, given.value) if answer.kind in (TOLD, REFUSED) else ""
        if value and answer.concerns(family, value):
            if answer.kind == REFUSED:
                raise given.error(answer.text)
            told.setdefault(answer.text, []).append(given)
    for text, places in told.items():
        keys = ", ".join(given.key for given in places)
        yield plain(f"{places[0].source}: {keys}: {text}")
    yield from _unknown(unknown, ours, simpletuner=bool(family))


def _not_single(name: str, given: Given, *, simpletuner: bool) -> Iterator[str]:
    """Tell which of a list counts; an object instead of a value is nothing that could be meant.

    Raises:
        SettingsError: An object stands there, in a configuration of SimpleTuner.
    """
    value = given.value
    if isinstance(value, dict) and simpletuner:
        raise given.error("must be a single value, not an object, which SimpleTuner passes over")
    if value == []:
        yield given.told("an empty list sets nothing: the default holds")
    elif isinstance(value, list) and len(value) > 1 and name not in _LISTS:
        yield given.told("of a list only the last counts, as for SimpleTuner")


def _misplaced(places: Iterable[Given], ours: Collection[str], taken: str) -> Iterator[str]:
    """Say which keys of clipwatch's own stand where only the trainer's are read."""
    for given in places:
        name = given.key.strip().lstrip("-")
        if name in ours and name not in option_of():
            instead = f"read as {taken}, which it begins" if taken else "not read here"
            yield given.told(
                f'a key of clipwatch\'s own, and {instead}: move it into the object "clipwatch"'
            )


def changed(name: str, value: Any) -> str:
    """Return how a value differs from an option's default, as a text; "" where it does not."""
    known = every_option().get(name, {})
    if isinstance(value, dict):
        return "" if known.get("type") != "json" else "an object"
    written = str(value).strip()
    if written.lower() in ("", "none", "null") or (isinstance(value, list) and not value):
        return ""
    default = known.get("default")
    if known.get("type") == "flag":
        return "" if written.lower() in (_YES if default else _NO) else written
    return "" if _same(written, default) else written


def _same(written: str, default: Any) -> bool:
    if default is None:
        return False
    try:
        return float(written) == float(default)
    except ValueError:
        return written == str(default)


def _unknown(written: list[Given], ours: Collection[str], *, simpletuner: bool) -> Iterator[str]:
    """Say which keys nobody reads; of a configuration of another trainer only the misspelt ones."""
    rest = []
    for given in written:
        name = given.key.strip().lstrip("-")
        near = difflib.get_close_matches(name, {*ours, *option_of()}, n=1, cutoff=_SLIP)
        if near:
            yield plain(f"{given.source}: {given.key} is not read: did you mean {near[0]!r}?")
        else:
            rest.append(given)
    if simpletuner and rest:
        keys = ", ".join(given.key for given in rest)
        yield plain(f"{rest[0].source}: no option of SimpleTuner, and not read: {keys}")


def _answer(kind: str, known: Any) -> Answer:
    if isinstance(known, str):
        return Answer(kind, known)
    lists = {name: tuple(known.get(name, ())) for name in ("families", "harmless", "values")}
    return Answer(kind, known["text"], **lists)


@cache
def _read() -> dict[str, dict[str, Any]]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
