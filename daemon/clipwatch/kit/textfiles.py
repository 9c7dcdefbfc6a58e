"""Files that people write: read within bounds, judged text by text, refused in one line."""

from __future__ import annotations

import re
import stat
import unicodedata
from pathlib import Path

from clipwatch.kit.errors import SettingsError

LONGEST = 10_000
"""Characters of a text; no text encoder reads as many."""

_PATH, _KEY, _MESSAGE = 4096, 200, 1000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(path: Path, largest: int) -> str:
    """Return the text of a regular file in UTF-8; every line ends with a line feed.

    Raises:
        SettingsError: It is something else, larger than `largest` bytes, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a device never end
            raise refused("is not a regular file", fix="name one", file=path)
        with path.open("rb") as file:
            data = file.read(largest + 1)
        if len(data) > largest:
            message = f"is larger than {largest >> 20} MiB"
            raise refused(message, fix="is it the right file?", file=path)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror}", file=path) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        fix = "save the file in that encoding"
        raise refused("is not UTF-8", fix=fix, file=path, line=line) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise refused("has a NUL byte", fix="save the file as UTF-8 text", file=path, line=line)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def problem(text: str) -> tuple[str, str] | None:
    """Say why no terminal, tokenizer or tracker takes this text, and what to do."""
    if len(text) > LONGEST:
        return f"has {len(text)} characters, more than {LONGEST}", "shorten it"
    if found := _CONTROL.search(text):
        return f"has the control character {found[0]!a}", "remove it"
    if _SURROGATE.search(text):
        message = "has half of a surrogate pair or a byte that is not UTF-8"
        return message, "write whole characters"
    if text and all(unicodedata.category(character)[0] in "CZ" for character in text):
        return "has no character that can be seen", "write some, or remove it"
    return None


def plain(text: str, longest: int = _MESSAGE) -> str:
    """Return a text as one line without invisible characters, and without its middle if long."""
    return _shortened(printable(_shortened(text, longest)), longest)


def printable(text: str) -> str:
    """Return a text as one line, with escapes for what would move a terminal's cursor, or worse."""
    written = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(written)


def _shortened(text: str, longest: int) -> str:
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def refused(
    message: str,
    *,
    fix: str = "",
    file: Path | None,
    line: int | None = None,
    key: str | None = None,
) -> SettingsError:
    """Return the error to raise: one line of bounded length, whatever the file has in it."""
    return SettingsError(
        plain(message),
        fix=plain(fix),
        file=file and Path(plain(str(file), _PATH)),
        line=line,
        key=None if key is None else plain(key, _KEY) or '""',
    )
