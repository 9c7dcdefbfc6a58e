"""The GPUs of this machine: what NVML says of them, and which of them clipwatch may take."""

from clipwatch.gpus.choice import Refusal, usable
from clipwatch.gpus.here import usable_gpus
from clipwatch.gpus.nvml import Gpu, GpuProcess, NotTold, ask_gpus, read_gpus

__all__ = [
    "Gpu",
    "GpuProcess",
    "NotTold",
    "Refusal",
    "ask_gpus",
    "read_gpus",
    "usable",
    "usable_gpus",
]
