"""An evaluator's process as the real one, but for the models: scores follow from the weights.

As the real one it is a batch ahead of what is written down.

Before it reports an image it notes it in $GENERATED, as a record of what was really generated. It
makes a file of it only where the environment has DRAWN.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from clipwatch.domain.events import ImageScore
from clipwatch.evaluator import worker
from clipwatch.executors.messages import Evaluate, Finished, Kept, Loaded, Reply, Scored

DRAWN = "DRAWN" in os.environ


def score_of(weights: bytes, prompt: str, seed: int) -> float:
    """Return a made-up cosine that depends on all that a real one depends on."""
    digest = hashlib.sha256(weights + f"\0{prompt}\0{seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


class FastEvaluator:
    """Reads the weights as the real one does, and scores without generating."""

    def evaluate(self, request: Evaluate, send: Callable[[Reply], Kept | None]) -> None:
        """Answer one request."""
        folder = Path(request.path)
        weights = b"".join((folder / file.path).read_bytes() for file in request.files)
        send(Loaded({"device": "fast"}))
        done = set(request.done)
        todo = [task for task in request.protocol.images() if (task[0].id, task[1]) not in done]
        behind: Future[Kept | None] | None = None
        with ThreadPoolExecutor(1) as thread:
            for start in range(0, len(todo), request.batch_size):
                images = []
                for prompt, index, seed in todo[start : start + request.batch_size]:
                    note(f"{request.images_dir} {prompt.id} {index}")
                    score = score_of(weights, prompt.text, seed)
                    image = draw(request, f"{prompt.id}-{index}.png") if DRAWN else None
                    images.append(ImageScore(prompt.id, index, seed, {"": score}, image))
                if behind is not None:
                    behind.result()
                behind = thread.submit(send, Scored(tuple(images)))
            if behind is not None:
                behind.result()
        send(Finished(0, 0.0))


def draw(request: Evaluate, name: str) -> str:
    """Write an image of one colour, and return its name."""
    from PIL import Image

    folder = Path(str(request.images_dir))
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(folder / name)
    return name


def note(line: str) -> None:
    """Add a line to the record in one write, which no kill can tear."""
    record = os.open(os.environ["GENERATED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(record, line.encode() + b"\n")
    os.close(record)


if __name__ == "__main__":
    worker._evaluator = FastEvaluator  # type: ignore[assignment]
    sys.exit(worker.main())
