"""Of which evaluations the images are kept: the newest ones', the base's and the best's. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from clipwatch.domain.deciding import is_part
from clipwatch.domain.events import ImagesDeleted
from clipwatch.domain.state import CheckpointKey, Evaluation, Run

GB = 10**9
"""Bytes; what disks are sold in."""

UNFINISHED = "its evaluation cannot go on"


def to_delete(
    run: Run,
    there: Mapping[str, int],
    keep: int,
    most_gb: float | None,
    owed: Container[str],
    held: Container[CheckpointKey],
) -> list[ImagesDeleted]:
    """Return whose images are to be deleted, in that order.

    Kept are, of each protocol, those of the newest evaluations, of the base and of the best one;
    beyond `most_gb` the oldest go first, and base and best after all others. What is still owed, or
    can go on, stays in any case.

    Args:
        run: As the log has it.
        there: By evaluation, how many bytes its images take; those without any are left out.
        keep: Of how many of a protocol, the newest, they stay; -1 for all, 0 for none at all.
        most_gb: How much all images of the run may take, in 10**9 bytes; None for no bound.
        owed: Evaluations whose images are still to be published.
        held: Checkpoints that can be evaluated though their folders may be gone.
    """
    dear = dear_ones(run) if keep else frozenset()
    in_order = (_imported_first(run, ids) for ids in run.scored.values())
    newest = {id_ for ids in in_order for id_ in ids[max(0, len(ids) - keep) :]}
    found: list[ImagesDeleted] = []
    kept: list[Evaluation] = []
    for id_ in there:
        known = run.evaluations[id_]
        if id_ in owed:
            continue
        if known.state != "scored":
            if not _goes_on(run, known, held):
                found.append(ImagesDeleted(id_, UNFINISHED))
        elif keep < 0 or id_ in newest or id_ in dear:
            kept.append(known)
        else:
            found.append(ImagesDeleted(id_, f"keep_images is {keep}"))
    if most_gb is None:
        return found
    left = sum(there.values()) - sum(there[it.evaluation] for it in found)
    for known in sorted(kept, key=lambda it: (it.id in dear, it.finished)):
        if left <= most_gb * GB:
            break
        left -= there[known.id]
        found.append(ImagesDeleted(known.id, f"keep_images_gb is {most_gb:g}"))
    return found


def _imported_first(run: Run, ids: Sequence[str]) -> list[str]:
    """Return a protocol's evaluations by age; what was imported came late, and is no newer."""
    return sorted(ids, key=lambda it: not run.evaluations[it].source)


def dear_ones(run: Run) -> frozenset[str]:
    """Return the evaluations of the base and of the best of each protocol, as they stand."""
    found: set[str] = set()
    for ids in run.scored.values():
        standing = {it.checkpoint: it for it in map(run.evaluations.__getitem__, ids)}
        found |= {it.id for it in standing.values() if it.of_base}
        means = {
            it.id: (not is_part(run, it), it.clip.mean, -it.step)
            for it in standing.values()
            if it.clip and not it.of_base
        }
        found |= {max(means, key=means.__getitem__)} if means else set()
    return frozenset(found)


def _goes_on(run: Run, evaluation: Evaluation, held: Container[CheckpointKey]) -> bool:
    """Whether the weights of an unfinished evaluation are still to be had."""
    there = run.checkpoints.get(evaluation.checkpoint)
    whole = there is not None and there.state == "whole" and there.digest == evaluation.digest
    return whole or (evaluation.checkpoint, evaluation.digest) in held
