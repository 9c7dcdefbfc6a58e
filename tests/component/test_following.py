"""A log that is looked at again and again, beside the daemon that writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.domain.events import OutputDirChecked, RunStarted
from clipwatch.journal import Journal, log_file, projection
from clipwatch.journal.projection import Following, read_state
from world import World, checkpoint


def add(log: Path, version: int, problem: str) -> None:
    with Journal(log) as journal:
        journal.append("r", "run/r", version, [OutputDirChecked(problem)])


def test_it_sees_what_others_see(tmp_path: Path) -> None:
    """From before there is a log on, after each evaluation, to the end."""
    world = World(tmp_path)
    following = Following(world.log)
    assert following.look()
    assert following.state == {}
    for step in (100, 200):
        checkpoint(world.output, step, step)
        assert world.once() == 0
        assert following.look()
        assert following.state == read_state(world.log)
        assert not following.look()


def test_nothing_is_opened_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look costs two stats then, beside however long a log; and none is held open."""
    log = log_file(tmp_path)
    with Journal(log) as journal:
        journal.append("r", "run/r", 0, [RunStarted("/out", "", (), {}, "1")])
        following = Following(log)
        assert following.look()
        monkeypatch.setattr(projection, "Journal", None)
        assert not following.look()
    monkeypatch.undo()
    assert sorted(it.name for it in tmp_path.iterdir() if it.suffix == ".db") == [log.name]
    add(log, 1, "gone")
    assert following.look()
    assert following.state["r"].problem == "gone"


def test_another_log_takes_its_place(tmp_path: Path) -> None:
    """A demo that begins anew replaces its folder: nothing of the old one is left."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, name in ((old, "a"), (new, "b")):
        with Journal(log_file(folder)) as journal:
            journal.append(name, f"run/{name}", 0, [RunStarted("/out", "", (), {}, "1")])
    following = Following(log_file(old))
    following.look()
    assert list(following.state) == ["a"]
    log_file(old).unlink()
    assert following.look()
    assert following.state == {}
    log_file(new).rename(log_file(old))
    assert following.look()
    assert list(following.state) == ["b"]
