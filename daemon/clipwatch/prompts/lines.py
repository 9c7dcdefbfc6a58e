"""Text files of one prompt a line, with or without the options of sd-scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clipwatch.kit.textfiles import refused
from clipwatch.prompts import options
from clipwatch.prompts.listing import Entry
from clipwatch.prompts.options import Said


def entries(path: Path, text: str) -> Iterator[Entry]:
    """Yield the prompts of a text file; lines that begin with # are comments.

    Where one of its lines has an option of sd-scripts the file is read as sd-scripts reads it:
    there a blank before # makes it a prompt.

    Raises:
        SettingsError: A line holds what some editors take for the end of one.
    """
    lines = text.removesuffix("\n").split("\n")
    kohyas = any(map(options.has_kohyas, lines))
    for number, written in enumerate(lines, start=1):
        line = written.strip()
        if (written if kohyas else line).startswith("#"):
            continue
        if found := re.search("[\u2028\u2029]", line):
            mark, fix = f"has the line separator {found[0]!a}", "begin a new line, or remove it"
            raise refused(mark, fix=fix, file=path, line=number)
        said = options.of_kohya(line) if kohyas else Said(line)
        yield Entry(path, number, said.text, ignored=said.ignored, options=said.options)
