"""What each form of an adapter makes of a weight, by hand, as papers and trainers have it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from adapter_kit import ALPHA, RANK


def locon(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    return w + ALPHA / RANK * (
        t["lora_up.weight"].flatten(1) @ t["lora_down.weight"].flatten(1)
    ).reshape(w.shape)


def dora(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    turned = locon(w, t)
    rows = turned.flatten(1).norm(dim=1).reshape(-1, *[1] * (w.dim() - 1))
    return torch.Tensor(turned * t["dora_scale"] / rows)


def dora_of_inputs(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    turned = locon(w, t)
    columns = turned.transpose(0, 1).flatten(1).norm(dim=1)
    scales = t["dora_scale"] / columns.reshape(1, -1, *[1] * (w.dim() - 2))
    return torch.Tensor(turned * scales)


def loha(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    halves = (t[f"hada_w{n}_a"] @ t[f"hada_w{n}_b"] for n in (1, 2))
    return w + ALPHA / RANK * (next(halves) * next(halves)).reshape(w.shape)


def lokr(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    small = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_w2" in t:
        large, scale = t["lokr_w2"], 1.0 if "lokr_w1" in t else ALPHA / RANK
    else:
        large, scale = t["lokr_w2_a"] @ t["lokr_w2_b"].flatten(1), ALPHA / RANK
    large = large.reshape(w.shape[0] // small.shape[0], w.shape[1] // small.shape[1], *w.shape[2:])
    return w + scale * torch.kron(small.reshape(*small.shape, *[1] * (w.dim() - 2)), large)


def full(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    return w + t["diff"]


def turns(blocks: torch.Tensor, limit: float) -> torch.Tensor:
    """Return the rotations of skew parts, by Cayley; their norm together is at most `limit`."""
    skew = blocks - blocks.mT
    if 0 < limit < skew.norm():
        skew = skew * limit / skew.norm()
    one = torch.eye(blocks.shape[-1])
    return (one + skew) @ (one - skew).inverse()


def diagonal(blocks: torch.Tensor) -> torch.Tensor:
    """Return a matrix of blocks, one behind the other."""
    count, size, _ = blocks.shape
    found = torch.zeros(count, size, count, size)
    found[torch.arange(count), :, torch.arange(count)] = blocks
    return found.reshape(count * size, count * size)


def oft(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    rotation = diagonal(turns(t["oft_blocks"], float(t["alpha"]) * w.shape[0]).mT)
    return (rotation @ w.flatten(1)).reshape(w.shape) * t.get("rescale", torch.tensor(1.0))


def boft(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    rows = w.flatten(1)
    for stage, blocks in enumerate(turns(t["oft_blocks"], 0.0)):
        far = 2**stage * blocks.shape[-1] // 2
        order = torch.arange(len(rows)).reshape(-1, 2, far).transpose(1, 2).flatten()
        mixed = diagonal(blocks) @ rows[order]
        rows = torch.empty_like(rows).index_copy(0, order, mixed)
    return rows.reshape(w.shape)


def glora(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    a, b = (t[f"{it}1.weight"].flatten(1) @ t[f"{it}2.weight"].flatten(1) for it in "ab")
    left = torch.einsum("oi...,ij->oj...", w, a)
    return w + ALPHA / RANK * (left + b.reshape(w.shape))


def ia3(w: torch.Tensor, t: dict[str, torch.Tensor]) -> torch.Tensor:
    return w * (1 + t["weight"].reshape(-1, *[1] * (w.dim() - 1)))


FORMULAS: dict[str, Callable[..., torch.Tensor]] = {
    "locon": locon,
    "locon-dora": dora,
    "locon-dora-inputs": dora_of_inputs,
    "loha": loha,
    "lokr": lokr,
    "lokr-both": lokr,
    "lokr-full": lokr,
    "full-norm": full,
    "oft": oft,
    "oft-rescaled": oft,
    "boft": boft,
    "glora": glora,
    "ia3": ia3,
}
