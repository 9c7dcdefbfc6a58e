"""What of our summary is written over that which a run shows."""

from __future__ import annotations

import pytest

from clipwatch_adapters.wandb.session import standing

OURS = {"clip/mean": 0.25, "clip_best/mean": 0.3, "clip_best/step": 100,
        "clip_last/mean": 0.25, "clip_last/step": 200}  # fmt: skip
LAST, BEST = {"clip/mean", "clip_last/mean", "clip_last/step"}, {"clip_best/mean", "clip_best/step"}


@pytest.mark.parametrize(
    ("shown", "written"),
    [
        ({}, LAST | BEST),
        ({"clip_last/step": 200, "clip_best/step": 100, "clip_best/mean": 0.4}, LAST | BEST),
        ({"clip_last/step": 300, "clip_best/step": 100, "clip_best/mean": 0.4}, BEST),
        ({"clip_last/step": 150, "clip_best/step": 150, "clip_best/mean": 0.4}, LAST),
        ({"clip_last/step": 300, "clip_best/step": 300, "clip_best/mean": 0.31}, set()),
        ({"clip_last/step": 300, "clip_best/step": 300, "clip_best/mean": 0.29}, BEST),
    ],
)
def test_what_another_log_brought_stands(shown: dict[str, float], written: set[str]) -> None:
    """Where it is later, or higher, and at a step that ours does not have."""
    assert standing(OURS, shown, (100, 200)).keys() == written
