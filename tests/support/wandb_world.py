"""What W&B tests share: a clean environment, a server, a trainer's runs, and the processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fake_wandb import KEY, FakeWandb

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

TRAINER = """
import sys, wandb
for name in sys.argv[1:]:
    with wandb.init(project=name, id=f"trainer-{name}", mode="offline") as run:
        for step in range(3):
            run.log({"loss": step / 2, "note": "x" * 40_000}, step=step)
"""


def isolate(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Leave no key, mode or file of the machine that runs the test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CREDENTIALS_DIRECTORY", "NETRC", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[FakeWandb]:
    """Run a server, with its address and key in an otherwise clean environment.

    Temporary files go to a folder of its own: a session that is killed may leave some.
    """
    isolate(monkeypatch, home)
    with FakeWandb() as fake, TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield fake


def collect_children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return a list that will hold the processes that the adapter starts from now on."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def processes(home: str) -> dict[int, Path]:
    """Return pid → folder in /proc of all other processes that live with this HOME."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environ = (folder / "environ").read_bytes().split(b"\0")
            if f"HOME={home}".encode() in environ and folder.name != str(os.getpid()):
                found[int(folder.name)] = folder
    return found


def cores(home: str) -> list[int]:
    """Return the pids of the wandb-core processes with this HOME."""
    return [
        pid
        for pid, folder in processes(home).items()
        if b"wandb-core" in (folder / "cmdline").read_bytes().partition(b"\0")[0]
    ]


def train(folder: Path, *projects: str) -> None:
    """Let the real package write offline runs into `folder`, one for each project."""
    subprocess.run([sys.executable, "-c", TRAINER, *projects], cwd=folder, check=True)
