"""Which kind of accelerator this machine has, told without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NODES = ("/dev/kfd", *(f"/dev/nvidia{index}" for index in range(16)))


def found(
    environ: Mapping[str, str], exists: Callable[[str], bool], system: str, machine: str
) -> str:
    """Return "cuda" (NVIDIA or ROCm), "mps" or "cpu"; a GPU hidden by the environment is none."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and not re.match(r"\s*[0-9]|GPU-|MIG-", visible)
    if not hidden and any(map(exists, _NODES)):
        return "cuda"
    return "mps" if (system, machine) == ("darwin", "arm64") else "cpu"
