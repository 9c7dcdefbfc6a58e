"""The GPUs of this machine: what NVML says of them, and which one clipwatch may take."""

from clipwatch.gpus.choice import Choice, Refusal, choose
from clipwatch.gpus.here import choose_gpu
from clipwatch.gpus.nvml import Gpu, GpuProcess, NotTold, ask_gpus, read_gpus

__all__ = [
    "Choice",
    "Gpu",
    "GpuProcess",
    "NotTold",
    "Refusal",
    "ask_gpus",
    "choose",
    "choose_gpu",
    "read_gpus",
]
