"""The service under a real systemd: its whole life, and what it cannot reach."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipwatch.demo.models import CLIP
from places import ROOT
from systemd_world import INSTALL, Machine, Service, booted, until
from world import checkpoint

KEY = "0123456789abcdef0123456789abcdef01234567"
EXAMPLES = ROOT / "systemd/examples"
OPEN = """\
import errno, os, sys
for path in sys.argv[1:]:
    try:
        os.close(os.open(path, os.O_RDWR))
        print(path, "opened")
    except OSError as error:
        print(path, errno.errorcode[error.errno])
"""
"""Says of each path whether it can be opened."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


def test_a_service_starts_tells_its_state_and_stops(machine: Machine) -> None:
    """It runs as the trainer, its env file wins over the unit, and it stops as a success."""
    service = Service(machine, "life")
    service.set("CLIPWATCH_HEALTH_ADDRESS=off")
    service.do("start")
    assert "no checkpoint seen in /srv/life/output" in service.do("status")
    pid = service.tells("MainPID")
    assert machine.run("stat", "--format=%U", f"/proc/{pid}").strip() == "trainer"
    environ = service.environ(pid)
    assert environ["CLIPWATCH_HEALTH_ADDRESS"] == "off"
    assert environ["CLIPWATCH_STATE_DIR"] == "/var/lib/clipwatch/life"
    assert machine.path("/var/lib/clipwatch/life").stat().st_mode & 0o777 == 0o750
    service.do("stop")
    assert service.tells("ActiveState") == "inactive"
    assert service.tells("Result") == "success"


def test_a_path_may_have_any_sign(machine: Machine) -> None:
    """Quotes, blanks, specifiers and variables in a path mean themselves to systemd."""
    service = Service(machine, "odd", Path('/srv/o d\'d "%i" $HOME \\t `x`'))
    service.do("start")
    shown = re.sub(r"\\(.)", r"\1", service.tells("ReadOnlyPaths")).strip('"')
    assert shown == f"-{service.folder}/output"
    environ = service.environ(service.tells("MainPID"))
    assert environ["CLIPWATCH_CONFIG"] == f"{service.folder}/config.json"


def test_a_killed_daemon_is_started_again(machine: Machine) -> None:
    """Kill -9 costs one restart, and the new process becomes ready."""
    service = Service(machine, "killed")
    service.do("start")
    before = service.tells("MainPID")
    service.do("kill", "--signal=KILL", "--kill-who=main")
    until(lambda: service.tells("NRestarts") == "1" and service.tells("ActiveState") == "active")
    assert service.tells("MainPID") not in {before, "0"}


def test_a_hanging_daemon_is_started_again(machine: Machine) -> None:
    """The watchdog ends a loop that stands still, and the journal has its Python stack."""
    service = Service(machine, "hanging")
    service.set("PYTHONPATH=/srv/hang")
    service.adjust("watchdog", "[Service]\nWatchdogSec=1s\n")
    service.do("start")
    service.do("kill", "--signal=USR1", "--kill-who=main")
    until(lambda: service.tells("NRestarts") == "1" and service.tells("ActiveState") == "active")
    said = service.journal()
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said
    assert "/srv/hang/sitecustomize.py" in said
    assert "supervisor.py" in said


def test_a_reload_takes_a_good_file_only(machine: Machine) -> None:
    """A broken file fails `systemctl reload` and changes nothing; a good one is in force."""
    service = Service(machine, "reload")
    service.do("start")
    before = service.tells("MainPID")
    machine.train(service.folder, keep_images="many")
    service.do("reload", fails=True)
    assert "keep_images" in service.journal()
    machine.train(service.folder, keep_images=7)
    service.do("reload")
    until(lambda: "settings reloaded" in service.journal())
    assert "not reloaded" not in service.journal()
    assert service.tells("MainPID") == before
    assert service.tells("ActiveState") == "active"


@pytest.mark.parametrize(("code", "restarted"), [(1, True), (2, False), (78, False)])
def test_a_wrong_configuration_is_not_tried_again(
    machine: Machine, code: int, restarted: bool
) -> None:
    """The codes that say so end the service; any other failure starts it again."""
    service = Service(machine, f"code{code}")
    if code == 2:  # clipwatch's own
        machine.train(service.folder, keep_images="many")
    else:
        service.adjust("code", f"[Service]\nExecStart=\nExecStart=sh -c 'exit {code}'\n")
    service.do("start", fails=True)
    if restarted:
        until(lambda: int(service.tells("NRestarts")) > 1)
        service.do("stop")
    else:
        assert service.tells("ActiveState") == "failed"
        assert service.tells("ExecMainStatus") == str(code)
        assert service.tells("NRestarts") == "0"


def test_keys_are_seen_by_the_daemon_only(machine: Machine, base: Path) -> None:
    """Neither systemctl nor an environment shows them; without a file there is no key."""
    machine.write("/etc/clipwatch/wandb-api-key", KEY + "\n")
    machine.path("/etc/clipwatch/wandb-api-key").chmod(0o600)
    service = Service(machine, "keys")
    machine.train(service.folder, pretrained_evaluation_model_name_or_path="./clip")
    for name, model in {"base": base, "clip": CLIP}.items():
        shutil.copytree(model, machine.path(service.folder / name), dirs_exist_ok=True)
    checkpoint(machine.path(service.output), 1)
    machine.run("chown", "-R", "trainer:", service.folder)
    service.do("start")
    pid = service.tells("MainPID")
    children = machine.path(f"/proc/{pid}/task/{pid}/children")
    until(children.read_text)
    evaluator = children.read_text().split()[0]
    for process in (pid, evaluator):
        assert KEY not in str(service.environ(process))
    assert KEY not in service.do("show")
    assert KEY not in service.do("status")
    folder = service.environ(pid)["CREDENTIALS_DIRECTORY"]
    assert service.within("cat", f"{folder}/wandb-api-key") == KEY + "\n"
    assert service.within("cat", f"{folder}/hf-token") == "\n"
    service.do("stop")
    assert service.tells("Result") == "success"
    assert not machine.path(f"/proc/{evaluator}").exists()


def test_a_user_runs_it_without_root(machine: Machine) -> None:
    """The same unit without the system's part becomes ready under the user's own manager."""
    uid = machine.run("id", "-u", "trainer").strip()
    runtime, home = f"/run/user/{uid}", "/home/trainer"
    machine.run("install", "-d", "-m", "0700", "-o", "trainer", runtime, home)
    machine.run("systemctl", "start", f"user@{uid}")
    who = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    user = [*who, "env", f"HOME={home}", f"XDG_RUNTIME_DIR={runtime}"]
    systemctl = [*user, "systemctl", "--user"]
    machine.run(*user, *INSTALL, "own", "--user", "--config", machine.train(Path("/srv/own")))
    machine.run(*systemctl, "daemon-reload")
    machine.run(*systemctl, "start", "clipwatch@own")
    said = machine.run(*systemctl, "status", "clipwatch@own")
    assert "no checkpoint seen in /srv/own/output" in said
    machine.run(*systemctl, "stop", "clipwatch@own")
    shown = machine.run(*systemctl, "show", "clipwatch@own", "--property=Result,ActiveState")
    assert set(shown.split()) == {"Result=success", "ActiveState=inactive"}


def test_without_a_key_the_service_starts(machine: Machine) -> None:
    """Where no file holds a key, an empty line stands in, which clipwatch takes for none."""
    service = Service(machine, "keyless")
    service.adjust("elsewhere", "[Service]\nLoadCredential=wandb-api-key:/srv/nowhere\n")
    service.do("start")
    folder = service.environ(service.tells("MainPID"))["CREDENTIALS_DIRECTORY"]
    assert service.within("cat", f"{folder}/wandb-api-key") == "\n"


def test_the_output_directory_is_read_only(machine: Machine) -> None:
    """Not even root could write there with the daemon's view; its state can be written."""
    service = Service(machine, "readonly")
    service.do("start")
    said = service.within("touch", f"{service.output}/mark", fails=True)
    assert "Read-only file system" in said
    machine.run("touch", f"{service.output}/mark")  # the training goes on as ever
    service.within("touch", "/var/lib/clipwatch/readonly/mark")
    said = service.within("touch", "/var/lib/clipwatch/mark", fails=True)
    assert "Read-only file system" in said


def test_the_trainers_tensorboard_folder_can_be_opened(machine: Machine) -> None:
    """The line that stands ready in the run's drop-in makes it writable, and nothing else."""
    service = Service(machine, "logs")
    machine.run("mkdir", f"{service.output}/logs")
    drop_in = machine.path(f"/etc/systemd/system/{service.unit}.d/run.conf")
    service.adjust("run", drop_in.read_text().replace("#ReadWritePaths", "ReadWritePaths"))
    service.do("start")
    service.within("touch", f"{service.output}/logs/mark")
    service.within("touch", f"{service.output}/mark", fails=True)


def test_gpus_are_in_reach_or_only_one(machine: Machine) -> None:
    """The unit lets GPUs be opened and no other device; the drop-in one of them only.

    There is no GPU here: a node that may be opened says that its driver is missing.
    """
    service = Service(machine, "devices")
    groups = machine.run("cat", "/proc/devices").replace(
        "\n\nBlock", "\n195 nvidia\n506 nvidia-uvm\n507 kfd\n\nBlock"
    )
    machine.write("/srv/devices/groups", groups)
    machine.run("mount", "--bind", "/srv/devices/groups", "/proc/devices")
    nodes = {"nvidia0": "195 0", "nvidia1": "195 1", "nvidia-uvm": "506 0", "kfd": "507 0"}
    for node, number in {**nodes, "other": "10 229"}.items():
        machine.run("mknod", "-m", "0666", f"/dev/{node}", "c", *number.split())
    machine.write("/srv/devices/open.py", OPEN)
    paths = ["/dev/null", *(f"/dev/{node}" for node in (*nodes, "other"))]
    command = [sys.executable, "/srv/devices/open.py", *paths]
    assert "EPERM" not in machine.run(*command)
    service.adjust("probe", f"[Service]\nType=oneshot\nExecStart=\nExecStart={' '.join(command)}\n")

    def opened() -> list[str]:
        service.do("start")
        machine.run("journalctl", "--sync")
        said = service.journal().splitlines()
        return [line.removeprefix("/dev/") for line in said if line.startswith("/dev/")]

    gpus = ["nvidia0 ENXIO", "nvidia1 ENXIO", "nvidia-uvm ENXIO", "kfd ENXIO"]
    assert opened() == ["null opened", *gpus, "other EPERM"]
    service.adjust("one-gpu", (EXAMPLES / "one-gpu.conf").read_text())
    one = ["nvidia0 EPERM", "nvidia1 ENXIO", "nvidia-uvm ENXIO", "kfd EPERM"]
    assert opened()[-6:] == ["null opened", *one, "other EPERM"]


def test_the_exposure_is_small(machine: Machine) -> None:
    """`systemd-analyze security`: at most 2.0, and 0.5 with the offline drop-in, which runs."""
    service = Service(machine, "exposure")
    analyze = ("systemd-analyze", "security", "--offline=true")
    machine.run(*analyze, "--threshold=20", service.unit)
    machine.run(*analyze, "--threshold=5", service.unit, fails=True)
    service.adjust("offline", (EXAMPLES / "offline.conf").read_text())
    python = f"BindReadOnlyPaths={sys.prefix} {sys.base_prefix}"
    service.adjust("python", f"[Service]\n{python}\n")
    machine.run(*analyze, "--threshold=5", service.unit)
    service.do("start")
    environ = service.environ(service.tells("MainPID"))
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert environ["CLIPWATCH_HEALTH_ADDRESS"] == "off"


def test_the_files_are_without_a_mistake(machine: Machine) -> None:
    """It knows every line of the unit and of the examples for its version."""
    service = Service(machine, "verified")
    for example in EXAMPLES.iterdir():
        if example.name not in {"systemd254.conf", "run.conf"}:
            shutil.copy(example, machine.path(f"/etc/systemd/system/{service.unit}.d"))
    assert machine.run("systemd-analyze", "verify", "--man=no", service.unit) == ""


def test_a_mistake_in_a_file_would_be_found(machine: Machine) -> None:
    """The check above is not silent about everything."""
    service = Service(machine, "mistaken")
    service.adjust("mistake", "[Service]\nNoNewPrivilege=yes\n")
    assert "Unknown key" in machine.run("systemd-analyze", "verify", "--man=no", service.unit)
