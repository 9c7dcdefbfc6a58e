"""Images whose loss is measured at each checkpoint: which the user named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipwatch.domain.losses import LossSets
from clipwatch.prompts.captioned import captioned
from clipwatch.settings import readers as read
from clipwatch.settings.keys import own
from clipwatch.settings.places import Places
from clipwatch.settings.values import Given

FEWEST = 6
"""With fewer images no difference is told to be sure (see statistics.flips)."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What the loss is measured on; `sets` are the images, None where no loss is asked for.

    Of a folder or table at most `most` images are taken, always the same ones.
    """

    holdout: str | None = own(
        "holdout", None, "images with captions, never trained on, for a held-out loss", read.text
    )
    train_sample: str | None = own(
        "train_sample", None, "images of the training, for the gap to them", read.text
    )
    most: int = own("holdout_images", 24, "most images of either", read.whole(1, 1000))
    sets: LossSets | None = None


def chosen(
    given: Mapping[str, Given], places: Places
) -> tuple[dict[str, Given], LossSets | None, tuple[str, ...]]:
    """Return the keys with whole paths, the images, and what is to be known, a line each.

    Raises:
        SettingsError: One cannot be read, or there is nothing to compare the training's with.
    """
    held, trained = given["holdout"], given["train_sample"]
    if not held.value:
        if trained.value:
            raise trained.error("is compared with holdout", fix="name images that are held out")
        return {}, None, ()
    named = {
        key: given[key].but(str(places.existing(given[key])))
        for key in ("holdout", "train_sample")
        if given[key].value
    }
    most = given["holdout_images"].value
    found = {key: captioned(Path(it.value), most) for key, it in named.items()}
    sets = LossSets(found["holdout"], found.get("train_sample", ()))
    both = {it.path for it in sets.held} & {it.path for it in sets.trained}
    if both:
        raise trained.error(f"names {min(both)}, and so does holdout", fix="keep them apart")
    few = tuple(
        named[key].told(f"only {len(its)} of its images: {FEWEST} tell whether a change is sure")
        for key, its in found.items()
        if len(its) < FEWEST
    )
    return named, sets, few
