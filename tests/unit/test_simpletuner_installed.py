"""Where SimpleTuner is installed, found by its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipwatch.domain.protocol import Prompt
from clipwatch.kit.errors import SettingsError
from clipwatch.prompts import of_trainer
from clipwatch.settings.prompts import of_trainer as prompts_of_trainer
from clipwatch.settings.simpletuner import code
from clipwatch.settings.simpletuner.installed import Installed, find
from clipwatch.settings.values import Given
from simpletuner_kit import install

NOWHERE = Given(None, "default", "simpletuner_path")


def named(folder: Path, written: str) -> Installed | None:
    """Look where a flag says."""
    return find(Given(written, "--simpletuner-path", "simpletuner_path"), {}, folder)


@pytest.mark.parametrize(
    ("site", "written"),
    [
        ("site", "site"),
        ("site", "site/simpletuner"),
        ("venv/lib/python3.12/site-packages", "venv"),
        ("venv/lib/python3.12/site-packages", "venv/lib/python3.12/site-packages"),
        ("checkout", "checkout"),
    ],
)
def test_a_named_one_is_found(tmp_path: Path, site: str, written: str) -> None:
    """By its package folder, its site-packages, its virtual environment or a checkout."""
    package = install(tmp_path / site, "4.9.1")
    found = named(tmp_path, written)
    assert found == Installed(package, "4.9.1", "--simpletuner-path")


def test_an_editable_one_is_found(tmp_path: Path) -> None:
    """Where an environment only points to a checkout, that is it."""
    package = install(tmp_path / "my work")
    told = tmp_path / "venv/lib/python3.12/site-packages/simpletuner-4.8.0.dist-info"
    told.mkdir(parents=True)
    address = (tmp_path / "my work").as_uri()
    (told / "direct_url.json").write_text(json.dumps({"url": address, "dir_info": {}}))
    found = named(tmp_path, "venv")
    assert found
    assert found.package == package
    (told / "direct_url.json").write_text("[")
    with pytest.raises(SettingsError, match="there is no SimpleTuner in"):
        named(tmp_path, "venv")


def test_the_command_leads_to_its_environment(tmp_path: Path) -> None:
    """Through an installer's link, too; where nothing is, nothing is found."""
    assert find(NOWHERE, {"PATH": str(tmp_path)}, tmp_path) is None
    package = install(tmp_path / "tools/simpletuner/lib/python3.13/site-packages")
    program = tmp_path / "tools/simpletuner/bin/simpletuner"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "simpletuner"
    link.symlink_to(program)
    for folder in (program.parent, link.parent):
        found = find(NOWHERE, {"PATH": str(folder)}, tmp_path)
        assert found
        assert (found.package, found.version) == (package, "4.8.0")
        assert found.source == f"of the command {folder / 'simpletuner'}"


def test_a_wrong_place_is_told(tmp_path: Path) -> None:
    """A folder without it, and none at all."""
    for written in (".", "gone"):
        with pytest.raises(SettingsError, match="simpletuner_path: there is no Sim"):
            named(tmp_path, written)


def test_its_prompts_are_read_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and texts of its image library, by its own file; nothing of it is executed."""
    monkeypatch.chdir(tmp_path)
    package = install(tmp_path / "site")
    listed = of_trainer(package)
    assert listed.prompts == (Prompt("fox", "a fox in the snow"), Prompt("hut", "a hut by the sea"))
    (note,) = listed.notes
    assert note == f"SimpleTuner's own 2 prompts, from {package / 'helpers' / 'prompts.py'}"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("prompts = [", "is not Python that can be read"),
        ("prompt = {}", "has no dictionary 'prompts'"),
        ("prompts = {'a': open('x')}", ":1: holds something else than texts"),
        ("prompts = {}", ":1: has no prompt"),
    ],
)
def test_prompts_that_are_not_there_are_told(tmp_path: Path, text: str, why: str) -> None:
    """A file of another form is one clear line."""
    package = install(tmp_path / "site")
    (package / "helpers" / "prompts.py").write_text(text)
    with pytest.raises(SettingsError, match=why):
        of_trainer(package)


def test_no_trainer_no_prompts(tmp_path: Path) -> None:
    """`prompts: simpletuner` says what to name."""
    with pytest.raises(SettingsError, match="no SimpleTuner is installed in this environment or"):
        prompts_of_trainer(NOWHERE, {"PATH": ""}, tmp_path)


def test_the_instruction_of_sana_is_read(tmp_path: Path) -> None:
    """Out of the registration of its option, in either of two forms; nothing where it is not."""
    package = install(tmp_path / "site")
    assert code.instruction(package) == ""
    registry = package / "helpers" / "models" / "field_registry"
    registry.mkdir(parents=True)
    field = 'ConfigField(name="sana_complex_human_instruction", default_value={})'
    for default in ("'Be brief. \\nPrompt: '", "'\\n'.join(['Be brief. ', 'Prompt: '])"):
        (registry / "sana.py").write_text(f"def f(registry):\n    {field.format(default)}\n")
        assert code.instruction(package) == "Be brief.\nPrompt:"
