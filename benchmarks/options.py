"""Do channels-last and torch.compile pay, and from how many images on?

    python benchmarks/options.py [--quick] [--shape sd15] [--device cuda]

Times one call of the UNet, which is nearly all of a generation, with the weights of the shape: as
clipwatch runs it, in channels-last, compiled, and both. The output has to be the same but for the
last bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config as inductor
from diffusers import AutoencoderKL, UNet2DConditionModel

from clipwatch.evaluator.generation.opening import DTYPES
from common import Row, begin, options, settle, show, take_turns, workplace
from shapes import PIPELINES, pipeline_folder

STEPS = 28
"""Calls of the UNet that make an image."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run the UNet, and how long the first call took, in seconds."""

    call: Callable[[], torch.Tensor]
    first: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = options("Channels-last and torch.compile against plain calls of the UNet.")
    parser.add_argument("--shape", choices=tuple(PIPELINES), default="demo")
    parser.add_argument("--batch", type=int, default=2, help="images at once, guidance included")
    chosen = parser.parse_args(arguments)
    begin(chosen.device, chosen.threads)
    dtype = DTYPES["bf16" if chosen.device.startswith("cuda") else "fp32"]
    inductor.force_disable_caches = True
    with workplace(chosen.folder) as place, torch.no_grad():
        folder = pipeline_folder(place, chosen.shape, dtype)
        given = inputs(folder, PIPELINES[chosen.shape], chosen.batch, chosen.device, dtype)
        found: dict[str, Variant] = {}
        for name in ("plain", "channels-last", "compiled", "both"):
            found[name] = variant(folder, name, given, chosen.device, dtype)
        rounds = chosen.rounds or (2 if chosen.quick else 7)
        calls = {name: it.call for name, it in found.items()}
        seconds = take_turns(calls, rounds, settle=partial(settle, chosen.device))
    rows = [Row(name, "plain", seconds[name], seconds["plain"]) for name in list(found)[1:]]
    show(f"{chosen.shape}, batch {chosen.batch}: a call of the UNet", rows, notes(found, seconds))


def variant(folder: Path, name: str, given: dict[str, Any], device: str, dtype: Any) -> Variant:
    """Load the UNet, run it once in this way, and make sure that it gives what it should."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", dtype=dtype).to(device).eval()
    expected = unet(**given).sample
    if name in ("channels-last", "both"):
        unet = unet.to(memory_format=torch.channels_last)
    if name in ("compiled", "both"):
        torch.compiler.reset()  # or the second one would find the first one's work
        unet.compile_repeated_blocks()
    began = time.perf_counter()
    found = unet(**given).sample
    settle(device)
    first = time.perf_counter() - began
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    return Variant(lambda: unet(**given).sample, first)


def inputs(folder: Path, side: int, batch: int, device: str, dtype: Any) -> dict[str, Any]:
    """Return the arguments of a call, random but for their shapes."""
    unet = UNet2DConditionModel.load_config(folder / "unet")
    vae, generator = AutoencoderKL.load_config(folder / "vae"), torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    latent = side >> (len(vae["block_out_channels"]) - 1)
    given: dict[str, Any] = {
        "sample": random(batch, unet["in_channels"], latent, latent),
        "timestep": torch.tensor(500, device=device),
        "encoder_hidden_states": random(batch, 77, unet["cross_attention_dim"]),
    }
    if unet.get("addition_embed_type") == "text_time":  # SDXL
        width = unet["projection_class_embeddings_input_dim"]
        width -= 6 * unet["addition_time_embed_dim"]
        times = torch.tensor([[side, side, 0, 0, side, side]] * batch, device=device)
        given["added_cond_kwargs"] = {"text_embeds": random(batch, width), "time_ids": times}
    return given


def notes(found: dict[str, Variant], seconds: dict[str, list[float]]) -> list[str]:
    """Say from how many images on compiling has paid for its first call."""
    plain = min(seconds["plain"])
    told = []
    for name in ("compiled", "both"):
        gain = plain - min(seconds[name])
        images = f"from {found[name].first / (STEPS * gain):.0f} images on" if gain > 0 else "never"
        told.append(f"{name}: first call {found[name].first:.1f} s; pays {images}")
    return told


if __name__ == "__main__":
    main()
