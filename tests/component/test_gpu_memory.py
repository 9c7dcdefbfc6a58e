"""How much of a GPU's memory is taken, asked of PyTorch in words: no GPU is needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import replace

from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.torch_device import bound_memory
from clipwatch.executors.messages import Failed, Reply, Working
from evaluator_child import REQUEST
from fake_nvml import GIB


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """PyTorch's view of a GPU of 80 GiB with 30 free, and what it is told."""
    told: list[tuple[float, str]] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (30 * GIB, 80 * GIB))
    properties = SimpleNamespace(total_memory=80 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda part, where: told.append((part, where)),
    )
    return told


@pytest.mark.parametrize(
    ("device", "gib", "share", "bound", "fraction"),
    [
        ("cuda:0", None, True, 15, 15 / 80),
        ("cuda:0", 8, True, 8, 8 / 80),
        ("cuda:1", 8, False, 8, 8 / 80),
        ("cuda:0", 800, True, 800, 1.0),
        ("cuda:0", None, False, None, None),
        ("cpu", 8, True, None, None),
    ],
)
def test_how_much_memory_is_taken(
    bounds: list[tuple[float, str]],
    device: str,
    gib: float | None,
    share: bool,
    bound: float | None,
    fraction: float | None,
) -> None:
    """What is set, else half of what is free where the GPU is shared, else all."""
    assert bound_memory(device, gib, share=share) == bound
    assert bounds == ([] if fraction is None else [(fraction, device)])


def test_memory_is_bound_before_a_model_is_loaded(
    bounds: list[tuple[float, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first model, once for a process; who runs into the bound is told of it."""
    monkeypatch.setattr("clipwatch.evaluator.resident.find_device", lambda _: "cuda:0")

    def load(*_: object) -> None:
        assert len(bounds) == 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("clipwatch.evaluator.scorers.base.make", load)
    evaluator = Evaluator()
    replies: list[Reply] = []
    for _ in range(2):
        request = replace(REQUEST, device="cuda", gpu="GPU-a", share=True)
        evaluator.evaluate(request, replies.append)
    assert bounds == [(15 / 80, "cuda:0")]
    assert [reply for reply in replies if not isinstance(reply, Working)] == [
        Failed(
            "memory",
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.; clipwatch may"
            " take 15.0 GiB of this GPU (gpu_memory_gib)",
        )
    ] * 2
