"""Files of parts that were cut, damaged, or made to lead elsewhere."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clipwatch.domain.merging import Shard
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.kit.errors import ClipwatchError
from clipwatch.tasks import partfile
from part_kit import ID, made, part, refused
from results_kit import call


def test_a_part_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    """At each byte: what is whole stays, the rest of the line is gone, and nothing is doubled."""
    whole = part(tmp_path / "whole", Shard(1, 2))
    data = whole.read_bytes()
    name = whole.relative_to(tmp_path / "whole")
    for cut in range(0, len(data), 97):
        torn = tmp_path / str(cut) / name
        torn.parent.mkdir(parents=True)
        torn.write_bytes(data[:cut])
        before = partfile.read(torn)
        assert part(tmp_path / str(cut), Shard(1, 2)) == torn
        after = partfile.read(torn)
        assert after is not None
        assert after.finished is not None
        assert [it.prompt_id for it in after.scored] == ["p0", "p0", "p2", "p2", "p4", "p4"]
        if before is not None:
            assert after.scored[: len(before.scored)] == before.scored


def test_zeros_at_the_end_are_what_a_power_cut_left(tmp_path: Path) -> None:
    """They are left out, and written over."""
    file = part(tmp_path, finished=False)
    sound = partfile.read(file)
    with file.open("ab") as opened:
        opened.write(bytes(512) + b"\n")
    assert partfile.read(file) == sound
    part(tmp_path)
    assert b"\0" not in file.read_bytes()


def test_one_process_writes_a_part(tmp_path: Path) -> None:
    """A second one is refused in a line, and another shard is not."""
    file = part(tmp_path, Shard(1, 2), finished=False)
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ClipwatchError, match="another process writes "):
            part(tmp_path, Shard(1, 2))
        part(tmp_path, Shard(2, 2))
    part(tmp_path, Shard(1, 2))


def _edited(file: Path, kind: str, edit: Callable[[Any], None]) -> None:
    """Change the first line of a kind, its checksum too: as somebody may who means it."""
    lines = file.read_bytes().splitlines(keepends=True)
    for place, line in enumerate(lines):
        told = json.loads(line)
        if told["type"] == kind:
            edit(told["data"])
            data = json.dumps(told["data"])
            time = msgspec.json.decode(line, type=partfile._Line).time
            told["crc"] = partfile._checksum(kind, time, data)
            head = {"type": kind, "time": told["time"]}
            begin = json.dumps(head, separators=(",", ":"))[:-1]
            lines[place] = f'{begin},"data":{data},"crc":{told["crc"]}}}\n'.encode()
            break
    file.write_bytes(b"".join(lines))


EDITS: list[tuple[str, Callable[[Any], None], str]] = [
    ("ImagesScored", lambda it: it["images"][0].update(seed=7), "image 0 of prompt p0 is none of"),
    ("ImagesScored", lambda it: it["images"][0].update(score=1e999), "line 6: JSON is malformed"),
    ("ImagesScored", lambda it: it["images"][0].update(image=f"{ID}/../x"), "image 0 of prompt p0"),
    ("ImagesScored", lambda it: it["images"][0].update(image="/etc/passwd"), "image 0 of prompt"),
    ("ImagesScored", lambda it: it.update(evaluation="a/b/c"), "it has images of a/b/c"),
    ("EvaluationStarted", lambda it: it.update(digest="x"), "it tells of checkpoint-500/"),
    ("ProtocolDefined", lambda it: it["protocol"].update(guidance=9.0), "its protocol is not"),
    ("CheckpointCompleted", lambda it: it.update(name=".."), "it is of a checkpoint called '..'"),
    ("Part", lambda it: it.update(format=2, version="9.9"), "was written by clipwatch 9.9"),
]


@pytest.mark.parametrize(("kind", "edit", "said"), EDITS, ids=[it[2] for it in EDITS])
def test_what_cannot_be_is_refused(
    kind: str, edit: Callable[[Any], None], said: str, tmp_path: Path
) -> None:
    """A part of another machine may hold anything; one line tells which file, and what."""
    file = part(tmp_path / "parts", drawn=True)
    _edited(file, kind, edit)
    told = refused(tmp_path / "state", file)
    assert str(file) in told
    assert said in told
    assert not (tmp_path / "state").exists()


def test_every_wrong_byte_is_noticed(tmp_path: Path) -> None:
    """A part is damaged, or cut; no number is taken for another."""
    file = part(tmp_path / "parts")
    data, sound = file.read_bytes(), partfile.read(file)
    assert sound is not None
    for at, number in zip(range(40, len(data), 41), count()):
        wrong = bytearray(data)
        wrong[at] ^= 1 << (number % 7)
        file.write_bytes(wrong)
        try:
            found = partfile.read(file)
        except ClipwatchError as error:
            assert "is damaged" in str(error) or "does not know" in str(error)  # noqa: PT017
        else:
            assert found is None or found.scored == sound.scored[: len(found.scored)]


def test_an_unreadable_part_is_told(tmp_path: Path) -> None:
    """Another scorer's name in the protocol of a log is no part; a missing file neither."""
    said = call(tmp_path / "state", "import", str(tmp_path / "parts/1-of-2.jsonl"))
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    (tmp_path / "empty").mkdir()
    said = call(tmp_path / "state", "import", str(tmp_path / "empty"))
    assert (said.exit_code, said.stderr.count("\n")) == (2, 1)
    assert "clipwatch score --save" in said.stderr


def test_several_scorers_come_in_parts(tmp_path: Path) -> None:
    """An image that lacks one of them is none of the protocol."""
    two = made(scorers=(ScorerSpec("", "clip"), ScorerSpec("big", "clip")))
    file = part(tmp_path / "parts", protocol=two)
    assert "is none of its protocol" in refused(tmp_path / "state", file)
