"""Text files of one prompt a line, with or without the options of sd-scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clipwatch.kit.textfiles import refused
from clipwatch.prompts.listing import Entry

# those that sd-scripts, musubi-tuner and their front ends write behind a prompt
_NAMES = "n w h d s l g f i t am ar ci cn ctr cfs ei fs of ov sn ss te rcfg"
_OPTION = re.compile(rf"(?:^|\s)--({'|'.join(_NAMES.split())})(?=\s|$)", re.IGNORECASE)


def entries(path: Path, text: str) -> Iterator[Entry]:
    """Yield the prompts of a text file; lines that begin with # are comments.

    Raises:
        SettingsError: A line holds what some editors take for the end of one.
    """
    for number, written in enumerate(text.removesuffix("\n").split("\n"), start=1):
        line = written.strip()
        if line.startswith("#"):
            continue
        if found := re.search("[\u2028\u2029]", line):
            mark, fix = f"has the line separator {found[0]!a}", "begin a new line, or remove it"
            raise refused(mark, fix=fix, file=path, line=number)
        first = _OPTION.search(line)
        ignored = tuple(f"--{name.lower()}" for name in _OPTION.findall(line))
        yield Entry(path, number, line[: first.start()] if first else line, ignored=ignored)
