"""What a kind of scorers is, as far as the daemon has to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.statistics.scale import Scale


@dataclass(frozen=True, slots=True)
class ScorerKind:
    """A kind of scorers: what an entry point of the group "clipwatch.scorers" names.

    The daemon asks it, so its module imports no torch.

    Attributes:
        target: "package.module:name" of what makes the scorer, in the evaluator (see
            evaluator.scorers.base): imported there alone.
        scale: Returns the scale of a spec's scores. The second argument is what the loaded scorer
            told of itself (`Scorer.told`), "" before it ever was loaded.
        files: Returns which files of a folder make the model, all of them there; raises
            models.files.Unfit or layouts.files.NotWhole with what is wrong. Their content is part
            of every protocol, and what lacks is fetched from the Hub: weights as safetensors, no
            pickles. None for a kind without files, whose `model` is then any text.
        images: The option that names a folder of images, which it must have, "" for none: their
            content is part of every protocol, too.
        lacking: Says what some of these prompts lack to be scored, "" for nothing; settings whose
            prompts lack something are refused. None for a kind that scores every prompt.
        asks: Its scorer answers the questions of the prompts (see evaluator.scorers.base.Answerer),
            of which every prompt must have some then.
    """

    target: str
    scale: Callable[[ScorerSpec, str], Scale]
    files: Callable[[Path], list[Path]] | None = None
    images: str = ""
    lacking: Callable[[Sequence[str]], str] | None = None
    asks: bool = False


def told_key(scorer: str) -> str:
    """Name what an evaluation's environment has of a scorer's words on its own scale."""
    return f"scorer_scale.{scorer}" if scorer else "scorer_scale"


def commit_key(scorer: str) -> str:
    """Name what an evaluation's environment has of a scorer's commit on the Hub."""
    return f"scorer.{scorer}" if scorer else "scorer_commit"


FILES_KEY: Final = "scorer_files"
"""What the evaluator tells of the identity of the files of a scorer that came later."""
