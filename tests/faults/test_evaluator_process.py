"""The evaluator's process from the daemon's side: however it ends, the daemon hears of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil
import pytest

from clipwatch.domain.protocol import Prompt
from clipwatch.executors import child as process
from clipwatch.executors.endings import ending
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Scored
from evaluator_child import BEGIN, REQUEST, Children, until
from protocols import PROTOCOL

LONG = msgspec.structs.replace(
    REQUEST, protocol=replace(PROTOCOL, prompts=(Prompt("a", "long " * 200_000),))
)
CUT_SHORT = """
with open("mapped", "wb+") as file:
    file.write(bytes(2 * mmap.PAGESIZE))
    file.flush()
    mapped = mmap.mmap(file.fileno(), 0)
    file.truncate(0)
    mapped[mmap.PAGESIZE]
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    with Children(tmp_path, monkeypatch) as children:
        yield children


# --- ending --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_words", "kind", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", "killed by SIGKILL: "),
        ("ctypes.string_at(0)", "killed", "killed by SIGSEGV: a crash in native code"),
        ("os.abort()", "killed", "killed by SIGABRT: native code gave up"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "killed", "killed by SIGTERM: somebody ended"),
        (CUT_SHORT, "changed", "killed by SIGBUS: a file was cut short"),
        ("sys.exit(3)", "killed", "ended with exit code 3; its last words are above"),
        ("", "killed", "ended with exit code 0"),
        (
            'os.write(1, b\'{"type": "Scor\'); os.kill(os.getpid(), signal.SIGSEGV)',
            "killed",
            "killed by SIGSEGV",
        ),
        (
            "print('Segfault, said a library', flush=True); time.sleep(1000)",
            "internal",
            "b'Segfault, said",
        ),
        ('print(\'{"type": "Strange"}\', flush=True); time.sleep(1000)', "internal", "Strange"),
        ("print(bytes(8), flush=True); time.sleep(1000)", "internal", "what is no reply"),
    ],
)
def test_however_it_ends_the_daemon_hears_of_it(
    children: Children, last_words: str, kind: str, reason: str
) -> None:
    """What it said before stands, then there is one failure, in one line, and it is gone."""
    child = children.start(last_words)
    child.handle.evaluate(REQUEST)
    assert child.reply() == Loaded({})
    failed = child.reply()
    assert isinstance(failed, Failed)
    assert (failed.kind, reason in failed.reason) == (kind, True), failed
    assert "\n" not in failed.reason
    assert not child.handle.alive
    assert child.gone()
    child.handle.kill()
    assert child.replies.empty()


def test_a_reply_of_many_long_ids_is_heard(children: Children) -> None:
    """A batch of 5,000 images, whose prompts have ids as long as they may be."""
    child = children.start(
        "image = {'prompt_id': 'a' * 200, 'index': 0, 'seed': 0, 'scores': {'': 0.5}}\n"
        "say('Scored', images=[image] * 5_000); time.sleep(1000)"
    )
    child.handle.evaluate(REQUEST)
    assert child.reply() == Loaded({})
    scored = child.reply()
    assert isinstance(scored, Scored), scored
    assert len(scored.images) == 5_000


def test_a_line_without_end_is_not_read_to_its_end(children: Children, tmp_path: Path) -> None:
    """Of 100 MB without a newline the daemon takes a part, and ends the writer."""
    child = children.start("sys.stdout.write('x' * 100_000_000); pathlib.Path('written').touch()")
    child.handle.evaluate(REQUEST)
    assert child.reply() == Loaded({})
    failed = child.reply()
    assert isinstance(failed, Failed)
    assert (failed.kind, "xxx" in failed.reason, len(failed.reason) < 200) == (
        "internal",
        True,
        True,
    )
    child.handle._reader.join()
    assert child.gone()
    assert not (tmp_path / "written").exists()


def test_closed_output_of_a_process_that_lives_on(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can report nothing any more, so it is ended and reported."""
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.1)
    child = children.start("os.close(1); time.sleep(1000)")
    child.handle.evaluate(REQUEST)
    assert child.reply() == Loaded({})
    failed = child.reply()
    assert isinstance(failed, Failed)
    assert (failed.kind, "closed its output" in failed.reason) == ("internal", True)
    until(child.gone)


def test_an_evaluator_that_was_gone_before_the_request_is_reported(
    children: Children,
) -> None:
    """A request to a dead process is answered once, not forgotten."""
    child = children.start("", opening="")
    until(lambda: not child.handle.alive)
    child.handle._reader.join()
    child.handle.evaluate(REQUEST)
    assert child.reply() == ending(0, out_of_memory=False)
    assert child.replies.empty()


def test_an_evaluator_that_ends_between_evaluations_is_no_failure(
    children: Children,
) -> None:
    """After Finished it owes nothing."""
    child = children.start("say('Finished', truncated=0, seconds=1.0)")
    child.handle.evaluate(REQUEST)
    assert [child.reply(), child.reply()] == [Loaded({}), Finished(0, 1.0)]
    child.handle._reader.join()
    assert child.replies.empty()


def test_words_that_nobody_asked_for_are_no_reply(children: Children) -> None:
    """Said after Finished, they do not count for the next request."""
    child = children.start(
        "say('Finished', truncated=0, seconds=1.0)\n"
        "say('Finished', truncated=7, seconds=7.0)\n"
        "pathlib.Path('said').touch()\n"
        "sys.stdin.readline()"
    )
    child.handle.evaluate(REQUEST)
    assert [child.reply(), child.reply()] == [Loaded({}), Finished(0, 1.0)]
    until(Path("said").exists)
    child.handle.kill()
    child.handle._reader.join()
    assert child.replies.empty()


@pytest.mark.parametrize("number", range(1, signal.SIGRTMAX + 1))
def test_every_signal_has_words(number: int) -> None:
    """Whatever ended it, there is a sentence for it; only out of memory for sure is said so."""
    said = ending(-number, out_of_memory=False)
    assert said.reason.startswith("the evaluator was killed by ")
    assert said.kind == ("changed" if number == signal.SIGBUS else "killed")
    sure = "the system was out of memory" in ending(-number, out_of_memory=True).reason
    assert sure == (number == signal.SIGKILL)


@linux
def test_out_of_host_memory_is_said_for_sure(children: Children, tmp_path: Path) -> None:
    """A process that the kernel killed for lack of memory is told from one that somebody ended."""
    group = Path("/sys/fs/cgroup/memory") / f"clipwatch-{os.getpid()}-{tmp_path.name}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("64M")
    except OSError:
        pytest.skip("needs root and a memory cgroup of version 1")
    try:
        child = children.start(
            f"pathlib.Path('{group}/tasks').write_text(str(os.getpid()))\nb'x' * 1_000_000_000\n"
        )
        child.handle.evaluate(REQUEST)
        assert child.reply() == Loaded({})
        failed = child.reply()
        child.handle.kill()
    finally:
        group.rmdir()
    assert isinstance(failed, Failed)
    assert failed.kind == "killed"
    assert "SIGKILL: the system was out of memory, and the kernel chose it" in failed.reason


# --- killing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "opening", "request_"),
    [
        ("time.sleep(1000)", BEGIN, REQUEST),
        ("time.sleep(1000)", "import time\n", LONG),
        ("say('Finished', truncated=0, seconds=1.0); time.sleep(1000)", BEGIN, REQUEST),
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(1000)",
            "import signal, time\n",
            REQUEST,
        ),
        ("while True: say('Scored', images=[])", BEGIN, REQUEST),
    ],
    ids=["hangs", "never reads", "sleeps after the end", "blocks signals", "never stops talking"],
)
def test_kill_ends_everything(
    children: Children, program: str, opening: str, request_: Evaluate
) -> None:
    """Asked in vain or not, it is gone at once, and not a word is reported afterwards."""
    child = children.start(program, opening=opening)
    child.handle.evaluate(request_)
    if opening == BEGIN:
        assert child.reply() == Loaded({})
    child.handle.kill()
    said = child.replies.qsize()
    assert not child.handle.alive
    assert child.handle.silent_seconds == 0.0
    assert child.gone()
    child.handle.kill()  # once more is no harm
    child.handle._reader.join()
    assert child.replies.qsize() == said


def test_kill_ends_what_the_evaluator_started(children: Children) -> None:
    """A program that it runs does not outlive it."""
    child = children.start(
        "sleeper = subprocess.Popen(['sleep', '1000'])\n"
        "pathlib.Path('pid').write_text(f'{sleeper.pid}\\n')\n"
        "time.sleep(1000)"
    )
    child.handle.evaluate(REQUEST)
    until(lambda: Path("pid").exists() and Path("pid").read_text().endswith("\n"))
    sleeper = psutil.Process(int(Path("pid").read_text()))
    assert sleeper.name() == "sleep"
    child.handle.kill()
    until(lambda: not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE)


@linux
def test_kill_of_a_process_that_cannot_be_killed_returns(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that the kernel will not end is left behind after a while, as not alive."""
    group = Path("/sys/fs/cgroup/freezer") / f"clipwatch-{os.getpid()}-{tmp_path.name}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs root and a freezer cgroup of version 1, which stops even SIGKILL")
    try:
        child = children.start("time.sleep(1000)")
        child.handle.evaluate(LONG)
        assert child.reply() == Loaded({})
        (group / "tasks").write_text(str(child.pid))
        (group / "freezer.state").write_text("FROZEN")
        until(lambda: (group / "freezer.state").read_text() == "FROZEN\n")
        monkeypatch.setattr(process, "PATIENCE_SECONDS", 0.1)
        child.handle.kill()
        assert not child.gone()
        assert not child.handle.alive
    finally:
        (group / "freezer.state").write_text("THAWED")
        until(child.gone)
        child.handle.kill()
        group.rmdir()
    assert child.replies.empty()


# --- signs of life -------------------------------------------------------------------------------


def test_silence_grows_until_a_sign_of_life(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to do is no silence; Working and every reply end it, and Working is not passed on."""
    monkeypatch.setattr(process, "_bytes_moved", lambda _: 0)  # as where the kernel counts none
    child = children.start(
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "say('Scored', images=[])\n"
        "for message in ('Working', 'Working', 'Scored'):\n"
        "    signal.sigwait([signal.SIGUSR1])\n"
        "    say(message, **({'images': []} if message == 'Scored' else {}))\n"
        "signal.sigwait([signal.SIGUSR1])\n"
        "say('Finished', truncated=0, seconds=0.0)\n"
        "sys.stdin.readline()\n"
    )
    assert child.handle.silent_seconds == 0.0
    child.handle.evaluate(REQUEST)
    assert [child.reply(), child.reply()] == [Loaded({}), Scored(())]
    assert child.handle.silent_seconds == 0.0  # it waits for us
    child.handle.kept()
    for _ in range(3):
        until(lambda: child.handle.silent_seconds > 0.1)
        before = child.handle.silent_seconds
        assert child.handle.silent_seconds > before
        os.kill(child.pid, signal.SIGUSR1)
        until(lambda before=before: child.handle.silent_seconds < before)  # type: ignore[misc]
    os.kill(child.pid, signal.SIGUSR1)
    assert [child.reply(), child.reply()] == [Scored(()), Finished(0, 0.0)]
    assert child.handle.silent_seconds == 0.0


def test_no_batch_is_begun_before_the_last_is_kept(children: Children) -> None:
    """The evaluator waits until it is told so, which is no silence of its own."""
    child = children.start(
        "class Quick:\n"
        "    def evaluate(self, request, send):\n"
        "        found = 0\n"
        "        for number in range(3):\n"
        "            send(messages.Scored(()))\n"
        "            found += pathlib.Path(f'kept{number}').exists()\n"
        "        send(messages.Finished(found, 0.0))\n"
        "worker._evaluator = Quick\n"
        "worker.main()\n",
        opening="import pathlib\nfrom clipwatch.evaluator import worker\n"
        "from clipwatch.executors import messages\n",
    )
    child.handle.evaluate(REQUEST)
    for number in range(3):
        assert child.reply() == Scored(())
        assert child.handle.silent_seconds == 0.0
        Path(f"kept{number}").touch()
        child.handle.kept()
    assert child.reply() == Finished(3, 0.0)


def test_kept_said_to_a_process_that_ended_is_no_error(children: Children) -> None:
    """Its end is reported all the same, once."""
    child = children.start("say('Scored', images=[]); os.kill(os.getpid(), signal.SIGKILL)")
    child.handle.evaluate(REQUEST)
    assert [child.reply(), child.reply()] == [Loaded({}), Scored(())]
    until(lambda: not child.handle.alive)
    child.handle.kept()
    assert isinstance(child.reply(), Failed)
    child.handle.kept()
    assert child.replies.empty()


@linux
@pytest.mark.parametrize(
    "move",
    ["open('/dev/zero', 'rb').read(1000)", "open('/dev/null', 'wb').write(bytes(1000))"],
    ids=["reads", "writes"],
)
def test_bytes_moved_are_a_sign_of_life(children: Children, move: str) -> None:
    """Who loads or fetches models says nothing for long; the kernel tells of it."""
    child = children.start(
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "say('Scored', images=[])\n"
        "signal.sigwait([signal.SIGUSR1])\n"
        f"{move}\n"
        "signal.sigwait([signal.SIGUSR1])\n"
    )
    child.handle.evaluate(REQUEST)
    assert [child.reply(), child.reply()] == [Loaded({}), Scored(())]
    child.handle.kept()
    until(lambda: child.handle.silent_seconds > 0.1)
    before = child.handle.silent_seconds
    os.kill(child.pid, signal.SIGUSR1)
    until(lambda: child.handle.silent_seconds < before)
