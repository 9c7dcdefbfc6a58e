"""Sample prompts of sd-scripts in TOML: [prompt] with [[prompt.subset]]."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from clipwatch.kit.textfiles import refused
from clipwatch.prompts import options
from clipwatch.prompts.listing import Entry
from clipwatch.prompts.options import Option

_PROMPT = re.compile(r"\s*prompt\s*=")
_SHAPE = 'must hold [prompt] with [[prompt.subset]], each with prompt = "..."'


def entries(path: Path, text: str) -> Iterator[Entry]:
    """Yield the prompt of each subset, or else that which all share, and how it is sampled.

    Raises:
        SettingsError: It is no TOML, or of another shape.
    """
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else None
        raise refused(f"is not TOML: {error}", file=path, line=line) from None
    table = whole.get("prompt")
    subsets = table.get("subset") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(subsets, list):
        raise refused(_SHAPE, file=path, line=1)
    shared = {name: value for name, value in table.items() if name != "subset"}
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if _PROMPT.match(line)]
    for index, subset in enumerate(subsets):
        line = lines[index] if len(lines) == len(subsets) else 1
        members = shared | subset if isinstance(subset, dict) else {}
        prompt = members.pop("prompt", None)
        if not isinstance(prompt, str):
            raise refused(_SHAPE, file=path, line=line)
        read = options.of_members(members.items())
        asked = tuple(it for it in read if isinstance(it, Option))
        ignored = sorted(members.keys() - {it.written for it in asked})
        yield Entry(path, line, prompt, ignored=tuple(ignored), options=asked)
