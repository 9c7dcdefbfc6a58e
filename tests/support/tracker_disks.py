"""Disks that fail for real: full, read-only, unreadable, or behind a dead server.

Each needs root or a program; a test is skipped where that is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def run(*command: str | Path) -> None:
    """Run a program of the system; skip the test where it may not or cannot."""
    try:
        subprocess.run([*map(str, command)], check=True, capture_output=True)
    except OSError:
        pytest.skip(f"needs {command[0]}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs root: {command[0]} says {error.stderr.decode().strip()!r}")


@contextmanager
def mounted(folder: Path, *arguments: str | Path) -> Iterator[None]:
    """Mount something on a folder, which is made, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mount", *arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on a disk; return the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            return ballast


@contextmanager
def mounted_by_a_server(source: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Show a folder at another place through a process (FUSE), which the block may kill."""
    if shutil.which("bindfs") is None or os.geteuid() != 0:
        pytest.skip("needs root and bindfs")
    with subprocess.Popen(["bindfs", "-f", source, folder]) as server:
        try:
            while not os.path.ismount(folder):
                if server.poll() is not None:
                    pytest.skip("bindfs cannot mount here")
            yield server
        finally:
            subprocess.run(["umount", "-l", folder], check=False)
