"""Which GPUs to take, decided from values alone: none that others use, unless they are shared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from clipwatch.gpus.nvml import Gpu

UNSEEN_BYTES: Final = 1 << 30
"""More memory than this that belongs to nobody in sight: somebody out of sight computes there."""

_GIB: Final = 1 << 30
_TOLD: Final = 3
_ENTRY: Final = re.compile(r"\s*(?P<number>[0-9]{1,4000})|(?P<kind>GPU-|MIG-).*")
_GPUS: Final = ("cuda", "GPU-", "MIG-")
_WAY_OUT: Final = "name another GPU with device, or set share_gpu to true"
_CPU: Final = "see nvidia-smi, or set device to 'cpu'"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Take none now: why, and what to do; both make one line."""

    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.fix}"


def usable(
    wanted: str,
    gpus: Sequence[Gpu] | None,
    *,
    visible: str | None = None,
    order: str | None = None,
    own_pids: AbstractSet[int] = frozenset(),
    training: AbstractSet[int] = frozenset(),
    share: bool = False,
) -> tuple[Gpu, ...] | Refusal:
    """Return the GPUs to evaluate on, the best first: one without other users, then the emptiest.

    () where nothing is known of GPUs, and PyTorch is to find the device.

    Args:
        wanted: The setting `device`.
        gpus: As NVML tells them; None if it cannot be asked.
        visible: CUDA_VISIBLE_DEVICES, None if it is not set.
        order: CUDA_DEVICE_ORDER, None if it is not set: numbers are nvidia-smi's then.
        own_pids: Processes that do not count as others.
        training: Processes that look like the training: they are told as that.
        share: A GPU that others use may be taken.
    """
    if not wanted.startswith(_GPUS):
        return ()
    if gpus is None and wanted.startswith("cuda"):
        return ()  # unchecked: AMD, or no driver at all, as PyTorch will say
    if obstacle := _obstacle(wanted, gpus, visible, order):
        return obstacle
    gpus = gpus or ()
    shown = gpus if visible is None else visible_gpus(gpus, visible)
    candidates = _named(wanted, shown, in_list=visible is not None)
    if not candidates:
        return _missing(wanted, shown or gpus, None if shown else visible)
    users = {gpu: _users(gpu, own_pids, training) for gpu in candidates}
    found = [gpu for gpu in candidates if share or not users[gpu]]
    if not found:
        return _busy(users)
    emptiest = sorted(found, key=lambda gpu: (gpu.free_bytes, -gpu.index, gpu.uuid), reverse=True)
    return tuple(sorted(emptiest, key=lambda gpu: bool(users[gpu])))


def merged(found: Sequence[tuple[Gpu, ...] | Refusal]) -> tuple[Gpu, ...] | Refusal:
    """Return what is usable of several devices that were asked for one by one, each once.

    They are in the order in which they were named; what one is refused for matters if all are.
    """
    refused = [it for it in found if isinstance(it, Refusal)]
    if refused and len(refused) == len(found):
        problems = "; ".join(dict.fromkeys(it.problem for it in refused))
        return Refusal(problems, refused[0].fix)
    gpus = (gpu for it in found if not isinstance(it, Refusal) for gpu in it)
    return tuple(dict.fromkeys(gpus))


def visible_gpus(gpus: Sequence[Gpu], visible: str) -> tuple[Gpu, ...]:
    """Return what CUDA_VISIBLE_DEVICES shows, in its order, read as CUDA reads it.

    Numbers or UUIDs or the beginnings of UUIDs: the first entry that means nothing, or is of
    another kind than the one before, hides all that follow; one that comes twice hides all.
    """
    names: list[int | str] = []
    kind = None
    for written in visible.split(","):
        entry = _ENTRY.match(written)
        if entry is None or (names and entry["kind"] != kind):
            break
        kind = entry["kind"]
        name = entry[0] if kind else int(entry["number"])
        if name in names:
            return ()
        names.append(name)
    found: list[Gpu] = []
    for name in names:
        gpu = _by_uuid(gpus, name) if isinstance(name, str) else _numbered(gpus, name)
        if gpu is None:
            break
        if gpu in found:
            return ()
        found.append(gpu)
    return tuple(found)


def _obstacle(
    wanted: str, gpus: Sequence[Gpu] | None, visible: str | None, order: str | None
) -> Refusal | None:
    """Say why the names that are used mean nothing here; None if they may."""
    if gpus is None:
        return Refusal(f"device {wanted!r}: no driver that knows UUIDs can be asked", "use cuda:N")
    if not gpus:
        return Refusal("the driver shows no GPU that works", _CPU)
    numbers = wanted.startswith("cuda:") or (visible or "").strip()[:1].isdecimal()
    if numbers and order not in (None, "PCI_BUS_ID") and len({gpu.name for gpu in gpus}) > 1:
        return Refusal(
            f"with CUDA_DEVICE_ORDER={order!r} nobody but CUDA knows which GPU a number means",
            "name GPUs by UUID (nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID",
        )
    return None


def _named(wanted: str, shown: Sequence[Gpu], *, in_list: bool) -> Sequence[Gpu]:
    if wanted == "cuda":
        return shown
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and in_list:
        return shown[int(number) : int(number) + 1]
    gpu = _numbered(shown, int(number)) if kind == "cuda" else _by_uuid(shown, wanted)
    return () if gpu is None else (gpu,)


def _numbered(gpus: Sequence[Gpu], number: int) -> Gpu | None:
    """The number of a split GPU means its first part, as it does for CUDA."""
    return next((gpu for gpu in gpus if gpu.index == number), None)


def _by_uuid(gpus: Sequence[Gpu], beginning: str) -> Gpu | None:
    found = [gpu for gpu in gpus if gpu.uuid.startswith(beginning)]
    return found[0] if len(found) == 1 else None


def _users(gpu: Gpu, own: AbstractSet[int], training: AbstractSet[int]) -> list[str]:
    """Say who else computes on a GPU, the training first."""
    others = [it for it in gpu.processes if it.pid not in own]
    others.sort(key=lambda it: it.pid not in training)
    users = [
        f"pid {it.pid} ({it.name or 'unknown'}{', it seems the training' * (it.pid in training)})"
        for it in others
    ]
    if gpu.unseen_bytes > UNSEEN_BYTES:
        users.append(f"processes that cannot be seen from here ({gpu.unseen_bytes / _GIB:.1f} GiB)")
    return users


def _busy(users: dict[Gpu, list[str]]) -> Refusal:
    told = [f"{gpu} is in use by {_some(names, ' and ')}" for gpu, names in users.items()]
    whole = "no GPU is free: " if len(told) > 1 else ""
    return Refusal(f"{whole}{_some(told, '; ')}", _WAY_OUT)


def _missing(wanted: str, there: Sequence[Gpu], visible: str | None) -> Refusal:
    known = f"there is {_some(there, ', ')}"
    if visible is not None:
        return Refusal(f"CUDA_VISIBLE_DEVICES={visible!r} shows no GPU", f"correct it: {known}")
    return Refusal(f"device {wanted!r} is no GPU here, or not just one", f"correct it: {known}")


def _some(things: Sequence[object], between: str) -> str:
    more = [f"{len(things) - _TOLD} more"] if len(things) > _TOLD else []
    return between.join([*map(str, things[:_TOLD]), *more])
