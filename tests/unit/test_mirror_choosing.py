"""What of an address is a checkpoint, what of it is copied, and which is next: without a disk."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.queue import DELETED_BEFORE
from clipwatch.domain.sighting import Partial, Unusable
from clipwatch.domain.state import Checkpoint, Run
from clipwatch.layouts.claims import BUILT_IN
from clipwatch.mirror.choosing import Done, Had, away, done, over, plan
from clipwatch.mirror.entries import SMALL, Entry, RemoteFile, found, is_needed, is_safe

ROOT = Path("/copies/run")
WEIGHTS = "pytorch_lora_weights.safetensors"


def file(path: str, size: int = 10, tag: str = "1") -> RemoteFile:
    return RemoteFile(path, size, tag)


def entry(step: int, tag: str = "1", *names: str) -> Entry:
    name = f"checkpoint-{step}"
    files = tuple(file(f"{name}/{it}", tag=tag) for it in (WEIGHTS, *names))
    return Entry(step, "step", name, ROOT / name, files, ())


def had(it: Entry, at: float = 10.0, *, here: bool = True) -> Had:
    return Had(it.signature, at, tuple(f.path for f in it.files) if here else ())


ELSEWHERE = ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a/", "a\\..\\b"]
UNFIT = ["a\0b", "a\nb", "x" * 256, "/".join("a" * 17), "é" * 200, "\udc80"]


@pytest.mark.parametrize("name", [*ELSEWHERE, *UNFIT])
def test_a_name_that_leads_elsewhere_is_none(name: str) -> None:
    """Nor one that no file system takes, or a terminal shows."""
    assert not is_safe(name)


@given(st.text(max_size=40) | st.text(st.sampled_from("./a\\\0~"), max_size=12))
def test_what_is_safe_stays_below(name: str) -> None:
    """Whatever a server calls its files."""
    if is_safe(name):
        path = os.path.normpath(ROOT / name)
        assert path.startswith(f"{ROOT}/")
        assert path == str(ROOT / name)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        (f"checkpoint-1/{WEIGHTS}", True),
        ("checkpoint-1/unet/config.json", True),
        ("checkpoint-1/tokenizer/merges.txt", True),
        ("checkpoint-1/tokenizer/spiece.model", True),
        ("checkpoint-1/.guard", True),
        ("checkpoint-1/optimizer.bin", False),
        ("checkpoint-1/optimizer.safetensors", False),
        ("checkpoint-1/random_states_0.pkl", False),
        ("checkpoint-1/model.ckpt", False),
        ("checkpoint-1/handler.py", False),
    ],
)
def test_what_evaluation_reads_is_copied(name: str, needed: bool) -> None:
    """And no state of an optimizer, no pickle, no code."""
    assert is_needed(file(name)) == needed


def test_only_weights_may_be_large() -> None:
    """A text of a gigabyte is none."""
    assert not is_needed(file("checkpoint-1/config.json", SMALL + 1))
    assert is_needed(file(f"checkpoint-1/{WEIGHTS}", SMALL + 1))


def test_the_layouts_say_what_a_checkpoint_is() -> None:
    """By the listing alone: folders and single files, newest first; what is left out is told."""
    names = [f"checkpoint-{step}/{it}" for step in (5, 20) for it in (WEIGHTS, ".guard", "x.pkl")]
    names += ["lora-000003.safetensors", "lora-000004.safetensors", "README.md", "old.ckpt"]
    names += ["checkpoint-20/../../../x.safetensors", "/checkpoint-9/x"]
    seen = found(ROOT, map(file, names), BUILT_IN)
    assert [it.name for it in seen.entries] == [
        "checkpoint-20",
        "checkpoint-5",
        "lora-000004.safetensors",
        "lora-000003.safetensors",
    ]
    newest, single = seen.entries[0], seen.entries[2]
    assert [it.path for it in newest.files] == [f"checkpoint-20/{it}" for it in (".guard", WEIGHTS)]
    assert newest.marks == ("checkpoint-20/x.pkl",)
    assert (newest.place, single.place) == (ROOT / "checkpoint-20", ROOT)
    assert ".ckpt" in seen.lying


def test_a_folder_and_a_file_of_one_name_are_the_folder() -> None:
    """As a bucket may have both, and no disk can."""
    seen = found(ROOT, [file("checkpoint-5"), file(f"checkpoint-5/{WEIGHTS}")], BUILT_IN)
    assert [it.path for it in seen.entries[0].files] == [f"checkpoint-5/{WEIGHTS}"]


def test_what_is_one_level_down_is_found() -> None:
    """As in a folder on a disk."""
    names = ["save/run-save-100-1-0.safetensors", "save/run-save-200-2-0.safetensors"]
    seen = found(ROOT, map(file, names), BUILT_IN)
    assert [(it.step, it.place) for it in seen.entries] == [
        (200, ROOT / "save"),
        (100, ROOT / "save"),
    ]


def test_a_copy_is_listed_though_its_original_is_gone() -> None:
    """So it is still evaluated; but there is nothing to copy."""
    seen = found(ROOT, [], BUILT_IN, kept=[f"checkpoint-5/{WEIGHTS}"])
    assert "checkpoint-5" in seen.listing.folders
    assert seen.entries == ()


def test_the_newest_that_stands_still_is_next() -> None:
    """And what is still being written waits."""
    todo = plan([entry(30), entry(20), entry(10)], {"checkpoint-20", "checkpoint-10"}, {}, {}, 2)
    assert todo.next == entry(20)
    assert [it.step for it in todo.waiting] == [30, 20, 10]


def test_no_more_are_copied_than_there_is_room_for() -> None:
    """Until one is finished: that makes room in the same look."""
    all_ = [entry(30), entry(20), entry(10)]
    names = {it.name for it in all_}
    here = {it.name: had(it) for it in all_[:2]}
    assert plan(all_, names, here, {}, 2).next is None
    finished = {"checkpoint-30": Done(20.0, True)}
    assert over(here, finished) == ("checkpoint-30",)
    here["checkpoint-30"] = had(all_[0], here=False)
    assert plan(all_, names, here, finished, 2).next == entry(10)


def test_what_is_finished_is_not_copied_again() -> None:
    """Unless it is another one there; also where the list of copies was lost."""
    finished = {"checkpoint-10": Done(20.0, True)}
    for known in ({}, {"checkpoint-10": had(entry(10), here=False)}):
        assert plan([entry(10)], finished, known, finished, 2).waiting == ()
    known = {"checkpoint-10": had(entry(10), here=False)}
    assert plan([entry(10, "2")], finished, known, finished, 2).next == entry(10, "2")


def test_a_copy_that_nobody_looked_at_yet_stays() -> None:
    """What the log knows is of the one before it."""
    known = {"checkpoint-10": had(entry(10, "2"), at=30.0)}
    finished = {"checkpoint-10": Done(20.0, True)}
    assert over(known, finished) == ()
    assert plan([entry(10, "2")], {"checkpoint-10"}, known, finished, 2).next is None


def test_what_was_left_out_unseen_is_copied() -> None:
    """As where others were named before; what was looked at is not copied again."""
    left = {"checkpoint-10": Done(20.0, False)}
    assert plan([entry(10)], {"checkpoint-10"}, {}, left, 2).next == entry(10)
    known = {"checkpoint-10": had(entry(10), here=False)}
    assert plan([entry(10)], {"checkpoint-10"}, known, left, 2).next is None


def test_what_was_written_anew_is_copied_again_at_once() -> None:
    """In the place of its copy, so it needs no more room; what is only being deleted is not."""
    old = entry(10, "1", "config.json")
    known = {"checkpoint-10": had(old)}
    again = entry(10, "2", "config.json")
    assert plan([again], {"checkpoint-10"}, known, {}, 1).next == again
    less = replace(old, files=old.files[:1])
    assert plan([less], {"checkpoint-10"}, known, {}, 1).waiting == ()


def test_what_waits_is_told_and_what_is_over_is_not() -> None:
    """What is here is looked at, and what cannot be had is told with its reason."""
    all_ = [entry(40), entry(30), entry(20), entry(10)]
    told = away(all_, all_[:3], {"checkpoint-40"}, "s3://b/run", {"checkpoint-20": "refused"})
    assert told == {
        "checkpoint-30": Partial("it is still to be copied from s3://b/run"),
        "checkpoint-20": Unusable("unreadable", "it cannot be copied: refused"),
        "checkpoint-10": None,
    }


def test_the_log_says_what_is_finished() -> None:
    """Whatever is neither waited for nor to be evaluated, since when; not the base model."""
    since = datetime(2026, 1, 1, tzinfo=UTC)
    places = {"checkpoint-1": 1, "checkpoint-2": 2, "base-model": 0}
    known = {
        it: Checkpoint(step, it, f"/x/{it}", "whole", since=since) for it, step in places.items()
    }
    for name, reason in (("a", "a pickle"), ("b", DELETED_BEFORE), ("c", "it cannot be copied: x")):
        known[name] = Checkpoint(3, name, f"/x/{name}", "discarded", reason, since=since)
    run = Run("r", "s3://b/run", "", (), {}, checkpoints=known, unfinished={"checkpoint-2"})
    stamp = since.timestamp()
    assert done(run) == {"checkpoint-1": Done(stamp, True), "a": Done(stamp, False)}
