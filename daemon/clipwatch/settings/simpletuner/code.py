"""Values that only the code of an installed SimpleTuner has: read out of it, never run."""

from __future__ import annotations

import ast
from pathlib import Path

from clipwatch.kit import textfiles
from clipwatch.kit.errors import SettingsError

_FILES = ("helpers/models/field_registry/sana.py",
          "simpletuner_sdk/server/services/field_registry/sections/model.py")  # fmt: skip
_LARGEST = 2**20
_OPTION = "sana_complex_human_instruction"


def instruction(package: Path) -> str:
    """Return the lines that SimpleTuner puts before each prompt of Sana, "" if not to be found."""
    for name in _FILES:
        try:
            module = ast.parse(textfiles.read(package / name, _LARGEST))
        except (SettingsError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and (lines := _default(node)):
                return "\n".join(line.strip() for line in lines)
    return ""


def _default(call: ast.Call) -> list[str]:
    """Return the lines of the default that a field of this name is registered with."""
    known = {keyword.arg: keyword.value for keyword in call.keywords}
    match known.get("name"), known.get("default_value"):
        case ast.Constant(value=str(name)), ast.Constant(value=str(text)) if name == _OPTION:
            return text.splitlines()
        case (
            ast.Constant(value=str(name)),
            ast.Call(args=[ast.List(elts=lines)]),
        ) if name == _OPTION:
            return [str(line.value) for line in lines if isinstance(line, ast.Constant)]
        case _:
            return []
