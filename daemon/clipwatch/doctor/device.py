"""Each device: is it free, does this PyTorch see it, is its memory enough for the models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import psutil

from clipwatch.doctor.findings import Finding, fail, ok, size, warn
from clipwatch.doctor.state_dir import holder, lock_file
from clipwatch.executors import named
from clipwatch.gpus import Gpu, Refusal, usable_gpus
from clipwatch.kit.environment import environment
from clipwatch.kit.errors import SettingsError
from clipwatch.models.memory import needed
from clipwatch.settings import Settings, left_out

CHECK = "device"

TORCH_SECONDS = 90.0
"""How long PyTorch may take to be imported, from a cold network file system say."""

_ASK = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if cuda else []
mps = torch.backends.mps.is_available()
print(json.dumps({"version": torch.__version__, "gpus": names, "mps": mps}))
"""


@dataclass(frozen=True, slots=True)
class Torch:
    """What a PyTorch says of itself: its version, the GPUs that it sees, or why it says nothing."""

    version: str = ""
    gpus: tuple[str, ...] = ()
    mps: bool = False
    problem: str = ""


def look(settings: Settings) -> list[Finding]:
    """Look at each device that is named; PyTorch is asked in a process of its own.

    One that is refused beside others that are not is none that fails: it is left out. Of devices
    elsewhere their executor tells, and no more.
    """
    if settings.compute.executor != named.LOCAL:
        return [_elsewhere(settings)]
    compute = settings.compute
    names = dict.fromkeys(compute.devices)  # the slots of a processor are one device
    slots = (compute.slots or 1) if len(names) == 1 else 1
    memory = psutil.virtual_memory().available // len(compute.devices)
    each = (replace(settings, compute=replace(compute, device=it)) for it in names)
    found = [it for one in each for it in _look(one, slots, memory)]
    if all(it.verdict == "fail" for it in found):
        return found
    return [replace(it, verdict="warn") if it.verdict == "fail" else it for it in found]


def _look(settings: Settings, slots: int, memory: int) -> list[Finding]:
    """Look at a device, and so many GPUs where it may be any of them."""
    found = usable_gpus(settings)
    if isinstance(found, Refusal):
        # the user of the GPU may be the evaluator of the daemon that watches this run
        watched = holder(lock_file(settings)) != ""
        return [Finding(CHECK, "warn" if watched else "fail", found.problem, found.fix)]
    need = needed(settings.protocol, settings.compute.batch_size or 1)
    gib = settings.compute.gpu_memory_gib
    most = None if gib is None else gib * 2**30
    findings = []
    for gpu in found[:slots] or (None,):
        torch = ask_torch(gpu.uuid if gpu else "")
        finding = assess(settings.compute.device, gpu, torch, need, most, memory)
        left = left_out.device(settings)
        if left and finding.verdict == "ok":
            finding = warn(CHECK, f"{left.found}: {finding.found}", left.fix)
        findings.append(finding)
    return findings


def _elsewhere(settings: Settings) -> Finding:
    try:
        slots = named.load(settings).slots()
    except SettingsError as error:
        return fail(CHECK, error.problem, error.fix)
    if isinstance(slots, Refusal):
        return fail(CHECK, slots.problem, slots.fix)
    titles = ", ".join(slot.title or slot.name for slot in slots)
    return ok(CHECK, f"{len(slots)} by executor {settings.compute.executor}: {titles}")


def assess(
    device: str, gpu: Gpu | None, torch: Torch, need: int | None, most: float | None, memory: int
) -> Finding:
    """Say whether evaluations can run on a device.

    Args:
        device: As in the settings.
        gpu: The one that is taken, None for another device or one that NVML does not know.
        torch: What PyTorch says when it sees that GPU alone.
        need: Bytes for the models, None while they are not here.
        most: Bytes of a GPU that may be taken, None for all.
        memory: Bytes of the host that are free.
    """
    if torch.problem:
        return fail(CHECK, torch.problem, "reinstall torch for this Python and this driver")
    if device == "mps" and not torch.mps:
        return fail(CHECK, f"torch {torch.version} sees no Apple GPU", "set device to 'cpu'")
    wants_gpu = device not in ("cpu", "mps")
    if wants_gpu and not torch.gpus:
        advice = "install a torch built for this driver (nvidia-smi), or set device to 'cpu'"
        return fail(CHECK, f"torch {torch.version} sees no GPU for {device}", advice)
    name = str(gpu) if gpu else (torch.gpus[0] if wants_gpu else device)
    wanted = "an unknown amount, the models are not here" if need is None else f"about {size(need)}"
    free = float(memory) if not wants_gpu else float(gpu.free_bytes) if gpu else 0.0
    bound = min(free, most) if most is not None and wants_gpu else free
    told_free = f"{size(bound)} to take" if bound else "free memory unknown"
    found = f"{name}, torch {torch.version}, {told_free}, needed {wanted}"
    if need is not None and bound and bound < need:
        advice = "free memory, lower batch_size, set offload or base_precision, or another device"
        return warn(CHECK, found, advice)
    return ok(CHECK, found)


def ask_torch(uuid: str) -> Torch:
    """Ask PyTorch in a process of its own; it sees the GPU of that UUID alone if one is named."""
    own = environment(os.environ, 2) | ({"CUDA_VISIBLE_DEVICES": uuid} if uuid else {})
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ASK],
            env=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TORCH_SECONDS,
            check=False,
        )
        said = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Torch(problem=f"torch did not answer within {TORCH_SECONDS:g} s")
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        return Torch(problem=f"torch cannot be used ({last[:200]})")
    return Torch(said["version"], tuple(said["gpus"]), said["mps"])
