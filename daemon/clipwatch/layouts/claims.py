"""Which layouts there are, and which of them each checkpoint in an output directory belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from clipwatch.domain.kinds import TrainedWeights
from clipwatch.kit import plugins
from clipwatch.kit.errors import ClipwatchError
from clipwatch.layouts import (
    ai_toolkit,
    apart,
    diffusers_script,
    diffusion_pipe,
    everydream2,
    kohya,
    onetrainer,
    pipeline_folder,
    simpletuner,
    single_file,
    step_folder,
    textual_inversion,
)
from clipwatch.layouts.base import Candidate, Inspection, Layout, Listing
from clipwatch.layouts.files import NotReadable, NotWhole, Unsupported
from clipwatch.layouts.generic import Generic
from clipwatch.layouts.listing import listed, listed_alone

Layouts = Mapping[str, Layout]
"""By name, the first to be asked first."""

BUILT_IN: Final[Layouts] = MappingProxyType(
    {
        "simpletuner": simpletuner,
        "onetrainer": onetrainer,
        "everydream2": everydream2,
        "kohya": kohya,
        "ai_toolkit": ai_toolkit,
        "diffusion_pipe": diffusion_pipe,
        "textual_inversion": textual_inversion,
        "pipeline_folder": pipeline_folder,
        "diffusers_script": diffusers_script,
        "step_folder": step_folder,
    }
)
"""From the particular to the general: the last ones take what is left under a name for a step."""


GENERIC: Final = "generic"
"""The name of the layout that the settings describe."""

FILES: Final = "files"
"""The name of the layout for what no training orders: each file is a checkpoint of its own."""


@cache
def installed() -> Layouts:
    """Return every layout: those of other packages by name, then ours.

    Theirs come first because each knows one trainer, while ours take whatever is left.

    Raises:
        SettingsError: One is registered but cannot be imported.
    """
    theirs = {name: plugins.load(plugins.LAYOUTS, name) for name in plugins.names(plugins.LAYOUTS)}
    return MappingProxyType({**theirs, **BUILT_IN})


@cache
def chosen(name: str, files: str = "", step: str = "", only: tuple[str, ...] = ()) -> Layouts:
    """Return the layouts of the settings: all that are installed for "auto", else the named one.

    Args:
        name: "auto", GENERIC, FILES or a layout's.
        files: With GENERIC, as of Generic.
        step: With GENERIC, as of Generic.
        only: The names of the entries that are looked at, none for all.

    Raises:
        SettingsError: As `installed`, or there is none of that name.
    """
    if only:
        named = frozenset(only)
        return MappingProxyType(
            {own: Only(it, named) for own, it in chosen(name, files, step).items()}
        )
    if name == FILES:
        return MappingProxyType({FILES: apart})
    if name == GENERIC:
        return MappingProxyType({GENERIC: Generic(files, step)})
    if name == "auto" or name in BUILT_IN:
        return installed() if name == "auto" else MappingProxyType({name: BUILT_IN[name]})
    return MappingProxyType({name: plugins.load(plugins.LAYOUTS, name)})


@dataclass(frozen=True, slots=True)
class Only:
    """A layout of which only some entries of the output directory count.

    All are shown to it, as some tell where others stand.
    """

    layout: Layout
    names: frozenset[str]

    def candidates(self, listing: Listing) -> list[Candidate]:
        """Return the layout's that are named."""
        found = self.layout.candidates(listing)
        return [it for it in found if self.names.intersection(_entries(it, listing.root))]

    def inspect(self, candidate: Candidate, weights: TrainedWeights) -> Inspection:
        """Look as the layout does."""
        return self.layout.inspect(candidate, weights)


@dataclass(frozen=True, slots=True)
class Claim:
    """A candidate, and whose it is."""

    candidate: Candidate
    layout: str
    of: Layout

    def inspect(self, weights: TrainedWeights) -> Inspection:
        """Look into the candidate, as `Layout.inspect` does.

        Raises:
            Unsupported: Also for whatever a layout fails with, so that the others go on.
        """
        try:
            return self.of.inspect(self.candidate, weights)
        except (NotWhole, Unsupported, NotReadable, OSError):
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise Unsupported(f"the layout {self.layout!r} fails on it ({told})") from error


def claims(listing: Listing, layouts: Layouts) -> list[Claim]:
    """Return the candidates in an output directory, newest step first.

    The first layout that claims an entry has it, and a name stands for one candidate. A second
    name for a candidate beside it is left out.

    Raises:
        ClipwatchError: A layout fails, so that nothing is known of what lies there.
    """
    found: dict[str, Claim] = {}
    taken: set[str] = set()
    for name, layout in layouts.items():
        left = replace(
            listing, folders=_but(listing.folders, taken), files=_but(listing.files, taken)
        )
        try:
            mine = list(layout.candidates(left))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise ClipwatchError(
                f"the layout {name!r} fails on {listing.root} ({told})",
                fix="mend or uninstall the package that brings it",
            ) from error
        taken.update(entry for it in mine for entry in _entries(it, listing.root))
        for candidate in mine:
            found.setdefault(candidate.name, Claim(candidate, name, layout))
    entries = {name: _entries(it.candidate, listing.root)[0] for name, it in found.items()}
    named = set(entries.values())
    kept = (it for name, it in found.items() if listing.links.get(entries[name]) not in named)
    return sorted(kept, key=lambda it: (-it.candidate.step, it.candidate.name))


def claims_in(output_dir: Path, layouts: Layouts) -> list[Claim]:
    """Return the candidates that lie in an output directory, newest step first.

    Raises:
        FileNotFoundError: It does not exist.
        NotReadable: It may not be read.
        ClipwatchError: As `claims` and `installed`.
    """
    return claims(listed(output_dir), layouts)


def claim_of(path: Path, layouts: Layouts) -> Claim | None:
    """Return the claim to one folder or file, whatever lies beside it.

    If nobody claims it, any folder is one, as a checkpoint of diffusers and of step 0, and any
    safetensors file, of the step that it tells; None for other files.
    """
    found = claims(listed_alone(path), layouts)
    if found:
        return found[0]
    if not path.is_dir():
        if path.suffix != single_file.SUFFIX:
            return None
        alone = Candidate(0, "step", path.name, path.parent, (path.name,), placed=False)
        return Claim(alone, "single_file", single_file)
    candidate = Candidate(pipeline_folder.step(path.name) or 0, "step", path.name, path)
    return Claim(candidate, "diffusers_script", diffusers_script)


def named_in(layouts: Layouts) -> frozenset[str]:
    """Return the names of the only entries that these layouts look at, none for all."""
    return frozenset().union(*(it.names for it in layouts.values() if isinstance(it, Only)))


def entries(found: Iterable[Claim], root: Path) -> set[str]:
    """Return the names in a listing that belong to claims."""
    return {name for it in found for name in _entries(it.candidate, root)}


def _entries(candidate: Candidate, root: Path) -> tuple[str, ...]:
    """Return the names in a listing that a candidate takes; of a deeper one that of its folder."""
    at, above = str(candidate.root), os.path.join(root, "")  # noqa: PTH118 - a Path costs more
    if at == str(root):
        return tuple(dict.fromkeys(name.split("/")[0] for name in candidate.files))
    return (at.removeprefix(above).split("/")[0] if at.startswith(above) else candidate.root.name,)


def _but(names: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in taken)
