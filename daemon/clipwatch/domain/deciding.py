"""With what an evaluation is compared while it is made, and which are made wholly. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from clipwatch.domain.decided import Reference
from clipwatch.domain.state import Evaluation, Run, State
from clipwatch.domain.strengths import base_of
from clipwatch.statistics.scale import Scale

BEST, BASE = "best", "base"
"""References that stand for one that is yet to be found."""


def is_whole(run: Run, evaluation: Evaluation) -> bool:
    """Whether an evaluation is scored on all images of its protocol."""
    made = run.protocols.get(evaluation.protocol)
    if made is None or evaluation.clip is None:
        return False
    return evaluation.clip.n >= len(made.prompts) * made.images_per_prompt


def is_part(run: Run, evaluation: Evaluation) -> bool:
    """Whether an evaluation ended when its difference to another was known, before its last image.

    Its prompts are few, and chosen by what they said: what ranks or compares has to know that, also
    where nobody could judge it.
    """
    done = evaluation.completed
    ended = done is not None and (evaluation.reference or done.decision) is not None
    return ended and not is_whole(run, evaluation)


def yardsticks(run: Run, protocol: str, but: str = "") -> list[Evaluation]:
    """Return the trained checkpoints that others are compared with, without the evaluation `but`.

    They are scored wholly, and each was the first or known to be above one of them: the highest of
    many that nobody could tell apart would be the luckiest.
    """
    known = (run.evaluations[id_] for id_ in run.scored.get(protocol, ()) if id_ != but)
    whole = [it for it in known if not it.of_base and is_whole(run, it)]
    decisions = [it.completed.decision if it.completed else None for it in whole]
    pairs = zip(whole, decisions, strict=True)
    return [it for it, found in pairs if found is None or found.finding == "above"]


def reference_of(run: Run, protocol: str, id_: str, against: str) -> Reference | None:
    """Return with what an evaluation is compared while it is made; None: it is made wholly.

    The base is made wholly, and so is the first checkpoint: others are told from them. What was
    chosen when an evaluation began stands for it, as images that came before in another order, or
    in parts, do not speak for all prompts.

    Args:
        run: Its run.
        protocol: Its protocol's digest.
        id_: Of the evaluation, which may not have begun.
        against: BEST for the highest mean of those that are whole, or BASE.
    """
    begun = run.evaluations.get(id_)
    if begun is not None and (begun.of_base or begun.reference or begun.done):
        return None if begun.source else begun.reference
    whole = yardsticks(run, protocol, id_)
    if not whole:
        return None
    if against == BASE:
        base = base_of(run, protocol)
        found = base if base and is_whole(run, run.evaluations[base]) else ""
    else:
        found = max(whole, key=lambda it: it.clip.mean if it.clip else 0.0).id
    return Reference(found) if found else None


def worth_of(named: Mapping[str, float | None], scale: Scale) -> float | None:
    """Return the difference that matters by the scorer that decides; None where nobody knows it.

    Args:
        named: By the settings; None for a scorer that gives no advice, which says nothing here.
        scale: Of the scorer.
    """
    found = named.get("")
    return scale.worth if found is None else found


def named_reference(state: State, own: str, protocol: str, text: str) -> Reference | None:
    """Return what RUN@STEP or @STEP stands for; None where it has no score under the protocol.

    Args:
        state: All runs of the log.
        own: The run that asks, which @STEP is of.
        protocol: By its digest; numbers of another cannot be compared.
        text: The beginning of a run's name is enough.
    """
    name, _, step = text.rpartition("@")
    runs = [own] if not name else [name] if name in state else list(state)
    found = [
        (run, id_)
        for run in runs
        if run.startswith(name)
        for id_ in state[run].scored.get(protocol, ())
        if state[run].evaluations[id_].step == int(step)
    ]
    if len({run for run, _ in found}) != 1:
        return None
    run, id_ = found[-1]
    return Reference(id_, "" if run == own else run)
