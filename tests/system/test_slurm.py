"""The recipe of docs/slurm.md under a real slurmctld: one node, which is this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipwatch.tasks import partfile
from docs_kit import blocks
from fast_world import Training
from loop_kit import until
from places import ROOT, python_path
from real_world import environment

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
MpiDefault=none
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs=2
PartitionName=all Nodes=node1 Default=YES
"""
CLIPWATCH = """\
#!/bin/bash
[[ $1 == score ]] && exec {python} -m fast_score "$@"
exec {python} -m clipwatch "$@"
"""
DOCUMENT = ROOT / "docs" / "slurm.md"


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(folder: Path, *command: str, environ: dict[str, str]) -> Iterator[None]:
    """Run a daemon of Slurm's in the foreground."""
    with (folder / f"{command[0]}.log").open("wb") as log:
        daemon = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        try:
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run a cluster of one node; return what runs a command of Slurm's, or of the recipe."""
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch"))) or os.geteuid() != 0:
        pytest.skip("no Slurm, or not root; Debian has it as slurm-wlm")
    folder = tmp_path / "slurm"
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    ports = {"controller": free_port(), "node": free_port()}
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=host, **ports))
    (folder / "bin/clipwatch").write_text(CLIPWATCH.format(python=sys.executable))
    (folder / "bin/clipwatch").chmod(0o755)
    environ = environment() | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPATH": python_path(),
        "GENERATED": str(tmp_path / "generated"),
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def idle() -> bool:
        asked = ("sinfo", "--noheader", "--format=%T")
        told = subprocess.run(asked, env=environ, capture_output=True, text=True, check=False)
        return told.stdout.strip() == "idle"

    with ExitStack() as daemons:
        daemons.enter_context(running(folder, "slurmctld", "-D", environ=environ))
        daemons.enter_context(running(folder, "slurmd", "-D", "-N", "node1", environ=environ))
        until(idle)
        yield run


def recipe(folder: Path) -> None:
    """Write the files of the recipe, as the document has them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    names = re.findall(r"^`([\w.]+)`[^\n]*:\n\n```shell$", text, re.MULTILINE)
    scripts = [it.text for it in blocks(DOCUMENT) if it.language == "shell"]
    assert names == ["score.sbatch", "merge.sbatch", "submit.sh"]
    for name, script in zip(names, scripts, strict=True):
        (folder / name).write_text(script.replace("--array=1-8", "--array=1-3"))


def test_an_array_scores_a_checkpoint_and_a_job_publishes_it(
    tmp_path: Path, slurm: Callable[..., str]
) -> None:
    """Two checkpoints, each by three jobs; every image is made once, and each step shown once."""
    training = Training(tmp_path)
    recipe(tmp_path)
    for step in (10, 20):
        training.train()
        slurm("bash", "submit.sh", f"output/checkpoint-{step}")
        until(lambda: not slurm("squeue", "--noheader"))
        files = sorted((tmp_path / f"parts/checkpoint-{step}").rglob("*.jsonl"))
        said = "".join(it.read_text() for it in sorted(tmp_path.glob("slurm-*.out")))
        assert len(files) == 3, said
        parts = [partfile.read(it) for it in files]
        assert sum(len(it.scored) for it in parts if it) == 8, said
    assert len(set(training.images())) == len(training.images()) == 16
    assert "2 checkpoints: 2 published" in said, said
    config = json.loads((tmp_path / "config.json").read_text())
    curve = tmp_path / "output/logs" / config["tracker_project_name"] / "clipwatch"
    shown = EventAccumulator(str(curve), size_guidance={"scalars": 0}).Reload()
    assert [it.step for it in shown.Scalars("clip/mean")] == [10, 20]
