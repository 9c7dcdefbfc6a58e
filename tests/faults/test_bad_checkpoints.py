"""Whatever stands in an output directory: one clear line for it, and nothing else stops."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.events import CheckpointDiscarded
from clipwatch.domain.sighting import Partial, Unusable, Whole
from clipwatch.domain.written import decode, encode
from clipwatch.layouts.files import INDEX_LIMIT
from clipwatch.layouts.pipeline_folder import step as step_of
from clipwatch.loop.narration import narrate
from layout_kit import (
    INDEX,
    LORA,
    MODEL,
    SETTLE,
    Clock,
    diffusers_lora,
    full,
    index,
    look,
    scanner,
    simpletuner,
    weights,
)

OLD = 3600.0

UNKNOWN_TYPE = (
    b'@\0\0\0\0\0\0\0{"a": {"dtype": "F128", "shape": [1], "data_offsets": [0, 4]}}  1234'
)


def test_weights_that_are_no_numbers_are_whole(tmp_path: Path) -> None:
    """NaN is a matter of the pixels that come out; a header cannot tell."""
    weights(simpletuner(tmp_path / "checkpoint-5") / LORA, float("nan"))
    (tmp_path / "checkpoint-5" / ".guard").write_text("complete\n")
    assert isinstance(look(tmp_path)["checkpoint-5"].verdict, Whole)


def test_a_damaged_file_is_told_soon_and_its_neighbours_are_scored(tmp_path: Path) -> None:
    """With no marker it settles first, for it may be about to be written; then one line tells."""
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    for step in (1, 2, 3):
        diffusers_lora(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-2" / LORA).write_bytes(UNKNOWN_TYPE)
    waiting = [sighting.verdict for sighting in scanning.scan()]
    assert all(isinstance(one, Partial) for one in waiting)
    assert scanning.settling
    clock.ahead = SETTLE
    last, damaged, first = (sighting.verdict for sighting in scanning.scan())
    assert isinstance(last, Whole)
    assert isinstance(first, Whole)
    assert damaged == Unusable(
        "unreadable", f"{LORA} has no valid safetensors header: a tensor's type is unknown"
    )


# Index files -------------------------------------------------------------------------------------

INDEXES: dict[str, object] = {
    "a path out of it": {"weight_map": {"a": "../../secret.safetensors"}},
    "an absolute path": {"weight_map": {"a": "/etc/secret.safetensors"}},
    "a folder below": {"weight_map": {"a": "sub/secret.safetensors"}},
    "the folder itself": {"weight_map": {"a": "."}},
    "the folder above": {"weight_map": {"a": ".."}},
    "a pickle": {"weight_map": {"a": "diffusion_pytorch_model.bin"}},
    "a number": {"weight_map": {"a": 5}},
    "a list": {"weight_map": {"a": ["x"]}},
    "nothing": {"weight_map": {"a": None}},
    "numbers and names": {"weight_map": {"a": MODEL, "b": 5}},
    "a line feed": {"weight_map": {"a": "a\n.safetensors"}},
    "a terminal's escape": {"weight_map": {"a": "\x1b[2J.safetensors"}},
    "half a surrogate pair": {"weight_map": {"a": "\udcff.safetensors"}},
    "a name of a megabyte": {"weight_map": {"a": "x" * 1_000_000}},
    "no shards": {"weight_map": {}},
    "a list of shards": {"weight_map": ["a"]},
    "no map": {},
    "no object": [],
}


@pytest.mark.parametrize("content", INDEXES.values(), ids=INDEXES)
def test_an_index_leads_nowhere_but_to_its_neighbours(tmp_path: Path, content: object) -> None:
    """Whatever it names: told in one printable line, once it settled; no file elsewhere is read."""
    folder = full(tmp_path / "checkpoint-2")
    (folder / "unet" / INDEX).write_text(json.dumps(content))
    told = look(tmp_path, Clock(ahead=OLD))["checkpoint-2"].verdict
    assert isinstance(told, Unusable)
    assert told.kind == "unreadable"
    assert told.reason.startswith(f"{INDEX} names ")
    assert told.reason.isprintable()
    assert len(told.reason) < 250


def test_a_large_index_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    """Ten megabytes are slow but right; beyond sixteen it is no index."""
    folder = full(tmp_path / "checkpoint-2") / "unet"
    index(folder, {f"{n:0100}": MODEL for n in range(75_000)})
    assert (folder / INDEX).stat().st_size > 10_000_000
    assert isinstance(look(tmp_path, Clock(ahead=OLD))["checkpoint-2"].verdict, Whole)
    (folder / INDEX).write_bytes(b" " * (INDEX_LIMIT + 1))
    assert "larger than" in str(look(tmp_path, Clock(ahead=OLD))["checkpoint-2"].verdict)


@pytest.mark.parametrize("part", ["../unet", "..", "/etc", "a\nb", "\udcff"])
def test_a_pipelines_index_leads_nowhere_else(tmp_path: Path, part: str) -> None:
    """Its parts are loaded by these names, so such a pipeline is refused as a whole."""
    folder = full(tmp_path / "checkpoint-2")
    content = {"unet": ["diffusers", "U"], part: ["diffusers", "V"]}
    (folder / "model_index.json").write_text(json.dumps(content))
    told = look(tmp_path, Clock(ahead=OLD))["checkpoint-2"].verdict
    assert isinstance(told, Unusable)
    assert told.reason.endswith("which is nothing that lies beside it")
    assert told.reason.isprintable()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root can make a device node")


def to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [fifo, listening, device, to_device, folder])
@pytest.mark.parametrize("place", [LORA, f"unet/{MODEL}", f"unet/{INDEX}", "model_index.json"])
def test_what_is_no_file_is_never_opened(
    tmp_path: Path, make: Callable[[Path], None], place: str
) -> None:
    """A FIFO would stop us for ever and a device never end: told, and the next one is looked at."""
    path = tmp_path / "checkpoint-2" / place
    path.parent.mkdir(parents=True)
    make(path)
    (tmp_path / "checkpoint-2" / ".guard").write_text("complete\n")
    simpletuner(tmp_path / "checkpoint-1")
    seen = look(tmp_path, Clock(ahead=OLD))
    assert seen["checkpoint-2"].verdict == Unusable(
        "unreadable", f"marked as complete, but {path.name} is not a file"
    )
    assert isinstance(seen["checkpoint-1"].verdict, Whole)


def test_links_to_weights_are_followed(tmp_path: Path) -> None:
    """As the Hub's cache has them; a link to nothing and one in a circle are told."""
    weights(tmp_path / "blobs" / "0123")
    for step, target in ((1, "../../blobs/0123"), (2, "../../blobs/none"), (3, LORA)):
        made = tmp_path / "output" / f"checkpoint-{step}"
        made.mkdir(parents=True)
        (made / LORA).symlink_to(target)
        (made / ".guard").write_text("complete\n")
    seen = look(tmp_path / "output", Clock(ahead=OLD))
    assert isinstance(seen["checkpoint-1"].verdict, Whole)
    nothing = f"marked as complete, but {LORA} is a link to nothing"
    assert seen["checkpoint-2"].verdict == Unusable("unreadable", nothing)
    assert "symbolic links" in str(seen["checkpoint-3"].verdict)


# Names -------------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_no_name_upsets_the_reading_of_steps(name: str) -> None:
    """Any folder name gives a step or none, never an error."""
    step = step_of(name)
    assert step is None or 0 <= step < 10**18


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-500", 500),
        ("checkpoint-500-rolling", 500),
        ("checkpoint-007", 7),
        ("epoch3-gs01500", 1500),
        ("checkpoint-500-tmp", None),
        ("checkpoint-", None),
        ("checkpoint-best", None),
        ("checkpoint-latest", None),
        ("checkpoint-1e9", None),
        ("lr-2e-5", None),
        ("checkpoint-99999999999999999999", None),
        ("temporary-500", None),
        ("checkpoint-٣", None),
    ],
)
def test_steps_are_read_from_names(name: str, step: int | None) -> None:
    """Names that a trainer uses for unfinished or unnumbered folders have no step."""
    assert step_of(name) == step


def test_the_same_step_under_two_names_is_two_checkpoints(tmp_path: Path) -> None:
    """A name is the identity, the step is data."""
    simpletuner(tmp_path / "checkpoint-7")
    simpletuner(tmp_path / "checkpoint-007", 2.0)
    seen = look(tmp_path)
    assert {name: sighting.step for name, sighting in seen.items()} == {
        "checkpoint-7": 7,
        "checkpoint-007": 7,
    }
    assert all(isinstance(sighting.verdict, Whole) for sighting in seen.values())


@pytest.mark.parametrize("name", ["a\n-5", "\x1b[2J-5", "a\u202e-5", os.fsdecode(b"mod\xe8le-5")])
def test_a_name_that_cannot_be_printed_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    """It reaches neither terminal nor log as it is, and stops nothing."""
    made = full(tmp_path / name)
    (made / "model_index.json").write_text('{"unet": ["diffusers", "U"]}')
    simpletuner(tmp_path / "checkpoint-1")
    first, second = scanner(tmp_path).scan()
    assert isinstance(second.verdict, Whole)
    assert isinstance(first.verdict, Unusable)
    assert "rename the folder" in first.verdict.reason
    place = (first.step, first.name, str(first.path))
    event = CheckpointDiscarded(*place, first.verdict.kind, first.verdict.reason)
    assert decode(*encode(event)) == event
    (line,) = narrate(event)
    assert line.isprintable()


def test_files_and_links_that_are_named_like_checkpoints(tmp_path: Path) -> None:
    """A link to a folder elsewhere is a checkpoint; a second name for one beside it is none."""
    output = tmp_path / "output"
    simpletuner(output / "checkpoint-500")
    simpletuner(tmp_path / "elsewhere")
    (output / "checkpoint-5").write_text("a file")
    for name, target in {
        "checkpoint-600": "../elsewhere",
        "checkpoint-latest": "checkpoint-500",
        "checkpoint-0500": "checkpoint-500",
        "checkpoint-00500": "checkpoint-0500",
        "checkpoint-700": "nowhere",
        "checkpoint-800": "checkpoint-800",
        "checkpoint-900": "checkpoint-901",
        "checkpoint-901": "checkpoint-900",
    }.items():
        (output / name).symlink_to(target)
    seen = look(output)
    assert set(seen) == {"checkpoint-500", "checkpoint-600"}
    assert all(isinstance(sighting.verdict, Whole) for sighting in seen.values())


def test_a_link_back_into_the_output_directory_is_no_maze(tmp_path: Path) -> None:
    """A folder that holds a link to the folder above is looked at and given up like any other."""
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "unet").symlink_to("..")
    (tmp_path / "checkpoint-6").symlink_to(".")
    clock = Clock()
    scanning = scanner(tmp_path, clock)
    scanning.scan()
    clock.ahead = 600
    seen = {sighting.name: sighting.verdict for sighting in scanning.scan()}
    assert all(isinstance(told, Unusable) for told in seen.values())


# Many --------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_ten_thousand_checkpoints_are_all_seen(tmp_path: Path) -> None:
    """Whole, unfinished and damaged ones: each has its verdict, at the first look and the next."""
    scanning = scanner(tmp_path)
    scanning.scan()
    simpletuner(tmp_path / "checkpoint-0")
    data = (tmp_path / "checkpoint-0" / LORA).read_bytes()
    for step in range(1, 10_000):
        made = tmp_path / f"checkpoint-{step}"
        made.mkdir()
        (made / LORA).write_bytes(data[: len(data) - (step % 3 == 1)])
        if step % 3:
            (made / ".guard").write_bytes(b"")
    for _ in range(2):
        kinds = [type(sighting.verdict) for sighting in scanning.scan()]
        assert len(kinds) == 10_000
        assert kinds.count(Whole) == 3_334
        assert kinds.count(Partial) == 6_666
