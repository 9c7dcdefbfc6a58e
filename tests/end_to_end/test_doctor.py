"""`clipwatch doctor` as a user calls it: real files, locks, servers; nothing is changed by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from clipwatch.doctor.examine import Check, examine
from clipwatch.doctor.findings import Finding, ok
from clipwatch.domain.names import run_id
from clipwatch.service.lock import exclusive
from fake_wandb import KEY, FakeWandb
from offline_kit import clipwatch, configure, environment, findings, snapshot
from real_world import guarded

NAMES = [
    *("config", "prompts", "output directory", "state directory", "run", "pictures", "cost"),
    *(
        "base model",
        "scorer",
        "device",
        "tracker tensorboard",
        "tracker wandb",
        "clock",
        "inotify",
        "versions",
    ),
]


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing in it."""
    return tmp_path_factory.mktemp("home")


def test_a_run_that_would_go_well(project: Path, base: Path, home: Path) -> None:
    """Each check has one line; few prompts and steps are remarks, and the exit code is 0."""
    guarded(project / "output", base, 10)
    done = clipwatch("doctor", cwd=project, env=environment(home))
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    verdicts = {line[6:26].strip(): line[:6].strip() for line in lines}
    assert list(verdicts) == NAMES
    assert {name for name, verdict in verdicts.items() if verdict != "ok"} == {
        "prompts",
        "pictures",
    }
    assert "1 checkpoint, newest checkpoint-10 readable" in done.stdout
    assert "fix: name more" in done.stdout


@pytest.mark.thorough
def test_nothing_is_changed(project: Path, base: Path, home: Path) -> None:
    """Output, state, home and caches are to the last time stamp what they were."""
    guarded(project / "output", base, 10)
    env = environment(home)
    before = snapshot(project), snapshot(home), snapshot(base)
    assert clipwatch("doctor", cwd=project, env=env).returncode == 0
    assert (snapshot(project), snapshot(home), snapshot(base)) == before


@pytest.mark.thorough
def test_nothing_is_changed_beside_a_daemons_state(project: Path, base: Path, home: Path) -> None:
    """The same holds where a daemon has been, with its log, its images and its curves."""
    guarded(project / "output", base, 10)
    env = environment(home)
    assert clipwatch("start", "--once", cwd=project, env=env).returncode == 0
    before = snapshot(project), snapshot(home)
    assert clipwatch("doctor", cwd=project, env=env).returncode == 0
    assert (snapshot(project), snapshot(home)) == before


@pytest.mark.thorough
def test_no_torch(project: Path, home: Path) -> None:
    """The command's own process imports neither torch nor what would import it."""
    listed = """
import atexit, json, sys
from clipwatch.cli import main
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
main(prog_name="clipwatch")
"""
    done = subprocess.run(
        [sys.executable, "-c", listed, "doctor"],
        cwd=project,
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "clipwatch.doctor.device" in loaded
    assert not loaded & {"torch", "diffusers", "transformers", "wandb"}


def test_wrong_configuration(project: Path, home: Path) -> None:
    """It is a failed check with the settings' own line; what needs no settings is looked at."""
    (project / "config.json").write_text('{"output_dir": "output",\n "evaluation_type": "clop"}')
    done = clipwatch("doctor", cwd=project, env=environment(home))
    assert done.returncode == 2
    first = done.stdout.splitlines()[0]
    assert first.startswith("fail  config")
    assert "config.json:2: evaluation_type" in done.stdout
    assert "versions" in done.stdout
    assert "state directory" not in done.stdout
    found = findings(cwd=project, env=environment(home))
    assert list(found) == ["config", "inotify", "versions"]


def test_no_configuration(home: Path) -> None:
    """Where there is no config at all it says which option names one."""
    done = clipwatch("doctor", cwd=home, env=environment(home))
    assert done.returncode == 2
    assert "fix: name the trainer's file with --config" in done.stdout


@pytest.mark.thorough
def test_slips_are_told(project: Path, home: Path) -> None:
    """A key that looks misspelt is a remark with its line."""
    configure(project, pretrained_model_name_or_pth="x")
    found = findings(cwd=project, env=environment(home))["config"]
    assert found["verdict"] == "warn"
    assert "did you mean 'pretrained_model_name_or_path'?" in found["found"]


@pytest.mark.thorough
def test_flags_count(project: Path, home: Path, tmp_path: Path) -> None:
    """The flags of `start` are looked at instead of what the file says."""
    env = environment(home)
    flags = ("--output-dir", tmp_path / "none", "--report-to", "none", "--device", "mps")
    found = findings(*flags, cwd=project, env=env)
    assert found["output directory"]["verdict"] == "warn"
    assert "is not there yet" in found["output directory"]["found"]
    assert found["device"]["verdict"] == "fail"
    assert "set device to 'cpu'" in found["device"]["fix"]
    assert [name for name in found if name.startswith("tracker")] == ["trackers"]
    assert found["trackers"]["verdict"] == "ok"


# Somebody else holds the run ---------------------------------------------------------------------


@pytest.mark.thorough
def test_a_watched_run(project: Path, home: Path) -> None:
    """The holder of the run's lock is named; the lock stays his, and is free when he ends."""
    hold = (
        "import sys\nfrom pathlib import Path\nfrom clipwatch.service.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1]), sys.argv[2]):\n"
        "    print(1, flush=True)\n    sys.stdin.read()\n"
    )
    run = run_id(project / "output")
    with subprocess.Popen(
        [sys.executable, "-c", hold, project / "state", run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        found = findings(cwd=project, env=environment(home))["run"]
        assert found["verdict"] == "warn"
        assert f"by clipwatch with pid {holder.pid} since" in found["found"]
        holder.kill()
    # a killed daemon leaves its name in the file, but not its lock
    assert (project / "state" / f"{run}.lock").read_text().startswith("clipwatch with pid")
    assert findings(cwd=project, env=environment(home))["run"]["verdict"] == "ok"
    with exclusive(project / "state", run):
        pass


# What may not be read or written -----------------------------------------------------------------


@pytest.fixture
def shared(project: Path) -> Iterator[Path]:
    """Return the project in a folder that another user may enter, in which he owns nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy = Path(shutil.copytree(project, Path(folder, "project")))
        copy.chmod(0o755)
        yield copy


AS_OTHER = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from clipwatch.doctor import output, state_dir
from clipwatch.settings import load
settings = load(Path("config.json"), environ={}, cwd=Path.cwd())
os.setgroups([])
os.setgid(65534)
os.setuid(65534)  # only now: the interpreter itself may lie where others must not look
findings = [*output.look(settings), *state_dir.look(settings)]
print(json.dumps([asdict(finding) for finding in findings]))
"""


def as_other(project: Path) -> dict[str, dict[str, str]]:
    """Return what a user without any rights finds of the folders."""
    done = subprocess.run(
        [sys.executable, "-c", AS_OTHER], cwd=project, capture_output=True, text=True, check=True
    )
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def test_files_of_another_user(shared: Path, base: Path) -> None:
    """Weights with mode 0600, as safetensors 0.8 writes them, fail with whom to run as."""
    checkpoint = guarded(shared / "output", base, 10)
    weights = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    weights.chmod(0o600)
    (shared / "state").mkdir(mode=0o700)
    found = as_other(shared)
    assert found["output directory"]["verdict"] == "fail"
    assert f"{weights} cannot be read (mode 0600, owner root)" in found["output directory"]["found"]
    assert found["output directory"]["fix"] == "run clipwatch as root"
    assert found["state directory"]["verdict"] == "fail"
    assert "cannot be written" in found["state directory"]["found"]
    weights.chmod(0o644)
    assert as_other(shared)["output directory"]["verdict"] == "ok"


def test_output_of_another_user_without_checkpoints(shared: Path) -> None:
    """Before there is a file to try, the owner of the folder is what can be told."""
    found = as_other(shared)["output directory"]
    assert found["verdict"] == "warn"
    assert "no checkpoint yet; it belongs to root" in found["found"]
    assert "run clipwatch as root" in found["fix"]
    (shared / "output").chmod(0o711)
    found = as_other(shared)["output directory"]
    assert found["verdict"] == "fail"
    assert found["fix"] == "run clipwatch as root"


@pytest.mark.thorough
def test_unfinished_checkpoint(project: Path, base: Path, home: Path) -> None:
    """A newest checkpoint without weights is told as what it is, and is no failure."""
    checkpoint = guarded(project / "output", base, 10)
    shutil.rmtree(checkpoint / "unet")
    (checkpoint / "unet").mkdir()
    found = findings(cwd=project, env=environment(home))["output directory"]
    assert found["verdict"] == "warn"
    assert "newest checkpoint-10: unet/ has no weights yet" in found["found"]


@pytest.mark.thorough
def test_nearly_full_disk(project: Path, home: Path, tmp_path: Path) -> None:
    """A state directory on a disk of 1 MiB fails, with what a run needs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        done = clipwatch(
            "doctor", "--json", "--state-dir", disk / "state", cwd=project, env=environment(home)
        )
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}["state directory"]
    assert done.returncode == 1
    assert found["verdict"] == "fail"
    assert "(tmpfs, 1.0 MB free); a run needs" in found["found"]


# W&B ---------------------------------------------------------------------------------------------


def wandb(project: Path, home: Path, server: FakeWandb, key: str) -> dict[str, str]:
    env = environment(home, WANDB_MODE="online", WANDB_BASE_URL=server.url, WANDB_API_KEY=key)
    flags = ("--report-to", "wandb", "--device", "mps")
    return findings(*flags, cwd=project, env=env)["tracker wandb"]


@pytest.mark.thorough
def test_wandb_with_its_server(project: Path, home: Path, server: FakeWandb) -> None:
    """The server is asked with the key, no run is made there, and the address is told."""
    found = wandb(project, home, server, KEY)
    assert found["verdict"] == "ok", found
    assert "/team/shapes/runs/cw-" in found["found"]
    assert not server.runs


@pytest.mark.parametrize(
    ("key", "told"), [("", "no API key"), ("9" * 40, "not accept the API key")]
)
@pytest.mark.thorough
def test_wandb_without_a_good_key(
    project: Path, home: Path, server: FakeWandb, key: str, told: str
) -> None:
    """No key and a wrong one fail, with what to do; the key is in no text."""
    found = wandb(project, home, server, key)
    assert found["verdict"] == "fail"
    assert told in found["found"]
    assert "WANDB_API_KEY" in found["fix"]
    assert not key or key not in json.dumps(found)


@pytest.mark.thorough
def test_wandb_mode_that_is_none(project: Path, home: Path) -> None:
    """A WANDB_MODE that clipwatch cannot do fails."""
    env = environment(home, WANDB_MODE="shared")
    found = findings("--report-to", "wandb", "--device", "mps", cwd=project, env=env)
    assert found["tracker wandb"]["verdict"] == "fail"
    assert found["tracker wandb"]["fix"] == "set it to online or offline"


# Checks that hang or break -----------------------------------------------------------------------


def test_one_that_hangs_and_one_that_breaks_hide_no_other() -> None:
    """Every check is answered for, in order, though one never ends and another raises."""
    never = threading.Event()

    def hang() -> list[Finding]:
        never.wait()
        return []

    def broken() -> list[Finding]:
        raise OSError(5, "Input/output error")

    started = time.monotonic()
    found = list(
        examine(
            [
                Check("first", hang, 0.2),
                Check("second", broken),
                Check("third", lambda: [ok("third", "well")]),
            ]
        )
    )
    never.set()
    assert [(it.check, it.verdict) for it in found] == [
        ("first", "fail"),
        ("second", "warn"),
        ("third", "ok"),
    ]
    assert found[0].found == "did not answer within 0.2 s"
    assert "Input/output error" in found[1].found
    assert time.monotonic() - started < 60
