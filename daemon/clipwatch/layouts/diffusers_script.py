"""The diffusers training scripts: checkpoint-N as accelerate's save_state leaves it, no marker.

Source: diffusers examples/*/train_*.py and accelerate's checkpointing.py: the model hook writes
unet/, transformer/ or the LoRA file first, random_states_<rank>.pkl comes last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.layouts import contents, simpletuner
from clipwatch.layouts.base import Candidate, Inspection, Listing, Unsupported, settling_for


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Whatever nobody else claims under the names that SimpleTuner uses as well."""
    for name in listing.folders:
        step = simpletuner.step(name)
        if step is not None:
            yield Candidate(step, "step", name, listing.root / name)


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """Without the last file it may be a copy of the weights alone, or half a checkpoint."""
    complete = "random_states_0.pkl" in os.listdir(candidate.root)
    settlings = 1.0 if complete else 6.0
    tokens = sorted(candidate.root.parent.glob("*_emb.safetensors"))
    with settling_for(settlings):
        found = contents.find(candidate.root, weights)
        if tokens and found.kind != "pipeline":
            raise Unsupported(
                f"it was trained with tokens of its own, whose embeddings ({tokens[0].name}, beside"
                " it) are not read"
            )
        return Inspection(found, settlings)
