"""The GPUs of this machine: what NVML says of them, and which of them clipwatch may take."""

from clipwatch.gpus.here import gpus_beside, usable_gpus
from clipwatch.gpus.nvml import Gpu, GpuProcess, NotTold, ask_gpus, read_gpus
from clipwatch.gpus.usable import Refusal, usable

__all__ = [
    "Gpu",
    "GpuProcess",
    "NotTold",
    "Refusal",
    "ask_gpus",
    "gpus_beside",
    "read_gpus",
    "usable",
    "usable_gpus",
]
