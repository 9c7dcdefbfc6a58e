"""YAML that programs write: values alone, within bounds; what a tag makes of others is nothing."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from clipwatch.kit.textfiles import refused

LARGEST = 2**16
"""Characters, of which the parser reads some ten thousand a second; trainers write a few."""

DEEPEST = 20
"""Lists and mappings in brackets within each other; the parser's time grows with their square."""

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
    """Return the one document of a text, which others may be given, too: not to be changed.

    Raises:
        SettingsError: It is too large, or no YAML of plain values; names the file and the line.
    """
    if len(text) > LARGEST:
        raise refused(f"is larger than {LARGEST >> 10} KiB", fix="is it the right file?", file=file)
    if _depth(text) > DEEPEST:
        raise refused("is nested too deeply for a configuration", file=file)
    try:
        return _loaded(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        what = error.problem or "it cannot be read"
        line = mark.line + 1 if mark else None
        raise refused(f"is not YAML that can be read: {what}", file=file, line=line) from None
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, LookupError, RecursionError):
        raise refused("is not YAML that can be read", file=file) from None


@lru_cache(maxsize=4)  # the same file is asked for settings, prompts and what they share
def _loaded(text: str) -> Any:
    return yaml.load(text, _Values)  # noqa: S506 - a SafeLoader


def _depth(text: str) -> int:
    """Return how deep brackets are nested at most, those in texts, too."""
    turns = (1 if mark in "[{" else -1 for mark in re.findall(r"[][{}]", text))
    return max(accumulate(turns, lambda depth, turn: max(depth + turn, 0)), default=0)
