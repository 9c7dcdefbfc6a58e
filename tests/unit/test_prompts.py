"""The built-in prompts and the readers of prompt files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.protocol import Prompt
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import problem
from clipwatch.prompts import builtin
from clipwatch.prompts import read as listed

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t\n\r")).filter(
    lambda text: not text.strip() or not problem(text.strip())
)
LINE = TEXT.filter(lambda text: not re.search("[\r\n\u2028\u2029]", text)).map(str.strip)
NAME = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)
REPEAT = "repeat an earlier one, which counts once; the first is in line"
REPEATS = "repeats an earlier one, which counts once; the first is in line"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from(["prompt", "category"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def read(file: Path) -> tuple[Prompt, ...]:
    """Return the prompts of a file, without what is said of them."""
    return listed(file).prompts


def refusal(file: Path) -> str:
    """Return the error of a file that must be refused, less the folder it lies in."""
    with pytest.raises(SettingsError) as error:
        read(file)
    return str(error.value).removeprefix(f"{file.parent}/")


def check_form(file: Path) -> None:
    """A file is read as prompts with unique ids and some text, or refused in one line."""
    try:
        prompts = read(file)
    except SettingsError as error:
        refused = str(error)
        prompts = ()
    if prompts:
        assert max(Counter(prompt.id for prompt in prompts).values()) == 1
        assert all(prompt.id and prompt.text == prompt.text.strip() != "" for prompt in prompts)
    else:
        assert refused.startswith(f"{file}:")
        assert len(refused.splitlines()) == 1
        assert refused.encode()


def test_library_has_eight_prompts_in_each_of_eighteen_categories() -> None:
    """No category weighs more than another."""
    categories = Counter(prompt.category for prompt in builtin())
    assert len(categories) == 18
    assert set(categories.values()) == {8}


def test_library_prompts_are_distinct_and_short() -> None:
    """No prompt stands twice, ids are kebab-case, and no text comes near 77 CLIP tokens."""
    library = builtin()
    assert len({prompt.text for prompt in library}) == len({prompt.id for prompt in library})
    for prompt in library:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", prompt.id)
        assert len(prompt.id) <= 24
        assert len(re.findall(r"[A-Za-z]+|[^\sA-Za-z]", prompt.text)) <= 50


def test_prompts_do_not_import_torch() -> None:
    """Listing prompts answers at once."""
    code = (
        "import sys, clipwatch.prompts as p; p.builtin();"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'diffusers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_json_takes_the_first_of_prompt_caption_tags(tmp_path: Path) -> None:
    """SimpleTuner's entries are read by its rules; a null is a field that is not there."""
    entries = {
        "plain": " a red ball ",
        "caption": {"caption": "a boat", "tags": "sea"},
        "prompt": {"tags": "x", "prompt": "a hut", "adapter_strength": 0.5, "category": "scenes"},
        "tags": {"prompt": None, "tags": "dog, grass", "category": None, "bbox_entities": [{}]},
    }
    assert read(write(tmp_path, "a.json", json.dumps(entries))) == (
        Prompt("plain", "a red ball"),
        Prompt("caption", "a boat"),
        Prompt("prompt", "a hut", "scenes", 0.5),
        Prompt("tags", "dog, grass"),
    )


def test_empty_entries_are_left_out(tmp_path: Path) -> None:
    """The unconditional prompt and entries without a name are no prompts."""
    library = write(
        tmp_path, "a.json", '{"unconditional": "", "": "x", "a": {"prompt": " "}, "b": "y"}'
    )
    assert read(library) == (Prompt("b", "y"),)
    lines = write(tmp_path, "a.txt", "\n# a comment\n\n  a red ball\n\t\n")
    assert [prompt.text for prompt in read(lines)] == ["a red ball"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_line_endings_change_nothing(
    tmp_path: Path, ending: str, mark: bytes
) -> None:
    """A file saved by an editor of another system gives the same prompts and ids."""
    plain = read(write(tmp_path, "plain.txt", "a red ball\na blue box"))
    other = write(tmp_path, "other.TXT", mark + ending.join(["a red ball", "a blue box"]).encode())
    assert read(other) == plain
    library = ending.join(["{", '"a": "x",', '"b": "y"', "}"])
    assert len(read(write(tmp_path, "a.json", mark + library.encode()))) == 2


def test_the_same_text_again_counts_once_and_is_told(tmp_path: Path) -> None:
    """A repeated prompt would weigh double; the first stays, whatever the others are called."""
    file = write(tmp_path, "a.txt", "a red ball\na box\n a red ball\n\na red ball --d 7")
    prompts, notes = listed(file)
    assert [prompt.text for prompt in prompts] == ["a red ball", "a box"]
    assert notes == (
        "a.txt: 1 prompt is empty and left out",
        f"a.txt: 2 prompts {REPEAT} 3: a red ball",
        "a.txt: ignored, since all prompts are sampled in the same way: --d (1x)",
    )
    library = write(tmp_path, "a.json", '{"a": "a red ball",\n"b": " a red ball", "c": ""}')
    assert listed(library) == (
        (Prompt("a", "a red ball"),),
        (
            "a.json: 1 prompt is empty and left out",
            f"a.json: 1 prompt {REPEATS} 2: a red ball",
        ),
    )


def test_lines_that_begin_alike_have_different_ids(tmp_path: Path) -> None:
    """The words of an id are for people, what follows them tells texts apart."""
    file = write(tmp_path, "a.txt", "A red ball!\na red ball\n一个红球\n")
    ids = [prompt.id for prompt in read(file)]
    assert len(set(ids)) == 3
    assert [name.rpartition("-")[0] for name in ids] == ["a-red-ball", "a-red-ball", "prompt"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"a red ball\na \xff ball\n", "a.txt:2: is not UTF-8"),
        ("a.txt", "a ball".encode("utf-16"), "a.txt:1: is not UTF-8"),
        ("a.txt", "a ball".encode("utf-16-le"), "a.txt:1: has a NUL byte: save the file as UTF-8"),
        ("a.txt", b"a\n\x1b[2J\n", "a.txt:2: has the control character '\\x1b': remove it"),
        ("a.txt", "a\nb\u2028c".encode(), "a.txt:2: has the line separator '\\u2028'"),
        ("a.txt", "a\x85b".encode(), "a.txt:1: has the control character '\\x85'"),
        ("a.txt", "a\n\u200b".encode(), "a.txt:2: has no character that can be seen"),
        ("a.txt", b"a\n" + b"b" * 10_001, "a.txt:2: has 10001 characters, more than 10000"),
        ("a.txt", b"#" * (16 * 2**20 + 1), "a.txt: is larger than 16 MiB"),
        ("a.json", b'{\n"' + b"n" * 201 + b'": "a"}', "a.json:2: nnn"),
        (
            "a.txt",
            b"a red ball\n\na \0 ball\n",
            "a.txt:3: has a NUL byte: save the file as UTF-8 text",
        ),
        ("a.txt", b"", "a.txt:1: has no prompt"),
        ("a.txt", b"# only this\n", "a.txt:1: has no prompt"),
        ("a.json", b'{"a": ""}', "a.json:1: has no prompt"),
        ("a.json", b"a red ball\n", "a.json:1: is not JSON"),
        ("a.json", b'{"a": "x",\n"b": }', "a.json:2: is not JSON"),
        ("a.json", b"\n7", "a.json:2: must be a list of prompts, or an object"),
        (
            "a.json",
            b'{"a": "x",\n"b": "y",\n" a": "z"}',
            "a.json:3: a: stands twice, first in line 1",
        ),
        ("a.json", b'{"a": {"prompt": "x",\n"prompt": "y"}}', "a.json:2: prompt: stands twice"),
        ("a.json", b'{\n"a": 3}', "a.json:2: a: must be a text"),
        ("a.json", b'{\n"a": ["x"]}', "a.json:2: a: must be a text"),
        ("a.json", b'{\n"{": {"prompt": {"x": 1}}}', "a.json:2: {: must be a text"),
        ("a.json", b'{"a": {}}', "a.json:1: a: must be a text"),
        ("a.json", b'{"a": {"prompt": "x", "category": 1}}', 'a.json:1: a: "category" must be'),
        ("a.json", b'{"a": "x\\u0000"}', "a.json:1: a: has the control character"),
        ("a.json", b'{"a": "x\\ud800"}', "a.json:1: a: has half of a surrogate pair"),
        ("a.json", b'{"a\\u0000": "x"}', "a.json:1: the name 'a\\x00' has a character"),
        ("a.json", b'{"a\\nb": "x"}', "a.json:1: the name 'a\\nb' has a character"),
        ("a.json", b'{"a": ' + b"[" * 100_000, "a.json: is nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    """Every fault says file and line, and the key where there is one."""
    assert refusal(write(tmp_path, name, content)).startswith(expected)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A missing file and a folder are refused like any other mistake."""
    assert refusal(tmp_path / "none.json") == "none.json: cannot be read: No such file or directory"
    (tmp_path / "folder.txt").mkdir()
    assert refusal(tmp_path / "folder.txt") == "folder.txt: is not a regular file: name one"


@given(content=st.binary() | TEXT.map(str.encode), suffix=st.sampled_from(["txt", "json"]))
def test_any_file_is_read_or_refused(folder: Path, content: bytes, suffix: str) -> None:
    """Nothing but SettingsError comes out of a file, whatever is in it."""
    check_form(write(folder, f"any.{suffix}", content))


@given(value=JSON)
def test_any_json_is_read_or_refused(folder: Path, value: Any) -> None:
    """Nothing but SettingsError comes out of valid JSON of another shape."""
    check_form(write(folder, "value.json", json.dumps(value)))


@given(
    prompts=st.lists(
        st.builds(Prompt, NAME, TEXT.map(str.strip).filter(bool), TEXT.map(str.strip)),
        min_size=1,
        max_size=5,
        unique_by=(lambda prompt: prompt.id, lambda prompt: prompt.text),
    ),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_json_round_trip(
    folder: Path, prompts: list[Prompt], ascii_only: bool, indent: int | None
) -> None:
    """Names, texts, categories and order survive, however the JSON is written."""
    entries = {
        prompt.id: {"prompt": prompt.text, "category": prompt.category} for prompt in prompts
    }
    content = json.dumps(entries, ensure_ascii=ascii_only, indent=indent)
    assert read(write(folder, "trip.json", content)) == tuple(prompts)


@given(
    lines=st.lists(
        LINE.filter(lambda line: line and not line.startswith(("#", "\ufeff"))),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_text_round_trip_in_any_order(folder: Path, lines: list[str]) -> None:
    """Lines come back as they are, and an id belongs to its text wherever the line stands."""
    prompts = read(write(folder, "trip.txt", "\n".join(lines)))
    assert [prompt.text for prompt in prompts] == lines
    backwards = read(write(folder, "trip.txt", "\n".join(reversed(lines))))
    assert tuple(reversed(backwards)) == prompts
