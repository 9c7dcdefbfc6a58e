"""The log in plain words."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest

from clipwatch.domain.events import TYPES, Event, ImagesScored, Published
from clipwatch.loop.narration import narrate, story
from places import LOGS, ROOT
from real_world import clipwatch
from world import World, checkpoint

SCRIPT = ROOT / "scripts" / "make_log_fixture.py"
EVENTS: list[Event] = [told.event for told in runpy.run_path(str(SCRIPT))["STORY"]]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line_of_words(event: Event) -> None:
    """No name of a type, no JSON, and all that is said while it happens."""
    line = story(event)
    assert line
    assert line.isprintable()
    assert not re.search(r"[{}\"\[\]]", line)
    assert not any(re.search(rf"\b{name}\b", line) for name in TYPES)
    assert all(told in line for told in narrate(event))


def test_every_type_is_told() -> None:
    """The events above are of all types."""
    assert {type(event).__name__ for event in EVENTS} == set(TYPES)


def test_a_batch_without_images_is_told() -> None:
    """It says so, as any other event."""
    assert story(ImagesScored("checkpoint-1/a/b", ())) == "checkpoint-1: 0 images scored"


def test_a_whole_history_is_one_short_line() -> None:
    """Of many results that come at once two are named, the others counted; a few are all named."""
    ids = tuple(f"checkpoint-{n}/a/b" for n in range(1, 201))
    (line,) = narrate(Published("wandb", ids, "there", "place", "protocol"))
    assert line == "wandb: checkpoint-1, checkpoint-2 and 198 more published to there"
    (line,) = narrate(Published("wandb", ids[:3], "there", "place", "protocol"))
    assert line == "wandb: checkpoint-1, checkpoint-2, checkpoint-3 published to there"


def test_the_log_is_read_as_a_story(tmp_path: Path) -> None:
    """One line an event, with its number, the time here and the run; with --json all of it."""
    shutil.copy(LOGS / "format-2.db", tmp_path / "clipwatch.db")
    done = clipwatch("log", "--state-dir", tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    stamped = re.compile(r" *(\d+)  (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)  shapes-0a1b2c  (.+)")
    found = [stamped.fullmatch(line) for line in lines]
    assert [int(it[1]) for it in found if it] == list(range(1, len(EVENTS) + 1))
    assert [it[3] for it in found if it] == [story(event) for event in EVENTS]
    whole = clipwatch("log", "--json", "--state-dir", tmp_path, cwd=tmp_path)
    types = [json.loads(line)["type"] for line in whole.stdout.splitlines()]
    assert types == [type(event).__name__ for event in EVENTS]


def test_the_story_is_told_in_the_order_of_events(tmp_path: Path) -> None:
    """Each checkpoint in its order; that a result is still to come is said before the next one."""
    world = World(tmp_path)
    for step in (1, 2):
        checkpoint(world.output, step, step)
    world.once()
    course = (": saved by the trainer (LoRA), now in the queue", ": loading", ": loaded on")
    end = (": 4 images scored, its result follows", ": clip/mean", " published to memory")

    def place(name: str, words: str) -> int:
        (found,) = (n for n, line in enumerate(world.said) if f"{name}{words}" in line)
        return found

    for name in ("checkpoint-2", "checkpoint-1"):
        places = [place(name, words) for words in (*course, *end)]
        assert places == sorted(places)
    assert place("checkpoint-2", end[0]) < place("checkpoint-1", ": loading")
    assert len(set(world.said)) == len(world.said)
