"""The prompts that an installed SimpleTuner brings along, read out of its code, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from clipwatch.kit.textfiles import refused
from clipwatch.prompts.listing import Entry

FILE = Path("helpers", "prompts.py")
"""Where the package has them."""

_NAME = "prompts"


def entries(path: Path, text: str) -> Iterator[Entry]:
    """Yield what the module's dictionary `prompts` holds: name, text and line of each.

    Raises:
        SettingsError: It is no Python, or has no such dictionary of texts.
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refused(
            "is not Python that can be read", fix="name prompts in a file", file=path
        ) from None
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict() as found) if (
                name == _NAME
            ):
                yield from _members(path, found)
                return
    raise refused(f"has no dictionary {_NAME!r}", fix="name prompts in a file", file=path)


def _members(path: Path, found: ast.Dict) -> Iterator[Entry]:
    for key, value in zip(found.keys, found.values, strict=True):
        match key, value:
            case ast.Constant(value=str(name)), ast.Constant(value=str(prompt)):
                yield Entry(path, value.lineno, prompt, name)
            case _:
                raise refused(
                    f"holds something else than texts in {_NAME!r}",
                    fix="name prompts in a file",
                    file=path,
                    line=value.lineno,
                )
