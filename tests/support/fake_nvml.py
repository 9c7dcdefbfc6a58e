"""A module shaped as pynvml that tells of made-up GPUs, with the real one's errors."""
# ruff: noqa: D102, N802 - names and meanings are pynvml's

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

pynvml: Any = importlib.import_module("pynvml")  # it has no type information

GIB = 1 << 30


@dataclass(eq=False)
class Card:
    """A GPU, or a part of one; `compute` and `drawing` are (pid, bytes or None)."""

    uuid: str
    name: str = "NVIDIA H100"
    total: int = 80 * GIB
    used: int = 0
    reserved: int = GIB // 2
    compute: list[tuple[int, int | None]] = field(default_factory=list)
    drawing: list[tuple[int, int | None]] = field(default_factory=list)
    parts: list[Card] | None = None
    lost: bool = False


def error(code: int) -> Exception:
    """Return NVML's error of this code, of the class that pynvml gives it."""
    made: Exception = pynvml.NVMLError(code)
    return made


class FakeNvml:
    """Answers as pynvml does; `faults` names functions that raise or do something else.

    Args:
        cards: The GPUs, in the order of nvidia-smi.
        faults: Function name → the exception that it raises.
    """

    def __init__(self, *cards: Card, **faults: Exception) -> None:
        self.cards = list(cards)
        self.open = 0
        self.names: Callable[[int], str] = lambda pid: f"/usr/bin/program{pid}"
        for name, fault in faults.items():
            setattr(self, name, _raising(fault))

    def __getattr__(self, name: str) -> Any:  # classes and constants
        if name.startswith(("NVML", "nvmlMemory")):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if "H100" not in card.name:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(card.parts is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        assert card.parts is not None
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        if card.parts is None or index >= len(card.parts):
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return card.parts[index]

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        _check(card)
        return card.uuid

    def nvmlDeviceGetName(self, card: Card) -> str:
        _check(card)
        return card.name

    def nvmlDeviceGetMemoryInfo(self, card: Card, version: int | None = None) -> Any:
        _check(card)
        free = card.total - card.used - card.reserved
        used = card.used if version else card.used + card.reserved
        return SimpleNamespace(total=card.total, free=free, used=used)

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:
        _check(card)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card: Card) -> list[Any]:
        _check(card)
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.drawing]

    def nvmlSystemGetProcessName(self, pid: int) -> str:
        return self.names(pid)


def _check(card: Card) -> None:
    if card.lost:
        raise error(pynvml.NVML_ERROR_GPU_IS_LOST)


def _raising(fault: Exception) -> Callable[..., Any]:
    def function(*_: object, **__: object) -> Any:
        raise fault

    return function
