"""How much memory a protocol's models and images take, told before anything is loaded."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from pathlib import Path

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.layouts.files import NotReadable, NotWhole
from clipwatch.layouts.header import read_header
from clipwatch.models.files import weights_of
from clipwatch.models.identity import ModelError, files_of, scorer_part
from clipwatch.models.precisions import PRECISIONS
from clipwatch.models.vision_language import weight_bytes

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Of a weight, by the protocol's dtype; a scorer's is float32 unless its own says otherwise."""

RUNTIME = 2**30
"""Bytes that PyTorch and its libraries take before any model."""

PIXEL = 128 * 4 * 5
"""Bytes to decode one pixel: a VAE's last layers, 128 float32 channels, some of them at once."""

LAYERS = 0.1
"""Of a denoiser whose layers come one by one, so much is on the device at once."""

PIPELINE = "pipeline"
"""Its name among the sizes of what is loaded."""

_DENOISERS = ("unet", "transformer", "transformer_2", "prior")


def needed(protocol: EvaluationProtocol, batch_size: int) -> int | None:
    """Estimate the bytes for models and one batch of images; None while the models are not here."""
    found = sizes(protocol)
    if found is None:
        return None
    return sum(found.values()) + RUNTIME + batch_bytes(protocol, batch_size)


def batch_bytes(protocol: EvaluationProtocol, images: int) -> int:
    """Estimate the bytes to make so many images at once, beside the models."""
    return images * protocol.width * protocol.height * PIXEL


def sizes(protocol: EvaluationProtocol) -> dict[str, int] | None:
    """Estimate the bytes on the device of each model that is loaded.

    None while one is not here, and for a dtype that there is not: who loads it says so.

    Returns:
        By PIPELINE, and the parts of the scorers (see `scorer_part`): 0 for one that shares the
        model of an earlier one, or has none as far as anybody can tell.
    """
    counted = elements(protocol)
    if counted is None or not BYTES.keys() >= {protocol.dtype, protocol.vae_dtype or "fp32"}:
        return None
    usual = BYTES[protocol.dtype]
    quantised = PRECISIONS.get(protocol.base_precision)
    stored = quantised.bits / 8 if quantised else usual
    scoring, there = dict[str, int](), set[tuple[str, str, int]]()
    for it in protocol.scorers:
        part, model = scorer_part(it), (it.model, it.revision, weight_bytes(it))
        # scorers of the same files share one, see evaluator.scorers.loading
        scoring[part] = 0 if model in there else counted.get(part, 0) * weight_bytes(it)
        there.add(model)
    own = {part.removeprefix("base/"): n for part, n in counted.items() if part not in scoring}
    denoiser = sum(own.get(name, 0) for name in _DENOISERS) * stored
    texts = sum(n for name, n in own.items() if name.startswith("text_encoder")) * usual
    others = sum(
        count * BYTES[protocol.vae_dtype or protocol.dtype]
        for name, count in own.items()
        if not name.startswith("text_encoder") and name not in _DENOISERS
    )
    if protocol.offload == "none":
        weights = denoiser + texts + others
    else:  # one after the other
        weights = max(denoiser * (LAYERS if protocol.offload == "group" else 1), texts, others)
    return {PIPELINE: round(weights), **scoring}


def outlook(protocol: EvaluationProtocol, need: int, free: float) -> str:
    """Say what is needed of the memory that is free, and what to do if it is too little."""
    found = f"models and one image need about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
    if need <= free:
        return found
    ways = ["offload"] * (protocol.offload != "group")
    ways += ["base_precision"] * (not protocol.base_precision)
    return f"{found}: it may not fit; {' or '.join(ways) or 'another device'} takes less"


def elements(protocol: EvaluationProtocol) -> dict[str, int] | None:
    """Count the weights of each part; None where one is not here, or not whole."""
    try:
        found = files_of(protocol)
        return {part: sum(map(_elements, weights_of(paths))) for part, (_, paths) in found.items()}
    except (OSError, NotWhole, NotReadable, ModelError):
        return None


def _elements(file: Path) -> int:
    """Count the numbers in a safetensors file; read once while it is as it is.

    Raises:
        NotWhole, NotReadable, OSError: Its header is not good.
    """
    found = file.stat()
    return _counted(file, (found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=256)
def _counted(file: Path, _: tuple[int, ...]) -> int:
    """Count the numbers in a safetensors file.

    Raises:
        NotWhole, NotReadable: Its header is not good.
    """
    read_header(file)
    with file.open("rb") as data:
        header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
    header.pop("__metadata__", None)
    return sum(math.prod(tensor["shape"]) for tensor in header.values())
