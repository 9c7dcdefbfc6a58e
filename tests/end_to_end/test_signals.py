"""What a real daemon does when it is asked to stop, to read its settings again, or left alone."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fake_wandb import KEY, FakeWandb, Fault
from fast_world import Training
from real_world import clipwatch, command, environment, until, write_config
from world import checkpoint


@contextmanager
def started(folder: Path, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the daemon and wait until it watches."""
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [*before, *command("start")], cwd=folder, env=environment(), stdout=said, stderr=said
        )
    try:
        watches = "no checkpoint there yet"
        until(lambda: process.poll() is not None or watches in (folder / "said").read_text())
        assert process.poll() is None, (folder / "said").read_text()
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(folder: Path, number: signal.Signals) -> None:
    """Exit code 0, one word about it, no traceback."""
    with started(folder) as process:
        process.send_signal(number)
        assert process.wait(60) == 0
    said = (folder / "said").read_text()
    assert said.rstrip().endswith("stopping")
    assert "Traceback" not in said


def test_a_hangup_makes_it_read_its_settings_again(folder: Path) -> None:
    """A good file is taken up, one with a mistake is told with its line and changes nothing."""
    with started(folder) as process:
        write_config(folder, keep_images=3)
        process.send_signal(signal.SIGHUP)
        until(lambda: "settings reloaded" in (folder / "said").read_text())
        write_config(folder, keep_images="three")
        process.send_signal(signal.SIGHUP)
        until(lambda: "not reloaded, the old ones stay" in (folder / "said").read_text())
        assert process.poll() is None
    (line,) = [line for line in (folder / "said").read_text().splitlines() if "not rel" in line]
    assert "config.json:1: " in line
    assert "keep_images" in line
    logged = clipwatch("log", "--json", "--state-dir", "state", cwd=folder).stdout.splitlines()
    changed = [json.loads(text) for text in logged if "SettingsChanged" in text]
    assert [event["data"]["settings"]["keep_images"] for event in changed] == ["3"]


def test_under_nohup_a_hangup_is_ignored(folder: Path) -> None:
    """Who said nohup does not want to hear of closed terminals."""
    with started(folder, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        process.terminate()
        assert process.wait(60) == 0
    assert "reloaded" not in (folder / "said").read_text()


def test_a_closed_terminal_ends_it(folder: Path) -> None:
    """The terminal's hangup is a farewell, not a request to reload; nothing is left running."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        command("start"), cwd=folder, env=environment(), stdin=its, stdout=its, stderr=its,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(its)
        said = b""
        while b"no checkpoint there yet" not in said:
            said += os.read(ours, 4096)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


def test_nobody_reading_its_words_does_not_stop_it(folder: Path) -> None:
    """A reader that is gone (`| head -1`) costs the words, not the daemon."""
    with subprocess.Popen(
        command("start"), cwd=folder, env=environment(), stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        checkpoint(folder / "output", 5)
        (folder / "output" / "checkpoint-5" / "controlnet").mkdir()

        def known() -> str:
            return clipwatch("status", "--json", "--state-dir", "state", cwd=folder).stdout

        until(lambda: "discarded" in known())
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.thorough
def test_a_tracker_that_hangs_holds_up_the_end_only_for_a_while(tmp_path: Path) -> None:
    """Asked once, it waits a bounded time for what is being sent; asked twice, it ends at once."""
    with FakeWandb() as server:
        server.faults.append(Fault("UpsertBucket", 0))
        environ = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        training = Training(tmp_path / "run", environ)
        training.train()
        daemon = training.start("live")
        try:
            until(lambda: "Viewer" in server.requests)
            daemon.terminate()
            until(lambda: b"stopping" in (training.folder / "said").read_bytes())
            assert daemon.is_alive()  # it gives the tracker a chance
            daemon.terminate()
            daemon.join(10)
            assert daemon.exitcode == 0
        finally:
            daemon.kill()
        assert b"Traceback" not in (training.folder / "said").read_bytes()
        server.faults.clear()
        training.finish()
        assert server.run.points == [(10, 10)]
