"""What an adapter needs and is not installed: told by which command, before anything is begun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from clipwatch.kit import plugins
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings, load

FIX = "pip install 'clipwatch[mlflow]'"


@pytest.fixture
def _far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with two trackers that name extras, one of which is there."""
    told = tmp_path / "site" / "far_trackers-1.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: far-trackers\nVersion: 1\nRequires-Dist: also-missing\n"
        "Requires-Dist: not-here>=2; extra == 'cloud'\nRequires-Dist: msgspec; extra == 'here'\n"
    )
    (told / "entry_points.txt").write_text(
        f"[{plugins.TRACKERS}]\nfar-cloud = not_here:Cloud [cloud]\nfar-here = msgspec:Raw [here]\n"
    )
    monkeypatch.syspath_prepend(told.parent)


@pytest.mark.usefixtures("_far")
def test_an_entry_point_names_the_extra_that_it_needs() -> None:
    """What lacks is told with the extra that brings it, without importing what was named."""
    assert plugins.lacking(plugins.TRACKERS, "far-cloud") == "pip install 'far-trackers[cloud]'"
    assert plugins.lacking(plugins.TRACKERS, "far-here") == ""
    assert plugins.lacking(plugins.TRACKERS, "tensorboard") == ""
    with pytest.raises(SettingsError, match=r"'far-cloud' needs a package: pip install 'far-tr"):
        plugins.load(plugins.TRACKERS, "far-cloud")
    assert "not_here" not in sys.modules


def read(folder: Path, given: dict[str, object]) -> Settings:
    (folder / "prompts.txt").write_text("a cat\n")
    config = {
        "output_dir": "output",
        "pretrained_model_name_or_path": "a/base",
        "evaluation_type": "clip",
        "validation_resolution": 512,
        **given,
    }
    own = {"prompts": "prompts.txt", "device": "cpu", "state_dir": str(folder / "state")}
    config["clipwatch"] = own | config.get("clipwatch", {})  # type: ignore[operator]
    (folder / "config.json").write_text(json.dumps(config))
    return load(folder / "config.json", flags={}, environ={}, cwd=folder)


@pytest.mark.parametrize("lacks", [False, True])
def test_a_tracker_without_its_package_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lacks: bool
) -> None:
    """`all` leaves it out, the trainer's own word is a note, and one for clipwatch an error."""
    monkeypatch.setattr(
        plugins, "lacking", lambda _, name: FIX if lacks and name == "mlflow" else ""
    )
    assert ("mlflow" in read(tmp_path, {"report_to": "all"}).publishing.trackers) != lacks
    told = read(tmp_path, {"report_to": "tensorboard,mlflow"})
    assert told.publishing.trackers == ("tensorboard", *["mlflow"] * (not lacks))
    notes = [it for it in told.remarks if "mlflow" in it]
    assert len(notes) == lacks
    assert all(f"clipwatch lacks the package of 'mlflow' ({FIX}), and pub" in it for it in notes)
    if lacks:
        with pytest.raises(SettingsError, match="needs a package") as error:
            read(tmp_path, {"clipwatch": {"report_to": "mlflow"}})
        assert str(error.value).endswith(f"report_to: tracker 'mlflow' needs a package: {FIX}")
    else:
        own = read(tmp_path, {"clipwatch": {"report_to": "mlflow", "mlflow": {"experiment": "e"}}})
        assert own.publishing.trackers == ("mlflow",)
        assert own.options["mlflow"] == {"experiment": "e"}
