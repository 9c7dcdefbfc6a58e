"""What must stand in no error, no log and on no screen."""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
UNFIT = "has a value that does not fit; it looks like a secret, so it is not shown"

_NAME = re.compile("key|token|secret|pass|credential|auth", re.IGNORECASE)


def named(name: str) -> bool:
    """Tell whether the name of an option or a variable looks like that of a secret."""
    return _NAME.search(name) is not None


def masked(text: str) -> str:
    """Hide who logs in, and with which password, in a text with an address in it.

    All that stands between the first ":/" and the last "@" goes: better too much.
    """
    before, _, rest = text.partition(":/")
    _, at, host = rest.rpartition("@")
    return f"{before}://{HIDDEN}@{host}" if at else text
