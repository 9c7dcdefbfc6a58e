"""What must stand in no error, no log and on no screen."""

from __future__ import annotations

import re

HIDDEN = "(hidden)"
UNFIT = "has a value that does not fit; it looks like a secret, so it is not shown"

_NAME = re.compile("key|token|secret|pass|credential|auth", re.IGNORECASE)
_REVISION = re.compile(r"(hf://[^\s@:?]+)@")
_AT = "\0"


def named(name: str) -> bool:
    """Tell whether the name of an option or a variable looks like that of a secret."""
    return _NAME.search(name) is not None


def masked(text: str) -> str:
    """Hide who logs in, and with which password, in a text with an address in it.

    All that stands between the first ":/" and the last "@" goes: better too much. Only in an
    address of the Hub, where nobody logs in by it, it may stand before a revision.
    """
    before, _, rest = _REVISION.sub(rf"\1{_AT}", text).partition(":/")
    _, at, host = rest.rpartition("@")
    return f"{before}://{HIDDEN}@{host}".replace(_AT, "@") if at else text
