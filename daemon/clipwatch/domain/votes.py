"""What people who see two images say of them: the event of `clipwatch serve`."""

from __future__ import annotations

from dataclasses import dataclass

from clipwatch.domain.kinds import Choice, Question


@dataclass(frozen=True, slots=True)
class Voted:
    """A person saw two images of a prompt from the same noise, without names, and chose.

    `left` and `right` are the evaluations whose images stood there. `pair` names what was asked:
    it is answered once.
    """

    pair: str
    question: Question
    prompt_id: str
    index: int
    left: str
    right: str
    choice: Choice
