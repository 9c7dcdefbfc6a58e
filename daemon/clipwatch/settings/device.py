"""Which kind of accelerator this machine has, told without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_NODES = ("/dev/kfd", *(f"/dev/nvidia{index}" for index in range(16)))


def found(
    environ: Mapping[str, str], exists: Callable[[str], bool], system: str, machine: str
) -> str:
    """Return "cuda" (NVIDIA or ROCm), "mps" or "cpu"; a GPU hidden by the environment is none."""
    hidden = environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if not hidden and any(map(exists, _NODES)):
        return "cuda"
    return "mps" if (system, machine) == ("darwin", "arm64") else "cpu"
