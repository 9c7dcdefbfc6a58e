"""Whether images come nearer to training images than these come to each other."""

from __future__ import annotations

from scipy.stats import hypergeom

from clipwatch.statistics.scale import Near


def chance(seen: int, of: int, near: Near) -> float:
    """Return how often chance alone has so many images near, if they are as training images are.

    Fisher's exact test, one-sided: images of a model that draws what training images are drawn
    from, and remembers none, are near to one of them as often as these are to another one.

    Args:
        seen: Images that are near.
        of: Of so many.
        near: What is known of the training images.
    """
    return float(hypergeom.sf(seen - 1, of + near.of, seen + near.usual, of))
