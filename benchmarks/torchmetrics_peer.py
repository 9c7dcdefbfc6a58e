"""Scores images with torchmetrics, as SimpleTuner calls it; `scoring.py --torchmetrics` runs it.

    PYTHON benchmarks/torchmetrics_peer.py MODEL IMAGES THREADS

in an environment of its own (torchmetrics 1.9 needs transformers 4): nothing of clipwatch is
imported. MODEL is the folder of a CLIP with "openai" in its path, IMAGES a .npy file of (n, height,
width, 3) uint8. Each line of standard input is a JSON list of prompts; the answer is a line with
the list of as many scores, 0..100, of the first images.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.multimodal import clip_score  # type: ignore[import-not-found]
from transformers.utils import logging


def main() -> None:
    """Answer each line."""
    model, images, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    logging.set_verbosity_error()
    pictures = [Image.fromarray(image) for image in np.load(images)]
    for line in sys.stdin:
        prompts = json.loads(line)
        scores = [
            score(image, prompt, model) for image, prompt in zip(pictures, prompts, strict=False)
        ]
        print(json.dumps(scores), flush=True)


def score(image: Image.Image, prompt: str, model: str) -> float:
    """Return 100 times the cosine; model and processor are loaded for it."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)
    found = clip_score((pixels * 255).unsqueeze(0), [prompt], model_name_or_path=model)
    return float(found.detach())


if __name__ == "__main__":
    main()
