"""Scorers that answer the prompts' own questions: as a kind, without torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from clipwatch.models.vision_language import kind

QUESTIONS: Final = replace(kind("clipwatch.evaluator.scorers.questions:Questions"), asks=True)
"""How probable a model finds the right answers to a prompt's questions."""
