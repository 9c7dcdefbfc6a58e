"""Whatever a configuration holds, it loads or is refused in one clear line."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from clipwatch.cli import main
from clipwatch.kit.textfiles import plain
from clipwatch.settings import KEYS, load
from clipwatch.settings.jsonc import DEEPEST
from corpus import CORPUS, EXPECTED, refusal
from places import ROOT

LEAST = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl", "seed": 7}
EXAMPLE = (ROOT / "config.example.json").read_bytes()

ODD = [
    *(float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 10**400, -(10**400), 2**63, 2**64),
    *("\ud800", "\udfff\ud800", "\0", "\x1b[2J\x1b]0;x\x07", "\x9b", "\u202ex", "\u2028", "\ufeff"),
    *("x" * 300, "x" * 20_000, "9" * 5000, "{env:\ud800}", "{env:\0}", "{env:HOME}", "~nobody/x"),
    *("/dev/null", "/dev/zero", "../" * 50, "-1", "1e999", " ", "a\r\nb", "٣"),
]  # fmt: skip
TEXT = st.text().filter(lambda text: "/" not in text)  # no file of this machine
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(ODD)
NAMES = (
    st.sampled_from([*sorted(KEYS), "wandb", "clipwatch", "--seed", "wandb.api_key"]) | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


def outcome(
    folder: Path,
    content: str | bytes,
    environ: dict[str, str] | None = None,
    *,
    name: str = "config.json",
    **flags: Any,
) -> str:
    """Return the refusal of such a config.json, "" if it loads to what can be used and told."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)

    def use() -> None:
        loaded = load(file, environ=environ or {}, flags=flags, cwd=folder)
        assert len(loaded.protocol.digest) == 16
        assert msgspec.json.decode(msgspec.json.encode(loaded.as_text())) == loaded.as_text()
        assert "".join(loaded.remarks).isprintable()
        for setting in loaded.origins:
            assert f"{setting.key} {setting.source}".isprintable()
            json.dumps(setting.value, default=str)

    return refusal(use, None if environ or flags else file)


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if name.startswith("configs/")))
def test_the_corpus_is_refused_as_it_says(name: str, tmp_path: Path) -> None:
    """Each broken file is told with its line, and none that is merely odd is refused."""
    expected = EXPECTED[name] or ""
    said = outcome(tmp_path, (CORPUS / name).read_bytes())
    assert said.startswith(expected)
    assert bool(said) == bool(expected)
    assert "SECRET" not in said


def test_the_corpus_is_complete() -> None:
    """Every file has its expectation and the other way round."""
    files = {
        f"{kind}/{file.name}"
        for kind in ("configs", "prompts")
        for file in (CORPUS / kind).iterdir()
    }
    assert files == EXPECTED.keys()


@given(content=st.binary() | st.text(alphabet='"\\/*#,:{}[]\r\n ab0').map(str.encode))
def test_any_bytes(folder: Path, content: bytes) -> None:
    """Whatever the bytes are, nothing but SettingsError comes out, and it names the file."""
    assert outcome(folder, content)


@given(at=st.integers(0, len(EXAMPLE) - 1), inserted=st.binary(max_size=3))
def test_any_slip_of_the_keyboard(folder: Path, at: int, inserted: bytes) -> None:
    """A byte of the example that is replaced by others loads or is refused."""
    outcome(folder, EXAMPLE[:at] + inserted + EXAMPLE[at + 1 :])


@pytest.mark.parametrize("part", range(8))
@pytest.mark.thorough(but=1)
def test_every_truncation(tmp_path: Path, part: int) -> None:
    """A file that ends too early, wherever it does, is refused with its line."""
    whole = len(EXAMPLE.rstrip())
    for end in range(part, whole, 8):
        assert re.match(r":\d+: is not valid JSON: ", outcome(tmp_path, EXAMPLE[:end]))


@given(name=NAMES, value=VALUES, place=st.sampled_from(["trainer", "object", "option"]))
@example("validation_resolution", "9" * 5000, "trainer")
@example("\ud800", 1, "object")
@example("\x1b[2J", "x", "option")
def test_any_json_at_any_key(folder: Path, name: str, value: Any, place: str) -> None:
    """Any JSON value at any key loads or is refused with a key, and with its line if it has one."""
    inside: Any = {name: value}
    if place == "option":
        inside = {"wandb": inside}
    if place != "trainer":
        inside = {"clipwatch": inside}
    said = outcome(folder, json.dumps(LEAST | inside, indent=0))
    assert not said or re.match(r"(:\d+)?: .*: .", said)


@given(name=st.sampled_from(sorted(KEYS)), value=SCALARS)
def test_the_key_at_fault_is_named_with_its_line(folder: Path, name: str, value: Any) -> None:
    """A value that does not fit is told with the line it stands in, under the key as written."""
    least = {key: set_to for key, set_to in LEAST.items() if key != name}
    content = json.dumps(least, indent=0)[:-2] + f',\n"--{name}": {json.dumps(value)}}}'
    said = outcome(folder, content)
    line = content.count("\n") + 1
    assert not said or said.startswith(f":{line}: --{name}: ") or _follows(said), said


def _follows(said: str) -> bool:
    """Tell whether a refusal is about a key that another value, right in itself, makes wrong."""
    others = (
        "model_family",
        "evaluation_type",
        "num_validation_images",
        "state_dir: ",
        "is missing",
    )
    return any(other in said for other in others)


@given(name=NAMES, value=st.text(st.characters(exclude_characters="\0")))
@example("wandb", '{"a": ' + "[" * 100_000)
@example("wandb", '{"a": ' + "1" * 5000 + "}")
@example("device", "\udcff")
def test_any_environment(folder: Path, name: str, value: str) -> None:
    """Any variable that begins with CLIPWATCH_ is a setting or is named as what is wrong."""
    variable = f"CLIPWATCH_{name.upper()}"
    said = outcome(folder, json.dumps(LEAST), environ={variable: value})
    assert not said or said.startswith(plain(variable)[:90]) or _follows(said), said


@pytest.mark.parametrize("depth", [1, DEEPEST - 3, DEEPEST, 200, 480, 700, 940, 1000, 2000, 20_000])
@pytest.mark.parametrize("key", ["x", "report_to", "clipwatch", "wandb"])
def test_any_depth(tmp_path: Path, depth: int, key: str) -> None:
    """Lists and objects within each other never exhaust the stack."""
    for opened, closed in (("[", "]"), ('{"wandb": ', "}")):
        value = opened * depth + "1" + closed * depth
        said = outcome(tmp_path, json.dumps(LEAST)[:-1] + f', "{key}": {value}}}')
        assert "is nested too deeply" in said or depth < DEEPEST


@pytest.mark.thorough
def test_any_size(tmp_path: Path) -> None:
    """A file of one MiB is read whatever it is made of; a larger one is refused unread."""
    least = json.dumps(LEAST)[:-1]
    fillings = ['"', '"\\', "/*", ",", " ", "\n", "[", '{"a":', "#\n", '"a":1,', "\\u0000", "é"]
    for filling in fillings:
        content = least + filling * ((2**20 - len(least)) // len(filling.encode()))
        assert ": is larger" not in outcome(tmp_path, content)
    assert outcome(tmp_path, least + " " * 10_000_000 + "}") == (
        ": is larger than 1 MiB: is it the right file?"
    )


@pytest.mark.parametrize("long", ["9" * 50_000, "\u202e" * 50_000])
def test_the_middle_of_what_is_long_is_left_out(tmp_path: Path, long: str) -> None:
    """A key or value of any length leaves one line that can be read, with both of its ends."""
    for inside in ({long: 1}, {"wandb": {long: 1}}, {"batch_size": long}, {"use_ema": long}):
        said = outcome(tmp_path, json.dumps(LEAST | {"clipwatch": inside}, indent=0))
        assert re.match(r":[789]: .* \.\.\. ", said)
        assert len(said) < 1500
    told = outcome(tmp_path, json.dumps(LEAST), batch_size=f"<{long}>")
    assert told.startswith('--batch-size: must be a whole number of at least 1, not "<')
    assert told.endswith('>"')


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes, sockets, devices and links to nothing are refused at once, by their name."""
    os.mkfifo(tmp_path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with listening:
        listening.bind("socket")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    regular = ": is not a regular file: name one"
    names = ("pipe", "socket", "zero", "loop", "nowhere", "gone", "x" * 300)
    said = {
        name: refusal(partial(load, tmp_path / name, environ={}, cwd=tmp_path), tmp_path / name)
        for name in names
    }
    assert said == {
        "pipe": regular,
        "socket": regular,
        "zero": regular,
        "loop": ": cannot be read: Too many levels of symbolic links",
        "nowhere": ": cannot be read: No such file or directory",
        "gone": ": cannot be read: No such file or directory",
        "x" * 300: ": cannot be read: File name too long",
    }
    (tmp_path / "folder" / "config.json").symlink_to("gone")
    told = refusal(partial(load, tmp_path / "folder", environ={}, cwd=tmp_path))
    assert told.endswith("/folder/config.json: cannot be read: No such file or directory")
    for name in ("~nobody-whom-we-know/config.json", "x" * 5000, "pipe/config.json"):
        assert refusal(partial(load, Path(name), environ={}, cwd=tmp_path))


@pytest.mark.parametrize("kind", ["pipe", "nowhere", "folder", "zero"])
def test_our_own_file_beside_is_no_exception(tmp_path: Path, kind: str) -> None:
    """A clipwatch.json that cannot be read is told, not passed over."""
    beside = tmp_path / "clipwatch.json"
    if kind == "pipe":
        os.mkfifo(beside)
    elif kind == "folder":
        beside.mkdir()
    else:
        beside.symlink_to("/dev/zero" if kind == "zero" else "gone")
    (tmp_path / "config.json").write_text(json.dumps(LEAST))
    said = refusal(partial(load, tmp_path, environ={}, cwd=tmp_path), beside)
    assert said.startswith((": is not a regular file", ": cannot be read: No such file"))


@pytest.mark.parametrize(
    ("name", "fits"),
    [("a\nb", True), ("\u202enosj", True), ("\x1b[2J", False), (os.fsdecode(b"\xff"), False)],
)
def test_any_name_of_a_folder(tmp_path: Path, name: str, fits: bool) -> None:
    """What would play with the terminal is spelt out; what the log cannot hold is refused."""
    inside = tmp_path / name
    inside.mkdir()
    (inside / "config.json").write_text("{}")
    said = refusal(partial(load, inside, environ={}, cwd=tmp_path))
    assert "config.json: output_dir: is missing" in said
    (inside / "config.json").write_text(json.dumps(LEAST))
    said = refusal(partial(load, inside, environ={}, cwd=inside))
    assert ("config.json:1: output_dir: " in said) == (not fits)
    assert not outcome(tmp_path, json.dumps(LEAST), name=f"{name}.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_we_may_not_read(tmp_path: Path) -> None:
    """What lacks a permission is told with the reason, and with the key that names it."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "config.json").chmod(0)
    said = refusal(partial(load, tmp_path, environ={}, cwd=tmp_path), tmp_path / "config.json")
    assert said == ": cannot be read: Permission denied"
    closed.chmod(0)
    (tmp_path / "config.json").chmod(0o600)
    for key in ("output_dir", "user_prompt_library", "pretrained_model_name_or_path"):
        said = outcome(tmp_path, json.dumps(LEAST | {key: str(closed / "x" / "y")}))
        assert re.match(rf":1: {key}: '.*' cannot be looked at: Permission denied", said)


@pytest.mark.parametrize(
    "name",
    ["empty", "utf-16", "picture", "deep", "value-with-escape", "key-with-line-break", "long-name"],
)
def test_the_command_ends_with_one_line_and_two(name: str, tmp_path: Path) -> None:
    """`start` and `prompts` say no more than the library does: no traceback, nothing on stdout."""
    file = CORPUS / "configs" / f"{name}.json"
    for command in (["start", "--print-settings"], ["prompts"]):
        ended = CliRunner().invoke(
            main, [*command, "--config", str(file)], env={"HOME": str(tmp_path)}
        )
        assert isinstance(ended.exception, SystemExit)
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert ended.stderr.startswith(f"Error: {file}{EXPECTED[f'configs/{name}.json']}")
        assert ended.stderr.removesuffix("\n").isprintable()


def test_the_process_ends_with_one_line_and_two(tmp_path: Path) -> None:
    """The same holds for a real process with a real terminal's encoding, even an old one."""
    (tmp_path / "config.json").write_text('{"clipwatch": {"\\ud800\\u001b\\n\u202e": 1}}')
    ended = subprocess.run(
        [sys.executable, "-m", "clipwatch", "start", "--print-settings"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.count(b"\n") == 1
    assert rb"config.json:1: \ud800\x1b\n\u202e: is not a setting of clipwatch" in ended.stderr
