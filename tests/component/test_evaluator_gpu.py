"""From the GPU that is chosen to the process that computes on it, without a GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from clipwatch.domain.events import EvaluationFailed, EvaluationReopened, EvaluationStarted
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.local import LocalExecutor
from clipwatch.executors.messages import Evaluate, Failed, Loaded, Reply
from clipwatch.gpus import Refusal, usable_gpus
from clipwatch.loop import vacancies
from evaluator_child import REQUEST, Children, until
from fake_nvml import GIB, Card, FakeNvml
from places import SUPPORT
from world import World, checkpoint, usual

# the worker without its models: it answers Loaded with what it was given to see
TELLING = """
import os, sys
from clipwatch.evaluator import worker
from clipwatch.executors.messages import Failed, Loaded
class Telling:
    def __init__(self):
        self.torch = "torch" in sys.modules
    def evaluate(self, request, send):
        names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
        seen = {name: os.environ.get(name, "unset") for name in names}
        send(Loaded({"device": request.device, "torch": str(self.torch), **seen}))
        send(Failed("weights", "it only tells"))
worker._evaluator = Telling
sys.exit(worker.main())
"""


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    with Children(tmp_path, monkeypatch) as children:
        yield children


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def stranger(place: Path, *arguments: str) -> Iterator[int]:
    """Run a program that is nobody's child; yield its pid."""
    command = [sys.executable, "-c", "import time; time.sleep(100)", *arguments]
    script = ["sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh", *command]
    pid = int(subprocess.check_output(script, cwd=place))
    # until it is the program: the shell's own copy has the same folder, not the arguments
    until(lambda: psutil.Process(pid).cmdline() == command)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[int]:
    """A process with the output directory in its command line."""
    with stranger(Path("/"), f"--output_dir={tmp_path / 'output'}") as pid:
        yield pid


def two(monkeypatch: pytest.MonkeyPatch, *pids: int) -> FakeNvml:
    """Have a small idle GPU and a big one on which these processes compute."""
    big = Card("GPU-big", compute=[(pid, 20 * GIB) for pid in pids], used=20 * GIB * len(pids))
    fake = FakeNvml(big, Card("GPU-small", "NVIDIA A10", 24 * GIB))
    fake.names = lambda _: "/usr/bin/python3.11"
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def asked(world: World) -> list[tuple[str, str]]:
    """Return the device and the GPU of each request."""
    return [(request.device, request.gpu) for request in world.requests]


# --- the child ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "environ", "visible", "order"),
    [
        ("", {}, "unset", "PCI_BUS_ID"),
        ("", {"CUDA_VISIBLE_DEVICES": "0,2"}, "0,2", "PCI_BUS_ID"),
        ("GPU-b", {"CUDA_VISIBLE_DEVICES": "0,2"}, "GPU-b", "PCI_BUS_ID"),
        ("MIG-b", {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "MIG-b", "FASTEST_FIRST"),
    ],
)
def test_the_child_sees_the_chosen_gpu_alone(
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    gpu: str,
    environ: dict[str, str],
    visible: str,
    order: str,
) -> None:
    """Before torch is there, every other GPU is hidden from it, and numbers are nvidia-smi's."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    child = children.start(TELLING, opening="")
    child.handle.evaluate(replace(REQUEST, gpu=gpu))
    assert child.reply() == Loaded(
        {
            "device": "cpu",
            "torch": "False",
            "CUDA_VISIBLE_DEVICES": visible,
            "CUDA_DEVICE_ORDER": order,
        }
    )


# --- the daemon -----------------------------------------------------------------------------------


def test_from_the_choice_to_a_real_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: int
) -> None:
    """With the training on one GPU, the daemon's child is shown the other one and no more."""
    two(monkeypatch, trainer)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "telling.py").write_text(TELLING)
    world = World(tmp_path, device="cuda")
    checkpoint(world.output, 100)
    world.executor = lambda it: LocalExecutor(
        it, lambda receive: EvaluatorProcess(receive, "telling")
    )
    assert world.once() == 1  # it tells where it is, and that it failed
    (told,) = [
        record.event.environment
        for record in world.logged
        if isinstance(record.event, EvaluationStarted)
    ]
    assert (told["CUDA_VISIBLE_DEVICES"], told["device"]) == ("GPU-small", "cuda")
    assert "checkpoint-100: loading on GPU 1 (NVIDIA A10, GPU-small)" in world.said


def test_a_gpu_is_chosen_once_for_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens on the GPU later ends no evaluator; a new one is chosen a GPU again."""
    fake = two(monkeypatch)
    world = World(tmp_path, device="cuda")

    def script(request: Evaluate) -> list[Reply] | None:
        fake.cards[0].compute = [(1, GIB)]  # others come, after the first child was started
        ends = len(world.requests) == 2
        return [Failed("killed", "somebody ended it")] if ends else usual(request)

    world.script = script
    for step in (100, 200, 300):
        checkpoint(world.output, step)
    assert world.once() == 0
    assert asked(world) == [("cuda", "GPU-big")] * 2 + [("cuda", "GPU-small")] * 2


@pytest.mark.parametrize(
    ("keys", "request_has"),
    [
        ({}, ("GPU-big", None, False)),
        ({"gpu_memory_gib": 9.5}, ("GPU-big", 9.5, False)),
        ({"share_gpu": True, "device": "cuda:0"}, ("GPU-big", None, True)),
        ({"device": "cpu"}, ("", None, False)),
    ],
)
def test_what_the_child_is_asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, Any],
    request_has: tuple[str, float | None, bool],
) -> None:
    """The GPU by its UUID, how much of its memory may be taken, and whether others are there."""
    two(monkeypatch)
    world = World(tmp_path, **{"device": "cuda", **keys})
    checkpoint(world.output, 100)
    assert world.once() == 0
    (request,) = world.requests
    assert (request.gpu, request.memory_gib, request.share) == request_has
    assert request.device == ("cuda" if request.gpu else "cpu")


def test_without_nvml_the_child_finds_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on AMD: the device is passed on as it is named, and the bound too."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    world = World(tmp_path, device="cuda:1", share_gpu=True)
    checkpoint(world.output, 100)
    assert world.once() == 0
    assert asked(world) == [("cuda:1", "")]
    assert world.requests[0].share


def test_once_refused_is_failed_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: int
) -> None:
    """Where the training has the GPU, `--once` ends with 1 and says why; nothing was started.

    When the training is over, the next start evaluates.
    """
    fake = two(monkeypatch, trainer)
    world = World(tmp_path, device="cuda:0")
    for step in (100, 200):
        checkpoint(world.output, step)
    assert world.once() == 1
    assert not world.requests
    reason = (
        f"GPU 0 (NVIDIA H100, GPU-big) is in use by pid {trainer} (python3.11, it seems the"
        " training): name another GPU with device, or set share_gpu to true"
    )
    assert f"evaluations wait: {reason}" in world.said
    assert f"checkpoint-200: failed: {reason} (the next start tries again)" in world.said
    failed = {it.kind: it.reason for it in world.run.evaluations.values()}
    assert failed == {"device": reason}
    fake.cards[0].compute.clear()
    fake.cards[0].used = 0
    assert world.once() == 0
    assert asked(world) == [("cuda", "GPU-big")] * 2


def test_a_refusal_is_told_before_there_is_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line at the start and one after a reload that names another GPU of others'."""
    fake = two(monkeypatch, 4711)
    fake.cards[1].compute = [(4712, GIB)]
    world = World(tmp_path, device="cuda:0")
    with world.live() as supervisor:
        until(lambda: any("evaluations wait: GPU 0" in line for line in world.said))
        first = world.settings
        world.reread = lambda: World(tmp_path, device="cuda:1").settings
        supervisor.reload()
        until(lambda: any("evaluations wait: GPU 1" in line for line in world.said))
        world.reread = lambda: first
    assert sum("evaluations wait" in line for line in world.said) == 2
    assert not world.requests


def test_what_waits_for_a_gpu_goes_on_when_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only at the next try, which may be half an hour away; in between nothing is written."""
    fake = two(monkeypatch, 4711)
    monkeypatch.setattr(vacancies, "SLOT_SECONDS", 0.0)
    world = World(tmp_path, device="cuda:0", rescan_seconds=0.1)
    for step in (100, 200):
        checkpoint(world.output, step)
    with world.live():
        until(lambda: sum("is in use by pid 4711" in line for line in world.said) == 3)
        fake.cards[0].compute.clear()
        fake.cards[0].used = 0
        until(lambda: sum("clip/mean" in line for line in world.said) == 2)
    events = [it.event for it in world.logged]
    assert sum(isinstance(event, EvaluationFailed) for event in events) == 2
    assert sum(isinstance(event, EvaluationReopened) for event in events) == 2
    assert asked(world) == [("cuda", "GPU-big")] * 2


def test_waiting_for_a_gpu_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for ever, and what fails afterwards has all its attempts."""
    fake = two(monkeypatch, 4711)
    world = World(tmp_path, device="cuda:0", rescan_seconds=0.1)
    checkpoint(world.output, 100)
    now = [datetime(2026, 1, 1, tzinfo=UTC)]

    def clock() -> datetime:
        if sum("failed" in line for line in world.said) == 9:
            fake.cards[0].compute.clear()
            fake.cards[0].used = 0
        now[0] += timedelta(seconds=600)
        return now[0]

    def fail(_: Evaluate) -> list[Reply]:
        return [Failed("model", "no such model")]

    world.clock, world.script = clock, fail
    with world.live():
        until(lambda: any("given up" in line for line in world.said))
    failed = [it.event for it in world.logged if isinstance(it.event, EvaluationFailed)]
    assert [(it.kind, it.attempt) for it in failed] == [
        *(("device", number) for number in range(1, 10)),
        *(("model", number) for number in (1, 2, 3)),
    ]


def test_what_looks_like_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: int
) -> None:
    """Who was started in the folders, or with one of them as an argument; others are others."""
    world = World(tmp_path, device="cuda:0")
    for place, training in ((tmp_path, True), (world.output, True), (Path("/"), False)):
        with stranger(place) as other:
            two(monkeypatch, other)
            refused = usable_gpus(world.settings)
        assert isinstance(refused, Refusal)
        assert ("it seems the training" in refused.problem) == training
    two(monkeypatch, trainer)
    refused = usable_gpus(world.settings)
    assert isinstance(refused, Refusal)
    assert "it seems the training" in refused.problem


def test_children_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that we started does not keep us from its GPU."""
    world = World(tmp_path, device="cuda:0")
    with subprocess.Popen(["sleep", "60"]) as child:
        fake = two(monkeypatch, child.pid)
        chosen = usable_gpus(world.settings)
        child.kill()
    assert not isinstance(chosen, Refusal)
    assert [gpu.uuid for gpu in chosen] == [fake.cards[0].uuid]


def test_score_is_refused_in_one_line(tmp_path: Path, trainer: int) -> None:
    """`clipwatch score` takes no GPU of the training's either, and ends with 1."""
    world = World(tmp_path, device="cuda:0")
    folder = checkpoint(world.output, 100)
    program = (
        "import sys; from fake_nvml import *;"
        f"sys.modules['pynvml'] = FakeNvml(Card('GPU-a', compute=[({trainer}, GIB)]));"
        "from clipwatch.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "score", folder, "-c", tmp_path / "config.json",
         "--device", "cuda:0"],
        env={"PYTHONPATH": str(SUPPORT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: GPU 0 (NVIDIA H100, GPU-a) is in use by pid ")
    assert ended.stderr.count("\n") == 1
