"""Which prompts a run is judged by, out of all places that can name some."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import NamedTuple

from clipwatch import prompts
from clipwatch.domain.protocol import Prompt
from clipwatch.kit.errors import SettingsError
from clipwatch.prompts import Listed
from clipwatch.settings.places import Places
from clipwatch.settings.simpletuner.installed import Installed, find
from clipwatch.settings.values import Given

TRAINERS = "simpletuner"
"""The library that an installed SimpleTuner brings along."""

_BUILTIN = "validation_prompt_library"


class Chosen(NamedTuple):
    """The prompts; whether the built-in ones are among them; the file that was read, if any."""

    listed: Listed
    builtin: Given
    file: Path | None = None


def choose(given: Mapping[str, Given], places: Places, installed: Installed | None) -> Chosen:
    """Return the prompts in the order of their sources.

    `prompts` replaces all others. Else the built-in library, the user's and validation_prompt are
    added up, as the trainer does; the built-in library alone when nothing else is named. Of a
    built-in and a user's prompt with the same id the user's counts. The trainer's empty
    "unconditional" prompt is none of them: no image can be like nothing. `max_prompts` of all
    these are used.

    Raises:
        SettingsError: A file cannot be read, or two sources use the same id.
    """
    found = _listed(given, places, installed)
    return found._replace(listed=prompts.chosen(found.listed, given["max_prompts"].value))


def of_trainer(named: Given, environ: Mapping[str, str], cwd: Path) -> Listed:
    """Return the prompts of the SimpleTuner that simpletuner_path names, or that is found.

    Raises:
        SettingsError: There is none.
    """
    return _of_trainer(named, find(named, environ, cwd))


def _of_trainer(asked: Given, installed: Installed | None) -> Listed:
    if installed is None:
        raise asked.error(
            "no SimpleTuner is installed in this environment or on PATH",
            fix='name where it is with "simpletuner_path", or other prompts',
        )
    return prompts.of_trainer(installed.package)


def _listed(given: Mapping[str, Given], places: Places, installed: Installed | None) -> Chosen:
    builtin = given[_BUILTIN]
    if given["prompts"].value is not None:
        named, file = _named(given, places, installed)
        return Chosen(named, builtin.but(False, "replaced by prompts"), file)
    library: Path | None = None
    chosen: dict[str, Prompt] = {}
    notes: tuple[str, ...] = ()
    if given["user_prompt_library"].value:
        library = places.file(given["user_prompt_library"])
        read, notes = prompts.read(library)
        chosen = {prompt.id: prompt for prompt in read}
    if text := given["validation_prompt"].value:
        if "validation" in chosen:
            raise given["validation_prompt"].error(
                f"has the id 'validation', and so has a prompt in {str(library)!r}",
                fix="rename that one",
            )
        chosen["validation"] = Prompt("validation", text)
    if not chosen and not builtin.value:
        builtin = builtin.but(True, "nothing else names prompts")
    added = prompts.builtin() if builtin.value else ()
    if builtin.value and builtin.trainers and builtin.line is not None:
        number = len(added)
        stand = f"clipwatch's own {number} prompts stand in for SimpleTuner's library"
        notes = (
            builtin.told(f'{stand}; "clipwatch": {{"prompts": "{TRAINERS}"}} reads that'),
            *notes,
        )
    kept = (prompt for prompt in added if prompt.id not in chosen)
    listed = Listed((*kept, *chosen.values()), notes)
    return Chosen(listed, builtin.but(bool(builtin.value)), library)


def _named(
    given: Mapping[str, Given], places: Places, installed: Installed | None
) -> tuple[Listed, Path | None]:
    """Return the prompts of a library by its name, or of a file, with that."""
    name = given["prompts"]
    if name.value == TRAINERS:
        return _of_trainer(name, installed), None
    try:
        named = prompts.library(name.value)
    except SettingsError as error:
        raise name.error(error.problem, fix=error.fix) from None
    if named is not None:
        return named, None
    file = places.file(name)
    return prompts.read(file), file


def check_number(chosen: Sized, images: Given) -> None:
    """Refuse so many images of each checkpoint that none would ever be finished.

    Raises:
        SettingsError: Names `images`, the key for the images of each prompt.
    """
    number = len(chosen) * images.value
    if number > prompts.MOST:
        most = prompts.MOST
        fix = f"clipwatch takes {most}, so use fewer prompts or fewer images of each"
        raise images.error(f"makes {number} images of each checkpoint", fix=fix)
