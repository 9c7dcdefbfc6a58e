"""Everything works without a network: local paths, HF_HUB_OFFLINE=1, no network device at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from offline_kit import clipwatch, environment, findings, use_hub
from real_world import guarded

ALONE = ("unshare", "--net")
"""What runs a command in a network namespace of its own, in which not even loopback is up."""


@pytest.fixture
def alone() -> tuple[str, ...]:
    """What cuts a command off from every network."""
    try:
        cut = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        cut = False
    if not cut:
        pytest.skip("only root may make a network namespace")
    return ALONE


@pytest.mark.thorough
def test_no_network_device_at_all(
    project: Path, base: Path, tmp_path_factory: pytest.TempPathFactory, alone: tuple[str, ...]
) -> None:
    """A run with local models publishes to TensorBoard and offline W&B with no way to any host."""
    guarded(project / "output", base, 10)
    env = environment(tmp_path_factory.mktemp("home"), HF_HUB_OFFLINE="1")
    done = clipwatch("start", "--once", cwd=project, env=env, before=alone)
    assert done.returncode == 0, done.stderr
    (run,) = read_state(log_file(project / "state")).values()
    assert {name: len(it.has) for name, it in run.trackers.items()} == {
        "tensorboard": 1,
        "wandb": 1,
    }
    (offline,) = (project / "state").rglob("*.wandb")
    assert offline.stat().st_size > 0
    diagnosed = clipwatch("doctor", cwd=project, env=env, before=alone)
    assert diagnosed.returncode == 0, diagnosed.stdout


@pytest.mark.thorough
def test_doctor_names_what_to_fetch(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A Hub id that is not in the cache is a failed check whose fix is `clipwatch fetch`."""
    use_hub(project)
    env = environment(tmp_path_factory.mktemp("home"), HF_HUB_OFFLINE="1")
    found = findings(cwd=project, env=env)
    for check in ("base model", "scorer"):
        assert found[check]["verdict"] == "fail"
        assert "is not in the cache" in found[check]["found"]
        assert "clipwatch fetch" in found[check]["fix"]


@pytest.mark.thorough
def test_score_names_what_to_fetch(
    project: Path, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A Hub id that is not in the cache ends an evaluation with one line naming the command."""
    use_hub(project)
    checkpoint = guarded(project / "output", base, 10)
    env = environment(tmp_path_factory.mktemp("home"), HF_HUB_OFFLINE="1")
    done = clipwatch("score", checkpoint, cwd=project, env=env)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert "clipwatch fetch" in line
