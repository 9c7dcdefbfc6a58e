"""The evaluator as a process: clean pipes, and an end that never outlives the daemon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.executors.messages import (
    Evaluate,
    Failed,
    Finished,
    Kept,
    Loaded,
    Reply,
    Scored,
    Working,
)

WORKER = [sys.executable, "-m", "clipwatch.evaluator.worker"]
# what a library might do: print, and write to file descriptor 1 from below Python
NOISY = """
import os, sys
from clipwatch.evaluator.quiet import quiet; quiet()
import clipwatch.evaluator.evaluate as module
from clipwatch.evaluator.worker import main
def noisy(self, request, send, quiet=module.Evaluator.evaluate):
    print("noise of a library", flush=True)
    os.system("echo noise of a program")
    assert sys.stdin.read() == ""
    quiet(self, request, send)
module.Evaluator.evaluate = noisy
sys.exit(main())
"""
# the process without its models
QUICK = """
import sys
from clipwatch.evaluator import worker
from clipwatch.executors.messages import Finished
class Quick:
    def evaluate(self, request, send):
        send(Finished(0, 0.0))
worker._evaluator = Quick
sys.exit(worker.main())
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run(command: list[str], requests: bytes, **more: Any) -> tuple[int, list[Reply], str]:
    """Run a worker over its pipes until it ends by itself."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, input=requests, capture_output=True, check=False, env=environment, **more
    )
    messages = [msgspec.json.decode(line, type=Reply) for line in done.stdout.splitlines()]
    replies = [message for message in messages if not isinstance(message, Working)]
    return done.returncode, replies, done.stderr.decode()


def answer(pipe: IO[bytes]) -> bytes:
    """Read the next line that is more than a word on what begins."""
    return next(line for line in pipe if b"Working" not in line)


def lines(*requests: Evaluate | Kept) -> bytes:
    return b"".join(msgspec.json.encode(request) + b"\n" for request in requests)


REQUEST = lines(kit.request(Path("/nowhere"), "full", kit.protocol(Path("/nowhere"))))


@pytest.mark.thorough
def test_conversation(tmp_path: Path) -> None:
    """Several checkpoints in a row are answered in order, whatever libraries print."""
    write_base_pipeline(tmp_path / "base")
    shutil.copytree(tmp_path / "base" / "unet", tmp_path / "full" / "unet")
    kit.write_lora(tmp_path / "base", tmp_path / "lora")
    how = kit.protocol(tmp_path / "base")
    full = kit.request(tmp_path / "full", "full", how, images=tmp_path / "images", batch_size=3)
    gone = msgspec.structs.replace(full, path=str(tmp_path / "gone"))
    lora = kit.request(tmp_path / "lora", "lora", how)
    asked = lines(full, Kept(), Kept(), gone, lora, Kept())
    code, replies, log = run([sys.executable, "-c", NOISY], asked)
    assert [type(reply) for reply in replies] == [
        *(Loaded, Scored, Scored, Finished),
        Failed,
        *(Loaded, Scored, Finished),
    ], log
    assert code == 0
    loaded, failed = replies[0], replies[4]
    assert isinstance(loaded, Loaded)
    assert {"torch", "diffusers", "transformers", "peft", "device", "dtype"} <= {
        *loaded.environment
    }
    assert isinstance(failed, Failed)
    assert failed.kind == "vanished"
    assert len(list((tmp_path / "images").iterdir())) == 4
    assert log.splitlines() == ["noise of a library", "noise of a program"] * 3


def test_unreadable_request_ends_the_process() -> None:
    """A line that is no request is answered in one line, and a new process is asked for."""
    code, replies, _ = run(WORKER, b'{"type": "Strange"}\n{}\n')
    assert code == 1
    assert [(type(reply), getattr(reply, "kind", "")) for reply in replies] == [
        (Failed, "internal")
    ]


def test_end_of_input_ends_the_process() -> None:
    """With nothing to do it ends at once, without a word."""
    assert run(WORKER, b"") == (0, [], "")


def test_reader_that_went_away_ends_the_process() -> None:
    """A daemon that closed the pipe is no error worth a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nowhere:
        done = subprocess.run(
            WORKER, input=b"nonsense\n", stdout=nowhere, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_interrupt_is_left_to_the_daemon() -> None:
    """Ctrl-C reaches the whole terminal; the worker goes on until the daemon decides."""
    with subprocess.Popen(
        [sys.executable, "-c", QUICK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None
        for _ in range(2):
            stdin.write(REQUEST)
            stdin.flush()
            assert b"Finished" in answer(stdout)
            child.send_signal(signal.SIGINT)
        stdin.close()
        assert child.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_death_of_the_daemon_ends_the_process() -> None:
    """A daemon killed outright takes the worker along, although stdin stays open."""
    daemon_code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {QUICK!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", daemon_code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as daemon:
        stdin, stdout = daemon.stdin, daemon.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(REQUEST)
        stdin.flush()
        assert b"Finished" in answer(stdout)
        daemon.kill()
        assert stdout.read() == b""  # ends only when the worker, too, is gone
