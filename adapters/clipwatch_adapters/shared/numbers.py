"""The numbers of a result, under the names that every tracker shows them by.

Trackers group names by what stands before the first "/", and sort the groups and what is in them.
So `clip` holds what people look for and nothing else, and each other group sorts behind it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from clipwatch.results.series import Answered, Comparison, ImageScore, Result, Series, Summary

FORM = 2
"""Counts changes of names: what a tracker shows in an earlier form is published again."""

DECIDES = "clip"
"""The group of the scorer that decides, whichever it is: no curve breaks off with another one."""

VERDICTS = {"above": 1.0, "within": 0.0, "below": -1.0}
"""How an evaluation compares with its reference, as a number; none where that is not known."""

LENGTH = 80
"""Characters that are kept of a name."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the categories and the scorers of a series are called in tags, in their order.

    A name is given for good: results that come later change none of them.

    Attributes:
        categories: Category → word.
        scorers: Scorer → word; the one that decides, "", is first and called "clip".
        skills: Skill of the prompts' questions → word.
    """

    categories: Mapping[str, str]
    scorers: Mapping[str, str]
    skills: Mapping[str, str] = field(default_factory=dict)

    def group(self, scorer: str) -> str:
        """Return the group of a scorer's numbers; all of them sort behind `clip`."""
        return f"scorer_{self.scorers[scorer]}" if scorer else self.scorers[scorer]

    @classmethod
    def of(cls, series: Series) -> Names:
        """Name what the protocol and the results of a series hold."""
        categories = [prompt.category for prompt in series.protocol.prompts if prompt.category]
        further: list[str] = []
        for result in series.results:
            categories += sorted(result.categories)
            further += sorted(filter(None, result.scores))
        asked = [it for prompt in series.protocol.prompts for it in prompt.questions]
        skills = unique(it.skill for it in asked if it.skill)
        return cls(unique(categories), {"": DECIDES} | unique(further), skills)


def unique(names: Iterable[str]) -> dict[str, str]:
    """Return name → a word for tags, no two of them alike, not even but for upper and lower case.

    A word holds letters, digits, "-" and "_"; one that is taken already gets a number.
    """
    used: set[str] = set()
    words: dict[str, str] = {}
    for name in dict.fromkeys(names):
        word = plain = _word(name)
        number = 1
        while word.casefold() in used:
            number += 1
            word = f"{plain}-{number}"
        used.add(word.casefold())
        words[name] = word
    return words


def _word(name: str) -> str:
    """Replace whatever means something in tags, patterns or addresses; never return ""."""
    normal = unicodedata.normalize("NFC", name)
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "-" else "_" for c in normal)
    return re.sub("_+", "_", kept)[:LENGTH].strip("_") or "unnamed"


def scalars(names: Names, result: Result) -> dict[str, float]:
    """Return tag → value of all that is known of a result; the values are finite.

    The number of prompts is there only where it differs from that of images.
    """
    values: dict[str, float | None] = {}
    values |= _summary(names.group(""), result.clip)
    values |= _comparison("clip_delta/base", result.against_base)
    best = result.against_best
    values |= _comparison("clip_delta/best", best)
    if best is not None and not best.picked:  # by an earlier version, whose interval is too hopeful
        del values["clip_delta/best_low"], values["clip_delta/best_high"]
    for name, word in names.categories.items():
        if name in result.categories:
            values[f"clip_category/{word}"] = result.categories[name].mean
    for scorer in names.scorers:
        if scorer and scorer in result.scores:
            values |= _summary(names.group(scorer), result.scores[scorer])
    for scorer, found in result.answered.items():
        if scorer in names.scorers:
            values |= _answered(names, scorer, found)
    values |= _decision(names, result)
    values |= result.losses
    return _finite(values | {"clipwatch/skipped": result.skipped})


def scalars_of(names: Names, result: Result, scorer: str) -> dict[str, float]:
    """Return those of `scalars` that are a further scorer's."""
    return _finite(dict(_summary(names.group(scorer), result.scores[scorer])))


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {tag: x for tag, x in values.items() if x is not None and math.isfinite(x)}


def prompt_means(scores: Iterable[ImageScore]) -> tuple[float, ...]:
    """Return the mean of each prompt's images, by the scorer that decides, in their order."""
    by_prompt: dict[str, list[float]] = {}
    for score in scores:
        by_prompt.setdefault(score.prompt_id, []).append(score.score)
    return tuple(sum(own) / len(own) for own in by_prompt.values())


def _summary(group: str, summary: Summary) -> Iterator[tuple[str, float | None]]:
    yield f"{group}/mean", summary.mean
    yield f"{group}/min", summary.min
    yield f"{group}/max", summary.max
    yield f"{group}/std", summary.std
    yield f"{group}_interval/low", summary.low
    yield f"{group}_interval/high", summary.high
    yield f"{group}_count/images", summary.n
    if summary.prompts not in {0, summary.n}:
        yield f"{group}_count/prompts", summary.prompts


def _answered(names: Names, scorer: str, found: Answered) -> Iterator[tuple[str, float | None]]:
    group = names.group(scorer)
    yield f"{group}_answers/geometric", found.geometric.mean
    for skill, word in names.skills.items():
        if skill in found.skills:
            yield f"{group}_skill/{word}", found.skills[skill].mean


def _decision(names: Names, result: Result) -> Iterator[tuple[str, float | None]]:
    if result.estimate:
        for scorer, effective in result.estimate.effective.items():
            yield f"{names.group(scorer)}_count/effective", effective
    if found := result.decision:
        yield "clip_decision/verdict", VERDICTS.get(found.finding)
        yield "clip_decision/prompts", found.prompts
        yield "clip_decision/delta", found.delta
        yield "clip_decision/delta_low", found.low
        yield "clip_decision/delta_high", found.high


def _comparison(tag: str, comparison: Comparison | None) -> Iterator[tuple[str, float | None]]:
    if comparison is not None:
        yield tag, comparison.delta
        yield f"{tag}_low", comparison.low
        yield f"{tag}_high", comparison.high
