"""Logs with scores that a test knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from clipwatch.cli import main
from clipwatch.domain.events import (
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol, Prompt, ScorerSpec
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.domain.strengths import label
from clipwatch.journal import Journal, log_file
from clipwatch.judging.questions import answered
from clipwatch.statistics import summarize
from clipwatch.statistics.scores import Scores

DEFAULTS: dict[str, Any] = {
    "images_per_prompt": 1,
    "seed": 1,
    "negative_prompt": "",
    "inference_steps": 2,
    "guidance": 3.0,
    "width": 32,
    "height": 32,
    "scheduler": "",
    "base_model": "base",
    "base_revision": "",
    "base_variant": "",
    "weights": "live",
    "dtype": "fp32",
    "scorers": (ScorerSpec("", "clip"),),
}


def protocol(prompts: int = 1000, **changes: Any) -> EvaluationProtocol:
    """Return one with prompts "p0000" and so on, as `noisy` of score_tables names them."""
    texts = tuple(Prompt(f"p{n:04}", f"picture number {n}") for n in range(prompts))
    return EvaluationProtocol(**{"prompts": texts, **DEFAULTS, **changes})


USUAL = protocol()


class Log:
    """A log in a state directory; `losses` make what is measured of a step before it is scored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.losses: dict[tuple[str, int], Callable[[str], Event]] = {}
        self._versions: dict[str, int] = {}

    def add(self, run: str, stream: str, *events: Event) -> None:
        """Append events."""
        with Journal(log_file(self.folder)) as journal:
            version = self._versions.get(stream, 0)
            self._versions[stream] = journal.append(run, stream, version, events)

    def start(self, run: str, made: EvaluationProtocol = USUAL) -> None:
        """Watch a run."""
        started = RunStarted("/out", made.digest, (), {}, "1")
        self.add(run, run, started, ProtocolDefined(made.digest, made))

    def change(self, run: str, made: EvaluationProtocol) -> None:
        """Watch it with another protocol from here on."""
        changed = SettingsChanged(made.digest, (), {}, "1")
        self.add(run, run, changed, ProtocolDefined(made.digest, made))

    def start_at(self, run: str, *strengths: float, made: EvaluationProtocol = USUAL) -> None:
        """Watch a run at several strengths; the first is its own."""
        all_ = [made.at(it) for it in strengths]
        first, *beside = [it.digest for it in all_]
        defined = [ProtocolDefined(it.digest, it, label(it.adapter_strength)) for it in all_]
        changed = SettingsChanged(first, (), {}, "1", tuple(beside))
        self.add(run, run, RunStarted("/out", "", (), {}, "1"), *defined, changed)

    def score(
        self,
        run: str,
        step: int,
        scores: Scores,
        made: EvaluationProtocol = USUAL,
        *,
        name: str = "",
        weights: str = "w",
        others: Mapping[str, Scores] | None = None,
        environment: dict[str, str] | None = None,
        draw: Callable[[str, str, int], str] | None = None,
        answers: Callable[[str, int], dict[str, tuple[float, ...]]] | None = None,
    ) -> None:
        """Evaluate a checkpoint; `weights` tells those saved again from the earlier ones.

        `draw` makes the image of (evaluation, prompt, index) and returns its file's name, `answers`
        are those of scorers to the questions of (prompt, index).
        """
        found = Checkpoint(step, name or f"checkpoint-{step}", "/c", "whole", digest=weights * 8)
        id_ = evaluation_id(found, made.digest)
        images = [
            ImageScore(
                prompt,
                index,
                0,
                {"": score, **_cell(others or {}, prompt, index)},
                draw(id_, prompt, index) if draw else None,
                answers=answers(prompt, index) if answers else {},
            )
            for prompt, row in scores.items()
            for index, score in enumerate(row)
        ]
        around = environment or {}
        losses = [it(id_)] if (it := self.losses.get((run, step))) else []
        batches = [tuple(images[n : n + 16]) for n in range(0, len(images), 16)]
        self.add(
            run,
            evaluation_stream(run, id_),
            EvaluationStarted(id_, found.name, step, found.digest, made.digest, around),
            *losses,
            *(ImagesScored(id_, batch) for batch in batches),
            EvaluationCompleted(
                id_,
                {"": summarize([image.score for image in images])},
                answered=answered(images, made.prompts),
            ),
        )


def _cell(others: Mapping[str, Scores], prompt: str, index: int) -> dict[str, float]:
    return {name: scores[prompt][index] for name, scores in others.items()}


def call(folder: Path, *arguments: str) -> Result:
    """Call a command beside that log."""
    return CliRunner().invoke(main, [*arguments, "--state-dir", str(folder)])


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what a command prints as JSON; it must end well."""
    said = call(folder, *arguments, "--json")
    assert (said.exit_code, said.stderr) == (0, ""), said.output
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def shifted(scores: Scores, by: float) -> Scores:
    """Return scores that are all higher by as much."""
    return {prompt: [score + by for score in row] for prompt, row in scores.items()}


def first(scores: Scores, count: int) -> Scores:
    """Return the first prompts only, as an evaluation has that stopped early."""
    return dict(list(scores.items())[:count])
