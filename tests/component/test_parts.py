"""Parts of an evaluation, added up by `clipwatch import`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.events import EvaluationFailed, ImageScore, ImagesScored, WeightFile
from clipwatch.domain.merging import Key, Shard
from clipwatch.domain.names import evaluation_stream, run_id
from clipwatch.domain.queue import pending
from clipwatch.domain.sighting import Whole
from clipwatch.domain.state import Evaluation, Run
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from clipwatch.layouts import look_once
from clipwatch.results.reading import ordered, read_images
from clipwatch.tasks import merging, partfile
from examples import examples
from import_kit import files, rows
from part_kit import ID, KEYS, MADE, imported, made, part, refused, score, seen
from results_kit import answer, call
from world import checkpoint


def only(folder: Path) -> Run:
    """Return a log's only run."""
    (run,) = read_state(log_file(folder)).values()
    return run


def result(folder: Path, id_: str = ID) -> tuple[Evaluation, tuple[ImageScore, ...]]:
    """Return an evaluation, and its images in the protocol's order."""
    run = only(folder)
    with Journal(log_file(folder), read_only=True) as journal:
        images = read_images(journal, run.name, id_)
    return run.evaluations[id_], ordered(images, run.protocols[run.evaluations[id_].protocol])


@given(
    st.lists(st.sets(st.sampled_from(KEYS), min_size=1), max_size=4),
    st.lists(st.integers(0, 2), min_size=len(KEYS), max_size=len(KEYS)),
    st.randoms(use_true_random=False),
    st.booleans(),
)
@examples(30)
def test_any_parts_in_any_order_are_the_whole(
    overlapping: list[set[Key]], shares: list[int], luck: Any, together: bool
) -> None:
    """Whatever is scored where, twice too, the result is that of one process to the last digit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        earlier = part(folder / "earlier", checkpoint=seen(400))
        for state in ("one", "many"):
            imported(folder / state, earlier)
        into = ["--into", only(folder / "one").name]  # it lies in no folder here
        imported(folder / "one", part(folder / "whole"), *into)
        shared = [
            {key for key, its in zip(KEYS, shares, strict=True) if its == n} for n in range(3)
        ]
        found = [
            part(folder / f"p{n}", keys=luck.sample(sorted(keys), len(keys)))
            for n, keys in enumerate(filter(None, shared + overlapping))
        ]
        luck.shuffle(found)
        for sources in [found] if together else [[it] for it in found]:
            imported(folder / "many", *sources, *into)
        (one, ones), (many, manys) = result(folder / "one"), result(folder / "many")
        assert many.completed == one.completed
        assert many.completed is not None
        assert many.completed.against_best is not None
        assert manys == ones
        assert many.environment == one.environment


def test_until_all_is_there_it_waits_for_the_rest(tmp_path: Path) -> None:
    """`status` says how much is there, and the last part completes it."""
    state = tmp_path / "state"
    files_ = [part(tmp_path / "parts", Shard(n, 3), drawn=True) for n in (1, 2, 3)]
    said = imported(state, files_[2])
    run = only(state).name
    assert said == [
        f"{run}, a run that this log did not know: 2 scores of parts, 2 images",
        f"{run}: checkpoint-500: 2 of 10 images are here: it waits for the others",
    ]
    assert "evaluating: checkpoint-500: 2 of 10 images scored" in call(state, "status").stdout
    assert result(state)[0].course is None  # nobody is at it
    (row,) = answer(state, "status")["runs"][0]["checkpoints"]
    assert (row["state"], row["reason"]) == ("evaluating", "2 of 10 images scored")
    assert imported(state, files_[0])[0] == f"{run}, the same run: 4 scores of parts, 4 images"
    assert imported(state, tmp_path / "parts") == [
        f"{run}, the same run: 1 result imported, 4 scores of parts, 4 images"
    ]
    evaluation, images = result(state)
    assert evaluation.completed is not None
    assert evaluation.completed.truncated == 1
    assert evaluation.finished == max(it.time for it in _read(state) if "images" in dir(it.event))
    for image in images:
        file = state / "images" / run / str(image.image)
        assert file.read_text() == f"checkpoint-500 {(image.prompt_id, image.index)}"


def _read(folder: Path) -> list[Any]:
    with Journal(log_file(folder), read_only=True) as journal:
        return [*journal.read()]


def test_a_second_time_adds_nothing(tmp_path: Path) -> None:
    """Neither while it waits nor when it is whole; what is read is not written to."""
    state, place = tmp_path / "state", tmp_path / "parts"
    first = part(place, Shard(1, 2), drawn=True)
    before = files(place)
    imported(state, place)
    known = rows(state)
    assert "nothing to import" in imported(state, place, first)[0]
    assert rows(state) == known
    assert files(place) == before
    part(place, Shard(2, 2))
    imported(state, place)
    known = rows(state)
    assert imported(state, place)[0].endswith("nothing to import, 1 was here already")
    assert rows(state) == known


@pytest.mark.parametrize("calls", [1, 2])
def test_two_scores_of_an_image_are_refused(calls: int, tmp_path: Path) -> None:
    """The line names the image and both parts, whichever came first; what is there stays."""
    state, (key, *_) = tmp_path / "state", KEYS
    one = part(tmp_path / "a", keys=KEYS[:3])
    other = part(tmp_path / "b", keys=KEYS[:2], other={key: 0.5})
    known = []
    if calls == 2:
        imported(state, one)
        known = rows(state)
    said = refused(state, *([one] if calls == 1 else []), other)
    assert f"image {key[1]} of prompt {key[0]} has the score 0.5 in {other}, and" in said
    assert f"in {one}: remove the wrong one" in said
    if calls == 2:
        assert rows(state) == known


def test_what_a_batch_changes_is_no_difference(tmp_path: Path) -> None:
    """A score that is another by less than float32 sums in another order are is the same."""
    state, key = tmp_path / "state", KEYS[0]
    part(tmp_path / "parts", Shard(1, 2))
    part(tmp_path / "parts", Shard(2, 3), keys=KEYS, other={key: score(key) + 2e-5})
    imported(state, tmp_path / "parts")
    assert result(state)[1][0].score == score(key)


def test_what_is_scored_here_stays(tmp_path: Path) -> None:
    """A part that comes late with other scores is told, and changes nothing."""
    state = tmp_path / "state"
    imported(state, part(tmp_path / "a"))
    known = rows(state)
    late = part(tmp_path / "b", Shard(1, 2), other={KEYS[0]: 0.5})
    said = imported(state, late)
    assert said[1].endswith(f"{late} has other scores for 1 image; those that were here stay")
    assert rows(state) == known


def test_a_kill_before_the_result_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images are in the log and the result is not: the next call writes it down."""
    state, place = tmp_path / "state", tmp_path / "parts"
    part(place)

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(merging, "judge", killed)
        call(state, "import", str(place))
    assert result(state)[0].state == "running"
    imported(state, place)
    imported(tmp_path / "other", place)
    assert result(state)[0].completed == result(tmp_path / "other")[0].completed
    assert [it[1:] for it in rows(state)][3:] == [it[1:] for it in rows(tmp_path / "other")][3:]


def test_a_file_that_a_killed_daemon_left_is_no_image_of_it(tmp_path: Path) -> None:
    """The log knows nothing of it, and it may hold other pixels."""
    state, place = tmp_path / "state", tmp_path / "parts"
    imported(state, part(place, Shard(1, 2), drawn=True))
    stray = state / "images" / only(state).name / ID / "p1-0.png"
    stray.write_text("other pixels")
    imported(state, part(place, Shard(2, 2), drawn=True))
    assert stray.read_text() == "checkpoint-500 ('p1', 0)"


def test_what_was_given_up_goes_on(tmp_path: Path) -> None:
    """Its images come from elsewhere; a daemon may try the others."""
    state = tmp_path / "state"
    imported(state, part(tmp_path / "parts", Shard(1, 3)))
    run = only(state)
    stream = evaluation_stream(run.name, ID)
    failed = EvaluationFailed(ID, "memory", "out of memory", 3)
    with Journal(log_file(state)) as journal:
        journal.append(run.name, stream, journal.version(stream), [failed])
    assert result(state)[0].given_up
    imported(state, part(tmp_path / "parts", Shard(2, 3)))
    assert not result(state)[0].given_up
    assert [it.checkpoint.name for it in pending(only(state))] == ["checkpoint-500"]


def test_the_environments_of_all_parts_are_told(tmp_path: Path) -> None:
    """A result that came from two kinds of machines says so, once each."""
    for n, device in ((1, "cuda (A)"), (2, "cuda (B)"), (3, "cuda (A)")):
        part(tmp_path / "parts", Shard(n, 3), device=device)
    imported(tmp_path / "state", tmp_path / "parts")
    around = result(tmp_path / "state")[0].environment
    assert sorted(around["device"].split(", then ")) == ["cuda (A)", "cuda (B)"]
    assert around["vae"] == "whole"


def test_checkpoints_of_a_training_are_one_run(tmp_path: Path) -> None:
    """Under other paths, too: it is known by its weights; another protocol is another curve."""
    state, place = tmp_path / "state", tmp_path / "parts"
    part(place, checkpoint=seen(400))
    part(place, checkpoint=seen(500))
    imported(state, place)
    elsewhere = tmp_path / "elsewhere"
    part(elsewhere, checkpoint=seen(500, "/mnt/lora"), path="/mnt/lora")
    part(elsewhere, checkpoint=seen(600, "/mnt/lora"), path="/mnt/lora")
    said = imported(state, elsewhere)
    assert said[0].endswith(
        "the same run: 1 result imported, 10 scores of parts, 1 was here already"
    )
    run = only(state)
    assert [it.step for it in run.evaluations.values()] == [400, 500, 600]
    assert run.checkpoints["checkpoint-600"].path == "/out/checkpoint-600"
    said = imported(state, part(place, protocol=made(base_model="/mnt/base")))
    assert "1 result under other settings, hence in another curve" in said[1]
    assert "base_model" in said[1] or "base" in said[1]


def test_weights_that_lie_in_a_runs_folder_are_its_own(tmp_path: Path) -> None:
    """A later checkpoint whose parts come alone goes to the run that is watched there."""
    state, output = tmp_path / "state", tmp_path / "output"

    def looked(step: int) -> Any:
        found = look_once(checkpoint(output, step, step), "live")
        assert isinstance(found.verdict, Whole)
        whole = found.verdict
        return replace(seen(step, str(output)), files=whole.weights.files, digest=whole.digest)

    for step in (1, 2):
        found = part(tmp_path / f"{step}", checkpoint=looked(step), path=str(output))
        imported(state, found)
    assert len(only(state).evaluations) == 2


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path) -> None:
    """Of all parts together; no state directory is made."""
    state, place = tmp_path / "state", tmp_path / "parts"
    for n in (1, 2):
        part(place, Shard(n, 2), drawn=True)
    said = imported(state, place, "--dry-run")
    assert said[0].endswith("1 result would be imported, 10 scores of parts, 10 images")
    assert not state.exists()


def test_logs_and_parts_come_in_one_call(tmp_path: Path) -> None:
    """Several sources are taken one after the other; what is no path names a run."""
    part(tmp_path / "a")
    imported(tmp_path / "one", tmp_path / "a")
    for step in (500, 600):
        part(tmp_path / "b", checkpoint=seen(step))
    run = only(tmp_path / "one").name
    said = imported(tmp_path / "state", tmp_path / "b", tmp_path / "one", run[:5])
    assert len(said) == 2
    assert len(read_state(log_file(tmp_path / "state"))[run].evaluations) == 2
    assert (
        "parts/none" in call(tmp_path / "state", "import", str(tmp_path / "a"), "parts/none").stderr
    )


def test_checkpoints_of_an_address_are_one_run(tmp_path: Path) -> None:
    """Whoever copied them, and whichever came first: an address is the same everywhere."""
    state, place = tmp_path / "state", "hf://me/lora"
    for step in (400, 500):
        found = part(tmp_path / f"{step}", checkpoint=seen(step, place), path=place)
        imported(state, found)
    run = only(state)
    assert (run.name, run.output_dir) == (run_id(place), place)
    assert [it.path for it in run.checkpoints.values()] == [
        f"{place}/checkpoint-400",
        f"{place}/checkpoint-500",
    ]


@pytest.mark.parametrize("file", ["../../x.safetensors", "/x.safetensors"])
def test_weights_that_lead_elsewhere_are_not_whole_here(file: str, tmp_path: Path) -> None:
    """A daemon would copy them, and write where they lead; the scores are taken over."""
    planted = replace(seen(), files=(WeightFile(file, 1, 1, 1),))
    imported(tmp_path / "state", part(tmp_path / "parts", Shard(1, 2), checkpoint=planted))
    known = only(tmp_path / "state").checkpoints["checkpoint-500"]
    assert (known.state, known.files) == ("discarded", ())
    assert pending(only(tmp_path / "state")) == []


def test_what_is_no_file_is_no_part(tmp_path: Path) -> None:
    """A pipe that somebody left among them makes nobody wait."""
    imported(tmp_path / "one", part(tmp_path / "parts"))
    os.mkfifo(tmp_path / "parts/1-of-2.jsonl")
    (tmp_path / "parts/2-of-2.jsonl").mkdir()
    assert "10 scores of parts" in imported(tmp_path / "state", tmp_path / "parts")[0]


def test_a_part_of_nothing_is_no_source(tmp_path: Path) -> None:
    """Of a shard without a prompt, or one that was only begun: it is told."""
    empty = part(tmp_path / "parts", Shard(9, 9))
    assert partfile.read(empty) is not None
    assert refused(tmp_path / "state", empty).endswith("nothing is scored there\n")
    part(tmp_path / "parts", Shard(1, 2))
    assert "6 scores" in imported(tmp_path / "state", tmp_path / "parts")[0]


def test_a_daemons_own_image_counts_as_this_logs(tmp_path: Path) -> None:
    """Where it differs from a part's, the line says that this log has the other one."""
    state = tmp_path / "state"
    imported(state, part(tmp_path / "a", keys=KEYS[:1]))
    run = only(state)
    stream = evaluation_stream(run.name, ID)
    seeds = {(it.id, index): seed for it, index, seed in MADE.images()}
    own = ImageScore(*KEYS[1], seeds[KEYS[1]], {"": 0.5})
    with Journal(log_file(state)) as journal:
        journal.append(run.name, stream, journal.version(stream), [ImagesScored(ID, (own,))])
    assert "and 0.5 in this log: " in refused(state, part(tmp_path / "b"))
