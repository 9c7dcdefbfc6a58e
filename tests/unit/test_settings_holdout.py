"""Which images a held-out loss is of, as the settings name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.kit.errors import SettingsError
from world import settings


def images(folder: Path, name: str, count: int = 8) -> Path:
    (folder / name).mkdir()
    for number in range(count):
        (folder / name / f"{name}-{number}.png").write_bytes(b"")
        (folder / name / f"{name}-{number}.txt").write_text(f"{name} {number}")
    return folder / name


def test_without_a_holdout_nothing_is_measured(tmp_path: Path) -> None:
    """Nobody asked."""
    assert settings(tmp_path).holding.sets is None


def test_names_are_looked_for_as_all_others(tmp_path: Path) -> None:
    """Relative ones too; the whole path is told, and a bound takes the same ones each time."""
    folder = images(tmp_path, "held")
    images(tmp_path, "trained")
    flags = {"holdout": "held", "train_sample": "trained"}
    found = settings(tmp_path, **flags).holding
    assert found.holdout == str(folder)
    assert found.sets is not None
    assert len(found.sets.held) == len(found.sets.trained) == 8
    assert settings(tmp_path, **flags).as_text()["holdout"] == str(folder)
    bound = settings(tmp_path, **flags, holdout_images=6).holding.sets
    assert bound is not None
    assert bound.held == found.sets.held[:6]


def test_few_images_are_pointed_out(tmp_path: Path) -> None:
    """They are measured, and no difference of theirs is told to be sure."""
    images(tmp_path, "held", 5)
    found = settings(tmp_path, holdout="held")
    assert found.holding.sets is not None
    assert any("only 5 of its images: 6 tell" in line for line in found.notes)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"train_sample": "held"}, "--train-sample: is compared with holdout"),
        ({"holdout": "none"}, "there is no"),
        ({"holdout": "held", "train_sample": "held"}, "and so does holdout"),
        ({"holdout": "config.json"}, "is neither a folder nor one of .jsonl"),
    ],
)
def test_what_cannot_be_meant_is_refused(flags: dict[str, str], said: str, tmp_path: Path) -> None:
    """In one line, before anything begins."""
    images(tmp_path, "held")
    with pytest.raises(SettingsError, match=said):
        settings(tmp_path, **flags)
