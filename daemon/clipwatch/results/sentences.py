"""What `clipwatch best` and `clipwatch compare` say, for all that show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clipwatch.domain.strengths import alike, has_none, told, written
from clipwatch.results.decisions import short
from clipwatch.results.differences import listed
from clipwatch.results.figures import FEW, digits, few, interval, number, plural

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation, Run
    from clipwatch.results.pairs import Pair
    from clipwatch.results.ranking import Ranking
    from clipwatch.statistics.scale import Scale

Ends = tuple[float, float]


def best_ends(ranking: Ranking) -> Ends | None:
    """Return the ends of the best one's interval; none for one prompt, or few that were picked."""
    own = next(summary for it, summary in ranking.all if it is ranking.best)
    if own.low is None or own.high is None or len(ranking.all) == 1:
        return None if own.low is None or own.high is None else (own.low, own.high)
    return None if few(ranking.n_prompts) else ranking.mean[1:]


def ranked(ranking: Ranking) -> list[tuple[str, ...]]:
    """Return the rows of a table, its head first: each checkpoint beside the best."""
    mean = "loss" if ranking.scale.turned else "mean"
    head = (mean, "95 % interval", "less the best", "95 %, all at once", "", "checkpoint")
    several = at_strengths(ranking)
    rows: list[tuple[str, ...]] = [(str(ranking.run.unit), *(["strength"] * several), *head)]
    least = ranking.scale.digits
    for evaluation, own in ranking.all:
        ends = None if own.low is None or own.high is None else (own.low, own.high)
        ends = best_ends(ranking) if evaluation is ranking.best else ends
        apart, together = "", ""
        if evaluation is not ranking.best:
            delta, low, high = ranking.differences[evaluation.id]
            places = digits(low, high, least)
            apart = number(delta, places)
            together = "not known" if few(ranking.n_prompts) else interval(low, high, places)
        mark = _mark(ranking, evaluation)
        at = strength_of(ranking.run, evaluation)
        numbers = (
            str(evaluation.step),
            *(["" if at is None else written(at)] * several),
            number(own.mean, least),
            interval(*ends, least) if ends else "",
            apart,
            together,
        )
        rows.append((*numbers, mark, evaluation.checkpoint))
    return rows


def mark_of(ranking: Ranking, evaluation: Evaluation) -> str:
    """Return how the page marks a checkpoint: "best", "tied", or "" where nothing can be told."""
    if evaluation is ranking.best:
        return "best"
    sure = len(ranking.all) > 1 and not few(ranking.n_prompts)
    return "tied" * (sure and evaluation in ranking.tied)


def _mark(ranking: Ranking, evaluation: Evaluation) -> str:
    """Say what is known of a checkpoint beside the best."""
    if evaluation is ranking.best:
        return "best"
    if evaluation not in ranking.tied:
        return ""
    return "tied" if evaluation in ranking.candidates else "not better"


def about_best(ranking: Ranking) -> Iterator[str]:
    """Return which checkpoint is the best, and how sure that is, in plain words."""
    ends, least = best_ends(ranking), ranking.scale.digits
    count, prompts = len(ranking.all), plural(ranking.n_prompts, item_of(ranking.scale))
    highest, lower = ("highest mean", "lower")
    if ranking.scale.turned:
        highest, lower = ("lowest held-out loss", "higher")
    files = ranking.run.unit == "file"
    what = "result" if at_strengths(ranking) else "file" if files else "checkpoint"
    shared = f"{prompts} that all have" if count > 1 else prompts
    corrected = ", corrected for having picked it" if count > 1 else ""
    told = f" (95 % interval {interval(*ends, least)}{corrected})" if ends else ""
    yield (
        f"{called(ranking.run, ranking.best)} has the {highest} of "
        f"{plural(count, what)} on "
        f"{shared}: {number(ranking.mean[0], least)}{told}."
    )
    if ranking.without:
        such = "a loss on these images" if ranking.scale.turned else "such scores"
        yield f"{plural(ranking.without, 'more ' + what)} without {such} cannot be ranked."
    yield from _about_parts(ranking)
    yield from _about_outdone(ranking)
    if count == 1:
        some = ranking.parts or ranking.outdone
        has = "a loss on these images" if ranking.scale.turned else "scores"
        only = "that was scored on all prompts" if some else f"with {has}"
        yield f"It is the only one {only}."
    elif few(ranking.n_prompts):
        yield f"With {prompts} none can be told from another: {FEW}."
    elif not ranking.tied:
        yield f"After correction for having looked at all {count}, every other one is {lower}."
    else:
        named = listed([called(ranking.run, it) for it in ranking.tied])
        yield (
            f"After correction for having looked at all {count}, {len(ranking.tied)} cannot be "
            f"told from it: {named}."
        )
        if not files:
            earliest = min((ranking.best, *ranking.tied), key=lambda it: it.step)
            here = called(ranking.run, earliest)
            yield f"Many people take the earliest of these, here {here}: a habit, not a rule."
        may_be = [called(ranking.run, it) for it in ranking.candidates]
        if len(may_be) <= len(ranking.tied) and not _raced_with_more(ranking):
            among = f"the best is among {listed(may_be)}"
            yield f"With 95 % certainty {among if may_be[1:] else 'no other is better'}."


def about_loss(ranking: Ranking) -> str:
    """Return where the held-out loss is lowest, and what cannot be told from it, in a sentence."""
    best, mean = called(ranking.run, ranking.best), number(ranking.mean[0], ranking.scale.digits)
    told = f"The held-out loss is lowest at {best}: {mean}"
    if len(ranking.all) == 1:
        return f"{told}, the only one that has it."
    if few(ranking.n_prompts):
        images = plural(ranking.n_prompts, "image")
        return f"{told}; with {images} none can be told from another: {FEW}."
    if not ranking.tied:
        return f"{told}; every other one is higher, after correction for having looked at all."
    tied = listed([called(ranking.run, it) for it in ranking.tied])
    return f"{told}; {len(ranking.tied)} cannot be told from it: {tied}."


def item_of(scale: Scale) -> str:
    """Return what is counted: losses are of images, scores of prompts."""
    return "image" if scale.turned else "prompt"


def _about_parts(ranking: Ranking) -> Iterator[str]:
    """Tell of those that ended when their difference to another was known."""
    told = []
    for it in ranking.parts:
        name, done = called(ranking.run, it), it.completed
        known = done and done.decision  # None where nobody could judge it
        told.append(f"{name} {short(ranking.run, known)}" if known else name)
    if told:
        yield (
            f"{len(told)} more ended when it was known how they compare with another, "
            f"and are not ranked: {listed(told)}."
        )


def _about_outdone(ranking: Ranking) -> Iterator[str]:
    """Tell of those of which no more images are made."""
    known = [(called(ranking.run, it), it.outdone) for it in ranking.outdone if it.outdone]
    rounds: dict[tuple[int, int], list[str]] = {}
    for name, found in sorted(known, key=lambda it: it[1].prompts):
        rounds.setdefault((found.prompts, found.of), []).append(name)
    if rounds:
        told = [f"{listed(names)} after {seen}" for (seen, _), names in rounds.items()]
        one = len(known) == 1
        why = f"{'is' if one else 'are'} surely not the best, and not made to the end"
        if _raced_with_more(ranking):
            was = "was" if one else "were"
            why = f"{was} let go of beside other strengths, and may be the best of these"
        prompts = plural(known[0][1].of, "prompt")
        yield f"{len(known)} more {why}: {'; '.join(told)} of {prompts}."


def _raced_with_more(ranking: Ranking) -> bool:
    """Whether what is outdone may be so beside results at strengths that are not ranked here."""
    run, own = ranking.run, [*ranking.outdone, *(it for it, _ in ranking.all)]
    there = {it.protocol for it in own}
    others = (it for it in alike(run, ranking.best.protocol) if it not in there)
    scored = (run.evaluations[id_] for it in others for id_ in run.scored.get(it, ()))
    return bool(ranking.outdone) and not all(it.of_base for it in scored)


def called(run: Run, evaluation: Evaluation) -> str:
    """Name a checkpoint by its place on the curve, and one that has none by its name."""
    at = strength_of(run, evaluation)
    name = evaluation.checkpoint if run.unit == "file" else f"@{evaluation.step}"
    return name if at is None else f"{name}:{written(at)}"


def strength_of(run: Run, evaluation: Evaluation) -> float | None:
    """Return the strength at which it was scored, where the run has, or had, several."""
    if has_none(run, evaluation.checkpoint) or not told(run, evaluation.protocol):
        return None
    return run.protocols[evaluation.protocol].adapter_strength


def at_strengths(ranking: Ranking) -> bool:
    """Whether its results are told with their strengths."""
    return any(strength_of(ranking.run, it) is not None for it, _ in ranking.all)


def counted(pair: Pair) -> Iterator[str]:
    """Return how sure a difference is, and of how many prompts."""
    found, least = pair.found, pair.scale.digits
    places = digits(found.low, found.high, least)
    smallest = "" if few(found.n_prompts) else f"; detectable {number(found.detectable, places)}"
    better, worse = ("lower", "higher") if pair.scale.turned else ("higher", "lower")
    yield (
        f"p {found.p:.4f}; b is {better} on {plural(found.wins, item_of(pair.scale))}, equal on "
        f"{found.ties}, {worse} on {found.losses}{smallest}"
    )
    if found.stopped:
        yield (
            "One of both ended when such a difference was known: interval and p hold whenever one "
            "stops, and so are wider."
        )
    if found.picked > 1:
        yield f"The best was picked from {found.picked}: interval and p are corrected for that."


def verdict_of(pair: Pair, a: str, b: str) -> str:
    """Return what a comparison says in plain words, of two that are called so."""
    return f"{_sentence(pair, a, b)}{_beside(pair.had)}{_many(pair)}"


def _sentence(pair: Pair, a: str, b: str) -> str:
    """Return the verdict in plain words."""
    found, least = pair.found, pair.scale.digits
    if few(found.n_prompts):
        return f"Nothing can be shown with {plural(found.n_prompts, item_of(pair.scale))}: {FEW}."
    places, loss = digits(found.low, found.high, least), pair.scale.turned
    if found.verdict != "inconclusive":
        low, high = sorted((abs(found.low), abs(found.high)))
        is_so = f"{b} is {found.verdict} than {a}"
        if loss:
            lower = "lower" if found.verdict == "better" else "higher"
            is_so = f"The held-out loss of {b} is {lower} than that of {a}"
        return (
            f"{is_so} by {number(abs(found.delta), places)} "
            f"(95 % interval {interval(low, high, places)})."
        )
    if found.wins == found.losses == 0:
        what = "image has the same loss" if loss else "prompt has the same score"
        return f"Every {what} in {a} and {b}."
    return (
        f"No difference between {'the held-out losses of ' * loss}{a} and {b} is shown: one of "
        f"{number(found.detectable, places)} or more would probably have been seen."
    )


def _many(pair: Pair) -> str:
    """Say where looking at many changes the verdict."""
    looked, found = pair.looked, pair.found
    if looked is None or found.verdict in (looked.verdict, "inconclusive"):
        return ""
    if found.picked or few(found.n_prompts):  # which knows already
        return ""
    _, low, high = looked.interval
    told = interval(low, high, digits(low, high, pair.scale.digits))
    return (
        f" If you found these two by looking at all {looked.checkpoints}, it is not shown: for all "
        f"pairs at once the interval is {told}."
    )


def _beside(counts: Sequence[int]) -> str:
    """Say which prompts count where one of both has more."""
    if counts[0] == counts[1]:
        return ""
    return f" Only prompts that both have count; a has {counts[0]}, b {counts[1]}."
