"""Sample prompts of sd-scripts in TOML: [prompt] with [[prompt.subset]]."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from clipwatch.kit.textfiles import refused
from clipwatch.prompts.listing import Entry

_PROMPT = re.compile(r"\s*prompt\s*=")
_SHAPE = 'must hold [prompt] with [[prompt.subset]], each with prompt = "..."'


def entries(path: Path, text: str) -> Iterator[Entry]:
    """Yield the prompt of each subset; how it is to be sampled is not followed.

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
    shared = tuple(sorted(table.keys() - {"subset", "prompt"}))
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if _PROMPT.match(line)]
    for index, subset in enumerate(subsets):
        line = lines[index] if len(lines) == len(subsets) else 1
        prompt = subset.get("prompt") if isinstance(subset, dict) else None
        if not isinstance(prompt, str):
            raise refused(_SHAPE, file=path, line=line)
        options = sorted({*shared, *subset.keys()} - {"prompt"})
        yield Entry(path, line, prompt, ignored=tuple(options))
