"""What can be asked of a prompt's picture, as GenEval 2 writes it beside the prompt."""

from __future__ import annotations

from typing import Any, Final

from clipwatch.domain.questions import Question
from clipwatch.kit.textfiles import printable, problem

KEYS: Final = ("vqa_list", "skills")
"""What a prompt's object has of it: questions with their right answers, and the skill of each."""

MOST: Final = 100
"""Questions of a prompt; each is a pass of a large model for every picture."""

LONGEST: Final = 80
"""Characters of a skill: it becomes a tag in trackers."""


def read(asked: Any, skills: Any) -> tuple[Question, ...]:
    """Return the questions of a prompt, in their order; () where it has none.

    Args:
        asked: What stands in its file: a list of [question, right answer].
        skills: As many texts; None for questions that no skill is told of.

    Raises:
        ValueError: It is something else; the text says what.
    """
    if asked is None and not isinstance(skills, list):  # another program's word
        return ()
    first, second = KEYS
    pairs = asked if isinstance(asked, list) else [None]
    if not all(isinstance(it, list) and len(it) == 2 and _texts(it) for it in pairs):  # noqa: PLR2004 - a pair
        raise ValueError(f'"{first}" must be a list of pairs, each a question and its answer')
    if len(pairs) > MOST:
        raise ValueError(f'"{first}" has {len(pairs)} questions, more than {MOST}')
    named = [""] * len(pairs) if skills is None else skills
    if not isinstance(named, list) or not all(isinstance(it, str) for it in named):
        raise ValueError(f'"{second}" must be a list of texts')
    if len(named) != len(pairs):
        raise ValueError(f'"{second}" has {len(named)} for {len(pairs)} questions')
    if long := next((it for it in named if len(it.strip()) > LONGEST), ""):
        raise ValueError(f'"{second}" names {long!r:.20}..., longer than {LONGEST} characters')
    return tuple(
        Question(question.strip(), answer.strip(), printable(skill.strip()))
        for (question, answer), skill in zip(pairs, named, strict=True)
    )


def _texts(pair: list[Any]) -> bool:
    """Whether both are texts that a model can be asked and a page can show."""
    return all(isinstance(it, str) and it.strip() and not problem(it.strip()) for it in pair)


def written(questions: tuple[Question, ...]) -> dict[str, Any]:
    """Return them as they stand in a prompt's object; {} for none."""
    if not questions:
        return {}
    skills = [it.skill for it in questions]
    values = ([[it.text, it.answer] for it in questions], skills if any(skills) else None)
    return {name: it for name, it in zip(KEYS, values, strict=True) if it is not None}
