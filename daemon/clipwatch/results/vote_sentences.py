"""What is said of votes, for all that show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from clipwatch.domain.kinds import Question
from clipwatch.domain.strengths import written
from clipwatch.results.differences import listed
from clipwatch.results.figures import plural
from clipwatch.results.sentences import called, strength_of

if TYPE_CHECKING:
    from clipwatch.results.voting import Voting
    from clipwatch.statistics.votes import Interval

ASKED: Final[dict[Question, str]] = {
    "follows": "Which follows the prompt better?",
    "better": "Which is better?",
}

PAIR: Final = 2


def about_votes(voting: Voting) -> Iterator[str]:
    """Return who is preferred, how sure that is, and where the scores say the opposite."""
    decided = voting.votes - voting.neither
    aside = f", {voting.neither} of them without a difference" * bool(voting.neither)
    yield f"{ASKED[voting.question]} {plural(voting.votes, 'vote')}{aside}."
    found = voting.found
    if found is None:
        yield "None of them prefers any."
        return
    known = {it.id: called(voting.run, it) for it in voting.all}
    best = known[found.best]
    placed = len({name for name, _ in found.over})
    if placed == PAIR:
        [(other, share)] = [(b, it) for (a, b), it in found.over.items() if a == found.best]
        yield (
            f"{best} is preferred over {known[other]} in {percent(share[0])} of "
            f"{plural(decided, 'vote')} (95 % interval {ends(share)})."
        )
        if found.tied:
            yield "That may be chance: the interval reaches 50 %."
    elif found.tied:
        named = listed([known[it] for it in known if it in found.tied])
        yield (
            f"{best} is preferred most of {placed}. After correction for having looked at all, "
            f"{len(found.tied)} cannot be told from it: {named}."
        )
    else:
        yield (
            f"{best} is preferred most of {placed}, after correction for having looked at all over "
            "every other one."
        )
    for a, b in voting.opposed:
        yield (
            f"Voters prefer {called(voting.run, a)} to {called(voting.run, b)}, scores say the "
            "opposite, both beyond their intervals: look at their images."
        )
    if not voting.opposed:
        yield "Nowhere do votes and scores contradict each other beyond their intervals."


def voted(voting: Voting) -> list[tuple[str, ...]]:
    """Return the rows of a table, its head first: each checkpoint beside the one preferred most."""
    strengths = [strength_of(voting.run, it) for it in voting.all]
    several = any(it is not None for it in strengths)
    head = ("chosen", "of votes", "over the best", "95 %, all at once", "", "checkpoint")
    rows: list[tuple[str, ...]] = [(str(voting.run.unit), *(["strength"] * several), *head)]
    found = voting.found
    for evaluation, at in zip(voting.all, strengths, strict=True):
        id_, share, mark = evaluation.id, None, ""
        if found:
            share = found.over.get((id_, found.best))
            mark = "best" if id_ == found.best else "tied" * (id_ in found.tied)
        rows.append(
            (
                str(evaluation.step),
                *(["" if at is None else written(at)] * several),
                str(voting.won.get(id_, 0)),
                str(voting.met.get(id_, 0)),
                percent(share[0]) if share else "",
                ends(share) if share else "",
                mark,
                evaluation.checkpoint,
            )
        )
    return rows


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.0f} %"


def ends(share: Interval) -> str:
    """Write the ends of a share's interval."""
    return f"{percent(share[1])} to {percent(share[2])}"
