"""What the answers to the prompts' questions come to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import Prompt
from clipwatch.domain.questions import Answered
from clipwatch.results.answers import asked_of, geometric_table, skill_tables, who_answered
from clipwatch.statistics.intervals import describe


def answered(images: Sequence[ImageScore], prompts: Iterable[Prompt]) -> dict[str, Answered]:
    """Return it by scorer, for those that asked; intervals are of prompts like these."""
    asked = asked_of(prompts)
    return {
        name: Answered(
            describe(geometric_table(images, name)),
            {skill: describe(it) for skill, it in skill_tables(images, name, asked).items()},
        )
        for name in who_answered(images)
    }
