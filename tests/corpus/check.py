"""What every refusal of bad input must be, and what the corpus says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipwatch.errors import SettingsError

CORPUS = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((CORPUS / "expected.json").read_text())
"""File → how its refusal begins after its name, or what comes of it."""

LONGEST = 6000
"""Characters of a refusal: the longest path that the system takes, a key and a message."""


def refusal(call: Callable[[], object], file: Path | None = None) -> str:
    """Return what SettingsError says after the name of the file, "" if nothing is raised.

    It is one line that can be printed anywhere and names the file it is about; any other
    exception goes through.
    """
    try:
        call()
    except SettingsError as error:
        text = str(error)
    else:
        return ""
    assert text.isprintable(), ascii(text)
    assert len(text) <= LONGEST
    if file is not None:
        assert text.startswith(f"{file}:"), text
        text = text.removeprefix(str(file))
    return text
