"""An error's two parts: what is wrong, and what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipwatch.kit.errors import ClipwatchError, SettingsError, TrackerRefused
from places import ROOT

RAISED = re.compile(
    r"\w+Error|TrackerRefused|TrackerUnavailable|NotReadable|refused|error|fail|warn"
)
"""What an error is made by, or a finding of doctor's."""

VERBS = (
    *("accept", "add", "begin", "call", "check", "choose", "close", "compare", "correct", "delete"),
    *("free", "give", "install", "keep", "leave", "lower", "make", "move", "name", "pip install"),
    *("put", "quote", "raise", "reinstall", "remove", "rename", "replace", "run", "save", "see"),
    *("set", "shorten", "start", "stop", "unset", "upgrade", "use", "write"),
)
ADVICE = re.compile(rf"[:;] ({'|'.join(VERBS)}) ")
"""How a sentence goes on that should stand in `fix`."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield (file:line, call) of all that makes an error or a finding in our sources."""
    for root in ("daemon", "adapters"):
        for path in sorted((ROOT / root).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if RAISED.fullmatch(name) and name != "ValueError":
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def literals(node: ast.expr) -> str:
    """Return the constant text in an expression, with "{}" for the rest of an f-string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(literals, node.values))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "{}"


def test_both_parts_make_one_line() -> None:
    """The text is both with a colon; file, line and key stand before what is wrong."""
    error = SettingsError("is odd", fix="mend it", file=Path("a.json"), line=3, key="device")
    assert (str(error), error.fix) == ("a.json:3: device: is odd: mend it", "mend it")
    assert error.problem == "a.json:3: device: is odd"
    assert str(TrackerRefused("no")) == TrackerRefused("no").problem == "no"
    with pytest.raises(ClipwatchError, match=r"^no: do$"):
        raise TrackerRefused("no", fix="do")


def test_what_to_do_stands_in_the_field_for_it() -> None:
    """No sentence of ours that says what is wrong goes on with what to do."""
    found = {
        where: text
        for where, call in calls()
        for text in map(literals, call.args)
        if ADVICE.search(text)
    }
    assert not found


def test_what_to_do_is_whole() -> None:
    """A fix that is written out is a clause: no fragment, and no end of a sentence."""
    texts = {
        where: literals(keyword.value)
        for where, call in calls()
        for keyword in call.keywords
        if keyword.arg == "fix"
    }
    assert len(texts) > 60
    for where, text in texts.items():
        assert not text or text[0] in "`{" or text[0].islower(), (where, text)
        assert not text.endswith((".", ":", ",", " ")), (where, text)
