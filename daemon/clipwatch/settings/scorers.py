"""The scorers that the settings name: what decides, and what scores beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from clipwatch.domain.losses import LOSS
from clipwatch.domain.protocol import DUAL_ENCODER, ScorerSpec
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.models.files import Unfit
from clipwatch.models.pictures import images_in
from clipwatch.models.scorers import kind_of, lacks, names
from clipwatch.settings import sources
from clipwatch.settings.places import Places, mode
from clipwatch.settings.values import Given

FIRST: Final = "pretrained_evaluation_model_name_or_path"
"""SimpleTuner's key: the scorer that decides."""

FLAG: Final = "--scorer"
"""Names one to a command."""

REVISION: Final = "scorer_revision"
"""Of the first one; others have theirs behind an @."""

_KIND = re.compile(r"([A-Za-z_][\w-]*):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Written:
    """A scorer as it was written: KIND:MODEL@REVISION?OPTION=VALUE&..., or a model alone."""

    kind: str
    model: str
    revision: str
    options: tuple[tuple[str, str], ...]


def of_settings(given: Mapping[str, Given], places: Places) -> tuple[ScorerSpec, ...]:
    """Return all scorers, the one that decides first, the others sorted by their names.

    Raises:
        SettingsError: There is no such kind, or no such model.
    """
    found = [first(given, places)]
    for key, entry in sorted(given.items()):
        outer, _, name = key.partition(".")
        if outer == sources.SCORERS:
            found.append(_spec(name, entry, places))
    return tuple(found)


def first(given: Mapping[str, Given], places: Places) -> ScorerSpec:
    """Return the scorer that decides.

    Raises:
        SettingsError: There is no such kind, or no such model.
    """
    return _spec("", given[FIRST], places, revision=str(given[REVISION].value))


def check_prompts(
    given: Mapping[str, Given], specs: Sequence[ScorerSpec], prompts: Sequence[str]
) -> None:
    """Make sure that each scorer can score each prompt.

    Raises:
        SettingsError: One cannot.
    """
    for spec in specs:
        if problem := lacks(spec, prompts):
            entry = given[f"{sources.SCORERS}.{spec.name}" if spec.name else FIRST]
            whose = f"{spec.kind} cannot score these prompts: {problem}"
            raise entry.error(whose, fix="name prompts that all do, or leave this scorer out")


def named(text: str, cwd: Path) -> ScorerSpec:
    """Return the scorer that NAME=SPEC stands for, as a flag has it; SPEC as in the settings.

    Raises:
        SettingsError: It is none.
    """
    name, _, written = text.partition("=")
    given = Given(written.strip(), FLAG, FLAG)
    if not sources.OPTION.fullmatch(name) or not given.value:
        raise given.error(
            f"{text!r} names no scorer",
            fix="write NAME=MODEL or NAME=KIND:..., a NAME of letters, digits, _ and -",
        )
    found = _spec(name, given, Places(cwd, cwd, cwd))
    if kind_of(found.kind).asks:  # which a protocol knows only if a scorer of its own asks them
        raise given.error(
            f"{found.kind!r} asks the prompts' questions, which are not kept with images",
            fix=f'name it in the settings, "{sources.SCORERS}", before checkpoints are scored',
        )
    return found


def _spec(name: str, entry: Given, places: Places, revision: str = "") -> ScorerSpec:
    if name == LOSS:
        told = f"cannot be called {LOSS!r}, which stands for the held-out loss"
        raise entry.error(told, fix="give it another name")
    written = _written(entry, places, is_first=not name)
    try:
        kind = kind_of(written.kind)
    except SettingsError as error:
        raise entry.error(error.problem, fix=error.fix) from error
    model = places.model(entry.but(written.model)) if kind.files else written.model
    options = written.options
    if kind.images:
        folder = _images(entry, dict(options).get(kind.images), kind.images, places)
        options = tuple(sorted({**dict(options), kind.images: folder}.items()))
    spec = ScorerSpec(name, model, written.revision or revision, written.kind, options)
    try:
        kind.scale(spec, "")
    except SettingsError as error:  # of options that are not known
        raise entry.error(error.problem, fix=error.fix) from error
    return spec


def _images(entry: Given, named: str | None, option: str, places: Places) -> str:
    """Return the absolute path of the folder of images that belongs to a scorer.

    Raises:
        SettingsError: There is none, or no image in it.
    """
    if not named:
        fix = f"write ?{option}=FOLDER behind the model"
        raise entry.error("names no folder of images", fix=fix)
    folder = places.existing(entry.but(named))
    try:
        images_in(folder)
    except (OSError, Unfit, ClipwatchError) as error:
        raise entry.error(str(error)) from error
    return str(folder)


def _written(entry: Given, places: Places, *, is_first: bool) -> _Written:
    """Read what names a scorer; what lies at a path of just this name is a model."""
    text = str(entry.value)
    named = _KIND.fullmatch(text)
    if named is None or mode(places.path(entry), entry):
        # a revision of its own key stands nowhere else
        model, _, revision = (text, "", "") if is_first else text.partition("@")
        return _Written(DUAL_ENCODER, model, revision, ())
    kind, rest = named.groups()
    if kind not in (known := names()):
        raise entry.error(
            f"{text!r} names a kind of scorers that is not installed, {kind!r}",
            fix=f"install the package that has it; here are {', '.join(known)}",
        )
    head, _, query = rest.partition("?")
    model, _, revision = head.rpartition("@") if "@" in head else (head, "", "")
    options = tuple(sorted(parse_qsl(query, keep_blank_values=True)))
    return _Written(kind, model, revision, options)
