"""What lies in an output directory beside its checkpoints, in a line for a person.

What is not understood must not look as if nothing were there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from clipwatch.layouts.base import Listing
from clipwatch.layouts.claims import Claim, Layouts, claims, entries, named_in
from clipwatch.layouts.listing import listed

DEPTH = 3
"""Folders below an output directory in which checkpoints are looked for, to name them."""

MOST = 100
"""Folders that are looked into at most."""

_SUFFIXES = {
    ".safetensors": "single .safetensors {} whose name tells no step",
    ".ckpt": ".ckpt {}, a pickle that is never opened",
    ".pt": ".pt {}, a pickle that is never opened",
    ".pth": ".pth {}, a pickle that is never opened",
    ".bin": ".bin {}, a pickle that is never opened",
    ".gguf": ".gguf {}, which is not read",
}
LEFT_BESIDE = ("pytorch_lora_weights", "optimizer")
"""How files begin that trainers leave beside their checkpoints."""

_STATE = "-state"


def lying(listing: Listing, found: Sequence[Claim], layouts: Layouts) -> str:
    """Return what is passed over, or mixed, "" where there is nothing of the kind.

    Where there is no checkpoint at all, those in folders below are named.

    Args:
        listing: Of the output directory.
        found: The claims in it.
        layouts: That were asked; what they are not to look at is not told of.
    """
    taken, only = entries(found, listing.root), named_in(layouts)
    files = [
        it
        for it in listing.files
        if it not in taken and not it.startswith(LEFT_BESIDE) and (not only or it in only)
    ]
    told = [_files(files, suffix, what) for suffix, what in _SUFFIXES.items()]
    states = [it for it in listing.folders if it.endswith(_STATE) and it not in taken and not only]
    told.append(_counted(states, "{} to resume from", "folder"))
    series = sorted({it.candidate.series for it in found} - {""})
    if len(series) > 1:
        names = ", ".join(series[:3])
        told.append(
            f"checkpoints of {len(series)} trainings, by their names ({names}), which one curve"
            " cannot tell apart: give each its own folder, or describe one (layout generic)"
        )
    if not found and not only and (full := below(listing, layouts)):
        (first, number), *others = full
        more = f" (and {len(others)} more)" if others else ""
        them = f"{number} checkpoint{'s' * (number > 1)}"
        told.append(f"{them} in {first}{more}: name that folder as output_dir")
    return "; ".join(filter(None, told))


def _files(names: Sequence[str], suffix: str, what: str) -> str:
    return _counted([name for name in names if name.endswith(suffix)], what, "file")


def _counted(names: Sequence[str], what: str, noun: str) -> str:
    if not names:
        return ""
    many = what.format(noun + "s" * (len(names) > 1))
    if len(names) > 1:
        many = many.replace("whose name tells", "whose names tell").replace("a pickle", "pickles")
        many = many.replace("that is never", "that are never").replace(
            "which is not", "which are not"
        )
    return f"{len(names)} {many} ({ascii(min(names))[1:-1]})"


def below(listing: Listing, layouts: Layouts) -> list[tuple[Path, int]]:
    """Return the folders below one with checkpoints of their own, and how many each has.

    Those that lie least deep, in the order of their names.
    """
    left = MOST
    level = [listing]
    for _ in range(DEPTH):
        names = ((it, name) for it in level for name in sorted(it.folders))
        looked = islice((it for it in names if not it[1].endswith(_STATE)), left)
        inside = [it.inside(name) for it, name in looked]
        left -= len(inside)
        if full := [(it.root, number) for it in inside if (number := len(claims(it, layouts)))]:
            return full
        level = inside
    return []


def lying_in(output_dir: Path, layouts: Layouts) -> str:
    """Return what `lying` says of a folder.

    Raises:
        OSError, NotReadable, ClipwatchError: As `claims_in`.
    """
    listing = listed(output_dir)
    return lying(listing, claims(listing, layouts), layouts)
