"""Which checkpoints are another one under a second name, and which have no place on the curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clipwatch.domain.sighting import SAME, Sighting, Unusable, Whole
from clipwatch.layouts.base import Inspection

_NOWHERE = (
    "neither its name nor its file tells a step: it has no place on the curve; clipwatch score "
    "gives its number"
)


def apart(
    sightings: Sequence[Sighting], looked: Mapping[str, Inspection], placed: Mapping[str, bool]
) -> list[Sighting]:
    """Return the sightings, of which none is the same weights at the same place as another.

    Args:
        sightings: Of one look.
        looked: Name → what was found in it.
        placed: Name → whether its place on the curve is known; most are not in it, and are.
    """
    first: dict[tuple[str, object], str] = {}
    anywhere: dict[str, str] = {}
    found: dict[str, Sighting] = {}
    for seen in sorted(sightings, key=lambda it: _order(it, placed)):
        same = looked[seen.name].same if isinstance(seen.verdict, Whole) else ""
        there = placed.get(seen.name, True)
        twin = ""
        if same and there:
            place = "apart" if seen.unit == "file" else (seen.step, seen.unit)
            twin = first.setdefault((same, place), seen.name)
            anywhere[same] = seen.name
        elif same:
            twin = anywhere.get(same, "")
        if twin and twin != seen.name:
            found[seen.name] = replace(seen, verdict=Unusable("unsupported", f"{SAME} {twin}"))
        elif isinstance(seen.verdict, Whole) and not there:
            found[seen.name] = replace(seen, verdict=Unusable("unsupported", _NOWHERE))
    return [found.get(it.name, it) for it in sightings]


def _order(seen: Sighting, placed: Mapping[str, bool]) -> tuple[bool, int, str]:
    """What was written first comes first: others may have been scored by then."""
    files = seen.verdict.weights.files if isinstance(seen.verdict, Whole) else ()
    written = max((file.mtime_ns for file in files), default=0)
    return not placed.get(seen.name, True), written, seen.name
