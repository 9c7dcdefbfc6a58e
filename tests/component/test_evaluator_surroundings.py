"""What the evaluator's process is given: an environment without secrets, and the second place."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import clipwatch
import clipwatch_adapters
from clipwatch.executors.messages import Finished, Loaded
from clipwatch.kit.environment import environment
from clipwatch.kit.processes import importing
from evaluator_child import REQUEST, Children, Started

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    with Children(tmp_path, monkeypatch) as children:
        yield children


HARMLESS = {
    "PATH": "/bin",
    "PYTHONPATH": "/here",
    "LD_PRELOAD": "libjemalloc.so",
    "CUDA_VISIBLE_DEVICES": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HOME": "/cache",
    "HF_TOKEN": "hf_secret",
    "HF_TOKEN_PATH": "/cache/token",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "https_proxy": "http://user:password@proxy:3128",
    "HTTP_PROXY": "http://user:password@proxy:3128",
    "KEYMAP": "de",
}
SECRET = {
    "WANDB_API_KEY": "k",
    "WANDB_ENTITY": "e",
    "AWS_SECRET_ACCESS_KEY": "k",
    "AWS_ACCESS_KEY_ID": "k",
    "AWS_SESSION_TOKEN": "t",
    "AZURE_STORAGE_KEY": "k",
    "github_token": "t",
    "API_KEY": "k",
    "OPENAI_APIKEY": "k",
    "SECRET_KEY_BASE": "k",
    "MLFLOW_TRACKING_PASSWORD": "p",
    "PGPASSWORD": "p",
    "MYSQL_PWD": "p",
    "GOOGLE_APPLICATION_CREDENTIALS": "/key.json",
    "CREDENTIALS_DIRECTORY": "/run/credentials",
    "DATABASE_URL": "postgres://user:password@host/db",
    "REDIS": "redis://:password@host",
    "SENTRY_DSN": "https://key@sentry.example/1",
    "CLIPWATCH_WANDB": '{"api_key": "k"}',
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "WATCHDOG_USEC": "1",
    "LISTEN_FDS": "1",
    "SSH_AUTH_SOCK": "/agent",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
}


def test_environment_is_scrubbed() -> None:
    """Only what the evaluator needs is handed on; it may not unpickle nor run foreign code."""
    forced = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "DIFFUSERS_DISABLE_REMOTE_CODE": "1"}
    found = environment(HARMLESS | SECRET | {"DIFFUSERS_DISABLE_REMOTE_CODE": "0"}, 16)
    assert found == HARMLESS | forced | {"OMP_NUM_THREADS": "8", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert environment({"OMP_NUM_THREADS": "3"}, 16)["OMP_NUM_THREADS"] == "3"
    assert environment({}, 1)["OMP_NUM_THREADS"] == "1"
    named = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert environment(named, 1)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@linux
def test_no_secret_stands_in_the_environment_of_the_process(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from outside, in the kernel's own record of a process."""
    for name, value in (SECRET | {"HF_TOKEN": "hf_secret"}).items():
        monkeypatch.setenv(name, value)
    child = children.start("time.sleep(1000)")
    child.handle.evaluate(REQUEST)
    assert child.reply() == Loaded({})
    lines = Path(f"/proc/{child.pid}/environ").read_bytes().decode().split("\0")
    found = dict(line.split("=", 1) for line in lines if line)
    assert found.keys().isdisjoint(SECRET)
    assert found["HF_TOKEN"] == "hf_secret"


def test_modules_of_the_current_folder_are_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started in a folder that has a msgspec.py, the evaluator imports the real one."""
    (tmp_path / "msgspec.py").write_text("import pathlib; pathlib.Path('mark').touch()")
    monkeypatch.chdir(tmp_path)
    child = Started("clipwatch.evaluator.worker")
    child.handle._stdin.close()
    child.handle._reader.join()
    assert child.handle._child.wait() == 0
    assert not Path("mark").exists()


@linux
def test_the_worker_gives_way(children: Children) -> None:
    """It has the daemon's priority, and comes before the training for the OOM killer."""
    child = children.start(
        "class Quick:\n"
        "    def evaluate(self, request, send): send(messages.Finished(0, 0.0))\n"
        "worker._evaluator = Quick\n"
        "worker.main()\n",
        opening="from clipwatch.evaluator import worker\n"
        "from clipwatch.executors import messages\n",
    )
    child.handle.evaluate(REQUEST)
    assert child.reply() == Finished(0, 0.0)
    seen = psutil.Process(child.pid)
    assert seen.nice() == os.nice(0)  # the daemon's own
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "700\n"


@linux
@pytest.mark.parametrize(
    ("before", "niceness", "disk"),
    [
        ("give_way()", 10, (psutil.IOPRIO_CLASS_BE, 7)),
        ("os.nice(15 - os.nice(0))", 15, (psutil.IOPRIO_CLASS_BE, 7)),
        ("psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)", 10, (psutil.IOPRIO_CLASS_IDLE, 0)),
        ("psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 0)", 10, (psutil.IOPRIO_CLASS_BE, 7)),
    ],
)
def test_giving_way_never_raises_a_priority(
    before: str, niceness: int, disk: tuple[int, int]
) -> None:
    """Twice is as once, and what is lower stays, the tests' own included; children inherit it."""
    look = "import psutil; me = psutil.Process(); print(me.nice(), *map(int, me.ionice()))"
    code = (
        "import os, psutil, subprocess, sys\n"
        "from clipwatch.kit.processes import give_way\n"
        f"{before}\n"
        "give_way()\n"
        f"subprocess.run([sys.executable, '-c', {look!r}])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [int(word) for word in found.stdout.split()] == [max(niceness, os.nice(0)), *disk]


def imports(package: Path) -> set[str]:
    """Return the first names of all modules that a package's files import."""
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_the_daemon_never_imports_an_adapter() -> None:
    """Adapters import the daemon, never the reverse; and no adapter imports torch."""
    daemon, adapters = (Path(os.fspath(p.__path__[0])) for p in (clipwatch, clipwatch_adapters))
    assert "clipwatch_adapters" not in imports(daemon)
    assert "clipwatch" in imports(adapters)
    assert {"torch", "diffusers", "transformers"}.isdisjoint(imports(adapters))


def test_garbage_is_looked_for_again_after_an_import() -> None:
    """What was there by then is left alone from there on."""
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
