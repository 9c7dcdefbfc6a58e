"""How long evaluations take, and how often a trainer saves, by what was seen of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import merge
from itertools import islice, pairwise
from statistics import median, median_low

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.queue import queue
from clipwatch.domain.state import Evaluation, Run, protocols_of
from clipwatch.pace.values import Pace

LIMIT = "checkpoints_total_limit"
INTERVAL = "checkpoint_step_interval"

RECENT = 6
"""Saves whose spacing counts: a training that was interrupted has one long pause among them."""

LATEST = 3
"""Evaluations that count: the middle one of their times for an image, and the least for loading, as
the first one after a start loads the base model, too, which the others find loaded."""

IDLE = 3.0
"""A training that saved nothing for so many times its interval saves no more."""

COPIED = 1.0
"""Seconds: no training saves more often, and files that were copied may lie closer."""

Save = tuple[int, float | None]
"""The step of a checkpoint and the Unix time of its writing; None where that is gone with it."""


def pace_of(
    protocol: EvaluationProtocol,
    told: Mapping[str, str],
    run: Run | None,
    saves: Sequence[Save],
    now: float,
) -> Pace:
    """Measure the pace of a run.

    Args:
        protocol: The one that it is, or would be, scored by.
        told: The settings as the log has them.
        run: None for one without a log.
        saves: Of the trainer, in any order.
        now: Unix time.
    """
    prompts, times = len(protocol.prompts), _strengths(told, run)
    images = prompts * protocol.images_per_prompt
    steps, between = rhythm(saves)
    stamps = [time for _, time in saves if time is not None]
    if stamps and now - max(stamps) > IDLE * between:
        between = 0.0
    limit = _number(told.get(LIMIT, ""))
    known = Pace(
        prompts=prompts,
        images=times * images,
        steps=steps or _number(told.get(INTERVAL, "")) or 0,
        between=between,
        limit=limit,
        times=times,
        behind=told.get("when_behind", "wait"),
    )
    if run is None:
        return known
    known = replace(known, waiting=len(queue(run)), steps=known.steps * (run.unit == "step"))
    latest = _latest(run, protocol)
    if not latest:
        return known
    loads = [_loading(it) for it in latest]
    loading = min(loads) if len(loads) > 1 else 0.0
    each = median((it.seconds - load) / it.images for it, load in zip(latest, loads, strict=True))
    newest = latest[-1]
    if newest.protocol in run.present and newest.clip:  # which may end early, see `precision`
        images = min(images, newest.clip.n)
    seconds = times * (loading + each * images)
    return replace(known, images=times * images, seconds=seconds, loading=times * loading)


def saves_of(run: Run) -> list[Save]:
    """Return the saves of one training that the log knows of."""
    return [
        (it.step, max(file.mtime_ns for file in it.files) / 1e9 if it.files else None)
        for it in run.checkpoints.values()
        if not it.is_base and it.unit != "file"
    ]


def rhythm(saves: Sequence[Save]) -> tuple[int, float]:
    """Return the steps and the seconds between two saves, by the latest; 0 where unknown.

    Steps are known of checkpoints that are gone, times are not, so that time goes by step.
    """
    known = {step: time for step, time in saves if time is not None}
    steps = sorted({step for step, _ in saves})[-RECENT:]
    apart = [after - before for before, after in pairwise(steps)]
    rates = [
        (known[after] - known[before]) / (after - before)
        for before, after in pairwise(sorted(known)[-RECENT:])
        if known[after] > known[before]
    ]
    between = median_low(apart) if apart else 0
    seconds = between * median(rates) if rates else 0.0
    return between, seconds if seconds >= COPIED else 0.0


def _strengths(told: Mapping[str, str], run: Run | None) -> int:
    """Return how often a checkpoint is scored: at several strengths unless it is no adapter."""
    known = run.checkpoints.values() if run else ()
    latest = [it for it in known if it.state == "whole" and not it.is_base][-1:]
    asked = len(told.get("strengths", "").split(","))
    return min(asked, *(len(protocols_of(run, it)) for it in latest)) if run and latest else asked


def _number(text: str) -> int | None:
    """Return a setting's number, 0 for one below; None for what is not there, or hidden."""
    return int(text) if text.isdecimal() else 0 if text.startswith("-") else None


def _latest(run: Run, protocol: EvaluationProtocol) -> list[Evaluation]:
    """Return the latest evaluations that took as long per image, on one device, the newest last."""
    wanted = _costs(protocol)
    alike = (it for it, known in run.protocols.items() if _costs(known) == wanted)
    done = (map(run.evaluations.__getitem__, reversed(run.scored.get(it, ()))) for it in alike)
    # what was imported took its time elsewhere
    each = ((it for it in found if not it.source) for found in done)
    # without images all were there from the attempt before, or nobody counted
    counted = (it for it in merge(*each, key=_finished, reverse=True) if it.seconds and it.images)
    newest = next(counted, None)
    if newest is None:
        return []
    others = islice((it for it in counted if _device(it) == _device(newest)), LATEST - 1)
    return [newest, *others][::-1]


def _costs(protocol: EvaluationProtocol) -> tuple[object, ...]:
    """Return what decides how long an image takes."""
    p = protocol
    makes = (p.width, p.height, p.inference_steps, p.guidance > 1, p.guidance_real > 1)
    loads = (p.base_model, p.dtype, p.base_precision, p.offload, p.scorers)
    return (*makes, *loads)


def _finished(evaluation: Evaluation) -> float:
    return evaluation.finished.timestamp() if evaluation.finished else 0.0


def _device(evaluation: Evaluation) -> str:
    return evaluation.environment.get("device", "")


def _loading(evaluation: Evaluation) -> float:
    return min(evaluation.seconds, evaluation.loading)
