"""Strengths of a LoRA as an axis: a protocol each, a curve each, and one base for all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest

from clipwatch.domain.curves import series_name, with_protocols
from clipwatch.domain.events import (
    CheckpointCompleted,
    CheckpointDiscarded,
    EvaluationCompleted,
    EvaluationFailed,
    EvaluationStarted,
    Event,
    ProtocolDefined,
    RunStarted,
    SettingsChanged,
    WeightFile,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.queue import due, observe, pending, queue
from clipwatch.domain.state import BASE_NAME, Run, protocols_of
from clipwatch.domain.strengths import base_of, title, written
from clipwatch.domain.written import decode, encode
from clipwatch.journal import Journal, log_file
from clipwatch.judging.answer import looked_back_on
from clipwatch.loop.narration import story
from clipwatch.pace import pace_of
from clipwatch.results import view
from clipwatch.results.table import table
from clipwatch.results.told import as_json
from clipwatch.statistics import Summary
from clipwatch.tasks.reopen import reopen
from protocols import PROTOCOL

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CLIP = Summary(0.3, 0.1, 0.4, 0.05, 4)
THREE = tuple(PROTOCOL.at(it) for it in (1.0, 0.6, 0.8))
FULL, WEAK, MIDDLE = (it.digest for it in THREE)


def fold(*events: Event, run: Run | None = None) -> Run:
    """Return the run after these events."""
    return evolve({"r": run} if run else {}, (("r", event, NOW) for event in events))["r"]


def watched(*protocols: EvaluationProtocol, run: Run | None = None) -> Run:
    """Return a run that is watched under these protocols from here on."""
    begun = run or fold(RunStarted("/out", "", ("memory",), {}, "1"))
    digests, new = with_protocols(begun, protocols, {})
    return fold(
        *new, SettingsChanged(digests[0], ("memory",), {}, "1", tuple(digests[1:])), run=begun
    )


def whole(step: int, kind: CheckpointKind = "lora") -> CheckpointCompleted:
    """Tell of a checkpoint that is whole."""
    name = BASE_NAME if kind == "base" else f"checkpoint-{step}"
    files = (WeightFile("w.safetensors", 1, 2, 3),)
    return CheckpointCompleted(step, name, f"/out/{name}", kind, "", files, f"d{step}")


def scored(run: Run, step: int, protocol: str) -> Run:
    """Score what waits at a step under a protocol."""
    work = next(it for it in pending(run) if (it.checkpoint.step, it.protocol) == (step, protocol))
    begun = EvaluationStarted(
        work.id, work.checkpoint.name, step, work.checkpoint.digest, protocol, {}
    )
    return fold(begun, EvaluationCompleted(work.id, {"": CLIP}), run=run)


def left(run: Run) -> list[tuple[int, str]]:
    """Return what is due, in order: the step, and the strength."""
    return [
        (it.checkpoint.step, written(run.protocols[it.protocol].adapter_strength))
        for it in due(run, NOW)
    ]


def test_an_adapter_is_due_at_each_strength_the_newest_first_and_the_base_once() -> None:
    """All strengths of a checkpoint follow each other; what has no strength is scored once."""
    run = fold(
        whole(0, "base"), whole(1), whole(2, "full"), whole(3, "lycoris"), run=watched(*THREE)
    )
    assert left(run) == [
        (0, "1"),
        *((3, "1"), (3, "0.6"), (3, "0.8")),
        (2, "1"),
        *((1, "1"), (1, "0.6"), (1, "0.8")),
    ]
    run = scored(scored(run, 3, WEAK), 2, FULL)
    assert left(run) == [(0, "1"), (3, "1"), (3, "0.8"), (1, "1"), (1, "0.6"), (1, "0.8")]
    assert [it.step for it in queue(run)] == [0, 3, 1]


def test_one_strength_fails_alone() -> None:
    """The others go on; only when none is left is a checkpoint done with."""
    run = fold(whole(1), run=watched(*THREE))
    work = pending(run)[0]
    begun = EvaluationStarted(work.id, "checkpoint-1", 1, "d1", FULL, {})
    run = fold(begun, EvaluationFailed(work.id, "weights", "no", 3), run=run)
    assert left(run) == [(1, "0.6"), (1, "0.8")]
    run = scored(scored(run, 1, WEAK), 1, MIDDLE)
    assert left(run) == []
    assert [row.state for row in view.rows(run)] == ["scored", "scored", "failed"]
    assert (
        view.closing(run, [])[1][1]
        == "no score for checkpoint-1 at strength 1: clipwatch status says why"
    )


def test_a_checkpoint_that_goes_before_all_strengths_had_their_turn_is_told_as_such() -> None:
    """It counts as scored only where nothing of it was left."""
    run = scored(fold(whole(1), run=watched(*THREE)), 1, FULL)
    (gone,) = observe(run, [])
    assert isinstance(gone, CheckpointDiscarded)
    assert "deleted before it was evaluated" in gone.reason
    run = scored(scored(run, 1, WEAK), 1, MIDDLE)
    assert observe(run, []) == []


def test_one_strength_is_what_it_was() -> None:
    """A single value makes the protocol, its curve and the log of a run without that key."""
    run = watched(PROTOCOL.at(0.8))
    (digest,) = run.present
    assert run.protocols == {digest: replace(PROTOCOL, adapter_strength=0.8)}
    assert (run.labels, run.beside, series_name(run, digest)) == ({}, (), "clipwatch")
    run = fold(whole(1), run=run)
    assert title(run, pending(run)[0].id) == "checkpoint-1"
    assert [row.strength for row in view.rows(run)] == [None]
    assert "strength" not in table(run)


def test_curves_bear_their_strength_and_keep_their_names() -> None:
    """Whatever strengths and settings come later, a name that a tracker knows stays one curve's."""
    run = watched(*THREE)
    names = {it: series_name(run, it) for it in run.present}
    assert [*names.values()] == [f"clipwatch-strength-{it}" for it in ("1", "0.6", "0.8")]
    other = [replace(it, seed=7) for it in THREE]
    run = watched(other[1], *other[2:], run=run)
    assert series_name(run, other[1].digest) == f"clipwatch-strength-0.6-{other[1].digest[:8]}"
    run = watched(replace(PROTOCOL, seed=8), run=run)
    assert {it: series_name(run, it) for it in names} == names


def test_a_curve_that_was_alone_goes_on_beside_new_strengths() -> None:
    """Its results and its name stay, and it is told with its strength from then on."""
    run = scored(fold(whole(1), run=watched(PROTOCOL)), 1, PROTOCOL.digest)
    assert title(run, run.scored[FULL][0]) == "checkpoint-1"
    run = watched(*THREE, run=run)
    assert [series_name(run, it) for it in run.present] == [
        "clipwatch",
        "clipwatch-strength-0.6",
        "clipwatch-strength-0.8",
    ]
    assert left(run) == [(1, "0.6"), (1, "0.8")]
    assert title(run, run.scored[FULL][0]) == "checkpoint-1 at strength 1"


def test_the_base_serves_all_strengths_and_no_other_settings() -> None:
    """It is compared with at each strength; with other seeds it is none of theirs."""
    run = fold(whole(0, "base"), whole(1), run=watched(*THREE))
    assert base_of(run, WEAK) == ""
    run = scored(scored(run, 0, FULL), 1, WEAK)
    base, own = run.scored[FULL][0], run.scored[WEAK][0]
    assert {base_of(run, it) for it in run.present} == {base}
    assert looked_back_on(run, WEAK) == [base, own]
    assert title(run, base) == BASE_NAME
    other = [replace(it, seed=7) for it in THREE]
    assert base_of(watched(*other, run=run), other[1].digest) == ""


@pytest.mark.parametrize("order", list(permutations((0.6, 0.8, 1.0))))
def test_status_tells_each_strength(order: tuple[float, ...]) -> None:
    """In the order of the strengths, however they were written; a full model has none."""
    run = fold(whole(1), whole(2, "full"), run=watched(*(PROTOCOL.at(it) for it in order)))
    for work in pending(run)[:4]:
        run = scored(run, work.checkpoint.step, work.protocol)
    listed = [(row.step, row.strength) for row in view.rows(run)]
    assert listed == [(1, 0.6), (1, 0.8), (1, 1.0), (2, None)]
    head, _, *lines = table(run).splitlines()
    assert head.split()[:3] == ["step", "strength", "mean"]
    assert [line.split()[:2] for line in lines[:3]] == [["1", "0.6"], ["1", "0.8"], ["1", "1"]]
    assert lines[4:] == [
        "clip/mean ▄",
        *(f"clip/mean, strength {it} ▄" for it in ("0.6", "0.8", "1")),
    ]
    assert view.summary(run) == "2 checkpoints at 3 strengths: 4 scored"
    (found,) = as_json({"r": run}, NOW, {})["runs"]
    assert [it["strength"] for it in found["checkpoints"]] == [0.6, 0.8, 1.0, None]


def test_a_score_outlives_its_folder_at_each_strength() -> None:
    """Of a checkpoint that is gone those strengths are told that were scored."""
    run = fold(whole(1), run=watched(*THREE))
    run = scored(scored(run, 1, FULL), 1, WEAK)
    run = fold(
        CheckpointDiscarded(1, "checkpoint-1", "/out/checkpoint-1", "vanished", "gone"), run=run
    )
    assert [(row.strength, row.state) for row in view.rows(run)] == [
        (0.6, "scored"),
        (1.0, "scored"),
    ]


def test_a_checkpoint_takes_as_long_as_all_its_strengths() -> None:
    """What is told of its cost counts them; a full model is made once."""
    told = {"strengths": "1.0,0.6,0.8"}
    before = pace_of(PROTOCOL, told, None, [], 0.0)
    assert (before.prompts, before.images) == (2, 12)
    run = fold(whole(1), run=watched(*THREE))
    for work in pending(run)[:2]:
        begun = EvaluationStarted(work.id, "checkpoint-1", 1, "d1", work.protocol, {})
        phases = {"load": 1.0}
        done = EvaluationCompleted(work.id, {"": CLIP}, seconds=5.0, phases=phases, images=4)
        run = fold(begun, done, run=run)
    found = pace_of(PROTOCOL, told, run, [], 0.0)
    assert (found.images, found.seconds, found.loading) == (12, 15.0, 3.0)
    run = fold(whole(2, "full"), run=run)
    assert pace_of(PROTOCOL, told, run, [], 0.0).images == 4


def test_retry_names_each_strength(tmp_path: Path) -> None:
    """What failed at one strength alone is tried again there."""
    run = fold(whole(1), run=watched(*THREE))
    work = pending(run)[1]
    begun = EvaluationStarted(work.id, "checkpoint-1", 1, "d1", work.protocol, {})
    with Journal(log_file(tmp_path)) as journal:
        digests, new = with_protocols(fold(RunStarted("/out", "", (), {}, "1")), THREE, {})
        changed = SettingsChanged(digests[0], (), {}, "1", tuple(digests[1:]))
        first = RunStarted("/out", "", (), {}, "1")
        journal.append("r", "run/r", 0, [first, *new, changed, whole(1)])
        failed = EvaluationFailed(work.id, "internal", "no", 3)
        journal.append("r", evaluation_stream("r", work.id), 0, [begun, failed])
    assert reopen(log_file(tmp_path), 1, None) == ["checkpoint-1 at strength 0.6"]


def test_logs_tell_of_strengths_and_do_without() -> None:
    """The new fields stand in the log; in one of an earlier version they are empty."""
    changed = SettingsChanged(FULL, (), {}, "1", (WEAK, MIDDLE))
    defined = ProtocolDefined(WEAK, THREE[1], "strength 0.6")
    for event in (changed, defined):
        assert decode(*encode(event)) == event
    assert story(defined).startswith(f"protocol {WEAK}, strength 0.6: 2 prompts")
    assert f"protocols {FULL}, {WEAK}, {MIDDLE}, trackers: none" in story(changed)
    name, data = encode(SettingsChanged(FULL, (), {}, "1"))
    assert decode(name, data.replace(',"beside":[]', "")) == SettingsChanged(FULL, (), {}, "1")
    assert '"beside":[]' in data


def test_who_has_no_strength_is_under_the_first_protocol() -> None:
    """Also before anything is known of it."""
    run = fold(whole(1), whole(2, "pipeline"), run=watched(*THREE))
    of = {it.name: protocols_of(run, it) for it in run.checkpoints.values()}
    assert of == {"checkpoint-1": (FULL, WEAK, MIDDLE), "checkpoint-2": (FULL,)}
    assert [written(it) for it in (0.6, 1.0, 0.1 + 0.2, 1e-7)] == [
        *("0.6", "1", "0.30000000000000004", "1e-07")
    ]
