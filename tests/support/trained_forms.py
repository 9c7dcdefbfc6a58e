"""What trainers save of one layer in each form, and what that makes of its weight, by hand."""

from __future__ import annotations

from collections.abc import Mapping

import torch

RANK, ALPHA = 2, 5.0

State = dict[str, torch.Tensor]

EVERYWHERE = (
    *("locon", "dora", "dora of inputs", "loha", "lokr", "lokr of whole matrices", "full"),
    *("oft of sd-scripts", "oft of OneTrainer", "oft of OneTrainer, shared"),
    "oft of OneTrainer, scaled",
)
"""Forms for any layer."""

TUCKER = ("locon in Tucker form", "loha in Tucker form", "lokr in Tucker form")
"""Forms for convolutions."""


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int) -> State:
    noise = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, generator=noise) * 0.3 for name, shape in shapes.items()}


def trained(form: str, weight: torch.Tensor, seed: int) -> State:
    """Return what a trainer saves of a layer, its tensors in the shapes of that trainer."""
    outputs, inputs, *kernel = weight.shape
    points = [1] * len(kernel)
    shapes: dict[str, tuple[int, ...]]
    sides: tuple[tuple[int, ...], tuple[int, ...]]
    match form:
        case "locon" | "dora" | "dora of inputs":
            shapes = {
                "lora_down.weight": (RANK, inputs, *kernel),
                "lora_up.weight": (outputs, RANK, *points),
            }
        case "locon in Tucker form":
            shapes = {
                "lora_down.weight": (RANK, inputs, *points),
                "lora_mid.weight": (RANK, RANK, *kernel),
                "lora_up.weight": (outputs, RANK, *points),
            }
        case "loha":
            sides = (outputs, RANK), (RANK, inputs * weight[0, 0].numel())
            shapes = {f"hada_w{n}_{half}": sides["ab".index(half)] for n in (1, 2) for half in "ab"}
        case "loha of OneTrainer":  # of points it has all four dimensions
            sides = (outputs, RANK, *points), (RANK, inputs, *kernel)
            shapes = {f"hada_w{n}_{half}": sides["ab".index(half)] for n in (1, 2) for half in "ab"}
        case "loha in Tucker form":
            sides = (RANK, outputs), (RANK, inputs)
            shapes = {f"hada_w{n}_{half}": sides["ab".index(half)] for n in (1, 2) for half in "ab"}
            shapes |= {f"hada_t{n}": (RANK, RANK, *kernel) for n in (1, 2)}
        case "lokr of whole matrices":
            shapes = {
                "lokr_w1": (2, 2),
                "lokr_w2": (outputs // 2, inputs // 2, *kernel),
            }
        case "lokr":
            shapes = {
                "lokr_w1": (2, 2),
                "lokr_w2_a": (outputs // 2, RANK),
                "lokr_w2_b": (RANK, inputs // 2 * weight[0, 0].numel()),
            }
        case "lokr in Tucker form":
            shapes = {
                "lokr_w1": (2, 2),
                "lokr_t2": (RANK, RANK, *kernel),
                "lokr_w2_a": (RANK, outputs // 2),
                "lokr_w2_b": (RANK, inputs // 2),
            }
        case _:
            return _turning(form, weight, seed)
    found = drawn(shapes, seed) | {"alpha": torch.tensor(ALPHA)}
    if form == "dora":
        found["dora_scale"] = 1 + drawn({"": (outputs, 1, *points)}, seed + 1)[""]
    if form == "dora of inputs":
        found["dora_scale"] = 1 + drawn({"": (1, inputs, *points)}, seed + 1)[""]
    return found


def _turning(form: str, weight: torch.Tensor, seed: int) -> State:
    """Return the same for what has no alpha over a rank."""
    outputs, columns = weight.flatten(1).shape
    if form == "full":
        return drawn({"diff": tuple(weight.shape)}, seed)
    if form == "oft of sd-scripts":
        blocks = drawn({"oft_blocks": (2, outputs // 2, outputs // 2)}, seed)
        return blocks | {"alpha": torch.tensor(1e-2)}
    count = 1 if form == "oft of OneTrainer, shared" else columns // 4
    found = drawn({"oft_R.weight": (count, 6)}, seed)
    scaled = {"oft_R.scaled_oft": torch.tensor(True)}
    return found | scaled if form == "oft of OneTrainer, scaled" else found


def by_hand(form: str, weight: torch.Tensor, t: State) -> torch.Tensor:
    """Return what the layer's weight becomes, one entry or one block at a time, in float64.

    A reference in float32 would bring rounding of its own.
    """
    weight, t = weight.double(), {name: it.double() for name, it in t.items()}
    outputs, inputs = weight.shape[:2]
    flat = weight.flatten(1)
    scale = ALPHA / RANK
    if form.startswith("oft of OneTrainer"):
        return oft_of_onetrainer(weight, t)
    match form:
        case "locon" | "dora" | "dora of inputs":
            added = scale * t["lora_up.weight"].flatten(1) @ t["lora_down.weight"].flatten(1)
        case "locon in Tucker form":
            up, down = t["lora_up.weight"].flatten(1), t["lora_down.weight"].flatten(1)
            added = scale * core(t["lora_mid.weight"], up, down)
        case "loha" | "loha of OneTrainer":
            halves = [t[f"hada_w{n}_a"].flatten(1) @ t[f"hada_w{n}_b"].flatten(1) for n in (1, 2)]
            added = scale * halves[0] * halves[1]
        case "loha in Tucker form":
            halves = [core(t[f"hada_t{n}"], t[f"hada_w{n}_a"].T, t[f"hada_w{n}_b"]) for n in (1, 2)]
            added = scale * halves[0] * halves[1]
        case "lokr of whole matrices":
            added = blocks_of(t["lokr_w1"], t["lokr_w2"].flatten(1))
        case "lokr":
            added = scale * blocks_of(t["lokr_w1"], t["lokr_w2_a"] @ t["lokr_w2_b"])
        case "lokr in Tucker form":
            large = core(t["lokr_t2"], t["lokr_w2_a"].T, t["lokr_w2_b"])
            added = scale * blocks_of(t["lokr_w1"], large)
        case "full":
            added = t["diff"].flatten(1)
        case _:
            return oft_of_sd_scripts(weight, t)
    whole = (flat + added).reshape(weight.shape)
    for row in range(outputs if form == "dora" else 0):
        whole[row] *= t["dora_scale"].flatten()[row] / whole[row].norm()
    for column in range(inputs if form == "dora of inputs" else 0):
        whole[:, column] *= t["dora_scale"].flatten()[column] / whole[:, column].norm()
    return whole


def core(middle: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Put a core of a kernel between two halves, one point of the kernel at a time."""
    points = middle.flatten(2)
    found = [up @ points[..., it] @ down for it in range(points.shape[-1])]
    return torch.stack(found, dim=-1).flatten(1)


def blocks_of(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    """Return a block matrix: the large one, times each entry of the small one."""
    return torch.cat([torch.cat([entry * large for entry in row], dim=1) for row in small])


def oft_of_sd_scripts(weight: torch.Tensor, t: State) -> torch.Tensor:
    """R' W for each block of outputs; R by Cayley, and all of it no longer than alpha x outputs."""
    skew = t["oft_blocks"] - t["oft_blocks"].mT
    limit = float(t["alpha"]) * len(weight)
    assert skew.norm() > limit
    skew = skew * limit / skew.norm()
    one = torch.eye(skew.shape[-1], dtype=skew.dtype)
    parts = torch.split(weight.flatten(1), skew.shape[-1])
    found = [
        torch.linalg.solve(one - it, one + it, left=False).T @ part
        for it, part in zip(skew, parts, strict=True)
    ]
    return torch.cat(found).reshape(weight.shape)


def oft_of_onetrainer(weight: torch.Tensor, t: State) -> torch.Tensor:
    """W R' for each block of inputs of a linear layer, W R of a convolution; R by a series."""
    columns = torch.split(weight.flatten(1), 4, dim=1)
    vectors = t["oft_R.weight"].expand(len(columns), -1)
    factor = 1 / (2 * 3**0.5) if "oft_R.scaled_oft" in t else 1.0
    found = []
    for part, vector in zip(columns, vectors * factor, strict=True):
        skew = torch.zeros(4, 4, dtype=vector.dtype)
        entries = iter(vector)
        for row in range(4):
            for column in range(row + 1, 4):
                skew[row, column] = next(entries)
                skew[column, row] = -skew[row, column]
        powers = [torch.linalg.matrix_power(skew, n) for n in range(5)]
        turn = powers[0] + 2 * powers[1] + 2 * powers[2] + 2 * powers[3] + powers[4]
        found.append(part @ (turn.T if weight.dim() == 2 else turn))
    return torch.cat(found, dim=1).reshape(weight.shape)
