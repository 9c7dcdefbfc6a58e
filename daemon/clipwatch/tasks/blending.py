"""The weighted average of checkpoints, as files of the same form as theirs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from clipwatch.domain.events import WeightFile
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.names import leads_inside
from clipwatch.kit.errors import CheckpointError
from clipwatch.kit.filesystems import inode_of, make_private
from clipwatch.kit.ownfiles import write_private
from clipwatch.layouts.adapter_file import METADATA_KEY
from clipwatch.layouts.contents import PEFT_CONFIG
from clipwatch.layouts.files import NotReadable, NotWhole, is_same, opened
from clipwatch.layouts.single_file import SUFFIX
from clipwatch.tasks.blended_loras import Lora, average, retold
from clipwatch.tasks.tensorfile import FLOATS, Made, TensorFile, as_bytes, write

BLENDED: Final[tuple[CheckpointKind, ...]] = ("full", "lora")
"""Kinds of checkpoints of which there are blends."""

KEY: Final = "clipwatch_blend"
"""Under it a blend's metadata tell what it was made of."""

_ALONE: Final = f"blend{SUFFIX}"
"""What a blend of single files is called, each of which has a name of its own."""

_STALE: Final = (
    *("sshs_", "modelspec.hash", "ss_steps", "ss_epoch", "training_info", "global_step"),
    "clipwatch_",
)
"""How metadata begin that would be untrue: digests of the tensors, and the step."""

_BESIDE: Final = {
    "full": ("config.json", "*.safetensors.index.json"),  # in a folder of their own
    "lora": (PEFT_CONFIG,),
}
"""By kind, what is copied from beside the weights, so that other programs can load them."""

_CONFIG_LIMIT: Final = 16_000_000
"""Bytes; see `layouts.files.INDEX_LIMIT`."""


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that is averaged: its name, its folder, its weights in it, and its share."""

    name: str
    folder: Path
    files: tuple[WeightFile, ...]
    share: float


def blend(
    sources: Sequence[Source],
    kind: CheckpointKind,
    target: Path,
    told: Mapping[str, object],
    alpha: float | None = None,
) -> tuple[WeightFile, ...]:
    """Write the average of checkpoints into a folder; return the files that are its weights.

    Args:
        sources: One at least; the last one's metadata are kept.
        kind: Of all of them, one of BLENDED.
        target: The folder, made if it is not there.
        told: What the metadata are to tell of the blend.
        alpha: Of a LoRA whose file tells none; None for its rank.

    Raises:
        CheckpointError: They are not alike, cannot be averaged, or are gone.
        OSError: The average cannot be written.
    """
    _check_there(sources)
    total = math.fsum(it.share for it in sources)
    shares = [it.share / total for it in sources]
    written: list[str] = []
    for name, paths in _weights(sources):
        if kind == "lora" and written:
            raise CheckpointError(f"{paths[-1]} holds learned tokens, which are not averaged")
        files, into = [TensorFile(it) for it in paths], (target / name).parent
        make_private(into)
        rank = 0
        try:
            if kind == "lora":
                configs = (_config(it) for it in sources)
                loras = [Lora(it, text, alpha) for it, text in zip(files, configs, strict=True)]
                tensors, rank = average(loras, shares)
            else:
                tensors = _full(files, shares)
            write(target / name, tensors, _metadata(files[-1].metadata, told, rank))
            if kind == "lora" or into != target:
                _copy_beside(paths[-1].parent, into, _BESIDE[kind], rank)
        except ValueError as error:
            raise CheckpointError(f"{paths[-1]} cannot be averaged: {error}") from error
        written.append(name)
    _check_there(sources)
    if any(it.path == PEFT_CONFIG for it in sources[-1].files):
        written.append(PEFT_CONFIG)
    return tuple(_found(target, name) for name in written)


def is_there(folder: Path, files: Sequence[WeightFile]) -> bool:
    """Whether a checkpoint's files lie there as they were found."""
    try:
        return all(is_same(it, (folder / it.path).stat()) for it in files)
    except OSError:
        return False


def _check_there(sources: Sequence[Source]) -> None:
    for it in sources:
        if not is_there(it.folder, it.files):
            raise CheckpointError(
                f"{it.name} is gone from {it.folder}, or was written again",
                fix="call it again: what was scored is kept",
            )


def _weights(sources: Sequence[Source]) -> Iterator[tuple[str, list[Path]]]:
    """Yield the name of each file of weights, and where it lies in each checkpoint.

    Raises:
        CheckpointError: They have other files.
    """
    names = [[it.path for it in of.files if it.path.endswith(SUFFIX)] for of in sources]
    if all(len(it) == 1 for it in names):
        alike = len({it[0] for it in names}) == 1 and leads_inside(names[0][0])
        name = names[0][0] if alike else _ALONE
        yield name, [of.folder / it[0] for of, it in zip(sources, names, strict=True)]
        return
    for other, of in zip(names, sources, strict=True):
        if set(other) != set(names[0]) or not all(map(leads_inside, other)):
            raise CheckpointError(f"{of.name} has other files than {sources[0].name}")
    for name in names[0]:
        yield name, [of.folder / name for of in sources]


def _full(files: Sequence[TensorFile], shares: Sequence[float]) -> dict[str, Made]:
    """Return the average of weights themselves, each tensor in the type of the last file.

    Raises:
        ValueError: They are not alike; of numbers that are no floats the values must be.
    """
    last = files[-1]
    for other in files:
        if odd := sorted(other.entries.keys() ^ last.entries.keys()):
            raise ValueError(f"{other.path} has not the same tensors, as {odd[0]}")
        for name, entry in last.entries.items():
            if other.entries[name].shape != entry.shape:
                raise ValueError(f"{name} has another shape in {other.path}")

    def mean(name: str) -> bytes:
        entry = last.entries[name]
        if entry.dtype not in FLOATS:
            if any(it.raw(name) != last.raw(name) for it in files):
                raise ValueError(f"it is {entry.dtype} and differs: quantised, or no weight")
            return last.raw(name)
        found = np.zeros(entry.shape, np.float32)
        for share, file in zip(shares, files, strict=True):
            found += np.float32(share) * file.floats(name)
        return as_bytes(found, entry.dtype)

    return {
        name: Made(it.dtype, it.shape, partial(mean, name)) for name, it in last.entries.items()
    }


def _config(source: Source) -> str:
    """Return PEFT's config beside a LoRA, where that tells its alphas; "" else."""
    told = any(it.path == PEFT_CONFIG for it in source.files)
    return _text(source.folder / PEFT_CONFIG) if told else ""


def _metadata(own: Mapping[str, str], told: Mapping[str, object], rank: int) -> dict[str, str]:
    kept = {key: it for key, it in own.items() if not key.startswith(_STALE)}
    if rank:
        kept |= {key: str(rank) for key in ("ss_network_dim", "ss_network_alpha") if key in kept}
        if METADATA_KEY in kept:
            kept[METADATA_KEY] = retold(kept[METADATA_KEY], rank)
    return {**kept, KEY: json.dumps(told)}


def _copy_beside(folder: Path, into: Path, patterns: Sequence[str], rank: int) -> None:
    """Copy what lies beside the weights; a LoRA's config with the rank and scale of the blend."""
    for path in sorted(it for pattern in patterns for it in folder.glob(pattern)):
        text = _text(path)
        if path.name == PEFT_CONFIG:
            text = retold(text, rank)
        write_private(into / path.name, text.encode(), lasting=True)


def _text(path: Path) -> str:
    try:
        with opened(path) as file:
            return file.read(_CONFIG_LIMIT).decode()
    except (NotWhole, NotReadable, OSError, UnicodeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _found(folder: Path, name: str) -> WeightFile:
    stat = (folder / name).stat()
    return WeightFile(name, stat.st_size, stat.st_mtime_ns, inode_of(stat))
