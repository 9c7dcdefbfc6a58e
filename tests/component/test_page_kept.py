"""The page that the daemon keeps: after results, one at a time, and in nobody's way."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clipwatch.loop.page import Page
from clipwatch.loop.run_log import RunLog
from clipwatch.results.reading import page_of
from results_kit import call
from world import World, checkpoint, settings


@pytest.mark.thorough
def test_a_run_has_a_page(tmp_path: Path) -> None:
    """`--once` ends with the page of all results; `status` tells where it is, and its age not."""
    world = World(tmp_path, report=True)
    for steps in ([100], [100, 200]):
        checkpoint(world.output, steps[-1])
        assert world.once() == 0
        page = page_of(tmp_path / "state", world.run.name)
        text = page.read_text()
        assert [f'"name":"checkpoint-{step}"' in text for step in (100, 200)] == [
            *(step in steps for step in (100, 200))
        ]
    assert [it.name for it in page.parent.iterdir()] == [page.name]
    assert f"page: {page}" in call(tmp_path / "state", "status").output
    assert not [line for line in world.said if "page" in line]


def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    """Nothing is made that nobody asked for."""
    world = World(tmp_path)
    checkpoint(world.output, 100)
    assert world.once() == 0
    assert not (tmp_path / "state/reports").exists()
    assert "page" not in call(tmp_path / "state", "status").output


class Kept:
    """A page whose making is a few lines of Python, of a run whose results a test brings."""

    def __init__(self, folder: Path, code: str) -> None:
        self.said: list[str] = []
        self.started = folder / "started"
        self.started.touch()
        self.log = SimpleNamespace(name="run", begun=True, say=self.said.append)
        self.log.run = SimpleNamespace(scored={}, advice=())
        named = settings(folder, report=True)
        begin = f"open({str(self.started)!r}, 'a').write('x')\n"
        command = (sys.executable, "-c", begin + code)
        self.page = Page(named, cast("RunLog", self.log), command)

    @property
    def count(self) -> int:
        """How many pages were begun."""
        return self.started.stat().st_size

    def news(self, *ids: str) -> None:
        """Have these results."""
        self.log.run = SimpleNamespace(scored={"protocol": ids}, advice=())

    def finish(self) -> None:
        """Wait until the page that is being made is there."""
        child: Any = self.page._making
        child.child.wait()
        self.page.offer()


def test_nothing_is_made_without_results(tmp_path: Path) -> None:
    """A run without a score has no page, and nobody waits for one."""
    kept = Kept(tmp_path, "")
    kept.page.offer()
    assert kept.page.last()
    assert kept.count == 0
    assert kept.page.seconds_left == float("inf")


def test_results_in_a_row_share_a_page(tmp_path: Path) -> None:
    """One is made at a time, and the next only when that is a tenth of the time; the last at once.

    What is scored while it is made has the next one.
    """
    os.mkfifo(tmp_path / "gate")
    kept = Kept(tmp_path, f"open({str(tmp_path / 'gate')!r}).read()")
    kept.news("a")
    kept.page.offer()
    kept.news("a", "b")
    kept.page.offer()
    assert not kept.page.last()
    with (tmp_path / "gate").open("w"):
        pass
    kept.finish()
    assert kept.count == 1
    kept.page._next = time.monotonic() + 3600
    kept.page.offer()
    assert kept.page.seconds_left > 0
    assert kept.count == 1
    assert not kept.page.last()
    with (tmp_path / "gate").open("w"):
        pass
    kept.finish()
    assert kept.page.last()
    assert kept.count == 2
    assert kept.page.seconds_left == float("inf")
    assert kept.said == []


def test_the_pause_follows_from_what_it_took(tmp_path: Path) -> None:
    """The next one comes after nine times as long, whatever the machine."""
    kept = Kept(tmp_path, "")
    kept.news("a")
    kept.page.offer()
    making: Any = kept.page._making
    making.child.wait()
    kept.page._making = replace(making, begun=time.monotonic() - 20)
    kept.page.offer()
    kept.news("a", "b")
    assert 170 < kept.page.seconds_left <= 20.5 * 9 + 60


def test_a_failure_is_told_once(tmp_path: Path) -> None:
    """Its last line is told, again only when it changes; then that there is a page again."""
    kept = Kept(tmp_path, f"exit(open({str(tmp_path / 'why')!r}).read())")
    reasons = ["Error: no space left", "Error: no space left", "", "Error: another"]
    for number, reason in enumerate(reasons):
        (tmp_path / "why").write_text(f"images: 5 of 9\n{reason}\n" if reason else "")
        kept.page._next = 0.0
        kept.news(*map(str, range(number + 1)))
        kept.page.offer()
        kept.finish()
    assert kept.said[0] == "no new page: no space left"
    assert kept.said[-1] == "no new page: another"
    assert len(kept.said) == 3


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    """Nobody waits for it, and it is tried again with the next result."""
    kept = Kept(tmp_path, "")
    kept.page._command = (str(tmp_path / "nothing"),)
    kept.news("a")
    assert kept.page.last()
    assert kept.said[0].startswith("no new page: ")
    assert "nothing" in kept.said[0]


def test_an_end_does_not_wait(tmp_path: Path) -> None:
    """What is being made when the daemon is stopped ends with it."""
    os.mkfifo(tmp_path / "gate")
    kept = Kept(tmp_path, f"open({str(tmp_path / 'gate')!r}).read()")
    kept.news("a")
    kept.page.offer()
    making: Any = kept.page._making
    kept.page.close()
    assert making.child.returncode is not None
    kept.page.close()


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    """A dead mount holds nobody for ever."""
    os.mkfifo(tmp_path / "gate")
    kept = Kept(tmp_path, f"open({str(tmp_path / 'gate')!r}).read()")
    kept.news("a")
    kept.page.offer()
    making: Any = kept.page._making
    kept.page._making = replace(making, begun=time.monotonic() - 4000)
    assert kept.page.last()
    assert kept.said == ["no new page: it was not made within 3600 s"]
