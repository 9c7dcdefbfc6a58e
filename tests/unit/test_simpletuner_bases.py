"""A family that nobody knows, or that the base model is none of, does not change rules unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipwatch.kit.errors import SettingsError
from clipwatch.settings.simpletuner import tables
from simpletuner_kit import read

HUB = {"pretrained_model_name_or_path": "me/model"}
PIPELINES = sorted(
    {
        (name, flavour["pipeline"])
        for version in tables.versions()
        for name, known in tables.table(version).families.items()
        for flavour in known["flavours"].values()
        if flavour.get("pipeline") in tables.pipelines()[1] and name != "stable_cascade"
    }
)


def over(folder: Path, pipeline: Any, **keys: Any) -> tuple[str, ...]:
    """Return what is told of a local base model of a pipeline."""
    (folder / "base").mkdir(exist_ok=True)
    (folder / "base" / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    return read(folder, {"pretrained_model_name_or_path": "./base", **keys}).remarks


@pytest.mark.parametrize("family", ["sdxll", 5, "of-my-own"])
def test_an_unknown_family_is_refused_over_a_named_base(tmp_path: Path, family: Any) -> None:
    """With the nearest name, and a way to go without; null and none are no family."""
    with pytest.raises(SettingsError, match=r"config.json:3: model_family: .* no family") as told:
        read(tmp_path, {"model_family": family, **HUB})
    assert told.value.exit_code == 2
    assert ("did you mean 'sdxl'?" in str(told.value)) == (family == "sdxll")
    assert read(tmp_path, {"model_family": None, **HUB}).remarks == ()
    settings = read(tmp_path, {"model_family": family, **HUB}, model_family="none")
    assert settings.protocol.scheduler == ""


def test_an_unknown_flavour_is_told_over_a_named_base(tmp_path: Path) -> None:
    """The trainer goes on with the base, and so do we; a known one is no reason to say anything."""
    (line,) = read(tmp_path, {"model_flavour": "bse-1.0", **HUB}).remarks
    assert line.startswith(
        "config.json:5: model_flavour: sdxl has no flavour 'bse-1.0' (known: base-0.9, base-1.0"
    )
    assert read(tmp_path, {"model_flavour": "base-1.0", **HUB}).remarks == ()
    keys = {"model_family": "qwen_image", "model_flavour": "v2.1", **HUB}
    (line,) = read(tmp_path, keys, simpletuner_version="4.8.0").remarks
    assert "SimpleTuner 4.10.1 has it: set simpletuner_version" in line


def test_every_familys_own_pipelines_fit(tmp_path: Path) -> None:
    """Those of all versions and flavours that clipwatch scores, and names that begin like one."""
    assert len(PIPELINES) > 25
    for family, pipeline in PIPELINES:
        for name in (pipeline, pipeline.replace("Pipeline", "TestPipeline")):
            lines = over(tmp_path, name, model_family=family)
            assert not any("base model" in line for line in lines), (family, name)
    over(tmp_path, "Flux2KleinPipeline", model_family="flux2")


def test_a_base_of_another_family_is_refused(tmp_path: Path) -> None:
    """Where the trainer's file names both; where only clipwatch is meant, or in doubt, a line."""
    for family, pipeline in (
        ("flux", "StableDiffusionXLPipeline"),
        ("sd1x", "StableDiffusionXLPipeline"),
        ("sdxl", "StableDiffusionPipeline"),
        ("flux", "Flux2Pipeline"),
    ):
        with pytest.raises(SettingsError, match=f"{family}.*base.*{pipeline}, which is of") as told:
            over(tmp_path, pipeline, model_family=family)
        assert "config.json:3: model_family: " in str(told.value)
        assert told.value.exit_code == 2
    base = str(tmp_path / "base")
    keys = {"model_family": "sdxl", **HUB}
    (line,) = read(tmp_path, keys, pretrained_model_name_or_path=base).remarks
    assert "Flux2Pipeline, which is of flux2" in line
    (line,) = over(tmp_path, "MyOwnPipeline")
    assert line.endswith("MyOwnPipeline, by its model_index.json: its rules may not fit")


@pytest.mark.parametrize("index", ["[", "[]", "{}", '{"_class_name": 3}'])
def test_an_index_that_says_nothing_is_left_to_the_loading(tmp_path: Path, index: str) -> None:
    """Whoever opens the model says what is wrong with it."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_index.json").write_text(index)
    assert read(tmp_path, {"pretrained_model_name_or_path": "./base"}).remarks == ()
