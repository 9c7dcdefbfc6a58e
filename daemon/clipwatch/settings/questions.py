"""Scorers that ask the prompts' own questions, and prompts that have some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clipwatch.domain.protocol import Prompt, ScorerSpec
from clipwatch.models.scorers import kind_of
from clipwatch.settings import scorers, sources
from clipwatch.settings.values import Given


def kept(
    given: Mapping[str, Given], specs: Sequence[ScorerSpec], prompts: Sequence[Prompt]
) -> tuple[Prompt, ...]:
    """Return the prompts, their questions only where a scorer asks them: else no number does.

    Raises:
        SettingsError: One asks, and a prompt has none.
    """
    asking = [it for it in specs if kind_of(it.kind).asks]
    if not asking:
        return tuple(replace(it, questions=()) if it.questions else it for it in prompts)
    if lacking := [it.id for it in prompts if not it.questions]:
        name = asking[0].name
        entry = given[f"{sources.SCORERS}.{name}" if name else scorers.FIRST]
        raise entry.error(
            f"asks the prompts' questions, and {len(lacking)} of {len(prompts)} have none, such as"
            f" {lacking[0]!r:.80}",
            fix='name with "prompts" a file in the form of GenEval 2, a "vqa_list" in each line',
        )
    return tuple(prompts)
