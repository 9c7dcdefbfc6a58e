"""A run whose output directory is an address: copied, evaluated, and let go of."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from clipwatch.cli.rank import _there
from clipwatch.doctor import output
from clipwatch.domain.events import CheckpointDiscarded, CheckpointFound
from clipwatch.domain.state import Run
from clipwatch.executors.messages import Failed
from clipwatch.journal import Journal
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.loop.preparing import Prepared
from clipwatch.loop.run import WatchedRun
from clipwatch.loop.supervisor import Supervisor
from clipwatch.mirror import copies, copying
from clipwatch.mirror.choosing import Done
from clipwatch.mirror.entries import RemoteFile
from clipwatch.mirror.remote import Kind, Remote, Unreachable
from clipwatch.settings import Settings, load
from clipwatch.tasks.reopen import reopen
from loop_kit import states, until
from real_world import open_to_others
from runs_kit import watching
from world import World, checkpoint, settings


def bucket(folder: Path, *steps: int) -> Path:
    """Have checkpoints lie somewhere else."""
    place = folder / "bucket"
    place.mkdir(exist_ok=True)
    for step in steps:
        checkpoint(place, step, step / 100)
    return place


def world(folder: Path, **changes: object) -> World:
    return World(folder, output_dir=f"file://{folder}/bucket", **changes)


def here(world: World) -> set[str]:
    """Return the names of the copies."""
    return set(os.listdir(world.settings.paths.output_dir))


def test_all_that_lies_there_is_evaluated(tmp_path: Path) -> None:
    """Newest first, from copies that are gone when they are scored; a second call does nothing."""
    place = bucket(tmp_path, 10, 20, 30)
    (place / "checkpoint-30/optimizer.bin").write_bytes(b"state")
    run = world(tmp_path)
    assert run.once() == 0
    assert states(run) == dict.fromkeys((10, 20, 30), "published")
    assert [Path(it.path).name for it in run.requests] == [
        f"checkpoint-{step}" for step in (30, 20, 10)
    ]
    copied = run.settings.paths.output_dir
    assert all(Path(it.path).parent == copied for it in run.requests)
    assert here(run) == set()
    run.requests.clear()
    assert run.once() == 0
    assert run.requests == []


def test_the_run_is_known_by_the_address(tmp_path: Path) -> None:
    """In the log, and in what is said; the copies' folder is nobody's name."""
    bucket(tmp_path, 10)
    run = world(tmp_path)
    run.once()
    address = f"file://{tmp_path}/bucket"
    assert (run.run.output_dir, run.run.first_dir) == (address, address)
    assert run.run.settings["output_dir"] == address
    assert run.run.name.startswith("bucket-")
    assert any(address in line for line in run.said)


def test_what_resumes_a_training_stays_there(tmp_path: Path) -> None:
    """Of it an empty file is here, as layouts go by the names; and nobody else may read here."""
    place = bucket(tmp_path, 10)
    (place / "checkpoint-10/optimizer.bin").write_bytes(b"state")
    run = world(tmp_path)
    copied, sizes, theirs = run.settings.paths.output_dir, [], []

    def look(_: object) -> None:
        sizes.append((copied / "checkpoint-10/optimizer.bin").stat().st_size)
        theirs.extend(open_to_others(copied.parent))

    run.script = look
    assert run.once() == 0
    assert sizes == [0]
    assert theirs == []


def test_pickles_are_told_and_not_copied(tmp_path: Path) -> None:
    """As in a folder: what they are is seen by their names."""
    place = bucket(tmp_path, 10) / "checkpoint-20"
    place.mkdir()
    (place / "pytorch_lora_weights.bin").write_bytes(b"a pickle")
    run = world(tmp_path)
    assert run.once() == 0
    assert states(run) == {10: "published", 20: "discarded"}
    assert "pickle" in run.run.checkpoints["checkpoint-20"].reason
    assert here(run) == set()


def test_no_more_copies_than_the_limit(tmp_path: Path) -> None:
    """The rest waits there, and is told as waiting."""
    bucket(tmp_path, *range(10, 60, 10))
    run, seen, waited = world(tmp_path, stage_limit=2), [], []

    def look(_: object) -> None:
        seen.append(len(here(run)))
        waited.append([it.name for it in run.run.checkpoints.values() if it.state == "partial"])

    run.script = look
    assert run.once() == 0
    assert max(seen) <= 2
    assert len(run.requests) == 5
    assert "checkpoint-10" in waited[0]
    told = [it.event for it in run.logged if isinstance(it.event, CheckpointFound)]
    assert any(it.reason.endswith(f"copied from file://{tmp_path}/bucket") for it in told)


def test_what_comes_later_is_evaluated_too(tmp_path: Path) -> None:
    """As long as the daemon watches; a folder that is not there yet is waited for."""
    run = world(tmp_path)
    with run.live():
        until(lambda: run.log.exists() and "does not exist" in run.run.problem)
        bucket(tmp_path, 10)
        until(lambda: states(run).get(10) == "published")
        assert run.run.problem == ""
        bucket(tmp_path, 20)
        until(lambda: states(run).get(20) == "published")
        until(lambda: here(run) == set())


def test_once_waits_for_nobody(tmp_path: Path) -> None:
    """What does not exist is an error of the call."""
    with pytest.raises(SettingsError, match=r"output_dir: file://.*/bucket does not exist"):
        world(tmp_path).once()


def test_what_is_deleted_there_is_still_evaluated(tmp_path: Path) -> None:
    """Once it is copied; what was not is told as rotation tells it."""
    place = bucket(tmp_path, 10, 20)
    run = world(tmp_path, stage_limit=1)
    gone = threading.Event()

    def rotate(_: object) -> None:
        if not gone.is_set():
            shutil.rmtree(place / "checkpoint-10")
            shutil.rmtree(place / "checkpoint-20")
            gone.set()

    run.script = rotate
    with run.live():
        until(lambda: states(run) == {10: "discarded", 20: "published"})
        until(lambda: here(run) == set())
    reasons = [it.event.reason for it in run.logged if isinstance(it.event, CheckpointDiscarded)]
    assert any(it.startswith("it was deleted before it was evaluated") for it in reasons)


def test_other_weights_under_the_same_name_are_evaluated(tmp_path: Path) -> None:
    """And the same are not, though they were written again."""
    place = bucket(tmp_path, 10)
    run = world(tmp_path)
    with run.live():
        until(lambda: states(run).get(10) == "published" and here(run) == set())
        checkpoint(place, 10, 0.9)
        until(lambda: len(run.run.evaluations) == 2 and states(run).get(10) == "published")
        until(lambda: here(run) == set())
    assert len(run.requests) == 2


def test_new_prompts_make_old_checkpoints_due_again(tmp_path: Path) -> None:
    """What was scored by others is copied once more: nothing is taken for deleted."""
    bucket(tmp_path, 10, 20)
    assert world(tmp_path).once() == 0
    (tmp_path / "other.txt").write_text("a green square\n")
    run = world(tmp_path, prompts="other.txt")
    assert run.once() == 0
    assert len(run.requests) == 2
    assert states(run) == {10: "published", 20: "published"}
    assert not any(isinstance(it.event, CheckpointDiscarded) for it in run.logged)


def test_once_waits_for_what_is_asked_anew_of_a_slow_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was seen that nothing was left to copy, before the new prompts were known."""
    bucket(tmp_path, 10, 20)
    assert world(tmp_path).once() == 0
    (tmp_path / "other.txt").write_text("a green square\n")
    run, real = world(tmp_path, prompts="other.txt"), Remote.files
    real_wait, real_prepared = copying.Mirror._wait, WatchedRun._prepared
    looked = threading.Event()

    def files(remote: Remote) -> list[RemoteFile]:
        if looked.is_set():
            time.sleep(1.0)
        return real(remote)

    def seen(mirror: copying.Mirror, finished: Mapping[str, Done], seconds: float) -> None:
        looked.set()
        real_wait(mirror, finished, seconds)

    def ready(watched: WatchedRun, message: Prepared) -> None:
        looked.wait()
        real_prepared(watched, message)

    monkeypatch.setattr(Remote, "files", files)
    monkeypatch.setattr(copying.Mirror, "_wait", seen)
    monkeypatch.setattr(WatchedRun, "_prepared", ready)
    assert run.once() == 0
    assert len(run.requests) == 2


def test_what_was_given_up_can_be_tried_again(tmp_path: Path) -> None:
    """Though its copy is gone by then."""
    bucket(tmp_path, 10)
    run = world(tmp_path, max_attempts=1)
    run.script = lambda _: [Failed("weights", "3 of 9 tensors fit")]
    with run.live():
        until(lambda: states(run).get(10) == "failed" and here(run) == set())
        run.script = lambda _: None
        reopen(run.log, 10, None)
        until(lambda: states(run).get(10) == "published")


def test_what_comes_back_is_evaluated(tmp_path: Path) -> None:
    """Also where it was deleted before it was copied."""
    place = bucket(tmp_path, 10, 20)
    run, kept = world(tmp_path, stage_limit=1), tmp_path / "kept"

    def rotate(_: object) -> None:
        if not kept.exists():
            (place / "checkpoint-10").rename(kept)

    run.script = rotate
    with run.live():
        until(lambda: states(run) == {10: "discarded", 20: "published"})
        run.script = lambda _: None
        kept.rename(place / "checkpoint-10")
        until(lambda: states(run).get(10) == "published")


def test_what_was_left_out_takes_no_room_of_others(tmp_path: Path) -> None:
    """Its weights written again, though the same, are copied, are no news, and are let go of."""
    place = bucket(tmp_path, 10, 20)
    run = world(tmp_path, stage_limit=1, when_behind="newest")
    copied = run.settings.paths.output_dir
    listed = copied.with_name(f"{copied.name}.json")
    with run.live():
        until(lambda: states(run) == {10: "discarded", 20: "published"} and here(run) == set())
        before = json.loads(listed.read_text())["checkpoint-10"]["signed"]
        checkpoint(place, 10, 0.1)
        until(lambda: json.loads(listed.read_text())["checkpoint-10"]["signed"] != before)
        checkpoint(place, 30, 0.3)
        until(lambda: states(run) == {10: "discarded", 20: "published", 30: "published"})
        until(lambda: here(run) == set())
    assert [Path(it.path).name for it in run.requests] == ["checkpoint-20", "checkpoint-30"]


def test_a_list_that_was_lost_costs_nothing(tmp_path: Path) -> None:
    """The log knows what is scored."""
    bucket(tmp_path, 10)
    run = world(tmp_path)
    run.once()
    copied = run.settings.paths.output_dir
    copied.with_name(f"{copied.name}.json").write_text("{")
    run.requests.clear()
    assert run.once() == 0
    assert run.requests == []
    assert here(run) == set()


def test_remains_of_a_kill_are_deleted(tmp_path: Path) -> None:
    """What was in the making, and what was moved in before the list was written."""
    bucket(tmp_path, 10)
    run = world(tmp_path)
    copied = run.settings.paths.output_dir
    part = copied.with_name(f".{copied.name}.part")
    (part / "checkpoint-10").mkdir(parents=True)
    (copied / "checkpoint-10").mkdir(parents=True)
    (copied / "checkpoint-10/half.safetensors").write_bytes(b"half")
    copying.Mirror(Remote("file:///nowhere"), copied, print, lambda *_: nullcontext())
    assert not part.exists()
    assert here(run) == set()


def test_a_list_that_names_other_places_deletes_nothing_there(tmp_path: Path) -> None:
    """Whoever wrote it."""
    mine = tmp_path / "mine"
    mine.touch()
    folder = tmp_path / "copies/run"
    folder.parent.mkdir()
    told = {"x": {"signed": "", "at": 0.0, "paths": ["../../mine", str(mine)]}}
    (tmp_path / "copies/run.json").write_text(json.dumps(told))
    kept = copies.Copies(folder)
    kept.drop("x")
    assert mine.exists()


def listed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[list[RemoteFile]], list[RemoteFile]]
) -> None:
    """Have the server list something else."""
    real = Remote.files
    monkeypatch.setattr(Remote, "files", lambda remote: change(real(remote)))


def test_names_that_lead_elsewhere_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a server calls its files; the others are evaluated."""
    bucket(tmp_path, 10)
    evil = [RemoteFile(f"checkpoint-10/{it}", 1, "1") for it in ("../../../x.json", "/y.json")]
    listed(monkeypatch, lambda files: [*files, *evil, RemoteFile("/tmp/z.json", 1, "1")])
    run = world(tmp_path)
    before = {it for it in tmp_path.rglob("*") if it.suffix == ".json"}
    assert run.once() == 0
    after = {it for it in tmp_path.rglob("*") if it.suffix == ".json"} - before
    assert {it.parent.name for it in after} <= {"copies"}


def test_what_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the first copy is seen by nobody."""
    place = bucket(tmp_path, 10)
    real, fetched = Remote.fetch, []

    def fetch(remote: Remote, file: RemoteFile, to: Path) -> None:
        real(remote, file, to)
        fetched.append(file.path)
        if len(fetched) == 3:
            checkpoint(place, 10, 0.9)

    monkeypatch.setattr(Remote, "fetch", fetch)
    run = world(tmp_path)
    assert run.once() == 0
    assert len(run.requests) == 1
    assert len(fetched) == 6


def test_what_vanishes_while_it_is_copied_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone, and the others are evaluated."""
    place = bucket(tmp_path, 10, 20)
    real = Remote.fetch

    def fetch(remote: Remote, file: RemoteFile, to: Path) -> None:
        if file.path.startswith("checkpoint-20"):
            shutil.rmtree(place / "checkpoint-20", ignore_errors=True)
        real(remote, file, to)

    monkeypatch.setattr(Remote, "fetch", fetch)
    run = world(tmp_path)
    assert run.once() == 0
    assert states(run) == {10: "published", 20: "discarded"}


def test_a_server_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and what is known stays as it is: nothing is taken for deleted."""
    bucket(tmp_path, 10, 20)
    run, away = world(tmp_path, stage_limit=1), threading.Event()
    real = Remote.files

    def files(remote: Remote) -> list[RemoteFile]:
        if away.is_set():
            raise Unreachable("unreachable", f"{remote.address} cannot be read just now (no route)")
        return real(remote)

    monkeypatch.setattr(Remote, "files", files)
    run.script = lambda _: away.set()
    with run.live():
        until(lambda: states(run).get(20) == "published" and "no route" in run.run.problem)
        assert states(run)[10] == "waiting"
    with run.live():  # and after a restart
        until(lambda: "no route" in run.run.problem)
        assert states(run)[10] == "waiting"
        away.clear()
        run.script = lambda _: None
        until(lambda: states(run).get(10) == "published")
    assert not any(isinstance(it.event, CheckpointDiscarded) for it in run.logged)


@pytest.mark.parametrize("kind", ["refused", "unreachable"])
def test_once_tells_why_nothing_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """It ends with that line, at once or after some tries."""
    bucket(tmp_path, 10)

    def files(remote: Remote) -> list[RemoteFile]:
        raise Unreachable(kind, f"{remote.address} may not be read")

    monkeypatch.setattr(Remote, "files", files)
    with pytest.raises(ClipwatchError, match="may not be read"):
        world(tmp_path).once()


def test_what_cannot_be_copied_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries it is left out with the reason."""
    bucket(tmp_path, 10, 20)
    real = Remote.fetch

    def fetch(remote: Remote, file: RemoteFile, to: Path) -> None:
        if file.path.startswith("checkpoint-20"):
            raise Unreachable("refused", f"{file.path} may not be read (403)")
        real(remote, file, to)

    monkeypatch.setattr(Remote, "fetch", fetch)
    run = world(tmp_path)
    assert run.once() == 0
    assert states(run) == {10: "published", 20: "discarded"}
    assert "(403)" in run.run.checkpoints["checkpoint-20"].reason
    monkeypatch.setattr(Remote, "fetch", real)  # somebody gave us the right
    assert run.once() == 0
    assert states(run) == {10: "published", 20: "published"}


def test_a_full_disk_is_told_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the room that lacks; when there is some it goes on."""
    bucket(tmp_path, 10)
    full = threading.Event()
    full.set()
    disk = namedtuple("disk", "f_blocks f_frsize f_bavail")  # noqa: PYI024 - as os.statvfs_result
    free = os.statvfs
    monkeypatch.setattr(
        os, "statvfs", lambda path: disk(10**6, 4096, 1) if full.is_set() else free(path)
    )
    run = world(tmp_path)
    with run.live():
        until(lambda: run.log.exists() and "MiB free in" in run.run.problem)
        assert "make room" in run.run.problem
        full.clear()
        monkeypatch.setattr(copying, "AGAIN_SECONDS", 0.0)
        until(lambda: states(run).get(10) == "published")
        until(lambda: run.run.problem == "")


def test_the_loop_never_waits_for_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs for ever keeps nobody from stopping."""
    hangs, asked = threading.Event(), threading.Event()

    def files(_: Remote) -> list[RemoteFile]:
        asked.set()
        hangs.wait()
        return []

    monkeypatch.setattr(Remote, "files", files)
    monkeypatch.setattr(copying, "CLOSE_SECONDS", 0.1)
    with world(tmp_path).live():
        assert asked.wait(60)
    hangs.set()


def test_servers_that_hang_are_waited_for_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many runs a daemon has: nothing is copied any more when the first one closes."""
    hangs, asked, order = threading.Event(), threading.Semaphore(0), list[str]()
    leave, close = copying.Mirror.leave, copying.Mirror.close

    def files(_: Remote) -> list[RemoteFile]:
        asked.release()
        hangs.wait()
        return []

    def stop(supervisor: Supervisor) -> None:
        for _ in runs:
            asked.acquire(timeout=60)
        supervisor.stop()

    def left(mirror: copying.Mirror) -> None:
        order.append("left")
        leave(mirror)

    def closed(mirror: copying.Mirror, run: Run | None) -> None:
        order.append("closed")
        monkeypatch.setattr(copying.Mirror, "leave", leave)
        close(mirror, run)

    monkeypatch.setattr(Remote, "files", files)
    monkeypatch.setattr(copying.Mirror, "leave", left)
    monkeypatch.setattr(copying.Mirror, "close", closed)
    monkeypatch.setattr(copying, "CLOSE_SECONDS", 0.1)
    runs: list[World] = []
    for name in "abc":
        (tmp_path / name).mkdir()
        runs.append(world(tmp_path / name))
    with ExitStack() as stack:
        supervisor = watching(Supervisor(), runs, stack)
        threading.Thread(target=stop, args=(supervisor,)).start()
        assert supervisor.run() == 0
    hangs.set()
    assert order == ["left"] * 3 + ["closed"] * 3


def test_new_settings_leave_the_copies_alone(tmp_path: Path) -> None:
    """A reload looks by the new ones, and another address is refused."""
    bucket(tmp_path, 10)
    run = world(tmp_path)
    with run.live() as daemon:
        until(lambda: states(run).get(10) == "published")
        run.reread = lambda: settings(tmp_path, output_dir="memory://other")
        daemon.reload()
        until(lambda: any("cannot change while clipwatch runs" in it for it in run.said))
        run.reread = lambda: run.settings
        daemon.reload()
        until(lambda: "settings reloaded" in run.said)
        bucket(tmp_path, 20)
        until(lambda: states(run).get(20) == "published")


def asked(folder: Path, **changes: object) -> Settings:
    return settings(folder, output_dir=f"file://{folder}/bucket", **changes)


def test_logs_of_tensorboard_go_to_the_state_directory(tmp_path: Path) -> None:
    """As there is no folder at an address; an absolute one is as it is."""
    here = asked(tmp_path).paths
    assert here.logging_dir.is_relative_to(here.state_dir)
    assert here.logging_dir.name == "logs"
    assert asked(tmp_path, logging_dir="/data/logs").paths.logging_dir == Path("/data/logs")


def test_an_address_is_asked_less_often(tmp_path: Path) -> None:
    """Unless somebody says how often."""
    assert asked(tmp_path).watching.rescan_seconds == 0.2
    named = {"output_dir": "memory://run", "evaluation_type": "clip", "device": "cpu"}
    usual = load(tmp_path / "config.json", flags=named, environ={}, cwd=tmp_path)
    assert usual.watching.rescan_seconds == 10.0


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://key:s3cret@bucket/run", "who logs in"),
        ("gs://bucket/run", "pip install gcsfs"),
        ("gopher://bucket/run", "is not known"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(tmp_path: Path, address: str, told: str) -> None:
    """In one line that names the key and tells no secret."""
    with pytest.raises(SettingsError, match=told) as refused:
        settings(tmp_path, output_dir=address)
    assert "output-dir" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("ends", ["export", "file:DONE", "idle:60,file:DONE"])
def test_an_end_that_only_a_folder_tells_is_refused(tmp_path: Path, ends: str) -> None:
    """Instead of waiting for ever."""
    with pytest.raises(SettingsError, match="use idle:SECONDS"):
        asked(tmp_path, exit_when_done=ends)
    assert asked(tmp_path, exit_when_done="idle:60,file:/data/DONE").watching.exit_when_done


def test_the_doctor_asks_the_address(tmp_path: Path) -> None:
    """What is there, what is not there yet, and what may not be read."""
    (found,) = output.look(asked(tmp_path))
    assert (found.verdict, "does not exist" in found.found) == ("warn", True)
    bucket(tmp_path)
    (found,) = output.look(asked(tmp_path))
    assert (found.verdict, "no checkpoint yet" in found.found) == ("ok", True)
    bucket(tmp_path, 10, 20)
    (found,) = output.look(asked(tmp_path))
    assert found.verdict == "ok"
    assert "2 checkpoints, newest checkpoint-20" in found.found


def test_rank_asks_the_address(tmp_path: Path) -> None:
    """For what is to be compared; where there is nothing it says so."""
    bucket(tmp_path)
    with pytest.raises(ClipwatchError, match="nothing to score in file://"):
        _there(asked(tmp_path))
    bucket(tmp_path, 10, 20)
    assert _there(asked(tmp_path)) == {"checkpoint-10", "checkpoint-20"}


def test_two_daemons_do_not_watch_one_address(tmp_path: Path) -> None:
    """Whatever their state directories are."""
    bucket(tmp_path, 10)
    first, other = tmp_path / "first", tmp_path / "other"
    for folder in (first, other):
        folder.mkdir()
    address = f"file://{tmp_path}/bucket"
    run, second = (World(it, output_dir=address) for it in (first, other))
    with run.live():
        until(lambda: states(run).get(10) == "published")
        with pytest.raises(ClipwatchError, match="is watched by another clipwatch"):
            second.once()


def test_a_copy_that_is_no_news_makes_room(tmp_path: Path) -> None:
    """What was left out, as newer ones came, is copied again if the list was lost, and let go."""
    place = bucket(tmp_path, 10)
    run = world(tmp_path, stage_limit=1, max_attempts=1)
    run.script = lambda _: [Failed("weights", "3 of 9 tensors fit")]
    run.once()
    known = run.run.checkpoints["checkpoint-10"]
    told = (known.step, known.name, known.path)
    with Journal(run.log) as journal:
        stream = f"run/{run.run.name}"
        skipped = CheckpointDiscarded(*told, "skipped", "a newer one was complete", known.unit)
        journal.append(run.run.name, stream, journal.version(stream), [skipped])
    copied = run.settings.paths.output_dir
    listed = copied.with_name(f"{copied.name}.json")
    listed.write_text("{")
    run.script = lambda _: None
    with run.live():
        until(lambda: "checkpoint-10" in listed.read_text())  # it was copied, and may be gone again
        checkpoint(place, 20, 0.5)
        until(lambda: states(run) == {10: "discarded", 20: "published"} and here(run) == set())
