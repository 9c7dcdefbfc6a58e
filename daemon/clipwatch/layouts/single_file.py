"""What several trainers share: checkpoints that are single files, and what a file tells of itself.

Sources: kohya's sd-scripts 0.10 (train_network.py, library/train_util.py), musubi-tuner, ai-toolkit
0.12 (toolkit/metadata.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import TrainedWeights, Unit
from clipwatch.layouts import contents
from clipwatch.layouts.base import Candidate, Inspection, Listing, Unsupported
from clipwatch.layouts.files import opened, samples
from clipwatch.layouts.header import read_header
from clipwatch.layouts.pipeline_parts import INDEX

SUFFIX = ".safetensors"

_DIGITS = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Named:
    """What a name tells: of which series it is, "" where that changes, and where in it."""

    series: str
    number: int
    unit: Unit


Reader = Callable[[str], Named | None]
"""Reads the name of a folder, or of a file without its suffix; None for none of this trainer's."""


def numbered(listing: Listing, read: Reader) -> Iterator[Candidate]:
    """Yield files and pipeline folders with a number, and the final one of each series without.

    Where the final one stands its file may tell; of a series that is saved at every epoch it is one
    epoch after the last with a number, as that one is saved under the other name alone.
    """
    found: dict[str, list[Named]] = {}
    names = {name: name for name in listing.folders if listing.holds(f"{name}/{INDEX}")}
    names |= {it.removesuffix(SUFFIX): it for it in listing.files if it.endswith(SUFFIX)}
    for stem, name in names.items():
        if named := read(stem):
            found.setdefault(named.series, []).append(named)
            yield _candidate(listing, name, named, placed=True)
    for series, all_ in found.items():
        if series in names and read(series) is None:
            last = max(all_, key=lambda it: (it.unit == "step", it.number))
            epochs = sorted(it.number for it in all_ if it.unit == "epoch")
            every = len(epochs) == len(all_) and _each(epochs)
            final = Named(series, last.number + every, last.unit)
            yield _candidate(listing, names[series], final, placed=every)


def _each(epochs: list[int]) -> bool:
    """Whether they are saved at every epoch, though the older ones may be gone."""
    steps = {after - before for before, after in pairwise(epochs)}
    return steps == {1} or epochs == [1]


def _candidate(listing: Listing, name: str, named: Named, *, placed: bool) -> Candidate:
    alone = name.endswith(SUFFIX)
    return Candidate(
        named.number,
        named.unit,
        name,
        listing.root if alone else listing.root / name,
        (name,) if alone else (),
        placed=placed,
        series=named.series,
    )


def candidates(listing: Listing) -> tuple[Candidate, ...]:  # noqa: ARG001 - as of Layout
    """None by itself: a file without a number is looked at where somebody names it."""
    return ()


def inspect(candidate: Candidate, weights: TrainedWeights) -> Inspection:
    """Look into a single file, or a folder that holds a pipeline; neither has a mark.

    Steps come from the file where the name tells epochs or nothing.

    Raises:
        NotWhole, Damaged, NotReadable, Unsupported: As `Layout.inspect`.
    """
    if not candidate.files:
        return Inspection(contents.find(candidate.root, weights))
    if weights == "ema":
        raise Unsupported('it holds no EMA weights: set "weights": "live"')
    found = contents.adapter(candidate.root, *candidate.files)
    metadata = read_header(candidate.root / candidate.files[0]).metadata
    told = step_in(metadata)
    by_name = told is None or (candidate.placed and candidate.unit == "step")
    at = None if by_name or told is None else (told, _STEP)
    same = (_same(candidate.root, file, metadata) for file in found.files)
    return Inspection(found, at=at, same=" ".join(same))


_STEP: Unit = "step"


def step_in(metadata: Mapping[str, str]) -> int | None:
    """Return the step that a file's metadata tells: kohya's and musubi's, or ai-toolkit's."""
    try:
        info = json.loads(metadata.get("training_info", "{}"))
    except (ValueError, RecursionError):
        info = {}
    told = (metadata.get("ss_steps"), info.get("step") if isinstance(info, dict) else None)
    found = (str(it) for it in told if it is not None and not isinstance(it, bool))
    return next((int(it) for it in found if _DIGITS.fullmatch(it)), None)


def _same(root: Path, file: WeightFile, metadata: Mapping[str, str]) -> str:
    """Return kohya's digest of the tensors, else one of our own.

    The last step's file and the final one differ in their metadata alone.
    """
    told = metadata.get("sshs_model_hash", "")
    return told.removeprefix("0x") or _of_tensors(root / file.path, file.size, file.mtime_ns)


@lru_cache(maxsize=4096)
def _of_tensors(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - it is the key
    """Identify what stands behind the header, by samples as of `content_digest`."""
    with opened(path) as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        digest = hashlib.sha256(f"{size - begin}\0".encode())
        for piece in samples(file, size - begin, begin):
            digest.update(piece)
    return digest.hexdigest()
