"""The forms in which people keep prompts: what is read of each, and what is said."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clipwatch.domain.protocol import Prompt
from clipwatch.kit.errors import SettingsError
from clipwatch.kit.textfiles import problem
from clipwatch.prompts import Listed, read
from clipwatch.prompts.listing import long_note, made_id

PARTI = (
    "Prompt\tCategory\tChallenge\tNote\n"
    "bond\tAbstract\tBasic\tBiology-inspired concepts\n"
    '"R E D" painted on a wall, in thick letters.\tIllustrations\tWriting & Symbols\t\n'
    'a sign that says "go"\tArtifacts\tWriting & Symbols\t\n'
    '"yes" and "no"\tIllustrations\tWriting & Symbols\t\n'
    "a horse, a cow\tAnimals\tQuantity\t\n"
)
LONG = "1 prompt has more than 70 words and signs and will probably be cut by CLIP (77 tokens)"
IGNORED = ": ignored, since all prompts are sampled in the same way: "
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t\n")).filter(
    lambda text: text.strip() and not problem(text.strip())
)
TEXTS = st.lists(TEXT.map(str.strip), min_size=1, max_size=6, unique=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


def write(folder: Path, name: str, content: str) -> Path:
    file = folder / name
    file.write_bytes(content.encode())
    return file


def texts(listed: Listed) -> list[str]:
    return [prompt.text for prompt in listed.prompts]


def table(texts: list[str], delimiter: str) -> str:
    """Return what Python's own writer makes of texts below a header."""
    written = io.StringIO(newline="")
    rows = csv.writer(written, delimiter=delimiter, lineterminator="\n")
    rows.writerow(["category", "Caption"])
    rows.writerows(["c", text] for text in texts)
    return written.getvalue()


def as_written(form: str, texts: list[str]) -> str:
    """Return a file of texts in one of the forms that can hold any."""
    if form == "csv":
        return table(texts, ",")
    if form == "jsonl":
        return "".join(json.dumps(text) + "\n" for text in texts)
    if form == "own":
        return json.dumps({"prompts": [{"prompt": text} for text in texts], "notes": ["x"]})
    return json.dumps(texts, indent=1)


def test_a_table_like_partiprompts(tmp_path: Path) -> None:
    """Quotation marks, commas and empty cells of a TSV are text; categories are kept."""
    prompts, notes = read(write(tmp_path, "parti.tsv", PARTI))
    assert [(prompt.text, prompt.category) for prompt in prompts] == [
        ("bond", "Abstract"),
        ('"R E D" painted on a wall, in thick letters.', "Illustrations"),
        ('a sign that says "go"', "Artifacts"),
        ('"yes" and "no"', "Illustrations"),
        ("a horse, a cow", "Animals"),
    ]
    assert prompts[0].id == made_id("bond")
    assert notes == ()


def test_a_table_tells_what_it_left_out(tmp_path: Path) -> None:
    """Blank rows, empty cells and repeated rows are counted, and quoted cells keep their lines."""
    content = 'text,id\n"two\nlines",7\n\n,8\nx,9\n x ,10\n"say ""hi""",\n'
    listed = read(write(tmp_path, "a.csv", content))
    made = made_id('say "hi"')
    assert listed.prompts == (
        Prompt("7", "two\nlines"),
        Prompt("9", "x"),
        Prompt(made, 'say "hi"'),
    )
    assert listed.notes == (
        "a.csv: 2 prompts are empty and left out",
        "a.csv: 1 prompt repeats an earlier one, which counts once; the first is in line 7: x",
    )


def test_objects_in_lists_and_lines(tmp_path: Path) -> None:
    """Texts and objects may be mixed; id and category are kept, what cannot be kept is named."""
    items: list[Any] = [
        "a cat",
        {"prompt": "a dog", "id": "dog", "category": "animals", "seed": 3, "other": 1},
        {"Caption": "a cow", "id": 12, "negative_prompt": "blur"},
        {"text": "a hen", "id": None, "category": None, "seed": 4},
    ]
    expected = (
        Prompt(made_id("a cat"), "a cat"),
        Prompt("dog", "a dog", "animals"),
        Prompt("12", "a cow"),
        Prompt(made_id("a hen"), "a hen"),
    )
    for name, content in {
        "a.json": json.dumps(items, indent=2),
        "own.json": json.dumps({"notes": [], "prompts": items}),
        "a.jsonl": "\n".join(map(json.dumps, items)),
    }.items():
        prompts, notes = read(write(tmp_path, name, content))
        assert prompts == expected
        assert notes == (f"{name}{IGNORED}negative_prompt (1x), seed (2x)",)


def test_options_of_sd_scripts_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    """They are taken off and counted, as is all else that sd-scripts takes for one."""
    content = (
        "a fox --n blurry, bad --w 512 --h 768 --d 1 --l 7.5 --s 28\n"
        "an owl --D 2\n"
        "--n only this\n"
        "a well-known man --the king-- on a horse -- at night\n"
    )
    prompts, notes = read(write(tmp_path, "a.txt", content))
    assert [prompt.text for prompt in prompts] == [
        "a fox",
        "an owl",
        "a well-known man",
    ]
    assert prompts[0].id == made_id("a fox")
    assert notes == (
        "a.txt: 1 prompt is empty and left out",
        (
            f"a.txt{IGNORED}-- (1x), --d (2x), --h (1x), --l (1x), --n (1x), --s (1x), "
            "--the (1x), --w (1x)"
        ),
    )


def test_dashes_are_text_where_no_line_has_an_option(tmp_path: Path) -> None:
    """A file that is not sd-scripts' keeps its prompts whole, and its indented comments."""
    content = "a well-known man --the king-- on a horse -- at night\n  # a comment\n"
    prompts, notes = read(write(tmp_path, "a.txt", content))
    assert [it.text for it in prompts] == ["a well-known man --the king-- on a horse -- at night"]
    assert notes == ()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "a cat\na dog\n", ":1: has no column prompt or prompts or caption or text; the"),
        ("a.csv", "prompt,id\na cat, a dog, a cow\n", ":2: has 3 cells, the header 2"),
        ("a.csv", 'prompt\n"a cat\n', ":2: is not CSV: unexpected end of data"),
        ("a.csv", 'prompt\na\n"b"c\n', ":3: is not CSV: "),
        ("a.csv", "prompt,id\na,x\nb,x\n", ":3: x: stands twice, first in line 2"),
        ("a.csv", f"prompt,id\na,{'x' * 201}\n", ":2: xxx"),
        ("a.csv", "prompt,category\na,\x1b\n", ":2: has the control character"),
        ("a.csv", "prompt\n", ":1: has no prompt"),
        ("a.csv", f"prompt\n{'x' * 200_000}\n", ":2: is not CSV: field larger than"),
        ("a.tsv", "\n", ":1: has no column"),
        ("a.tsv", "prompt\na\n\x07\n", ":3: has the control character"),
        ("a.jsonl", '"a"\n{"prompt": 3}\n', ":2: must be a text, or an object"),
        ("a.jsonl", '"a"\n\n[}\n', ":3: is not JSON"),
        ("a.jsonl", '"a"\n["b"]\n', ":2: must be a text, or an object"),
        ("a.jsonl", '{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}', ":2: x: stands"),
        ("a.json", '["a",\n{"prompt": "b", "id": 1.5}]', ':2: "id" must be a text or a whole'),
        ("a.json", '["a",\n{"prompt": "b", "prompt": "c"}]', ":2: prompt: stands twice"),
        ("a.json", '["a",\n{"prompt": "b", "category": []}]', ':2: "category" must be a text'),
        ("a.json", "[]", ":1: has no prompt"),
        ("a.json", '"a cat"', ":1: must be a list of prompts, or an object"),
        ("a.json", '["a"' + ",1e999" * 3 + "]", ":1: must be a text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    """Every fault says file and line."""
    file = write(tmp_path, name, content)
    with pytest.raises(SettingsError) as error:
        read(file)
    assert str(error.value).removeprefix(str(file)).startswith(expected)


@given(texts=TEXTS, form=st.sampled_from(["csv", "jsonl", "list", "own"]), seed=st.integers(0, 99))
@example(texts=['"a"', 'a "b", c', "d\te\nf", "{", "#x"], form="csv", seed=1)
def test_any_texts_come_back_and_keep_their_ids_in_any_order(
    folder: Path, texts: list[str], form: str, seed: int
) -> None:
    """CSV, JSON Lines, lists and what `clipwatch prompts --json` prints hold any prompt."""
    name = f"any.{form if form in ('csv', 'jsonl') else 'json'}"
    prompts, notes = read(write(folder, name, as_written(form, texts)))
    assert [prompt.text for prompt in prompts] == texts
    assert notes == ()
    shuffled = random.Random(seed).sample(texts, len(texts))
    again = read(write(folder, name, as_written(form, shuffled))).prompts
    assert [prompt.text for prompt in again] == shuffled
    assert set(again) == set(prompts)


@given(texts=TEXTS)
def test_any_lines_come_back_from_a_tsv(folder: Path, texts: list[str]) -> None:
    """Whether its writer quotes or not; a cell has no tab and no line break."""
    plain = list(dict.fromkeys(re.sub(r"[\t\n]", " ", text) for text in texts))
    prompts = read(write(folder, "quoted.tsv", table(plain, "\t"))).prompts
    assert [prompt.text for prompt in prompts] == plain
    bare = [text for text in plain if not text.startswith('"')]
    if bare:
        content = "\n".join(["prompt\tid", *bare])
        assert texts_of(folder, content) == bare


def texts_of(folder: Path, content: str) -> list[str]:
    return texts(read(write(folder, "bare.tsv", content)))


def test_ids_that_meet_by_chance_are_told_apart(tmp_path: Path) -> None:
    """Two texts whose short ids are the same get long ones, in whatever order they stand."""
    first, second, other = "石草夏", "鸟灯月", "a cat"  # found by search
    assert made_id(first) == made_id(second)
    forth = read(write(tmp_path, "a.txt", f"{first}\n{second}\n{other}")).prompts
    back = read(write(tmp_path, "a.txt", f"{other}\n{second}\n{first}")).prompts
    assert forth == back[::-1]
    expected = [made_id(first, 32), made_id(second, 32), made_id(other)]
    assert [prompt.id for prompt in forth] == expected


@pytest.mark.parametrize(
    ("text", "cut"),
    [("word " * 70, False), ("word " * 71, True), ("a, " * 36, True), ("石" * 71, True)],
)
def test_long_prompts_are_told(text: str, cut: bool) -> None:
    """Words, signs and characters of scripts without spaces count; CLIP reads 75 tokens of text."""
    notes = long_note([Prompt("a", text), Prompt("b", "short")])
    assert notes == (LONG,) * cut


def test_parquet_needs_pyarrow_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the one line says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(SettingsError, match="pip install pyarrow"):
        read(write(tmp_path, "a.parquet", "PAR1"))


@pytest.mark.parametrize(
    ("length", "why"),
    [(2**20, "has 1048576 characters"), (9000, r"bomb\.parquet: unpacks to more than 64 MiB")],
)
def test_parquet_that_unpacks_without_end_is_refused(tmp_path: Path, length: int, why: str) -> None:
    """Some kilobytes that stand for gigabytes are not unpacked."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = arrow.DictionaryArray.from_arrays(arrow.array([0] * 60_000), ["x" * length])
    file = tmp_path / "bomb.parquet"
    parquet.write_table(arrow.table({"prompt": texts}), file, compression="zstd")
    assert file.stat().st_size < 10_000
    before = arrow.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(SettingsError, match=why):
        read(file)
    assert tracemalloc.get_traced_memory()[1] < 2**29
    tracemalloc.stop()
    assert arrow.total_allocated_bytes() - before < 2**29


def test_parquet_is_read_by_row(tmp_path: Path) -> None:
    """Columns are those of a table, and what is no Parquet is refused in one line."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    rows = {"Prompt": ["a cat", None, "a dog"], "category": ["x", "y", None], "more": [1, 2, 3]}
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(rows), tmp_path / "a.parquet")
    prompts, notes = read(tmp_path / "a.parquet")
    assert [(prompt.text, prompt.category) for prompt in prompts] == [("a cat", "x"), ("a dog", "")]
    assert notes == ("a.parquet: 1 prompt is empty and left out",)
    with pytest.raises(SettingsError, match=r"broken\.parquet: is no Parquet file"):
        read(write(tmp_path, "broken.parquet", "PAR1 and no more"))
