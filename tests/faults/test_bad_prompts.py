"""Whatever a prompt file holds, it is read as prompts that all the rest can use, or refused."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from clipwatch.cli import main
from clipwatch.domain import events
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.written import decode, encode
from clipwatch.evaluator.images import image_name
from clipwatch.kit.textfiles import LONGEST
from clipwatch.prompts import LARGEST, LONGEST_NAME, MOST, read
from clipwatch.settings import load
from clipwatch.testing.series import make_protocol, make_series
from clipwatch_adapters.shared.numbers import Names
from clipwatch_adapters.tensorboard.records import record
from clipwatch_adapters.wandb.rows import row
from corpus import CORPUS, EXPECTED, refusal

ODD = st.text(
    st.sampled_from("ab \t\n\r\0\x07\x1b\x85\x9b\xa0\u0301\u200b\u200c\u200d\u200f\u202e\u2028")
    | st.sampled_from("\u2066\ufeff\ufffe\ud800\udfff😀é中א/\\.-~|`<&\"'{[#")
)
WORDS = ODD | st.text()
ENTRIES = WORDS | st.dictionaries(
    st.sampled_from(["prompt", "caption", "tags", "category", "x"]),
    WORDS | st.none() | st.integers() | st.floats(),
    max_size=3,
)

FORMS = ("any.txt", "any.json", "any.jsonl", "any.csv", "any.tsv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prompts")


def outcome(file: Path) -> str | tuple[Prompt, ...]:
    """Return the refusal of a prompt file, or its prompts, which everything else can use."""
    found: list[Prompt] = []
    said = refusal(lambda: found.extend(read(file).prompts), file)
    if found:
        check(tuple(found))
    return said or tuple(found)


def check(prompts: tuple[Prompt, ...]) -> None:
    """Take prompts through all that is done with them: seeds, digest, log, files and trackers."""
    assert len({prompt.id for prompt in prompts}) == len(prompts) <= MOST
    for prompt in prompts:
        assert prompt.id.strip() == prompt.id != ""
        assert prompt.text.strip() == prompt.text != ""
        assert len(prompt.id) <= LONGEST_NAME
        assert len(prompt.text) <= LONGEST
        assert len(prompt.id.splitlines()) == 1
        assert not re.search(r"[\0\x1b\x80-\x9f]", f"{prompt.id}{prompt.text}{prompt.category}")
    protocol = make_protocol(prompts)
    event = events.ProtocolDefined(protocol.digest, protocol)
    assert decode(*encode(event)) == event
    assert all(0 <= seed < 2**63 for _, _, seed in protocol.images())
    series = make_series(Path(), [100], protocol=protocol, images=False)
    names = Names.of(series)
    assert record(series, names, series.results[0])
    assert msgspec.json.encode(row(series, names, series.results[0], 0))


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith("prompts/")))
def test_the_corpus_comes_out_as_it_says(name: str, tmp_path: Path) -> None:
    """Each broken file is told with its line; each odd one gives exactly its texts."""
    file = tmp_path / Path(name).name
    file.write_bytes((CORPUS / name).read_bytes())
    said, expected = outcome(file), EXPECTED[name]
    if isinstance(said, str):
        assert said.startswith(expected)
    else:
        assert [prompt.text for prompt in said] == expected


@given(content=st.binary() | WORDS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(folder: Path, content: bytes) -> None:
    """Whatever is in it, a file of each form gives usable prompts or one line."""
    for name in FORMS:
        (folder / name).write_bytes(content)
        outcome(folder / name)


@given(entries=st.dictionaries(WORDS, ENTRIES, max_size=4), ascii_only=st.booleans())
@example(entries={"\ud800": "x"}, ascii_only=True)
@example(entries={"x": {"prompt": "a", "category": "\udfff"}}, ascii_only=True)
@example(entries={"a" * 200: "b" * 10_000, "c": {"tags": float("nan")}}, ascii_only=False)
def test_any_library(folder: Path, entries: dict[str, Any], ascii_only: bool) -> None:
    """Any names, texts and fields give usable prompts or one line."""
    content = json.dumps(entries, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    (folder / "library.json").write_bytes(content)
    outcome(folder / "library.json")


@given(lines=st.lists(WORDS, max_size=6), ending=st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_lines(folder: Path, lines: list[str], ending: str) -> None:
    """A line gives one usable prompt or is refused by its number, whatever the others are."""
    (folder / "lines.txt").write_bytes(ending.join(lines).encode("utf-8", "surrogatepass"))
    said = outcome(folder / "lines.txt")
    assert not isinstance(said, str) or re.match(r":\d+: ", said)


@pytest.mark.parametrize("depth", [10, 300, *range(880, 1000, 4), 3000, 100_000])
def test_any_depth(tmp_path: Path, depth: int) -> None:
    """Objects and lists within each other never exhaust the stack."""
    for opened, closed in (("[", "]"), ('{"prompt": ', "}")):
        file = tmp_path / "deep.json"
        file.write_text(
            '{"a": {"prompt": "x", "y": ' + opened * depth + "1" + closed * depth + "}}"
        )
        said = outcome(file)
        assert said == (Prompt("a", "x"),) or said == ": is nested too deeply for a prompt library"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.thorough
def test_any_size(tmp_path: Path, name: str) -> None:
    """Ten MB of anything are read or refused, and more than LARGEST is not even read."""
    file = tmp_path / name
    ten = 10_000_000
    for content in (
        b"a" * ten,
        b"\n" * ten,
        b"a\n" * (ten // 2),
        b'{"' * (ten // 2),
        b"\xc3\xa9" * ten,
    ):
        file.write_bytes(content[:ten])
        assert isinstance(outcome(file), str)
    os.truncate(file, LARGEST + 1)
    assert outcome(file) == ": is larger than 16 MiB: is it the right file?"


@pytest.mark.thorough
def test_as_many_as_may_be(tmp_path: Path) -> None:
    """A file of MOST prompts is read; one of one more is refused."""
    file = tmp_path / "many.txt"
    file.write_text("\n".join(map(str, range(MOST))))
    assert len(read(file).prompts) == MOST
    file.write_text("\n".join(map(str, range(MOST + 1))))
    said = refusal(partial(read, file), file)
    assert said == ": has more than 100000 entries: name a smaller file"


@pytest.mark.parametrize("suffix", ["txt", "json", "jsonl", "csv", "tsv"])
def test_what_is_no_file(tmp_path: Path, suffix: str) -> None:
    """A pipe does not block, a device does not fill the memory, and both are named."""
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"random.{suffix}").symlink_to("/dev/urandom")
    (tmp_path / f"folder.{suffix}").mkdir()
    (tmp_path / f"loop.{suffix}").symlink_to(f"loop.{suffix}")
    said = {
        name: outcome(tmp_path / f"{name}.{suffix}")
        for name in ("pipe", "zero", "random", "folder", "loop", "gone")
    }
    regular = ": is not a regular file: name one"
    assert said == {
        **dict.fromkeys(("pipe", "zero", "random", "folder"), regular),
        "loop": ": cannot be read: Too many levels of symbolic links",
        "gone": ": cannot be read: No such file or directory",
    }


@pytest.mark.parametrize("key", ["prompts", "user_prompt_library"])
def test_a_bad_file_stops_the_command_by_its_own_name(tmp_path: Path, key: str) -> None:
    """`clipwatch prompts` ends with 2 and the line of the prompt file, not of the configuration."""
    (tmp_path / "library.json").write_text('{"a": "a cat",\n"b": "\\u001b[2J"}')
    least = {"output_dir": "out", "model_family": "sdxl", "clipwatch": {key: "library.json"}}
    (tmp_path / "config.json").write_text(json.dumps(least))
    ended = CliRunner().invoke(main, ["prompts", "--config", str(tmp_path)])
    assert isinstance(ended.exception, SystemExit)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"Error: {tmp_path / 'library.json'}:2: b: has the control character '\\x1b': remove it\n"
    )


@pytest.mark.parametrize("blank", ["", " ", "\t\n", None])
def test_an_empty_prompt_is_none(tmp_path: Path, blank: str | None) -> None:
    """A validation_prompt without text, from wherever, leaves the built-in prompts alone."""
    least = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl"}
    (tmp_path / "config.json").write_text(json.dumps(least | {"validation_prompt": blank}))
    alone = load(tmp_path, environ={}, cwd=tmp_path).protocol.prompts
    assert "validation" not in {prompt.id for prompt in alone}
    environ = {"CLIPWATCH_VALIDATION_PROMPT": blank or ""}
    flags = {"validation_prompt": blank}
    assert load(tmp_path, environ=environ, flags=flags, cwd=tmp_path).protocol.prompts == alone


NAMES = ODD | st.text() | st.from_regex(r"(\.\./|/|\.|\\|~|-|CON|nul|[a-z]){1,12}", fullmatch=True)


@given(ids=st.lists(st.tuples(NAMES, st.integers(0, 3)), unique=True, max_size=8))
@example([("../../x", 0), ("..", 0), ("/etc/passwd", 0), ("a" * 10_000, 0), ("\ud800", 0), ("", 0)])
@example([("Café", 0), ("Cafe\u0301", 0), ("café", 0), ("CAFÉ", 0), ("caf_", 0)])
def test_no_name_leads_out_of_the_images_folder(
    tmp_path_factory: pytest.TempPathFactory, ids: list[tuple[str, int]]
) -> None:
    """Every image of every id is a file of its own, directly in the folder, with a plain name."""
    images = tmp_path_factory.mktemp("images")
    for prompt_id, index in ids:
        path = images / image_name(prompt_id, index)
        assert re.fullmatch(r"[a-z0-9_][a-z0-9._~-]{1,120}\.png", path.name)
        assert Path(os.path.realpath(path)).parent == Path(os.path.realpath(images))
        path.touch(exist_ok=False)
    assert len({name.casefold() for name in os.listdir(images)}) == len(ids)


def test_ids_of_the_corpus_stay_in_the_folder(tmp_path: Path) -> None:
    """Ids that are paths in a real library become plain names, each its own."""
    prompts = read(CORPUS / "prompts" / "names-of-paths.json").prompts
    names = {image_name(prompt.id, 0) for prompt in prompts}
    assert len({name.casefold() for name in names}) == len(prompts) == 11
    assert all((tmp_path / name).parent == tmp_path and not name.startswith(".") for name in names)
