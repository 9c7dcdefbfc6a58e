"""`clipwatch prompts`: what would be used, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clipwatch.cli import main
from clipwatch.domain.protocol import Prompt
from clipwatch.prompts import builtin, read
from clipwatch.prompts.subset import subset


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["prompts", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a table with two categories, one row twice and a long one."""
    file = tmp_path / "a.csv"
    long = "word, " * 36
    file.write_text(f'prompt,category\na cat,animals\na dog,animals\na cat,\n"{long}",\n')
    return file


def test_the_table_ends_with_the_categories() -> None:
    """A line for each prompt, then how many each category has, and all."""
    lines = call().stdout.splitlines()
    assert len(lines) == 144 + 1 + 18 + 1
    assert lines[0].split(maxsplit=2) == ["objects", "teapot", builtin()[0].text]
    assert lines[144:146] == ["", "abstract           8"]
    assert lines[-1].split() == ["all", "144"]


def test_json_is_a_library_of_the_same_prompts(file: Path, tmp_path: Path) -> None:
    """Its keys are fixed, and what it prints reads back with the same ids."""
    printed = call("--library", file, "--json")
    assert (printed.exit_code, printed.stderr) == (0, "")
    whole = json.loads(printed.stdout)
    assert whole.keys() == {"prompts", "notes"}
    assert [set(prompt) for prompt in whole["prompts"]] == [{"id", "prompt", "category"}] * 3
    assert whole["notes"] == [
        "a.csv: 1 prompt repeats an earlier one, which counts once; the first is in line 4: a cat",
        "1 prompt has more than 70 words and signs and will probably be cut by CLIP (77 tokens)",
    ]
    (tmp_path / "saved.json").write_text(printed.stdout)
    saved = read(tmp_path / "saved.json").prompts
    assert saved == read(file).prompts
    assert saved[0] == Prompt(whole["prompts"][0]["id"], "a cat", "animals")


def test_notes_go_to_the_error_stream(file: Path) -> None:
    """So the table can be piped on; prompts without a category are counted, too."""
    shown = call("--library", file)
    assert shown.stderr.count("Note: ") == shown.stderr.count("\n") == 2
    assert shown.stdout.splitlines()[-3:] == ["(none)   1", "animals  2", "all      3"]


def test_max_prompts_chooses_as_a_run_would(file: Path, tmp_path: Path) -> None:
    """The flag, a configuration's key, and both: the flag counts."""
    expected = [prompt.id for prompt in subset(builtin(), 5)]
    least = {"output_dir": "out", "model_family": "sdxl", "clipwatch": {"max_prompts": 5}}
    (tmp_path / "config.json").write_text(json.dumps(least))
    for arguments in (["--max-prompts", "5"], ["-c", str(tmp_path)]):
        printed = json.loads(call(*arguments, "--json").stdout)
        assert [prompt["id"] for prompt in printed["prompts"]] == expected
    both = call("-c", tmp_path, "--max-prompts", "2", "--library", file, "--json")
    assert len(json.loads(both.stdout)["prompts"]) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--library", "none.json"], "none.json: cannot be read: No such file or directory"),
        (["--library", "compositional:0"], "'compositional:0' names no library: write it like"),
        (["--library", "hf:a"], "'hf:a' names no dataset: write hf:owner/name"),
        (["--max-prompts", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_call_ends_with_2(arguments: list[str], says: str) -> None:
    """One line says what is wrong."""
    ended = call(*arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert says in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
