"""The diffusers training scripts: checkpoint-N as accelerate's save_state leaves it, no marker.

Source: diffusers examples/*/train_*.py and accelerate's checkpointing.py: the model hook writes
unet/, transformer/ or the LoRA file first, random_states_<rank>.pkl comes last. The hook of
advanced_diffusion_training writes OUTPUT_DIR/OUTPUT_DIR_emb.safetensors right after the LoRA.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.layouts import contents, simpletuner
from clipwatch.layouts.base import Candidate, Inspection, Listing, Unsupported, settling_for
from clipwatch.layouts.learned import BESIDE


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Whatever nobody else claims under the names that SimpleTuner uses as well.

    The advanced scripts keep the tokens that a LoRA was trained with beside the checkpoints.
    """
    own = f"{listing.root.name}{BESIDE}"
    tokens = [name for name in listing.files if name.endswith(BESIDE)]
    tokens = tokens or [own] * listing.holds(own)
    for name in listing.folders:
        step = simpletuner.step(name)
        if step is None:
            continue
        lora = f"{name}/{contents.LORA}"
        if len(tokens) == 1 and listing.holds(lora):
            yield Candidate(step, "step", name, listing.root, (lora, tokens[0]))
        else:
            yield Candidate(step, "step", name, listing.root / name)


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """Without the last file it may be a copy of the weights alone, or half a checkpoint."""
    root = candidate.root
    folder = (root / candidate.files[0]).parent if candidate.files else root
    complete = "random_states_0.pkl" in os.listdir(folder)
    settlings = 1.0 if complete else 6.0
    if candidate.files:
        name, tokens = candidate.files
        _check_own(root, root / name, root / tokens, settlings)
    with settling_for(settlings):
        found = contents.find(folder, weights)
        if candidate.files:
            lora = f"{folder.name}/{found.files[0].path}"
            return Inspection(contents.adapter(root, lora, tokens), settlings)
        beside = sorted(folder.parent.glob(f"*{BESIDE}"))
        if beside and found.kind != "pipeline":
            raise Unsupported(
                f"it was trained with tokens of its own, and which these are is not known"
                f" ({', '.join(it.name for it in beside)}, beside it)"
            )
        return Inspection(found, settlings)


_AT_ONCE_NS = 60_000_000_000
"""The scripts write a LoRA and its tokens one after the other; both are small."""


def _check_own(root: Path, lora: Path, tokens: Path, settlings: float) -> None:
    """Make sure that the one file of tokens is that which was saved with a LoRA.

    It is overwritten with each checkpoint, right after the LoRA's own file, and at the end.

    Raises:
        Unsupported: It is another one's; it stays so where it was written again.
    """
    written = {it: it.stat().st_mtime_ns for it in (*root.glob(f"*/{lora.name}"), lora, tokens)}
    with suppress(FileNotFoundError):
        written[root / lora.name] = (root / lora.name).stat().st_mtime_ns
    since = written[tokens] - written[lora]
    others = (it for it in written if it not in {lora, tokens})
    other = next((it for it in others if written[lora] < written[it] <= written[tokens]), None)
    if since < 0:
        with settling_for(settlings):
            raise Unsupported(f"{tokens.name}, with the tokens that it was trained with, is older")
    if other or since > _AT_ONCE_NS:
        by = f" with {other.relative_to(root)}" if other else ""
        with settling_for(0.0):
            raise Unsupported(
                f"{tokens.name} holds other tokens than it was trained with: it was written"
                f" again{by}"
            )
