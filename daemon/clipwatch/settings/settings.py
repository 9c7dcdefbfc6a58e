"""All that clipwatch is told before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.settings.asked import Components, Pictures, Prompting, Sampling, Scoring, Training
from clipwatch.settings.holdout import HeldOut
from clipwatch.settings.keys import Key, all_keys
from clipwatch.settings.parts import (
    Advice,
    Compute,
    Evaluating,
    Paths,
    Publishing,
    Service,
    Staging,
    Watching,
)
from clipwatch.settings.values import Setting, text


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that clipwatch is told before it starts; each part says what it holds.

    Attributes:
        config: Absolute.
        protocol: What `training` to `sampling`, and the trainer's rules, come to.
        options: The object of each tracker, {"wandb": {"entity": "..."}}, with its secrets.
        origins: Every value with its source, sorted by key, secrets hidden.
        remarks: What looks like a slip, and what is said of the prompts, a line each.
        doubts: Size, steps or guidance that hold, and can hardly be meant, a line each.
    """

    config: Path
    paths: Paths
    publishing: Publishing
    training: Training
    components: Components
    prompting: Prompting
    scoring: Scoring
    sampling: Sampling
    protocol: EvaluationProtocol
    compute: Compute
    evaluating: Evaluating
    watching: Watching
    staging: Staging
    service: Service
    advice: Advice
    holding: HeldOut
    options: dict[str, dict[str, str]] = field(repr=False)
    origins: tuple[Setting, ...]
    remarks: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def protocols(self) -> tuple[EvaluationProtocol, ...]:
        """One for each strength of an adapter; the first, `protocol`, is that of all else, too."""
        first = self.protocol.adapter_strength
        others = (self.protocol.at(it) for it in self.sampling.strengths if it != first)
        return self.protocol, *others

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a person should know before anything is done by them."""
        return (*self.remarks, *self.doubts)

    def source(self, key: str) -> str:
        """Return where a key's value came from, "default" for nowhere, "" if it has none."""
        return next((it.source for it in self.origins if it.key == key), "")

    def as_text(self) -> dict[str, str]:
        """Return key → value for the log; without the sources, which move with every edit."""
        return {setting.key: text(setting.value) for setting in self.origins}


KEYS: dict[str, Key] = {key.name: key for part in (Pictures, Settings) for key in all_keys(part)}
"""Every key by its name, "advice.low" for one in an object.

The objects of trackers ("wandb": {...}) and "scorers" hold names of the user's and come on top.
"""

TRAINER_KEYS = frozenset(key.name for key in KEYS.values() if key.trainers)
"""Those that are also read from the top level of the trainer's config.json."""
