"""YAML that programs write: values alone, within bounds; what a tag makes of others is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from clipwatch.kit.textfiles import refused

LARGEST = 2**18
"""Characters; a configuration of a trainer has some thousand, and the parser is slow."""

_MERGE = "tag:yaml.org,2002:merge"


class _Values(yaml.SafeLoader):
    """Plain values. Aliases are shared, not copied; merges copy, a few lines to gigabytes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == _MERGE for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "it merges mappings (<<)")


def _nothing(_loader: yaml.SafeLoader, _tag: str, _node: yaml.Node) -> None:
    """Stand for a tuple, or an object of some class, beside which the rest can be read."""


_Values.add_multi_constructor("", _nothing)


def parse(file: Path, text: str) -> Any:
    """Return the one document of a text.

    Raises:
        SettingsError: It is too large, or no YAML of plain values; names the file and the line.
    """
    if len(text) > LARGEST:
        raise refused(f"is larger than {LARGEST >> 10} KiB", fix="is it the right file?", file=file)
    try:
        return yaml.load(text, _Values)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = error.problem or "it cannot be read"
        line = mark.line + 1 if mark else None
        raise refused(f"is not YAML that can be read: {what}", file=file, line=line) from None
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError):
        raise refused("is not YAML that can be read", file=file) from None
