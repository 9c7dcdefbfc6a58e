"""EveryDream2: NAME-epE-gsG, a folder of diffusers or the same as a file; G is the global step.

Source: EveryDream2trainer, train.py (make_save_path, save_model): `last-` is the end of a training,
`interrupted-` and `errored-` are what it saves when it is stopped or fails; `_ema` is the average.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.layouts import single_file
from clipwatch.layouts.base import Candidate, Inspection, Listing, Unsupported
from clipwatch.layouts.pipeline_parts import INDEX

_NAME = re.compile(
    r"(?:.*-ep\d{1,18}|interrupted)-gs(?P<step>\d{1,18})(?P<ema>_ema)?(?:\.safetensors)?", re.ASCII
)


def candidates(listing: Listing) -> Iterator[Candidate]:
    """Folders with an index, and single files."""
    for name in listing.folders:
        if (match := _NAME.fullmatch(name)) and listing.holds(f"{name}/{INDEX}"):
            yield Candidate(int(match["step"]), "step", name, listing.root / name)
    for name in listing.files:
        if name.endswith(single_file.SUFFIX) and (match := _NAME.fullmatch(name)):
            yield Candidate(int(match["step"]), "step", name, listing.root, (name,))


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """The average lies beside the live weights, in a folder of its own."""
    match = _NAME.fullmatch(candidate.name)
    averaged = bool(match and match["ema"])
    if candidate.name.startswith("errored-"):
        raise Unsupported("it was saved when the training failed (errored-)")
    if averaged != (weights == "ema"):
        its, other = ("EMA", "live") if averaged else ("live", "EMA")
        raise Unsupported(
            f"it holds the {its} weights, and the {other} ones are scored: "
            f'set "weights": "{its.lower()}" for these'
        )
    return single_file.inspect(candidate, "live")
