"""A real systemd, booted for a test over an overlay of this machine's own files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from places import ROOT, SUPPORT

INSTALL = (sys.executable, "-m", "clipwatch", "systemd", "install")
HANG = """\
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
"""
"""A sitecustomize.py: the signal makes the main thread, hence the daemon's loop, stand still."""


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


@dataclass(frozen=True)
class Machine:
    """A booted system; `leader` is the pid of its systemd as seen from here."""

    leader: int

    def run(self, *command: str | Path, fails: bool = False) -> str:
        """Run a command inside as root; return what it says, or fail the test if it does."""
        entered = [f"--target={self.leader}", "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]
        done = subprocess.run(
            ["nsenter", *entered, *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        )
        assert bool(done.returncode) == fails, done.stdout
        return done.stdout

    def path(self, inside: str | Path) -> Path:
        """Return where a path inside is seen from here."""
        return Path(f"/proc/{self.leader}/root") / str(inside).lstrip("/")

    def write(self, inside: str | Path, text: str) -> None:
        """Write a file inside."""
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)

    def train(self, folder: Path, **keys: Any) -> Path:
        """Write a training of the user trainer: one that leaves no checkpoint yet.

        `keys` are clipwatch's own. Return its configuration's path inside.
        """
        config = {
            "output_dir": "output",
            "pretrained_model_name_or_path": "./base",
            "evaluation_type": "clip",
            "report_to": "none",
            "clipwatch": {
                "prompts": "prompts.txt",
                "device": "cpu",
                "settle_seconds": 0,
                "baseline": False,
                **keys,
            },
        }
        self.write(folder / "config.json", json.dumps(config))
        self.write(folder / "prompts.txt", "a red circle\n")
        self.run("mkdir", "-p", folder / "base", folder / "output")
        self.run("chmod", "0700", folder / "output")
        self.run("chown", "-R", "trainer:", folder)
        return folder / "config.json"


@dataclass(frozen=True)
class Service:
    """clipwatch@NAME inside a machine, installed as a user installs it; not started."""

    machine: Machine
    name: str
    place: Path | None = None

    def __post_init__(self) -> None:
        config = self.machine.train(self.folder)
        self.machine.run(*INSTALL, self.name, "--config", config)
        self.adjust("test", "[Service]\nRestartSec=200ms\n")

    @property
    def folder(self) -> Path:
        """The training's."""
        return self.place or Path("/srv") / self.name

    @property
    def unit(self) -> str:
        """Its full name."""
        return f"clipwatch@{self.name}.service"

    @property
    def output(self) -> str:
        """The output directory inside."""
        return f"{self.folder}/output"

    def adjust(self, name: str, text: str) -> None:
        """Write a drop-in."""
        self.machine.write(f"/etc/systemd/system/{self.unit}.d/{name}.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def set(self, line: str) -> None:
        """Add a line to the environment file."""
        with self.machine.path(f"/etc/clipwatch/{self.name}.env").open("a") as file:
            file.write(line + "\n")

    def do(self, verb: str, *options: str, fails: bool = False) -> str:
        """Call systemctl."""
        return self.machine.run("systemctl", verb, *options, self.unit, fails=fails)

    def tells(self, name: str) -> str:
        """Return a property, as ActiveState."""
        return self.do("show", f"--property={name}", "--value").strip()

    def journal(self) -> str:
        """Return what it and systemd said about it."""
        return self.machine.run("journalctl", "--output=cat", f"--unit={self.unit}")

    def environ(self, pid: str) -> dict[str, str]:
        """Return the environment that a process inside was started with."""
        text = self.machine.path(f"/proc/{pid}/environ").read_text()
        return dict(line.split("=", 1) for line in text.split("\0") if line)

    def within(self, *command: str | Path, fails: bool = False) -> str:
        """Run a command as root, but with the files as the daemon sees them."""
        pid = self.tells("MainPID")
        return self.machine.run("nsenter", f"--target={pid}", "--mount", *command, fails=fails)


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """Boot; skip the test where that is not possible. `folder` is empty and stays so."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        pytest.skip("a real systemd is booted by root with systemd-nspawn (systemd-container)")
    seen = sorted({str(ROOT), sys.prefix, sys.base_prefix})
    if hidden := [path for path in seen if path.startswith(("/tmp/", "/var/tmp/"))]:
        pytest.skip(f"PrivateTmp= would hide {hidden[0]} from the service")
    boot = ["bash", str(SUPPORT / "systemd_boot.sh"), str(folder), *seen]
    # it powers off when the standard input closes: at the end, and when we are killed
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", *boot],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        said = process.stdout.readline().strip()
        if not said.isdecimal():
            pytest.skip(f"no systemd can be booted here: {said or 'no mount namespace'}")
        machine = Machine(int(said))
        state = ["bash", "-c", "systemctl is-system-running || true"]
        until(lambda: machine.run(*state).strip() in {"running", "degraded"})
        machine.write("/etc/sysusers.d/trainer.conf", "u trainer - trainer /home/trainer\n")
        machine.write("/srv/hang/sitecustomize.py", HANG)
        machine.run("systemd-sysusers")
        yield machine
