"""The commands for when something went wrong, as a user types them."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipwatch.cli import main, told
from clipwatch.executors.messages import Failed
from clipwatch.journal import Journal
from log_kit import write
from places import LOGS
from real_world import clipwatch, command, environment
from world import World, checkpoint, settings

OLD_LOG = LOGS / "format-2.db"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with a log of twenty-odd events."""
    folder = tmp_path / "state"
    folder.mkdir()
    shutil.copy(OLD_LOG, folder / "clipwatch.db")
    return folder


def damage(state: Path) -> None:
    """Flip a bit in a score."""
    path = state / "clipwatch.db"
    content = bytearray(path.read_bytes())
    content[content.index(b'"score":0.') + len(b'"score":0.')] ^= 1
    path.write_bytes(content)


def test_a_healthy_log_is_told_to_be_one(state: Path) -> None:
    """One line and exit code 0, and the file is as it was."""
    before = (state / "clipwatch.db").read_bytes()
    ended = clipwatch("log", "--verify", "--state-dir", state, cwd=state)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.rstrip().endswith("events are whole, 0 faults")
    assert (state / "clipwatch.db").read_bytes() == before


def test_a_damaged_log_is_told_where_and_read_as_far_as_it_is_whole(state: Path) -> None:
    """`--verify` names the event; `log` prints all others; nothing is written any more.

    Status needs no single scores: their sums were written down when they were whole.
    """
    whole = clipwatch("log", "--json", "--state-dir", state, cwd=state).stdout.splitlines()
    damage(state)
    damaged = (state / "clipwatch.db").read_bytes()
    checked = clipwatch("log", "--verify", "--state-dir", state, cwd=state)
    assert checked.returncode == 1
    fault, total = checked.stdout.splitlines()
    assert fault.startswith("event ")
    assert "checksum" in fault
    assert total.endswith(f"{len(whole) - 1} events are whole, 1 fault")
    read = clipwatch("log", "--json", "--state-dir", state, cwd=state)
    assert read.returncode == 1
    assert read.stderr.splitlines() == [fault]
    lost = [line for line in whole if line not in read.stdout.splitlines()]
    assert len(lost) == 1
    assert "ImagesScored" in lost[0]
    ended = clipwatch("retry", "100", "--state-dir", state, cwd=state)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "log --verify" in ended.stderr
    assert clipwatch("status", "--state-dir", state, cwd=state).returncode == 0
    assert (state / "clipwatch.db").read_bytes() == damaged


@contextmanager
def heeded(number: signal.Signals) -> Iterator[None]:
    """Start processes that do not ignore a signal, as those of a shell's background jobs do."""
    if number == signal.SIGKILL:
        yield
        return
    before = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_check_that_is_ended_leaves_nothing_behind(tmp_path: Path, how: signal.Signals) -> None:
    """Of a log with more faults than its pipe takes it is in the midst of its work."""
    path = tmp_path / "clipwatch.db"
    with Journal(path) as journal:
        write(journal, batches=1500)
    path.write_bytes(path.read_bytes().replace(b'"score":0.25', b'"score":0.75'))
    (tmp_path / "tmp").mkdir()
    verify = command("log", "--verify", "--state-dir", tmp_path)
    own = environment() | {"TMPDIR": str(tmp_path / "tmp")}
    with heeded(how):
        verifying = subprocess.Popen(verify, env=own, stdout=subprocess.PIPE)
    with verifying as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"event "
        assert process.poll() is None
        process.send_signal(how)
        assert process.wait() != 0
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_log_that_is_not_there_is_no_healthy_one(tmp_path: Path) -> None:
    """Who asks about a folder without a log is told so, and none is made."""
    ended = clipwatch("log", "--verify", "--state-dir", tmp_path / "none", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: there is no log in ")
    assert not (tmp_path / "none").exists()


def test_a_failed_checkpoint_is_tried_again_on_request(tmp_path: Path) -> None:
    """`retry STEP` says what will happen, and the next start does it."""
    world = World(tmp_path, max_attempts=1)
    checkpoint(world.output, 7)
    world.script = lambda _: [Failed("weights", "3 of 9 tensors fit")]
    assert world.once() == 1
    arguments = ("--state-dir", world.settings.paths.state_dir)
    wrong = clipwatch("retry", "8", *arguments, "--run", "out", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("Error: no checkpoint of step 8 is known")
    ended = clipwatch("retry", "7", *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "checkpoint-7: will be tried again\n")
    world.script = lambda _: None
    assert world.once() == 0


def test_start_tells_what_was_left_out(tmp_path: Path) -> None:
    """Without report_to its head says where scores stay, and the key; not where it is "none"."""
    settings(tmp_path)
    (tmp_path / "o").mkdir()
    (tmp_path / "config.json").write_text(
        '{"output_dir": "o", "pretrained_model_name_or_path": "./base", "clipwatch": '
        '{"evaluation_type": "clip", "prompts": "prompts.txt", "device": "cpu", "baseline": false}}'
    )
    flags = ("--once", "--state-dir", tmp_path / "state")
    told = clipwatch("start", *flags, cwd=tmp_path)
    assert "trackers: none, so the scores stay in the log" in told.stdout + told.stderr
    assert 'set report_to, as "clipwatch"' in told.stdout + told.stderr
    told = clipwatch("start", *flags, "--report-to", "none", cwd=tmp_path)
    assert "trackers: none\n" in told.stdout + told.stderr
    assert "no GPU is seen" not in told.stdout + told.stderr
    environ = {**environment(), "CUDA_VISIBLE_DEVICES": ""}
    auto = command("start", *flags, "--device", "auto")
    told = subprocess.run(
        auto, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert "no GPU is seen, so the CPU makes the images" in told.stdout + told.stderr


def test_a_gpu_for_a_torch_without_any_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, before anything is written down, and not over and over at each checkpoint."""
    settings(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"pretrained_model_name_or_path": "./base", "output_dir": "o"}
    config["clipwatch"] = {"evaluation_type": "clip", "prompts": "prompts.txt", "baseline": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    flags = ("--device", "cuda:1", "--state-dir", str(tmp_path / "state"))
    monkeypatch.setattr("clipwatch.cli.watching.version", lambda _: "2.13.0+cpu")
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main, ["start", *flags])
    assert ended.exit_code == 2
    assert (
        "Error: device: 'cuda:1' needs a GPU, and the installed torch 2.13.0+cpu is built without: "
        "install another build, see docs/install.md, or set device to 'cpu'\n"
    ) in ended.stderr
    assert not (tmp_path / "state").exists()


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """Exit code 2 and one line that names the folder and what to do."""
    (tmp_path / "base").mkdir()
    (tmp_path / "o").mkdir()
    (tmp_path / "prompts.txt").write_text("a cat")
    (tmp_path / "config.json").write_text(
        '{"output_dir": "o", "pretrained_model_name_or_path": "./base", '
        '"clipwatch": {"evaluation_type": "clip", "prompts": "prompts.txt"}}'
    )
    state = tmp_path / "prompts.txt" / "state"
    ended = clipwatch("start", "--once", "--state-dir", state, cwd=tmp_path)
    assert ended.returncode == 2
    told = ended.stderr.splitlines()[-1]
    assert f"the state directory {state} cannot be made or written" in told
    assert "choose another with --state-dir" in told


@pytest.mark.parametrize("asked", [["--help"], ["status"], ["log"], ["prompts"]])
def test_a_full_disk_behind_the_output_is_one_line(state: Path, asked: list[str]) -> None:
    """What is printed gets lost, and that is said."""
    place: list[str | Path] = ["--state-dir", state] if asked[0] in ("status", "log") else []
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command(*asked, *place),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr == "Error: what is printed here: No space left on device\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "what is printed here: No space left on device"),
        (errno.EMFILE, "the system says: Too many open files"),
    ],
)
def test_an_error_without_a_file_says_whose_it_is(code: int, said: str) -> None:
    """What is printed is to blame for errors of writing alone."""
    assert told(OSError(code, os.strerror(code))) == said


def test_what_is_not_of_the_output_does_not_blame_it(tmp_path: Path) -> None:
    """No descriptors are left for the process that fetches: stdout has nothing to do with it."""
    (tmp_path / "base").mkdir()
    (tmp_path / "prompts.txt").write_text("a cat")
    (tmp_path / "config.json").write_text(
        '{"output_dir": "o", "pretrained_model_name_or_path": "./base", '
        '"clipwatch": {"evaluation_type": "clip", "prompts": "prompts.txt"}}'
    )
    ended = subprocess.run(
        ["prlimit", "--nofile=6", *command("fetch", "--config", tmp_path / "config.json")],
        capture_output=True,
        env=environment() | {"HF_HUB_OFFLINE": "0"},
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert told[-1] == "Error: the system says: Too many open files"
    assert len(told) == 2  # and what it was at


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    """It is cut, as a terminal has an end."""
    ended = clipwatch("status", "--state-dir", tmp_path / ("a" * 5000), cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: {tmp_path}/aaa")
    assert ended.stderr.endswith("...: File name too long\n")
    assert len(ended.stderr) < 300


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as numbers that nobody knows."""

    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_STATE_HOME", "CLIPWATCH_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    ended = CliRunner().invoke(main, ["status"])
    assert ended.exit_code == 2
    assert ended.stderr == (
        "Error: this user has no home directory for the state:"
        " name a folder with --state-dir or CLIPWATCH_STATE_DIR\n"
    )
