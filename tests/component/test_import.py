"""`clipwatch import`: another log's results, taken over into this one."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.domain.decided import Decision, Estimate, Reference
from clipwatch.domain.events import (
    AdviceGiven,
    EvaluationCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
)
from clipwatch.domain.further import (
    EvaluationRescored,
    FurtherScore,
    ImagesRescored,
    ScorerAdded,
)
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.importing import Taking, Told, result
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from clipwatch.pace import pace_of
from clipwatch.statistics import summarize
from import_kit import MADE, NOON, OTHER, RUN, Machine, Scored, files, held, rows
from loop_kit import states, until
from results_kit import call
from world import MemoryTracker, World, checkpoint, usual


def imported(folder: Path, source: Path, *arguments: str) -> str:
    """Import into a state directory; return what is said."""
    said = call(folder, "import", str(source), *arguments)
    assert (said.exit_code, said.stderr) == (0, ""), said.output
    return said.stdout


@pytest.fixture
def two(tmp_path: Path) -> tuple[Machine, Machine]:
    """Two machines that watched one training: the second went on from step 200."""
    a = Machine(tmp_path / "a", output_dir="/home/me/lora")
    b = Machine(tmp_path / "b", "lora-fedcba", output_dir="/mnt/lora", begun=30)
    a.see(Scored(100, 1), Scored(200, 2))
    a.score(Scored(100, 1), Scored(200, 2), images=True, advice="low")
    b.see(Scored(200, 31), Scored(300, 33))
    b.score(Scored(200, 32), Scored(300, 34), images=True)
    return a, b


def test_what_lacks_is_taken_over_once(two: tuple[Machine, Machine]) -> None:
    """By its weights it is the same run; times, scores and images come along, and the log tells."""
    a, b = two
    before = files(a.folder)
    said = imported(b.folder, a.folder)
    assert said.splitlines()[0] == (
        f"{RUN} is lora-fedcba here, the same run: 1 result imported, 1 was here already, 2 images"
    )
    assert files(a.folder) == before
    (run,) = read_state(log_file(b.folder)).values()
    (theirs,) = read_state(log_file(a.folder)).values()
    got = run.evaluations[Scored(100, 1).id]
    assert got.source == str(log_file(a.folder))
    assert got.finished == theirs.evaluations[got.id].finished == NOON + timedelta(minutes=1)
    assert run.checkpoints["checkpoint-100"].path == "/mnt/lora/checkpoint-100"
    assert run.output_dir == "/mnt/lora"
    name = f"{got.id}/p0000-0.png"
    image = b.folder / "images/lora-fedcba" / name
    assert image.read_bytes() == (a.folder / "images" / RUN / name).read_bytes()
    told = call(b.folder, "log").stdout
    assert f"checkpoint-100: imported from {log_file(a.folder)}, where its run is {RUN}" in told
    assert call(b.folder, "log", "--verify").exit_code == 0
    after = files(b.folder)
    assert "nothing to import, 2 were here already" in imported(b.folder, a.folder)
    assert files(b.folder) == after


def test_others_are_named_as_they_are_called_here(tmp_path: Path) -> None:
    """What it was compared with while it was made, and what told its mean."""
    machine, made = Machine(tmp_path), Scored(200, 2)
    machine.see(made)
    machine.score(made)
    (run,) = read_state(log_file(tmp_path)).values()
    there, here, protocol = "checkpoint-100/a/old", "checkpoint-100/a/new", made.made.digest
    take = Taking(
        {there: here, made.id: made.id}, (made.id,), (), {protocol: protocol}, frozenset()
    )
    started = EvaluationStarted(
        made.id, made.name, 200, made.digest, protocol, {}, Reference(there)
    )
    decision = Decision(Reference(there), "within", 32, 0.0, -0.001, 0.001, 0.005)
    summary = summarize([0.25, 0.26])
    completed = EvaluationCompleted(
        made.id, {"": summary}, decision=decision, estimate=Estimate((there,), {}, {})
    )
    source = EvaluationImported(made.id, "there.db", RUN)
    happened: list[Told] = [(NOON, started), (NOON, completed)]
    asked = (happened, run, run.evaluations[made.id], take, source, lambda it: it)
    found = [it for _, it in result(*asked)]
    assert found[0] == replace(started, reference=Reference(here))
    assert found[-1] == replace(
        completed,
        decision=replace(decision, reference=Reference(here)),
        estimate=Estimate((here,), {}, {}),
    )


@pytest.mark.parametrize("into", ["", "--into"])
def test_what_is_of_another_run_is_named_as_that_run_is_here(tmp_path: Path, into: str) -> None:
    """By its weights it is known, whatever it is called; one that is not known keeps its name."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b", "mine-123456", "/mine", begun=5)
    other = Machine(a.folder, "other-123456", "/other", begun=1)
    first, made = Scored(100, 2, "o"), Scored(200, 9)
    other.see(first)
    other.score(first)
    references = Reference(first.id, other.run), Reference("checkpoint-1/a/b", "gone-123456")
    for it, reference in zip((made, Scored(300, 10)), references, strict=True):
        a.see(it)
        start = EvaluationStarted(it.id, it.name, it.step, it.digest, MADE.digest, {}, reference)
        decision = Decision(reference, "above", 32, 0.01, 0.002, 0.018, 0.005)
        done = EvaluationCompleted(it.id, {"": summarize([0.25, 0.26])}, decision=decision)
        a.add(evaluation_stream(a.run, it.id), it.minutes, start, done)
    b.see(first)  # the other one, under this name
    b.score(Scored(5, 6))
    imported(b.folder, a.folder, RUN, *([into, b.run] if into else []))
    state = read_state(log_file(b.folder))
    run = state[b.run if into else RUN]
    found = [run.evaluations[it].reference for it in (made.id, Scored(300, 10).id)]
    assert found == [Reference(first.id, "" if into else b.run), references[1]]
    told = [it.completed.decision for it in run.evaluations.values() if it.completed]
    assert [it.reference for it in told if it] == found


def test_both_ways_end_the_same(two: tuple[Machine, Machine], tmp_path: Path) -> None:
    """Whoever takes over from whom."""
    a, b = two
    b.score(Scored(200, 40, made=OTHER))
    shutil.copytree(a.folder, tmp_path / "copy")
    imported(a.folder, b.folder)
    imported(b.folder, tmp_path / "copy")
    (one,), (other,) = held(a.folder).values(), held(b.folder).values()
    unique = [it for it in one[0] if it != Scored(200, 2).id]  # which was scored in both
    assert {it: one[0][it] for it in unique} == {it: other[0][it] for it in unique}
    assert one[0].keys() == other[0].keys()
    assert one[1:] == other[1:]


def test_a_run_that_is_not_known_becomes_one_of_its_own(tmp_path: Path) -> None:
    """With its name, its first path and its curves; the same name of another is told apart."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b", begun=5)
    a.see(Scored(100, 1))
    a.score(Scored(100, 1))
    b.see(Scored(100, 6, "b"))
    b.score(Scored(100, 6, "b"))
    said = imported(b.folder, a.folder)
    state = read_state(log_file(b.folder))
    assert len(state) == 2
    other = next(it for it in state if it != RUN)
    told = f"{RUN} is {other} here, a run that this log did not know: 1 result imported"
    assert said.splitlines()[0] == told
    (theirs,) = read_state(log_file(a.folder)).values()
    mine = state[other]
    assert (mine.first_dir, mine.begun, mine.protocols) == (
        theirs.first_dir,
        theirs.begun,
        theirs.protocols,
    )
    a.score(Scored(200, 9))
    assert "the same run: 1 result imported, 1 was here already" in imported(b.folder, a.folder)
    imported(tmp_path / "c", a.folder)
    assert [*read_state(log_file(tmp_path / "c"))] == [RUN]
    assert held(tmp_path / "c") == held(a.folder)


def test_a_person_says_into_which_run(tmp_path: Path) -> None:
    """Where no weights tell it; and not two runs into one."""
    a, b = Machine(tmp_path / "a"), Machine(tmp_path / "b", begun=5)
    a.score(Scored(100, 1))
    b.score(Scored(200, 6))
    said = imported(b.folder, a.folder, "--into", "lora")
    assert said.startswith(f"{RUN}, the same run: 1 result imported")
    assert held(b.folder)[RUN][0].keys() == {Scored(100, 1).id, Scored(200, 6).id}
    Machine(a.folder, "other-123456", "/other").score(Scored(5, 1))
    refused = call(b.folder, "import", str(a.folder), "--into", "lora")
    assert refused.exit_code == 2
    assert f"--into takes the results of one run: name one of {RUN}, other-123456" in refused.stderr
    assert "nothing to import" in imported(b.folder, a.folder, "lora", "--into", "lora")


def test_a_dry_run_only_tells(two: tuple[Machine, Machine], tmp_path: Path) -> None:
    """The same numbers, and nothing is written, not even where there is no log yet."""
    a, b = two
    before = files(b.folder)
    said = imported(b.folder, a.folder, "--dry-run")
    assert "1 result would be imported, 1 was here already, 2 images" in said
    assert files(b.folder) == before
    assert "2 results would be imported" in imported(tmp_path / "new", a.folder, "--dry-run")
    assert not (tmp_path / "new").exists()


def test_any_form_of_a_log_is_read_without_a_trace(
    two: tuple[Machine, Machine], tmp_path: Path
) -> None:
    """The folder, the file, a backup, a copy with its -wal, one in use; nothing is made there."""
    a, _ = two
    with Journal(log_file(a.folder)) as journal:
        stream = evaluation_stream(RUN, Scored(100, 1).id)
        event = ImagesDeleted(Scored(100, 1).id, "keep_images is 1")
        journal.append(RUN, stream, journal.version(stream), [event])  # stands in the -wal
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("clipwatch.db", "clipwatch.db-wal"):
            shutil.copy(a.folder / name, copy)
        before = files(a.folder), files(copy)
        for number, source in enumerate((a.folder, log_file(a.folder), copy)):
            assert "2 results imported" in imported(tmp_path / f"new{number}", source)
        assert (files(a.folder), files(copy)) == before
    backup = tmp_path / "backup.db"
    shutil.copy(log_file(a.folder), backup)
    imported(tmp_path / "last", backup)
    assert held(tmp_path / "last") == held(tmp_path / "new2") == held(a.folder)


def test_a_log_of_the_first_format_is_taken_over(tmp_path: Path) -> None:
    """As every command reads it."""
    old = Path(__file__).parents[1] / "data/logs/format-1.db"
    imported(tmp_path / "new", old)
    copy = tmp_path / "old"
    copy.mkdir()
    shutil.copy(old, log_file(copy))
    assert held(tmp_path / "new") == held(copy)


def test_what_is_none_is_told_in_a_line(two: tuple[Machine, Machine], tmp_path: Path) -> None:
    """Another file, a damaged log, a newer one, the very same; nothing is changed."""
    a, b = two
    log = log_file(a.folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    (tmp_path / "log.jsonl").write_text(call(a.folder, "log", "--json").stdout)
    os.mkfifo(tmp_path / "pipe")
    data = bytearray(log.read_bytes())
    at = data.index(b"EvaluationCompleted")
    data[at + 40] ^= 1
    (tmp_path / "damaged.db").write_bytes(data)
    newer = bytearray(log.read_bytes())
    newer[60:64] = (99).to_bytes(4, "big")
    (tmp_path / "newer.db").write_bytes(newer)
    (tmp_path / "cut.db").write_bytes(log.read_bytes()[:8192])
    Machine(tmp_path / "nothing")
    before = files(b.folder)
    for source, code, told in (
        ("b", 2, "is this very log"),
        ("b/clipwatch.db", 2, "is this very log"),
        ("empty", 2, "there is no log in"),
        ("missing", 2, "there is no "),
        ("text", 2, "is no log and no table of clipwatch: name a state directory"),
        ("log.jsonl", 2, "is no log and no table of clipwatch"),
        ("pipe", 2, "is no file"),
        ("damaged.db", 1, "clipwatch log --verify tells what can still be read"),
        ("newer.db", 1, "written by a newer clipwatch"),
        ("cut.db", 1, "cut.db"),
        ("nothing", 1, "nothing is scored there"),
    ):
        said = call(b.folder, "import", str(tmp_path / source))
        assert (said.exit_code, said.stdout) == (code, ""), source
        assert said.stderr.count("\n") == 1
        assert told in said.stderr
    assert files(b.folder) == before


def test_later_scorers_votes_and_advice_come_along(tmp_path: Path) -> None:
    """A question is answered once, an advice given once, and a scorer's name stands for one."""
    first, second = Scored(100, 1), Scored(200, 2)
    a = Machine(tmp_path / "a")
    a.see(first, second)
    a.score(first, advice="low")
    shutil.copytree(a.folder, tmp_path / "b")
    b = tmp_path / "b"
    a.score(second, advice="low")
    a.vote("1", first, second)
    a.vote("2", second, first)
    spec = ScorerSpec("aesthetic", "some/head", kind="aesthetic")
    a.add(f"run/{RUN}", 3, ScorerAdded(spec, "d" * 16))
    for it in (first, second):
        scores = tuple(FurtherScore(prompt, 0, 5.0) for prompt in ("p0000", "p0001"))
        summary = summarize([5.0, 5.0])
        stream = evaluation_stream(RUN, it.id)
        a.add(stream, 4, ImagesRescored(it.id, "aesthetic", scores))
        a.add(stream, 4, EvaluationRescored(it.id, "aesthetic", summary))
    said = imported(b, a.folder)
    assert "1 result imported, 1 was here already, 1 result got later scores, 2 votes" in said
    assert held(b) == held(a.folder)
    (run,) = read_state(log_file(b)).values()
    assert [it.evaluation for it in run.advice] == [first.id]
    assert run.further == read_state(log_file(a.folder))[RUN].further
    assert "nothing to import, 2 were here already\n" in imported(b, a.folder)
    other = Machine(tmp_path / "c")
    other.see(first)
    other.score(Scored(300, 9))
    other.add(f"run/{RUN}", 3, ScorerAdded(spec, "e" * 16))
    said = imported(other.folder, a.folder)
    assert "left out: the scores by 'aesthetic': here that is another scorer" in said
    assert held(other.folder)[RUN][0][first.id][4] == {}


def test_the_pace_and_the_costs_are_this_machines(two: tuple[Machine, Machine]) -> None:
    """What was made elsewhere took no time here, and tells no batch size."""
    a, b = two
    (before,) = read_state(log_file(b.folder)).values()
    a.score(Scored(500, 90), Scored(600, 95))
    imported(b.folder, a.folder)
    (run,) = read_state(log_file(b.folder)).values()
    assert len(run.evaluations) == 5
    assert run.spent == before.spent
    assert run.batch_sizes == before.batch_sizes
    paces = [pace_of(MADE, {}, it, (), 0.0) for it in (before, run)]
    assert paces[0].seconds == paces[1].seconds


def test_what_is_half_done_here_is_taken_over_whole(two: tuple[Machine, Machine]) -> None:
    """And what its daemon still says of it changes nothing."""
    a, b = two
    once = Scored(100, 50, value=0.5)
    stream = evaluation_stream(b.run, once.id)
    b.score(once)
    with Journal(log_file(b.folder), read_only=True) as journal:
        events = [it.event for it in journal.read(stream=stream)]
    c = Machine(b.folder.parent / "c", "lora-fedcba", "/mnt/lora", begun=30)
    c.see(Scored(200, 31))
    c.add(stream, 40, *events[:1])
    own = c.folder / "images" / c.run / once.id / "p0000-0.png"
    own.parent.mkdir(parents=True)
    own.write_text("of half an evaluation, on another GPU")
    imported(c.folder, a.folder)
    assert own.read_bytes() == (a.folder / "images" / RUN / once.id / own.name).read_bytes()
    before = held(c.folder)
    c.add(stream, 60, *events[1:])
    c.add(stream, 61, *events)
    assert held(c.folder) == before
    imported(b.folder.parent / "d", c.folder)
    assert held(b.folder.parent / "d") == before


def test_two_imports_are_one_after_the_other(two: tuple[Machine, Machine]) -> None:
    """The second is told who is at it."""
    from clipwatch.service.lock import exclusive

    a, b = two
    with exclusive(b.folder, "import", doing="running"):
        said = call(b.folder, "import", str(a.folder))
    assert said.exit_code == 1
    assert "import is already running by clipwatch with pid" in said.stderr


def test_a_log_leads_to_no_file_that_is_none_of_its_images(
    two: tuple[Machine, Machine], tmp_path: Path
) -> None:
    """Names with "..", links that lead elsewhere: such images are none, the results come."""
    a, b = two
    secret = tmp_path / "secret"
    secret.write_text("secret")
    folder = a.folder / "images" / RUN / Scored(100, 1).id
    (folder / "p0000-0.png").unlink()
    (folder / "p0000-0.png").symlink_to(secret)
    outside = Scored(400, 8)
    a.score(outside, images=True)
    shutil.rmtree(a.folder / "images" / RUN / outside.name)
    (a.folder / "images" / RUN / outside.name).symlink_to(tmp_path)
    assert "1 image\n" in imported(b.folder, a.folder)
    assert not [it for it in b.folder.rglob("*") if it.is_symlink()]
    for number, name in enumerate(("../../escape", "..", "/escape", "a/b", "a\nb")):
        machine = Machine(tmp_path / f"odd{number}", name)
        machine.see(Scored(100, 1))
        machine.score(Scored(100, 1), images=True)
        target = tmp_path / f"new{number}" / "state"
        before = sorted(tmp_path.rglob("*"))
        assert "1 result imported" in imported(target, machine.folder)
        made = {it for it in tmp_path.rglob("*") if it not in before}
        assert all(it == target.parent or it.is_relative_to(target) for it in made)
        assert not (target / "images").exists()
        assert next(iter(read_state(log_file(target)))).startswith("out-")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("../../kept", "inside00"),
        ("checkpoint-1", "../../.."),
        (".", "."),
        ("/", ""),
        ("a\x1b", ""),
    ],
)
def test_a_result_is_no_way_to_another_folder(
    two: tuple[Machine, Machine], name: str, digest: str
) -> None:
    """Its name is that of a folder here: one that leads elsewhere, told twice, deletes nothing."""
    a, b = two
    evil = [f"evil-{number}" for number in range(2)]
    for id_ in evil:
        stream = evaluation_stream(RUN, id_)
        images = [
            ImageScore(it.id, index, seed, {"": 0.1}, "../../kept/inside00/it.png")
            for it, index, seed in MADE.images()
        ]
        done = EvaluationCompleted(id_, {"": summarize([0.1, 0.1])})
        first = EvaluationStarted(id_, name, 100, digest, MADE.digest, {})
        a.add(stream, 9, first, ImagesScored(id_, tuple(images)), done)
    kept = b.folder / "kept" / "inside00" / MADE.digest[:8] / "it.png"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    said = imported(b.folder, a.folder)
    assert "left out: results whose names cannot be taken over: 2" in said
    assert said.isascii()
    assert kept.read_text() == "kept"
    known = read_state(log_file(b.folder))[b.run].evaluations
    assert not [it for it in known.values() if it.checkpoint == name]


def test_an_image_is_none_that_lies_elsewhere(two: tuple[Machine, Machine], tmp_path: Path) -> None:
    """A log may name any file as an image: trackers and pages would show it."""
    a, b = two
    odd = Scored(700, 9)
    images = tuple(
        ImageScore(it.id, index, seed, {"": 0.1}, str(tmp_path / "secret.png"))
        for it, index, seed in MADE.images()
    )
    first = EvaluationStarted(odd.id, odd.name, 700, odd.digest, MADE.digest, {})
    done = EvaluationCompleted(odd.id, {"": summarize([0.1, 0.1])})
    a.add(evaluation_stream(RUN, odd.id), 9, first, ImagesScored(odd.id, images), done)
    imported(b.folder, a.folder)
    found, _, _ = held(b.folder)[b.run]
    assert [it.image for it in found[odd.id][3]] == [None] * len(images)


RESULTS = [
    *(Scored(step, step // 10, made=made) for step in (100, 200, 300) for made in (MADE, OTHER)),
    *(Scored(300, 40, "b", made=made) for made in (MADE, OTHER)),
]


@given(st.data())
@pytest.mark.thorough
def test_parts_of_a_log_are_the_whole_in_any_order(data: st.DataObject) -> None:
    """Results and votes over several machines, some on two of them: merged in any order."""
    owners = data.draw(
        st.lists(
            st.sets(st.sampled_from("abc"), min_size=1),
            min_size=len(RESULTS),
            max_size=len(RESULTS),
        )
    )
    with tempfile.TemporaryDirectory() as place, ExitStack() as open_:
        folder = Path(place)
        machines = {it: Machine(folder / it, begun=n) for n, it in enumerate("abcw")}
        for machine in machines.values():
            open_.enter_context(machine.writing())
            machine.see(*RESULTS)
        for it, names in zip(RESULTS, owners, strict=True):
            for name in (*names, "w"):
                machines[name].score(it)
        for number, (left, right) in enumerate(zip(RESULTS, RESULTS[2:], strict=False)):
            both = set(owners[number]) & set(owners[number + 2])
            for name in (*both, "w") if both else ():
                machines[name].vote(str(number), left, right)
        open_.close()
        for _ in range(2):
            for name in data.draw(st.permutations("abc")):
                imported_into(folder / "whole", folder / name)
        assert held(folder / "whole") == held(folder / "w")
        first, second = data.draw(st.permutations("abc"))[:2]
        for name in (second, "whole", "whole"):
            imported_into(folder / first, folder / name)
        assert held(folder / first) == held(folder / "w")


def imported_into(folder: Path, source: Path) -> None:
    """Import; a machine may have nothing yet."""
    said: Any = call(folder, "import", str(source))
    assert said.exit_code == 0 or "nothing is scored there" in said.stderr, said.output


def test_every_event_of_a_result_is_known_to_the_other_log(two: tuple[Machine, Machine]) -> None:
    """One commit a result: whole or not there, so a kill leaves what the next call goes on from."""
    a, b = two
    a.score(*(Scored(step, 60 + step) for step in (400, 500, 600)))
    shutil.copytree(b.folder, b.folder.parent / "killed")
    killed = b.folder.parent / "killed"
    imported(b.folder, a.folder)
    real, left = Journal.append, [3]

    def cut(self: Journal, *arguments: Any) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return real(self, *arguments)

    for _ in range(10):
        left[0] = 3
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "append", cut)
            call(killed, "import", str(a.folder))
    imported(killed, a.folder)
    assert held(killed) == held(b.folder)
    assert [row[1:] for row in rows(killed)] == [row[1:] for row in rows(b.folder)]
    assert [it[4] for it in rows(b.folder) if isinstance(it[4], EvaluationImported)]
    assert not [it for it in rows(b.folder)[-1:] if isinstance(it[4], AdviceGiven)]


def test_results_under_other_settings_are_told(two: tuple[Machine, Machine]) -> None:
    """They have a curve of their own, and the line says in what they differ."""
    a, b = two
    a.score(Scored(100, 3, made=OTHER))
    said = imported(b.folder, a.folder)
    told = f"1 result under other settings, hence in another curve ({OTHER.digest}): seed 2 and 1"
    assert f"lora-fedcba: {told}\n" in said


def test_a_daemon_drops_what_is_imported_meanwhile(tmp_path: Path) -> None:
    """It publishes that instead, and goes on with the next one."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    assert world.once() == 0
    (theirs,) = held(world.log.parent).values()
    other = tmp_path / "other"
    world.log.parent.rename(other)
    memory = world.trackers["memory"]
    assert isinstance(memory, MemoryTracker)
    memory.rows.clear()
    world.script = lambda request: usual(request, images=2)  # and never ends
    with world.live():
        until(lambda: states(world) == {1: "evaluating"})
        until(lambda: len(next(iter(world.run.evaluations.values())).done) == 2)
        world.script = lambda _: None
        imported(world.log.parent, other)
        until(lambda: states(world) == {1: "published"})
        checkpoint(world.output, 2, 2)
        until(lambda: states(world) == {1: "published", 2: "published"})
    (mine,) = held(world.log.parent).values()
    assert theirs[0].items() <= mine[0].items()
