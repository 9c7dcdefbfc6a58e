"""Which layout a checkpoint belongs to, told from a listing alone: no disk is touched here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from clipwatch.domain.sighting import Weights
from clipwatch.kit.errors import ClipwatchError
from clipwatch.layouts.base import Candidate, Inspection, Layout, Listing
from clipwatch.layouts.claims import BUILT_IN, claims
from clipwatch.layouts.files import NotWhole, Unsupported

ROOT = Path("/runs/out")


def listing(*paths: str, **links: str) -> Listing:
    """Return an output directory in which these lie; a path with a slash makes its folder."""
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    files = [path for path in paths if "/" not in path]
    return Listing(ROOT, tuple(sorted(folders)), tuple(files), set(paths).__contains__, links)


def owners(found: Listing, layouts: dict[str, Layout] | None = None) -> list[tuple[str, int, str]]:
    """Return name, step and layout of each candidate, in order."""
    asked = {**(layouts or {}), **BUILT_IN}
    return [(it.candidate.name, it.candidate.step, it.layout) for it in claims(found, asked)]


class Takes:
    """A layout that claims entries by name, in the order of their naming."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.seen: list[str] = []

    def candidates(self, listing: Listing) -> Iterable[Candidate]:
        """Claim folders as steps and files as epochs."""
        self.seen += [*listing.folders, *listing.files]
        for step, name in enumerate(self.names):
            if name in listing.files:
                yield Candidate(step, "epoch", name, listing.root, (name,))
            if name in listing.folders:
                yield Candidate(step, "step", name, listing.root / name)

    def inspect(self, candidate: Candidate, weights: str) -> Inspection:
        """Find a LoRA without a file."""
        return Inspection(Weights("lora", f"{candidate.name} {weights}", ()))


def test_the_files_in_a_folder_tell_whose_it_is() -> None:
    """SimpleTuner's marks before a pipeline's index, and diffusers' scripts have what is left."""
    found = listing(
        "checkpoint-1/training_state.json",
        "checkpoint-2/.guard",
        "checkpoint-3/checkpoint_manifest.json",
        "checkpoint-4/model_index.json",
        "checkpoint-4/.guard",
        "checkpoint-5/model_index.json",
        "checkpoint-6/unet",
        "step-7/model_index.json",
        "step-8/unet",
        "checkpoint-9-tmp/.guard",
        "pytorch_lora_weights.safetensors",
    )
    assert owners(found) == [
        ("step-8", 8, "step_folder"),
        ("step-7", 7, "pipeline_folder"),
        ("checkpoint-6", 6, "diffusers_script"),
        ("checkpoint-5", 5, "pipeline_folder"),
        ("checkpoint-4", 4, "simpletuner"),
        ("checkpoint-3", 3, "simpletuner"),
        ("checkpoint-2", 2, "simpletuner"),
        ("checkpoint-1", 1, "simpletuner"),
    ]
    marked = {it.candidate.name: it.candidate.marked for it in claims(found, BUILT_IN)}
    assert marked["checkpoint-1"]
    assert not marked["checkpoint-6"]


def test_what_one_layout_claims_the_next_does_not_see() -> None:
    """The first that claims an entry has it, files of a flat folder as well as folders."""
    first, second = Takes("a.safetensors", "checkpoint-5"), Takes("a.safetensors", "b.safetensors")
    found = listing("a.safetensors", "b.safetensors", "checkpoint-5/.guard")
    assert sorted(owners(found, {"first": first, "second": second})) == [
        ("a.safetensors", 0, "first"),
        ("b.safetensors", 1, "second"),
        ("checkpoint-5", 1, "first"),
    ]
    assert second.seen == ["b.safetensors"]


def test_a_second_name_is_no_second_checkpoint() -> None:
    """A link to a candidate beside it is passed over, one to anything else is not."""
    links = {"last.safetensors": "a.safetensors", "b.safetensors": "notes.txt"}
    files = ("a.safetensors", "last.safetensors", "b.safetensors", "notes.txt")
    found = Listing(ROOT, (), files, lambda _: False, links)
    layout = Takes("a.safetensors", "last.safetensors", "b.safetensors")
    assert [name for name, *_ in owners(found, {"mine": layout})] == [
        "b.safetensors",
        "a.safetensors",
    ]


def test_a_name_stands_for_one_candidate() -> None:
    """Of two that a layout calls the same the first is kept."""

    class Twice(Takes):
        def candidates(self, listing: Listing) -> Iterable[Candidate]:
            for name in listing.files:
                yield Candidate(7, "step", "same", listing.root, (name,))

    found = listing("a.safetensors", "b.safetensors")
    [claim] = claims(found, {"twice": Twice()})
    assert claim.candidate.files == ("a.safetensors",)


@pytest.mark.parametrize(
    ("step", "name"), [(-1, "a"), (10**18, "a"), (1, ""), (1, "a/b"), (1, "..")]
)
def test_what_cannot_stand_in_the_log_is_no_candidate(step: int, name: str) -> None:
    """A step is a number that trackers take, a name one that a folder can have."""
    with pytest.raises(ValueError, match="is no"):
        Candidate(step, "step", name, ROOT)


class Fails(Takes):
    """A layout with a mistake in it."""

    def __init__(self, error: Exception) -> None:
        super().__init__("a.safetensors")
        self.error = error

    def inspect(self, candidate: Candidate, weights: str) -> Inspection:
        """Fail, whatever it is asked for."""
        raise self.error if candidate.name and weights else AssertionError


def test_a_layout_that_fails_is_named() -> None:
    """On one candidate it leaves out that one; on the directory nothing can be said of any."""
    [claim] = claims(listing("a.safetensors"), {"odd": Fails(KeyError("x"))})
    with pytest.raises(Unsupported, match=r"the layout 'odd' fails on it \(KeyError: 'x'\)"):
        claim.inspect("live")
    [claim] = claims(listing("a.safetensors"), {"odd": Fails(NotWhole("half"))})
    with pytest.raises(NotWhole, match="half"):
        claim.inspect("live")

    class Broken(Takes):
        def candidates(self, listing: Listing) -> Iterable[Candidate]:
            return [Candidate(1, "step", "a/b", listing.root)]

    with pytest.raises(ClipwatchError, match="the layout 'odd' fails on /runs/out") as raised:
        claims(listing("a.safetensors"), {"odd": Broken()})
    assert raised.value.fix
