"""Parts of a pipeline that wait in host memory until they compute."""

from __future__ import annotations

from typing import Any

import torch


def put_out(pipeline: Any, how: str, device: str) -> None:
    """Have all parts but those that compute wait: "model" by model, or layer by layer ("group")."""
    if how == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(
            torch.device(device), offload_type="leaf_level", use_stream=device.startswith("cuda")
        )


def bring_in(pipeline: Any) -> None:
    """Undo it, where it was model by model."""
    pipeline.remove_all_hooks()
    pipeline.to("cpu")
