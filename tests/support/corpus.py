"""What every refusal of bad input must be, and what the corpus says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipwatch.kit.errors import SettingsError
from places import DATA

CORPUS = DATA / "corpus"
EXPECTED: dict[str, Any] = json.loads((CORPUS / "expected.json").read_text())
"""File → how its refusal begins after its name, or what comes of it."""

LONGEST = 6000
"""Characters of a refusal: the longest path that the system takes, a key and a message."""


def check_whole(fix: str) -> None:
    """A fix is "" or a clause of its own: no fragment of one that was cut at a colon."""
    assert not fix or fix[0].islower() or fix[0] == "`", fix
    assert not fix.endswith((".", ":", ",", " ")), fix
    for opened, closed in ("()", "{}", "[]", '""', "``"):
        pairs = fix.count(opened), fix.count(closed)
        assert pairs[0] % 2 == 0 if opened == closed else pairs[0] == pairs[1], fix


def refusal(call: Callable[[], object], file: Path | None = None) -> str:
    """Return what SettingsError says after the name of the file, "" if nothing is raised.

    It is one line that can be printed anywhere and names the file it is about; any other
    exception goes through.
    """
    try:
        call()
    except SettingsError as error:
        text, fix = str(error), error.fix
    else:
        return ""
    assert text.isprintable(), ascii(text)
    check_whole(fix)
    assert len(text) <= LONGEST
    if file is not None:
        assert text.startswith(f"{file}:"), text
        text = text.removeprefix(str(file))
    return text
