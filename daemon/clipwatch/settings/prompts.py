"""Which prompts a run is judged by, out of all places that can name some."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from clipwatch import prompts
from clipwatch.protocol import Prompt
from clipwatch.settings.places import Places
from clipwatch.settings.values import Given

_BUILTIN = "validation_prompt_library"


def choose(given: Mapping[str, Given], places: Places) -> tuple[tuple[Prompt, ...], Given]:
    """Return the prompts in the order of their sources, and whether the built-in ones are used.

    `prompts` replaces all others. Else the built-in library, the user's and validation_prompt are
    added up, as the trainer does; the built-in library alone when nothing else is named. Of a
    built-in and a user's prompt with the same id the user's counts. The trainer's empty
    "unconditional" prompt is none of them: no image can be like nothing.

    Raises:
        SettingsError: A file cannot be read, or two sources use the same id.
    """
    builtin = given[_BUILTIN]
    if given["prompts"].value is not None:
        read = prompts.read(places.file(given["prompts"]))
        return read, builtin.but(False, "replaced by prompts")
    chosen: dict[str, Prompt] = {}
    if given["user_prompt_library"].value:
        library = places.file(given["user_prompt_library"])
        chosen = {prompt.id: prompt for prompt in prompts.read(library)}
    if text := given["validation_prompt"].value:
        if "validation" in chosen:
            raise given["validation_prompt"].error(
                f"has the id 'validation', and so has a prompt in {str(library)!r}: rename that one"
            )
        chosen["validation"] = Prompt("validation", text)
    if not chosen and not builtin.value:
        builtin = builtin.but(True, "nothing else names prompts")
    added = prompts.builtin() if builtin.value else ()
    kept = (prompt for prompt in added if prompt.id not in chosen)
    return (*kept, *chosen.values()), builtin.but(bool(builtin.value))


def check_number(chosen: Sized, images: Given) -> None:
    """Refuse so many images of each checkpoint that none would ever be finished.

    Raises:
        SettingsError: Names `images`, the key for the images of each prompt.
    """
    number = len(chosen) * images.value
    if number > prompts.MOST:
        most = prompts.MOST
        raise images.error(f"makes {number} images of each checkpoint; clipwatch takes {most}")
