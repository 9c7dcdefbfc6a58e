"""What is told of an evaluation that ended when its difference to another was known. Pure."""

from __future__ import annotations

from clipwatch.domain.decided import Decision, Estimate, EvaluationOutdone, Reference
from clipwatch.domain.state import Run
from clipwatch.results.figures import interval, number, plural


def decided(found: Decision, name: str, digits: int = 4) -> str:
    """Return how it compares, in words that go on a sentence; `name` is the reference's."""
    after, worth = f"after {plural(found.prompts, 'prompt')}", f"{found.worth:.3g}"
    if found.finding == "within":
        return f"within {worth} of {name} {after}"
    if found.finding in ("above", "below"):
        return f"{found.finding} {name} {after} ({interval(found.low, found.high, digits)})"
    return f"not known to be above, below or within {worth} of {name} {after}"


def estimated(found: Estimate, images: int) -> str:
    """Return that a mean is an estimate; `images` were made."""
    worth = found.effective.get("", 0.0)
    return f"estimated for all prompts from {plural(images, 'image')}, as sure as {worth:.0f}"


def outdone(found: EvaluationOutdone, name: str, digits: int = 4) -> str:
    """Return why no more images are made, in words that go on a sentence; `name` led then."""
    after = f"after {found.prompts} of {plural(found.of, 'prompt')}"
    return f"surely not the best {after}, {number(-found.delta, digits)} below {name}"


def short(run: Run, found: Decision) -> str:
    """Return the same in two words, for a table."""
    return f"{found.finding} {called(run, found.reference)}" if found.finding != "open" else "open"


def called(run: Run, reference: Reference) -> str:
    """Name what an evaluation was compared with: by its step, by its run where that is another."""
    known = None if reference.run else run.evaluations.get(reference.evaluation)
    if known is None:
        return reference.run or reference.evaluation.partition("/")[0]
    return "base" if known.of_base else f"@{known.step}"
