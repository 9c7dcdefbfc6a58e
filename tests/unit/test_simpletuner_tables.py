"""What SimpleTuner says of itself, and what clipwatch answers, fit together."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import diffusers
import pytest

from clipwatch.kit.errors import SettingsError
from clipwatch.settings.settings import KEYS, TRAINER_KEYS
from clipwatch.settings.simpletuner import answers, tables
from clipwatch.settings.simpletuner.answers import FOLLOWED, KINDS
from clipwatch.settings.simpletuner.rules import STOCK
from clipwatch.settings.simpletuner.tables import Family
from simpletuner_kit import read

FOLDER = Path(tables.__file__).parent
SCRIPTS = FOLDER.parents[3] / "scripts"
VERSIONS = tables.versions()
FAMILIES = [(version, name) for version in VERSIONS for name in tables.table(version).families]
ELSEWHERE = {
    "lora_format": "every format is read, so there is nothing to read from the key",
    "attention_mechanism": "told for one value, and refused by a rule of its own for some",
    "sageattention_usage": "shown with attention_mechanism",
}


def test_every_option_has_one_answer() -> None:
    """No option of a committed registry is without one, and no answer without an option."""
    assert answers.answers().keys() == tables.every_option().keys()
    whole = FOLDER.joinpath("answers.toml").read_text()
    assert all(answer.kind in KINDS and answer.text for answer in answers.answers().values())
    assert whole.count("\n") < 700, "one line an option"


def test_what_is_followed_is_read_and_what_is_read_is_followed() -> None:
    """The keys that clipwatch takes from the trainer's file are those it says it follows."""
    followed = {name for name, it in answers.answers().items() if it.kind == FOLLOWED}
    assert followed ^ TRAINER_KEYS == ELSEWHERE.keys()


@pytest.mark.parametrize("version", VERSIONS)
def test_defaults_are_the_trainers(version: str) -> None:
    """A key that is left out has the trainer's default, or follows from others."""
    options = tables.table(version).options
    different = {
        name: (KEYS[name].default, options[name].get("default"))
        for name in TRAINER_KEYS
        if KEYS[name].default not in (None, "", ())
        and KEYS[name].read(str(options[name].get("default"))) != KEYS[name].default
    }
    # its 4.10.1 chooses by the machine; a size is read as width and height
    assert different.keys() <= {"attention_mechanism"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_choice_of_the_trainer_is_a_value(version: str) -> None:
    """What the trainer's parser takes for a followed key is read, or refused by its name."""
    refused = {"perflow"}
    for name, option in tables.table(version).options.items():
        for choice in set(option.get("choices", ())) - refused if name in TRAINER_KEYS else ():
            KEYS[name].read(choice)
    with pytest.raises(ValueError, match="perflow is not supported"):
        KEYS["validation_noise_scheduler"].read("perflow")


@pytest.mark.thorough(but=30)
@pytest.mark.parametrize(("version", "name"), FAMILIES)
def test_every_flavour_is_scored_or_refused_for_what_it_is(
    tmp_path: Path, version: str, name: str
) -> None:
    """Each flavour resolves to its repository where diffusers has its pipeline, else says why."""
    family = Family(name, tables.table(version).families[name])
    _, exported = tables.pipelines()
    for flavour in map(family.flavour, family.flavours):
        assert flavour
        keys = {"model_family": name, "model_flavour": flavour.name, "output_dir": "/dev/null/no"}
        try:
            settings = read(tmp_path, {**keys, "output_dir": "out"}, simpletuner_version=version)
        except SettingsError as error:
            why = str(error)
            with pytest.raises(SettingsError) as first:  # before any path is looked at
                read(tmp_path, keys, simpletuner_version=version)
            assert str(first.value) == why
            assert any(
                (
                    family.modality == "audio" and "it makes sound" in why,
                    family.modality == "video" and "it makes video" in why,
                    flavour.edits and "starts from pictures" in why,
                    flavour.name.startswith("refiner") and "another model's pictures" in why,
                    name == "stable_cascade" and "makes no pixels" in why,
                    flavour.pipeline not in exported and "which diffusers" in why,
                )
            ), why
        else:
            assert settings.protocol.base_model == flavour.model
            assert flavour.pipeline in exported
            assert not flavour.edits


@pytest.mark.parametrize("version", VERSIONS)
def test_every_spelling_is_known(version: str) -> None:
    """A family answers to each of the trainer's names for it, in any case, with either dash."""
    known = tables.table(version)
    for name, family in known.families.items():
        for spelling in family["spellings"]:
            for written in (spelling, spelling.upper(), spelling.replace("_", "-")):
                found = known.family(written)
                assert found, written
                assert found.name == name


@pytest.mark.parametrize(
    ("written", "near"),
    [("sdlx", "sdxl"), ("kandinsky-5-image", "kandinsky5-image"), ("qwenimage", "qwen_image")],
)
def test_the_nearest_family_is_guessed(written: str, near: str) -> None:
    """A slip in a family's name leads to a name that the trainer has."""
    assert tables.table(VERSIONS[-1]).near(written) == near


@pytest.mark.parametrize(
    ("version", "holds"),
    [("4.8.0", "4.8.0"), ("4.9.3", "4.8.0"), ("4.10.1", "4.10.1"), ("5.0", "4.10.1"),
     ("3.1", "4.8.0"), ("4.11.0.dev0", "4.10.1"), ("whatever", "4.10.1")],
)  # fmt: skip
def test_another_version_has_the_nearest_table(version: str, holds: str) -> None:
    """The newest that is not newer; the oldest for what is older, the newest for no version."""
    assert VERSIONS == ("4.8.0", "4.10.1")
    assert tables.nearest(version) == holds


def test_samplers_of_all_families_are_known() -> None:
    """A default sampler is one that diffusers has, or one that is told not to be."""
    told = {"", "flow_unipc", "rectified_flow_ab2"}
    for version, name in FAMILIES:
        assert tables.table(version).families[name].get("scheduler", "") in told | STOCK.keys()


def test_the_list_of_pipelines_is_that_of_diffusers() -> None:
    """The file has the pipelines of the diffusers that the tests run with."""
    version, exported = tables.pipelines()
    if version != diffusers.__version__:
        pytest.skip(f"the file is of diffusers {version}")
    for name in sorted(exported):
        assert hasattr(diffusers, name), name
    assert {"FluxPipeline", "QwenImage21Pipeline"} <= exported


@pytest.mark.parametrize("version", VERSIONS)
def test_tables_hold_facts_a_line_each(version: str) -> None:
    """An option and a flavour has a line of its own, and no sentence of the trainer's is in it."""
    text = FOLDER.joinpath(f"{version}.json").read_text()
    known = json.loads(text)
    flavours = [it for family in known["families"].values() for it in family["flavours"]]
    assert text.count("\n") > len(known["options"]) + len(known["variables"]) + len(flavours)
    assert all(len(str(it.get("default"))) <= 100 for it in known["options"].values())


def test_the_page_for_people_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/simpletuner.md is what scripts/simpletuner_docs.py makes of tables and answers."""
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("simpletuner_docs")
    assert script.FILE.read_text() == script.document()
