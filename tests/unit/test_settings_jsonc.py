"""Comments, trailing commas, and the line of every key."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.kit.errors import SettingsError
from clipwatch.settings import jsonc

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NOISE = st.sampled_from(
    [" ", "\n", "\t", "# x\n", "// \"}'\n", "/* , ] */", "/*\n*/", '# "a": 1,\n', "/**/"]
)
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)


@given(value=VALUES, data=st.data())
def test_comments_between_tokens_change_nothing(value: Any, data: st.DataObject) -> None:
    """Whatever stands between the tokens of a JSON text, comments and commas are no content."""
    parts: list[str] = []
    for token in TOKEN.findall(json.dumps(value, ensure_ascii=False)):
        if token in "}]" and parts and parts[-1] not in ("{", "[") and data.draw(st.booleans()):
            parts.append(",")
        parts += [*data.draw(st.lists(NOISE, max_size=2)), token]
    assert json.loads(jsonc.strip("".join(parts))) == value


@given(content=st.text(alphabet='"\\/*#,{}[] \nab'))
def test_stripping_moves_nothing(content: str) -> None:
    """Every character is kept at its place or becomes a space, and line breaks always stay."""
    stripped = jsonc.strip(content)
    assert len(stripped) == len(content)
    pairs = list(zip(content, stripped, strict=True))
    assert all(after in (before, " ") for before, after in pairs)
    assert all(after == "\n" for before, after in pairs if before == "\n")


@given(value=VALUES)
def test_plain_json_is_not_touched(value: Any) -> None:
    """A text that is JSON already stays byte for byte."""
    content = json.dumps(value, indent=1)
    assert jsonc.strip(content) == content


def test_every_key_knows_its_line(tmp_path: Path) -> None:
    """Lines count comments and strings over escapes, and of a double key the last one counts."""
    file = tmp_path / "config.json"
    file.write_text(
        '// first\n{\n"a": 1, /*\n*/ "b\\"": [{"in": "x"}],\n"own": {\n"c": "}\\n{",\n'
        '"d": 2},\n"a": 3,\n}\n'
    )
    document = jsonc.read(file)
    assert document.lines[("a",)] == 8
    assert document.lines[('b"',)] == 4
    assert document.lines["own", "c"] == 6
    assert document.lines["own", "d"] == 7
    assert list(document.values) == ['b"', "own", "a"]
    assert document.values["a"] == 3


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('{\n"a": 1\n"b": 2}', ":3: is not valid JSON: Expecting ',' delimiter (column 1)"),
        ('{\n/* open\n"a": 1}', ":2: is not valid JSON: Expecting property name"),
        ("[1]", ":1: must hold one object"),
        ('{"a": [1,,]}', ":1: is not valid JSON: "),
        ("", ":1: is not valid JSON: Expecting value"),
        ("[" * 100_000, ": is nested too deeply"),
        ('{\n"a": ' + "[" * 100 + "]" * 100 + "}", ":2: is nested too deeply"),
        ("{}" + " " * 2**20, ": is larger than 1 MiB"),
    ],
)
def test_what_is_not_json_is_said_with_its_line(tmp_path: Path, content: str, text: str) -> None:
    """Broken JSON ends with one line that names the file and, where there is one, the line."""
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=re.escape(f"{file}{text}")):
        jsonc.read(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and one in another encoding are two different one-line errors."""
    missing = tmp_path / "none.json"
    with pytest.raises(SettingsError, match=r"none\.json: cannot be read: No such file"):
        jsonc.read(missing)
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"latin\.json:1: is not UTF-8"):
        jsonc.read(latin)
    latin.write_bytes(b"\xef\xbb\xbf{}")
    assert jsonc.read(latin).values == {}


def test_a_number_of_any_length_is_a_number(tmp_path: Path) -> None:
    """The trainer's other keys may hold what Python's int() refuses."""
    file = tmp_path / "config.json"
    file.write_text(f'{{"long": {"1" * 5000}, "exact": {"1" * 900}}}')
    assert jsonc.read(file).values == {"long": math.inf, "exact": int("1" * 900)}


def test_what_is_not_closed_is_found_in_one_pass() -> None:
    """Quotes and comments without an end cost no more than their length.

    A search that began anew at each of them would run for days: the time limit of a test ends it.
    """
    for unclosed in ('"\\', "/* ", '"', "#", "//", ", ", '"\\"'):
        assert jsonc.strip(unclosed * 500_000)
