"""Train the demo world's tokenizer, CLIP and VAE from scratch and write them as package data.

    python scripts/make_demo_models.py [--output DIR] [--only {clip,vae}]

Everything is seeded: the same versions of torch on the same machine with the same number of
threads give the same files. Takes about fifteen minutes on one core. The measurements printed at
the end are made on pictures that were not trained on, after rounding the weights to fp16.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from dataclasses import astuple
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from clipwatch.demo.world import SIZE, captions, draw, scenes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LENGTH = 16
"""Tokens of every text, the two marks at its ends included."""

BATCH = 108
"""Pictures of one step of the CLIP: of half the captions, so that near misses meet often."""


def main() -> None:
    """Read the arguments, train what was asked for, write it."""
    models = Path(__file__).parents[1] / "daemon/clipwatch/demo/models"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=models, help="folder for clip/ and vae/")
    parser.add_argument("--only", choices=("clip", "vae"), help="train one of the two")
    parser.add_argument("--clip-steps", type=int, default=2500)
    parser.add_argument("--vae-steps", type=int, default=2500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only != "vae":
        torch.manual_seed(options.seed)
        make_clip(options.output / "clip", options.clip_steps, np.random.default_rng(options.seed))
    if options.only != "clip":
        torch.manual_seed(options.seed)
        make_vae(options.output / "vae", options.vae_steps, np.random.default_rng(options.seed))


# --- tokenizer -----------------------------------------------------------------------------------


def make_tokenizer(texts: Iterable[str]) -> CLIPTokenizer:
    """Return a byte-level BPE tokenizer to which each word of ``texts`` is one token.

    The vocabulary starts with all bytes, inside and at the end of a word, so that any other text
    tokenizes too; it ends with the two marks. Pads with the end mark, to 16 tokens.
    """
    words = sorted({word for text in texts for word in text.split()})
    letters = byte_letters()
    merges = learn_merges(words)
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary += [left + right for left, right in merges]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,
        model_max_length=LENGTH,
    )


def byte_letters() -> list[str]:
    """Return the printable stand-ins of the 256 bytes, as every byte-level BPE names them."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = len(set(range(256)) - set(printable))
    return [chr(code) for code in (*printable, *range(0x100, 0x100 + hidden))]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merge the most frequent neighbours (ties: first by letters) until each word is one token."""
    split = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [merged(parts, best) for parts in split]
    return merges


def merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Return ``parts`` with each occurrence of ``pair`` joined."""
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


# --- CLIP ----------------------------------------------------------------------------------------


def make_clip(folder: Path, steps: int, rng: np.random.Generator) -> None:
    """Train the CLIP and write model, tokenizer and preprocessor to ``folder``."""
    texts = captions()
    tokenizer = make_tokenizer(texts)
    tokenizer.save_pretrained(folder)  # before use, which leaves its padding in the file
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )
    model = CLIPModel(clip_config(tokenizer)).train()
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"]
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    optimizer, schedule = optimizer_for(model, steps, rate=2e-3, decay=0.05)
    started = time.process_time()
    for step in range(1, steps + 1):
        chosen = rng.permutation(len(texts))[:BATCH]
        pictures = torch.from_numpy(np.stack([draw(texts[i], rng) for i in chosen]))
        pixels = pictures.permute(0, 3, 1, 2) / 255.0
        noise = 0.25 * torch.rand(len(pixels), 1, 1, 1) ** 2
        pixels = (pixels + noise * torch.randn_like(pixels)).clamp(0.0, 1.0)
        output = model(
            input_ids=tokens[chosen], pixel_values=(pixels - mean) / std, return_loss=True
        )
        advance(model, output.loss, optimizer, schedule)
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(30.0))
        if step % 100 == 0:
            spent = time.process_time() - started
            print(
                f"clip {step}/{steps} loss {output.loss.item():.3f} {spent:.0f} CPU s", flush=True
            )
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    measure_clip(model.float().eval(), tokens, processor, np.random.default_rng(1_000_003))
    print(f"clip: {sum(p.numel() for p in model.parameters())} parameters, {size(folder)}")


def clip_config(tokenizer: CLIPTokenizer) -> CLIPConfig:
    """Return the shape of the CLIP: 616,705 parameters with this tokenizer."""
    shared = {"hidden_act": "quick_gelu", "projection_dim": 64, "num_attention_heads": 4}
    return CLIPConfig(
        projection_dim=64,
        text_config=shared
        | {
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "max_position_embeddings": LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=shared
        | {
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "image_size": SIZE,
            "patch_size": 8,
        },
    )


@torch.no_grad()
def measure_clip(
    model: CLIPModel, tokens: torch.Tensor, processor: Any, rng: np.random.Generator
) -> None:
    """Print retrieval and cosines over four fresh pictures of each caption."""
    texts = captions()
    text = functional.normalize(model.get_text_features(tokens).pooler_output, dim=-1)
    pictures = [draw(caption, rng) for _ in range(4) for caption in texts]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    image = functional.normalize(model.get_image_features(pixels).pooler_output, dim=-1)
    cosines = image @ text.T
    right = torch.arange(len(texts)).repeat(4)
    own = cosines[torch.arange(len(right)), right]
    other = cosines[right[:, None] != torch.arange(len(texts))]
    words = [astuple(scene) for scene in scenes().values()]
    apart = torch.tensor(
        [[sum(a != b for a, b in zip(one, two, strict=True)) for two in words] for one in words]
    )
    near = cosines[apart[right] == 1]
    print(f"clip top-1 of {len(texts)}: {(cosines.argmax(-1) == right).float().mean():.3f}")
    for name, values in (("own", own), ("mismatched", other), ("one word wrong", near)):
        low, high = np.percentile(values, (5, 95))
        print(f"clip cosine, {name}: mean {values.mean():.3f}, 5 % {low:.3f}, 95 % {high:.3f}")


# --- VAE -----------------------------------------------------------------------------------------


def make_vae(folder: Path, steps: int, rng: np.random.Generator) -> None:
    """Train the VAE, set its scaling factor from the spread of its latents, write it."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIZE,
    ).train()
    optimizer, schedule = optimizer_for(vae, steps, rate=2e-3, decay=0.0)
    started = time.process_time()
    for step in range(1, steps + 1):
        pixels = some_pictures(32, rng)
        posterior = vae.encode(pixels).latent_dist
        rebuilt = vae.decode(posterior.sample()).sample
        l1 = functional.l1_loss(rebuilt, pixels)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        advance(vae, l1 + 3e-4 * kl, optimizer, schedule)
        if step % 100 == 0:
            spent = time.process_time() - started
            print(f"vae {step}/{steps} l1 {l1:.4f} kl {kl:.2f} {spent:.0f} CPU s", flush=True)
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(some_pictures(512, rng)).latent_dist.sample()
    vae.register_to_config(scaling_factor=round(1.0 / latents.std().item(), 4))
    vae.half().save_pretrained(folder)
    measure_vae(vae.float(), some_pictures(512, np.random.default_rng(1_000_003)))
    print(f"vae: {sum(p.numel() for p in vae.parameters())} parameters, {size(folder)}")


def some_pictures(count: int, rng: np.random.Generator) -> torch.Tensor:
    """Draw (count, 3, 32, 32) float32 pictures of random captions, -1..1."""
    texts = captions()
    pictures = np.stack([draw(texts[i], rng) for i in rng.integers(len(texts), size=count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1.0


@torch.no_grad()
def measure_vae(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Print the l1 of a round trip, and how the scaled latents are spread."""
    latents = vae.encode(pixels).latent_dist.mode()
    rebuilt = vae.decode(latents).sample.clamp(-1.0, 1.0)
    wrong = (rebuilt - pixels).abs()
    scaled = latents * vae.config.scaling_factor
    print(
        f"vae l1 in -1..1: mean {wrong.mean():.4f}, worst picture {wrong.mean((1, 2, 3)).max():.4f}"
    )
    spread = ", ".join(f"{v:.2f}" for v in scaled.std((0, 2, 3)).tolist())
    print(f"vae scaling factor {vae.config.scaling_factor}, scaled latents' spread {spread}")


# --- shared --------------------------------------------------------------------------------------


def optimizer_for(
    model: torch.nn.Module, steps: int, *, rate: float, decay: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and a one-cycle schedule that peaks at ``rate`` after 8 % of the steps."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rate, total_steps=steps, pct_start=0.08
    )
    return optimizer, schedule


def advance(
    model: torch.nn.Module,
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Take one step down the gradient, clipped to norm 1."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def size(folder: Path) -> str:
    """Let everybody read the files of a folder, and say how large each is."""
    for path in folder.iterdir():
        path.chmod(0o644)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return json.dumps(sizes)


if __name__ == "__main__":
    main()
