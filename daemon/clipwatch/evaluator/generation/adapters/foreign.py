"""The names that a denoiser's modules had before diffusers knew it, from diffusers' names alone.

Most trainers and ComfyUI write these: sgm's for the UNets of SD 1, SD 2 and SDXL, the authors' own
for FLUX, FLUX.2, SD 3, Lumina 2 and Z-Image. What is one layer there may be several here.

Sources: diffusers 0.42 (loaders/single_file_utils.py), sd-scripts (library/sdxl_model_util.py,
networks/lora_flux.py, networks/lora_sd3.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final, NamedTuple


class Joint(NamedTuple):
    """A layer of another name: the modules that it is, beside each other along their outputs.

    Attributes:
        paths: In order.
        swapped: Whether the halves of its outputs, shift and scale, stand the other way round.
    """

    paths: tuple[str, ...]
    swapped: bool = False


Rows = tuple[tuple[str, str], ...]
"""Names, "{}" for a block's number; several modules stand with spaces between them."""


def foreign_names(kind: str, paths: Collection[str]) -> dict[str, Joint]:
    """Return by their other names the modules of a denoiser.

    Args:
        kind: The name of its class.
        paths: Its modules', as diffusers names them.
    """
    known = set(paths)
    named = _NAMED[kind](known) if kind in _NAMED else iter(())
    return {name: joint for name, joint in named if known.issuperset(joint.paths)}


# --- the UNets of Stable Diffusion ---------------------------------------------------------------

_UNET: Final = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def _unet(paths: Collection[str]) -> Iterator[tuple[str, Joint]]:
    yield from _listed(_UNET)
    blocks = {ours: theirs for theirs, ours in _blocks(paths)}
    for path in paths:
        for ours, theirs in blocks.items():
            inner = path.removeprefix(ours)
            if path.startswith(ours) and inner[:1] in {"", "."}:
                known = _RESNET.get(inner[1:], inner[1:])
                yield f"{theirs}.{known}" if known else theirs, Joint((path,))


def _blocks(paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield sgm's numbers of the parts of the blocks, and their paths."""
    yield "middle_block.0", "mid_block.resnets.0"
    yield "middle_block.1", "mid_block.attentions.0"
    yield "middle_block.2", "mid_block.resnets.1"
    for side, theirs, first in (("down", "input_blocks", 1), ("up", "output_blocks", 0)):
        block, number = 0, first
        while any(it.startswith(f"{side}_blocks.{block}.") for it in paths):
            ours, layer = f"{side}_blocks.{block}", 0
            while f"{ours}.resnets.{layer}" in paths:
                yield f"{theirs}.{number}.0", f"{ours}.resnets.{layer}"
                yield f"{theirs}.{number}.1", f"{ours}.attentions.{layer}"
                layer, number = layer + 1, number + 1
            if f"{ours}.downsamplers.0" in paths:
                yield f"{theirs}.{number}.0.op", f"{ours}.downsamplers.0.conv"
                number += 1
            if f"{ours}.upsamplers.0" in paths:
                behind = 2 if f"{ours}.attentions.0" in paths else 1
                yield f"{theirs}.{number - 1}.{behind}", f"{ours}.upsamplers.0"
            block += 1


def _beside(at: str, *leaves: str) -> str:
    """Name modules that are one layer elsewhere."""
    return " ".join(f"{at}.{leaf}" for leaf in leaves)


# --- transformers --------------------------------------------------------------------------------

_FLUX: Final = (
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    ("double_blocks.{}.img_mod.lin", "transformer_blocks.{}.norm1.linear"),
    ("double_blocks.{}.txt_mod.lin", "transformer_blocks.{}.norm1_context.linear"),
    ("double_blocks.{}.img_mlp.0", "transformer_blocks.{}.ff.net.0.proj"),
    ("double_blocks.{}.img_mlp.2", "transformer_blocks.{}.ff.net.2"),
    ("double_blocks.{}.txt_mlp.0", "transformer_blocks.{}.ff_context.net.0.proj"),
    ("double_blocks.{}.txt_mlp.2", "transformer_blocks.{}.ff_context.net.2"),
    ("single_blocks.{}.modulation.lin", "single_transformer_blocks.{}.norm.linear"),
    (
        "single_blocks.{}.linear1",
        _beside("single_transformer_blocks.{}", "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    ),
    ("single_blocks.{}.linear2", "single_transformer_blocks.{}.proj_out"),
)
_FLUX_2: Final = (
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2"),
    ("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2"),
    ("double_stream_modulation_img.lin", "double_stream_modulation_img.linear"),
    ("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear"),
    ("single_stream_modulation.lin", "single_stream_modulation.linear"),
    ("double_blocks.{}.img_mlp.0", "transformer_blocks.{}.ff.linear_in"),
    ("double_blocks.{}.img_mlp.2", "transformer_blocks.{}.ff.linear_out"),
    ("double_blocks.{}.txt_mlp.0", "transformer_blocks.{}.ff_context.linear_in"),
    ("double_blocks.{}.txt_mlp.2", "transformer_blocks.{}.ff_context.linear_out"),
    ("single_blocks.{}.linear1", "single_transformer_blocks.{}.attn.to_qkv_mlp_proj"),
    ("single_blocks.{}.linear2", "single_transformer_blocks.{}.attn.to_out"),
)
_STREAMS: Final = (
    (
        "double_blocks.{}.img_attn.qkv",
        _beside("transformer_blocks.{}.attn", "to_q", "to_k", "to_v"),
    ),
    (
        "double_blocks.{}.txt_attn.qkv",
        _beside("transformer_blocks.{}.attn", "add_q_proj", "add_k_proj", "add_v_proj"),
    ),
    ("double_blocks.{}.img_attn.proj", "transformer_blocks.{}.attn.to_out.0"),
    ("double_blocks.{}.txt_attn.proj", "transformer_blocks.{}.attn.to_add_out"),
    ("final_layer.linear", "proj_out"),
)
"""What FLUX and FLUX.2 have alike."""

_SD_3: Final = (
    ("x_embedder.proj", "pos_embed.proj"),
    ("t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    ("t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    ("y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"),
    ("y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"),
    (
        "joint_blocks.{}.x_block.attn.qkv",
        _beside("transformer_blocks.{}.attn", "to_q", "to_k", "to_v"),
    ),
    (
        "joint_blocks.{}.x_block.attn2.qkv",
        _beside("transformer_blocks.{}.attn2", "to_q", "to_k", "to_v"),
    ),
    (
        "joint_blocks.{}.context_block.attn.qkv",
        _beside("transformer_blocks.{}.attn", "add_q_proj", "add_k_proj", "add_v_proj"),
    ),
    ("joint_blocks.{}.x_block.attn.proj", "transformer_blocks.{}.attn.to_out.0"),
    ("joint_blocks.{}.x_block.attn2.proj", "transformer_blocks.{}.attn2.to_out.0"),
    ("joint_blocks.{}.context_block.attn.proj", "transformer_blocks.{}.attn.to_add_out"),
    ("joint_blocks.{}.x_block.adaLN_modulation.1", "transformer_blocks.{}.norm1.linear"),
    ("joint_blocks.{}.x_block.mlp.fc1", "transformer_blocks.{}.ff.net.0.proj"),
    ("joint_blocks.{}.x_block.mlp.fc2", "transformer_blocks.{}.ff.net.2"),
    ("joint_blocks.{}.context_block.mlp.fc1", "transformer_blocks.{}.ff_context.net.0.proj"),
    ("joint_blocks.{}.context_block.mlp.fc2", "transformer_blocks.{}.ff_context.net.2"),
    ("final_layer.linear", "proj_out"),
)
_LAST: Final = ("final_layer.adaLN_modulation.1", Joint(("norm_out.linear",), swapped=True))

_REFINED: Final = ("layers", "noise_refiner", "context_refiner")
"""The lists of blocks of Lumina 2 and Z-Image, which are named alike."""


def _streams(rows: Rows, paths: Collection[str]) -> Iterator[tuple[str, Joint]]:
    yield from _numbered((*rows, *_STREAMS), paths)
    yield _LAST


def _sd_3(paths: Collection[str]) -> Iterator[tuple[str, Joint]]:
    yield from _numbered(_SD_3, paths)
    yield _LAST
    for number in range(_depth(paths)):
        block = f"transformer_blocks.{number}"
        # the last block makes nothing of its text: its norm is that of the end
        last = f"{block}.ff_context" not in paths
        joint = Joint((f"{block}.norm1_context.linear",), swapped=last)
        yield f"joint_blocks.{number}.context_block.adaLN_modulation.1", joint


def _lumina(paths: Collection[str]) -> Iterator[tuple[str, Joint]]:
    for blocks in _REFINED:
        yield from _numbered(_refined(blocks, "attn", "feed_forward.linear_"), paths)


def _z_image(paths: Collection[str]) -> Iterator[tuple[str, Joint]]:
    for blocks in _REFINED:
        yield from _numbered(_refined(blocks, "attention", "feed_forward.w"), paths)
    rest = (
        ("x_embedder", "all_x_embedder.2-1"),
        ("final_layer.linear", "all_final_layer.2-1.linear"),
        ("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1"),
    )
    yield from _listed(rest)


def _refined(blocks: str, attention: str, feeding: str) -> Rows:
    at = f"{blocks}.{{}}.{attention}"
    return (
        (f"{blocks}.{{}}.attention.qkv", f"{at}.to_q {at}.to_k {at}.to_v"),
        (f"{blocks}.{{}}.attention.out", f"{at}.to_out.0"),
        *(
            (f"{blocks}.{{}}.feed_forward.w{number}", f"{blocks}.{{}}.{feeding}{number}")
            for number in (1, 2, 3)
        ),
        (f"{blocks}.{{}}.adaLN_modulation.1", f"{blocks}.{{}}.norm1.linear"),
    )


def _numbered(rows: Rows, paths: Collection[str]) -> Iterator[tuple[str, Joint]]:
    for number in range(_depth(paths)):
        yield from _listed(
            tuple((theirs.format(number), ours.replace("{}", str(number))) for theirs, ours in rows)
        )


def _listed(rows: Rows) -> Iterator[tuple[str, Joint]]:
    return ((theirs, Joint(tuple(ours.split()))) for theirs, ours in rows)


def _depth(paths: Collection[str]) -> int:
    """Return how many blocks the longest list has."""
    numbers = (re.match(r"\w+\.(\d+)", path) for path in paths)
    return max((int(it[1]) + 1 for it in numbers if it), default=0)


_NAMED: Final[dict[str, Callable[[Collection[str]], Iterator[tuple[str, Joint]]]]] = {
    "UNet2DConditionModel": _unet,
    "ChromaTransformer2DModel": partial(_streams, _FLUX),
    "FluxTransformer2DModel": partial(_streams, _FLUX),
    "Flux2Transformer2DModel": partial(_streams, _FLUX_2),
    "Lumina2Transformer2DModel": _lumina,
    "SD3Transformer2DModel": _sd_3,
    "ZImageTransformer2DModel": _z_image,
}
