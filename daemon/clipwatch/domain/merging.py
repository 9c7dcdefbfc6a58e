"""Images of one evaluation that were scored apart, added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clipwatch.domain.events import EvaluationStarted, Event, ImageScore, ImagesScored
from clipwatch.domain.fold import THEN, joined_texts
from clipwatch.domain.imported import EvaluationImported
from clipwatch.domain.importing import Told, moved
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import Evaluation
from clipwatch.statistics.scale import Scale

Key = tuple[str, int]
"""A prompt's id, and which of its images."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Every `of`th prompt, beginning with prompt `number`: 1 <= number <= of."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        """Tell it as a person writes it."""
        return f"{self.number}/{self.of}"

    def keys(self, protocol: EvaluationProtocol) -> tuple[Key, ...]:
        """Return its images, in the protocol's order; none where it has no prompt."""
        own = {it.id for it in protocol.prompts[self.number - 1 :: self.of]}
        return tuple((it.id, index) for it, index, _ in protocol.images() if it.id in own)


@dataclass(frozen=True, slots=True)
class Had:
    """An image that was scored, and the part that told of it; "" for one made here."""

    image: ImageScore
    source: str


def had(told: Iterable[Event]) -> dict[Key, Had]:
    """Return the images of an unfinished evaluation that this log has.

    What came from a part stands right behind the event that names it, see `additions`.
    """
    found: dict[Key, Had] = {}
    source = ""
    for event in told:
        if isinstance(event, ImagesScored):
            found |= {(it.prompt_id, it.index): Had(it, source) for it in event.images}
        source = event.source if isinstance(event, EvaluationImported) else ""
    return found


def lacking(
    known: Mapping[Key, Had], part: str, images: Iterable[ImageScore], scales: Mapping[str, Scale]
) -> dict[Key, Had]:
    """Return the images of a part that are not known yet; what is known stays as it is.

    Args:
        known: By their keys.
        part: Its file.
        images: In its order.
        scales: Of the scorers: what is no difference is the same image.

    Raises:
        ValueError: It has another score for an image; the text names both.
    """
    found: dict[Key, Had] = {}
    for it in images:
        key = it.prompt_id, it.index
        before = known.get(key) or found.get(key)
        if before is None:
            found[key] = Had(it, part)
        elif name := unlike(before.image, it, scales):
            one, other = before.image.scores[name[0]], it.scores[name[0]]
            raise ValueError(
                f"image {it.index} of prompt {it.prompt_id} has the score {other:.6g} in {part}, "
                f"and {one:.6g} in {before.source or 'this log'}"
            )
    return found


def unlike(one: ImageScore, other: ImageScore, scales: Mapping[str, Scale]) -> list[str]:
    """Return the scorers that gave two images scores which differ."""
    return [
        name
        for name, score in other.scores.items()
        if abs(score - one.scores[name]) > scales[name].tie
    ]


def additions(
    part: Sequence[Told],
    images: Iterable[ImageScore],
    begun: EvaluationStarted,
    source: EvaluationImported,
    known: Evaluation | None,
) -> list[Told]:
    """Return what a part adds to an evaluation of this log; only images where it says nothing new.

    Args:
        part: What happened there.
        images: Those of it that this log lacks.
        begun: How the evaluation begins here, but for its environment.
        source: Names the part, and the evaluation here.
        known: The evaluation as it is here; None for a new one.
    """
    around = dict(known.environment) if known else {}
    fresh = known is None or known.state == "failed"  # which then goes on
    found: list[Told] = []
    for time, event in part:
        if not isinstance(event, EvaluationStarted):
            continue
        new = any(
            it not in around.get(key, "").split(THEN) for key, it in event.environment.items()
        )
        if new or (fresh and not found):
            found.append((time, replace(begun, environment=event.environment)))
            around = joined_texts(around, event.environment)
    there = next(event.evaluation for _, event in part if isinstance(event, ImagesScored))
    own = (
        replace(it, image=it.image and moved(it.image, there, begun.evaluation)) for it in images
    )
    latest = max(time for time, event in part if isinstance(event, ImagesScored))
    return [*found, (latest, source), (latest, ImagesScored(begun.evaluation, tuple(own)))]
