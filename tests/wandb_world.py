"""What W&B tests share: a clean environment, and the runs that a trainer leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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


def train(folder: Path, *projects: str) -> None:
    """Let the real package write offline runs into `folder`, one for each project."""
    subprocess.run([sys.executable, "-c", TRAINER, *projects], cwd=folder, check=True)
