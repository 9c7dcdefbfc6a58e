"""What NVML, the library of NVIDIA's driver, says of this machine's GPUs; imports no torch."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from queue import Empty, SimpleQueue
from typing import Any, Final

PATIENCE_SECONDS: Final = 10.0
"""How long a driver may take to answer; one in trouble never does."""

_asking = threading.Lock()
_SHORT: Final = len("GPU-12345678")


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU.

    Attributes:
        pid: As seen from here.
        used_bytes: Its memory there, None where the driver does not tell.
        name: Of its program, "" if unknown.
    """

    pid: int
    used_bytes: int | None
    name: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a part of one that is split (MIG).

    Attributes:
        index: As nvidia-smi counts; a part has that of the GPU it belongs to.
        uuid: "GPU-..." or "MIG-...".
        name: Of the model.
        total_bytes, free_bytes: Memory; both 0 where the driver does not tell.
        processes: Those that compute on it and can be seen from here, by pid.
        unseen_bytes: Memory in use by none of the processes that can be seen, drawing ones
            included: a container does not see those of its host, nor of another container.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    processes: tuple[GpuProcess, ...] = ()
    unseen_bytes: int = 0

    @property
    def part(self) -> bool:
        """Whether it is a part of a GPU that is split (MIG)."""
        return self.uuid.startswith("MIG-")

    def __str__(self) -> str:
        uuid = self.uuid if self.part else self.uuid[:_SHORT]  # which `device` takes as well
        return f"GPU {self.index} ({self.name}, {uuid})"


class NotTold(Exception):  # noqa: N818 - says what happened
    """NVML cannot be asked; the text says why, in a few words."""


def read_gpus() -> tuple[Gpu, ...] | None:
    """Return the GPUs of this machine in nvidia-smi's order; None when NVML cannot be asked."""
    try:
        return ask_gpus()
    except NotTold:
        return None


def ask_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine in nvidia-smi's order, without those that are out of order.

    It takes some ms, where no driver is kept loaded a second or more.

    Raises:
        NotTold: There is no NVML, or it does not answer.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise NotTold("the package nvidia-ml-py is not installed") from None
    answer: SimpleQueue[tuple[Gpu, ...] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(_gpus(nvml))
        except Exception as error:  # noqa: BLE001 - a driver's mishaps are not ours to end from
            answer.put(error)
        finally:
            _asking.release()

    # a thread of its own, one at a time: a driver in trouble does not return from a call
    if not _asking.acquire(timeout=PATIENCE_SECONDS):
        raise NotTold("the driver does not answer")
    threading.Thread(target=ask, name="nvml", daemon=True).start()
    try:
        found = answer.get(timeout=PATIENCE_SECONDS)
    except Empty:
        raise NotTold("the driver does not answer") from None
    if isinstance(found, Exception):
        raise NotTold(f"NVML: {_printable(str(found) or type(found).__name__)}")
    return found


def _gpus(nvml: Any) -> tuple[Gpu, ...]:
    nvml.nvmlInit()
    try:
        found = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                whole = nvml.nvmlDeviceGetHandleByIndex(index)
                found += [_gpu(nvml, index, handle) for handle in _handles(nvml, whole)]
            except nvml.NVMLError:  # it is lost, or not for us
                continue
        return tuple(found)
    finally:
        nvml.nvmlShutdown()


def _handles(nvml: Any, whole: Any) -> list[Any]:
    """Return what can be computed on: the GPU, or the parts of one that is split."""
    mode = _or(nvml, [0], lambda: nvml.nvmlDeviceGetMigMode(whole))
    if mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return [whole]
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(whole)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, index))
        except nvml.NVMLError:  # there are fewer
            continue
    return found


def _gpu(nvml: Any, index: int, handle: Any) -> Gpu:
    name = _printable(_or(nvml, "", lambda: nvml.nvmlDeviceGetName(handle)))
    total, free, used = _memory(nvml, handle)
    computing = {it.pid: it for it in _processes(nvml, "Compute", handle)}
    drawing = {it.pid: it for it in _processes(nvml, "Graphics", handle)}
    taken = [it.usedGpuMemory for it in (drawing | computing).values()]
    processes = (
        GpuProcess(pid, it.usedGpuMemory, _program(nvml, pid))
        for pid, it in sorted(computing.items())
    )
    return Gpu(
        index=index,
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=name or "unknown",
        total_bytes=total,
        free_bytes=free,
        processes=tuple(processes),
        unseen_bytes=0 if None in taken else max(0, used - sum(taken)),
    )


def _memory(nvml: Any, handle: Any) -> tuple[int, int, int]:
    """Return (total, free, used), zeros where memory is the host's; what is reserved is not used.

    Raises:
        NVMLError: The GPU is lost.
    """
    try:
        told = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_SUPPORTED:
            return 0, 0, 0
        told = nvml.nvmlDeviceGetMemoryInfo(handle)  # of an older driver: counts what is reserved
    return told.total, told.free, told.used


def _processes(nvml: Any, kind: str, handle: Any) -> Iterator[Any]:
    yield from _or(nvml, [], lambda: getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses")(handle))


def _program(nvml: Any, pid: int) -> str:
    told = _or(nvml, "", lambda: nvml.nvmlSystemGetProcessName(pid))
    return PurePath(_printable(told)).name


def _or(nvml: Any, default: Any, ask: Callable[[], Any]) -> Any:
    """Return what NVML tells, or the default where it does not."""
    try:
        return ask()
    # an old driver lacks a function, and pynvml decodes names strictly
    except (nvml.NVMLError, nvml.NVMLLibraryMismatchError, UnicodeError):
        return default


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
