"""What NVML says of the GPUs, read from a module of its shape: no GPU is needed."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

from clipwatch.executors.base import Refusal
from clipwatch.gpus import Gpu, GpuProcess, NotTold, ask_gpus, gpus_beside, nvml, read_gpus
from fake_nvml import GIB, Card, FakeNvml, error, pynvml

CODES = sorted(set(pynvml.NVMLError._errcode_to_string) | {999})
FUNCTIONS = sorted(name for name in vars(FakeNvml) if name.startswith("nvml"))


def tell(monkeypatch: pytest.MonkeyPatch, fake: Any) -> None:
    """Have the fake in pynvml's place; None for no such package."""
    monkeypatch.setitem(sys.modules, "pynvml", fake)


def test_gpus_are_told_as_nvidia_smi_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index, UUID, name, memory and who computes; what only draws is counted, not told."""
    training = Card("GPU-a", used=34 * GIB, compute=[(7, 31 * GIB), (3, None)], drawing=[(9, 1)])
    desk = Card("GPU-b", "NVIDIA RTX", 24 * GIB, 3 * GIB, 0, drawing=[(9, 2 * GIB)])
    both = Card("GPU-c", used=2 * GIB, compute=[(5, 2 * GIB)], drawing=[(5, 2 * GIB)])
    fake = FakeNvml(training, desk, both)
    tell(monkeypatch, fake)
    half = GIB // 2
    assert read_gpus() == (
        Gpu(
            *(0, "GPU-a", "NVIDIA H100", 80 * GIB, 46 * GIB - half),
            (GpuProcess(3, None, "program3"), GpuProcess(7, 31 * GIB, "program7")),
        ),
        Gpu(1, "GPU-b", "NVIDIA RTX", 24 * GIB, 21 * GIB, (), unseen_bytes=GIB),
        Gpu(
            *(2, "GPU-c", "NVIDIA H100", 80 * GIB, 78 * GIB - half),
            (GpuProcess(5, 2 * GIB, "program5"),),
        ),
    )
    assert fake.open == 0


def test_what_our_own_evaluators_hold_is_free_for_what_comes_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They keep models for other runs, and let them go for one that needs the room."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    kept = Card("GPU-a", used=60 * GIB, reserved=0, compute=[(os.getpid(), 60 * GIB)])
    others = Card("GPU-b", used=30 * GIB, reserved=0, compute=[(os.getpid(), None)])
    tell(monkeypatch, FakeNvml(others, kept))
    found = gpus_beside("cuda", (), share=False)
    assert not isinstance(found, Refusal)
    assert [(it.uuid, it.free_bytes // GIB) for it in found] == [("GPU-a", 80), ("GPU-b", 50)]


def test_memory_of_processes_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the training's memory is there and its process is not."""
    tell(monkeypatch, FakeNvml(Card("GPU-a", used=30 * GIB)))
    assert [gpu.unseen_bytes for gpu in ask_gpus()] == [30 * GIB]


def test_a_split_gpu_is_told_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the parts can be computed on, so they stand there with the index of the whole."""
    parts = [Card(f"MIG-{n}", "NVIDIA H100 MIG 1g.10gb", 10 * GIB) for n in "ab"]
    cards = Card("GPU-a", parts=parts), Card("GPU-b"), Card("GPU-c", parts=[])
    tell(monkeypatch, FakeNvml(*cards))
    assert [(gpu.index, gpu.uuid, gpu.part) for gpu in ask_gpus()] == [
        (0, "MIG-a", True),
        (0, "MIG-b", True),
        (1, "GPU-b", False),
    ]


def test_a_lost_gpu_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that fell off the bus is left out, and the others keep their numbers."""
    tell(monkeypatch, FakeNvml(Card("GPU-a"), Card("GPU-b", lost=True), Card("GPU-c")))
    assert [(gpu.index, gpu.uuid) for gpu in ask_gpus()] == [(0, "GPU-a"), (2, "GPU-c")]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_error_of_nvml_is_ours(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Whatever a function of NVML answers: some GPUs, none, or no knowledge."""
    for code in CODES:
        cards = Card("GPU-a"), Card("GPU-b", parts=[Card("MIG-a")]), Card("GPU-c", "GTX")
        cards[0].compute = [(1, GIB)]
        fake = FakeNvml(*cards, **{function: error(code)})
        tell(monkeypatch, fake)
        found = read_gpus()
        assert fake.open == 0 or function == "nvmlShutdown"
        if function in ("nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount"):
            assert found is None
            with pytest.raises(NotTold, match=r"^NVML: "):
                ask_gpus()
        else:
            assert found is not None


@pytest.mark.parametrize(
    ("function", "fault", "memory", "unseen"),
    [
        # memory that is the host's, as on a DGX Spark
        ("MemoryInfo", error(pynvml.NVML_ERROR_NOT_SUPPORTED), (0, 0), 0),
        # its processes are not for everybody, or the driver is older than the function
        ("ComputeRunningProcesses", error(pynvml.NVML_ERROR_NO_PERMISSION), (80, 70), 10),
        ("ComputeRunningProcesses", pynvml.NVMLLibraryMismatchError("old"), (80, 70), 10),
        ("GraphicsRunningProcesses", error(pynvml.NVML_ERROR_NOT_SUPPORTED), (80, 70), 0),
    ],
)
def test_what_a_driver_does_not_tell(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    fault: Exception,
    memory: tuple[int, int],
    unseen: int,
) -> None:
    """A GPU is told with what is known of it; memory that nobody is seen to hold is somebody's."""
    card = Card("GPU-a", used=10 * GIB, reserved=0, compute=[(4, 10 * GIB)])
    tell(monkeypatch, FakeNvml(card, **{f"nvmlDeviceGet{function}": fault}))
    (gpu,) = ask_gpus()
    assert (gpu.total_bytes, gpu.free_bytes) == (memory[0] * GIB, memory[1] * GIB)
    assert gpu.unseen_bytes == unseen * GIB


def test_an_older_drivers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver without the second version of the memory's figures is asked for the first."""

    class Older(FakeNvml):
        def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> Any:  # noqa: N802
            if version:
                raise error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
            return super().nvmlDeviceGetMemoryInfo(card)

    tell(monkeypatch, Older(Card("GPU-a", used=GIB, reserved=0)))
    assert [gpu.free_bytes for gpu in ask_gpus()] == [79 * GIB]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("/usr/bin/python3.11", "python3.11"),
        ("a\nb\x1b[31m\udcff", "a?b?[31m?"),
        (error(pynvml.NVML_ERROR_NOT_FOUND), ""),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), ""),
    ],
)
def test_names_of_programs_fit_a_line(
    monkeypatch: pytest.MonkeyPatch, told: str | Exception, expected: str
) -> None:
    """A program may be called anything; what it is told as can be printed and logged."""
    fake = FakeNvml(Card("GPU-a", compute=[(4, 0)]))
    if isinstance(told, str):
        fake.names = lambda _: told
    else:
        fake = FakeNvml(Card("GPU-a", compute=[(4, 0)]), nvmlSystemGetProcessName=told)
    tell(monkeypatch, fake)
    assert [process.name for process in ask_gpus()[0].processes] == [expected]


def test_no_package_no_knowledge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-ml-py nothing is known, and who asks why is told."""
    tell(monkeypatch, None)
    assert read_gpus() is None
    with pytest.raises(NotTold, match="nvidia-ml-py is not installed"):
        ask_gpus()


def test_a_driver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does not return costs the patience, not the daemon."""
    over = threading.Event()

    class Hanging(FakeNvml):
        def nvmlInit(self) -> None:  # noqa: N802
            assert over.wait(60)

    monkeypatch.setattr(nvml, "PATIENCE_SECONDS", 0.05)
    tell(monkeypatch, Hanging(Card("GPU-a")))
    try:
        for _ in range(3):  # who asks again waits for the first call, with one thread in all
            with pytest.raises(NotTold, match="does not answer"):
                ask_gpus()
        assert sum(thread.name == "nvml" for thread in threading.enumerate()) == 1
    finally:
        over.set()
    monkeypatch.setattr(nvml, "PATIENCE_SECONDS", 60)
    assert len(ask_gpus()) == 1


def test_the_real_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pynvml knows what is called; without a driver it is no knowledge, with one GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    assert all(callable(getattr(pynvml, name)) for name in FUNCTIONS)
    found = read_gpus()
    assert found is None or all(gpu.uuid.startswith(("GPU-", "MIG-")) for gpu in found)


@pytest.mark.parametrize(
    ("gpu", "text"),
    [
        (
            Gpu(1, "GPU-8f3c2a1b-7d21-4f5e-9f61-000000000001", "NVIDIA H100", 0, 0),
            "GPU 1 (NVIDIA H100, GPU-8f3c2a1b)",
        ),
        (
            Gpu(0, "MIG-GPU-8f3c2a1b/1/0", "A100 MIG", 0, 0),
            "GPU 0 (A100 MIG, MIG-GPU-8f3c2a1b/1/0)",
        ),
    ],
)
def test_a_gpu_is_told_so_that_it_can_be_named(gpu: Gpu, text: str) -> None:
    """What stands there after the name can be written as `device`."""
    assert str(gpu) == text
