"""What asking a vision-language model about an image costs, and what padding would change.

A Qwen3-VL with random weights: it says nothing of what such scores are worth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.quiet import quiet_scorers
from clipwatch.evaluator.scorers.stills import read_stills
from clipwatch.evaluator.scorers.vision_language import QUESTION, VQAScore
from clipwatch.evaluator.store import Store
from clipwatch.models.vision_language import BYTES

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from tiny_vlms import write_vlm

BESIDE: Final = 8
"""Questions of a padded batch."""

PROMPTS: Final = (
    "a red circle",
    "two green stars above a blue square on a white table, in the style of an old photograph",
    "a cat",
    "a dog on a cat",
    "seven yellow pencils in a glass, and a sign that says nothing at all",
    "a lighthouse at dawn",
    "one red circle left of two blue squares",
    "text",
)


def write_model(folder: Path, width: int, layers: int) -> Path:
    """Write a Qwen3-VL of this width and depth whose images have a token for 32x32 pixels."""
    write_vlm(folder)
    heads = width // 64
    how = Qwen3VLConfig.from_pretrained(folder)
    for name, value in {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "head_dim": 64,
    }.items():
        setattr(how.text_config, name, value)
    how.text_config.rope_parameters["mrope_section"] = [16, 8, 8]
    how.text_config.max_position_embeddings = 4096
    for name, value in {
        "hidden_size": width // 2,
        "intermediate_size": 2 * width,
        "depth": layers,
        "num_heads": heads,
        "patch_size": 16,
        "out_hidden_size": width,
        "num_position_embeddings": 48 * 48,
    }.items():
        setattr(how.vision_config, name, value)
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(how).save_pretrained(folder)
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    Qwen2VLImageProcessorPil(patch_size=16, size=size).save_pretrained(folder)
    return folder


def chats(
    processor: Any, model: Any, images: Sequence[Image.Image], questions: Sequence[str]
) -> list[dict[str, torch.Tensor]]:
    """Return what the model takes for each image and its question."""
    found = []
    for image, question in zip(images, questions, strict=True):
        content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        chat = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        found.append(dict(chat.to("cpu", model.dtype)))
    return found


@torch.inference_mode()
def padded(model: Any, inputs: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
    """Return (n, vocabulary) logarithms of probabilities, by one pass padded to the left."""
    longest = max(it["input_ids"].shape[1] for it in inputs)
    batch: dict[str, torch.Tensor] = {}
    for name, first in inputs[0].items():
        rows = [it[name] for it in inputs]
        if first.shape == inputs[0]["input_ids"].shape:
            rows = [torch.nn.functional.pad(it, (longest - it.shape[1], 0)) for it in rows]
        batch[name] = torch.cat(rows)
    logits: torch.Tensor = model(**batch, logits_to_keep=1, use_cache=False).logits
    return logits[:, -1].double().log_softmax(dim=-1)


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Return the median of so many calls, after one that is not counted."""
    call()
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def measured(folder: Path, dtype: str, side: int, rounds: int) -> list[str]:
    """Return a row of the table."""
    spec = ScorerSpec("", str(folder), kind="vqascore", options=(("dtype", dtype),))
    scorer = VQAScore(spec, "cpu", Store(None), "")
    pixels = np.random.default_rng(0).integers(0, 256, (BESIDE, side, side, 3), dtype=np.uint8)
    images, some = torch.from_numpy(pixels), list(PROMPTS)
    scores = scorer.score(images, some)
    if scorer.score(images.flip(0), some[::-1])[::-1] != scores:
        raise SystemExit("asked in another order the numbers are others")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    processor = read_stills(folder, model.config)
    questions = [QUESTION.format(it) for it in PROMPTS]
    inputs = chats(processor, model, [Image.fromarray(it) for it in pixels], questions)
    alone = torch.cat([padded(model, [it]) for it in inputs])
    moved = float((padded(model, inputs) - alone).abs().max())
    one = [(0, it, "Yes") for it in questions]
    taken = [
        seconds(lambda: scorer.score(images, some), rounds),
        seconds(lambda: padded(model, inputs), rounds),
        seconds(lambda: scorer.probabilities(images, one, as_written=True), rounds),
    ]
    each = [f"{it / BESIDE:.3f}" for it in taken]
    return [dtype, f"{inputs[0]['input_ids'].shape[1]}", *each, f"{moved:.1e}"]


def main() -> None:
    """Make a model, ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model, small images")
    parser.add_argument("--width", type=int, default=512, help="of the language model (512)")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--side", type=int, default=512, help="of the images, in pixels (512)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    quiet_scorers()
    width, layers, side = options.width, options.layers, options.side
    if options.quick:
        width, layers, side = 128, 2, 256
    head = (
        *("dtype", "tokens", "s, alone", f"s, plain and padded, {BESIDE} at once"),
        f"s, of {BESIDE} about one image",
        "logarithm of a probability moved by padding, at most",
    )
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    with tempfile.TemporaryDirectory() as name:
        folder = write_model(Path(name), width, layers)
        for dtype in BYTES:
            print(f"| {' | '.join(measured(folder, dtype, side, options.rounds))} |", flush=True)


if __name__ == "__main__":
    main()
