"""The service's files before systemd reads them: paths, quoting, and what is not overwritten."""

from __future__ import annotations

import getpass
import json
import pwd
import shlex
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from clipwatch.cli.systemd import systemd
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.service.units import EXECUTABLE, UNIT, Run, system_files, template, user_files, write
from places import ROOT

UNITS = Path("/etc/systemd/system")
COMMAND = Path("/opt/a venv/100%/bin/clipwatch")
HOME = Path("/home/alice/.config")


def run(name: str = "shapes", output: str = "/data/out", user: str = "alice") -> Run:
    folder = Path(output)
    return Run(name, Path("/t/config.json"), Path("/t"), folder, folder / "logs", user)


def lines(text: str) -> list[str]:
    """Return the settings of a unit, without comments."""
    return [line for line in text.split("\n") if line and line[0] not in "#["]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(systemd, [str(argument) for argument in arguments])


def test_the_system_gets_the_template_and_the_facts_of_a_run() -> None:
    """Four files; without a run the two that all runs share."""
    files = system_files(COMMAND, run())
    shared = [UNITS / UNIT, Path("/etc/sysusers.d/clipwatch.conf")]
    drop_in = UNITS / "clipwatch@shapes.service.d/run.conf"
    assert list(files) == [*shared, Path("/etc/clipwatch/shapes.env"), drop_in]
    assert lines(files[drop_in]) == [
        "RequiresMountsFor=/data/out",
        "User=alice",
        "ReadOnlyPaths=-/data/out",
    ]
    assert "#ReadWritePaths=-/data/out/logs" in files[drop_in].splitlines()
    assert list(system_files(COMMAND, None)) == shared


def test_the_unit_calls_the_installed_command() -> None:
    """Nothing else of the template changes, and what systemd would read in a path is quoted."""
    text = system_files(COMMAND, None)[UNITS / UNIT]
    quoted = '"/opt/a venv/100%%/bin/clipwatch"'
    assert text == template(UNIT).replace(EXECUTABLE, quoted)
    commands = [line for line in lines(text) if line.startswith("Exec")]
    assert commands == [
        f"ExecStart={quoted} start",
        f"ExecReload={quoted} start --print-settings",
        "ExecReload=kill -HUP $MAINPID",
    ]


def test_a_user_gets_what_a_users_manager_can_do() -> None:
    """Nothing that needs root is left, and everything else is the same unit."""
    files = user_files(COMMAND, run(user=""), HOME)
    assert list(files) == [HOME / "systemd/user" / UNIT, HOME / "clipwatch/shapes.env"]
    own, system = (lines(text) for text in (files[HOME / "systemd/user" / UNIT], template(UNIT)))
    names = {line.partition("=")[0] for line in own}
    root = {"User", "Slice", "ProtectSystem", "PrivateTmp", "CapabilityBoundingSet", "DeviceAllow"}
    assert not names & (root | {name for name in names if name.startswith(("Protect", "Private"))})
    assert {"Type", "WatchdogSec", "StateDirectory", "LoadCredential", "NoNewPrivileges"} <= names
    changed = set(own) - set(system)
    assert {line.partition("=")[0] for line in changed} == {"ExecStart", "ExecReload", "WantedBy"}
    assert "WantedBy=default.target" in own


def words(line: str) -> list[str]:
    """Return the words of a setting as systemd.syntax(7) reads them."""
    return [word.replace("%%", "%") for word in shlex.split(line.partition("=")[2])]


PATHS = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f/", codec="utf-8"))


@given(PATHS)
def test_any_path_survives(name: str) -> None:
    """A space, quote, backslash, dollar or percent in a path means itself in each file."""
    output = f"/data/{name}"
    files = system_files(COMMAND, run(output=output))
    mounts, user, read_only = lines(files[UNITS / "clipwatch@shapes.service.d/run.conf"])
    assert words(mounts) == [str(Path(output))]
    assert words(read_only) == [f"-{Path(output)}"]
    assert user == "User=alice"
    config = Run("shapes", Path(output), Path(output), Path("/o"), Path("/o/logs"), "alice")
    settings = lines(system_files(COMMAND, config)[Path("/etc/clipwatch/shapes.env")])
    assert words(settings[0].replace(r"\$", "$").replace(r"\`", "`").replace("%", "%%")) == [
        str(Path(output))
    ]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "a@b", "-x", "%i", "ä", "a\n"])
def test_a_name_that_is_no_instance_is_refused(name: str) -> None:
    """It would be a path, a specifier or another unit."""
    with pytest.raises(SettingsError, match="names no service"):
        run(name)


@pytest.mark.parametrize("output", ["/a\nUser=root", "/a\x00", "/a\t"])
def test_a_path_that_no_unit_can_hold_is_refused(output: str) -> None:
    """A line break would begin another setting."""
    with pytest.raises(SettingsError, match="no unit can hold"):
        run(output=output)


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    """One changed file stops all writing; --force replaces it and says so."""
    new, same, changed = (tmp_path / "deep" / name for name in ("new", "same", "changed"))
    same.parent.mkdir()
    same.write_text("s")
    changed.write_text("mine")
    texts = {new: "n", same: "s", changed: "c"}
    with pytest.raises(ClipwatchError, match=f"^{changed} would change.*--force") as refused:
        write(texts, force=False)
    assert str(same) not in str(refused.value)
    assert not new.exists()
    assert changed.read_text() == "mine"
    assert write(texts, force=True) == {new: "wrote", same: "unchanged", changed: "replaced"}
    assert {path: path.read_text() for path in texts} == texts
    assert set(write(texts, force=False).values()) == {"unchanged"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """One line names it and what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(ClipwatchError, match=r"file: .*sudo.*--user"):
        write({tmp_path / "file/unit": ""}, force=False)


def test_show_prints_what_install_would_write(folder: Path) -> None:
    """Each file under its path, the configuration's facts filled in; nothing is written."""
    shown = call("show", "shapes", "--config", folder / "config.json")
    assert shown.exit_code == 0
    me = pwd.getpwuid((folder / "output").stat().st_uid).pw_name
    command = Path(sys.executable).with_name("clipwatch")
    for line in (
        f"# {UNITS / UNIT}",
        f"ExecStart={command} start",
        f'CLIPWATCH_CONFIG="{folder / "config.json"}"',
        f"User={me}",
        f"ReadOnlyPaths=-{folder / 'output'}",
    ):
        assert line in shown.stdout.splitlines()
    assert not (UNITS / "clipwatch@shapes.service.d").exists()


def test_install_for_a_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes below the home and says what to type; a second time nothing changes."""
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("CLIPWATCH_OUTPUT_DIR", "/elsewhere")  # the service will not see it
    monkeypatch.chdir(folder)
    done = call("install", "shapes", "--user")
    assert done.exit_code == 0
    assert "systemctl --user enable --now clipwatch@shapes" in done.stdout
    env = folder / "home/.config/clipwatch/shapes.env"
    assert f'CLIPWATCH_CONFIG="{folder}/config.json"' in env.read_text().splitlines()
    assert (folder / "home/.config/systemd/user" / UNIT).exists()
    again = call("install", "shapes", "--user")
    assert again.stdout.count("unchanged") == 2
    env.write_text("CLIPWATCH_DEVICE=cuda:1\n")
    refused = call("install", "shapes", "--user")
    assert isinstance(refused.exception, ClipwatchError)
    assert env.read_text() == "CLIPWATCH_DEVICE=cuda:1\n"


def test_the_trainer_is_named_or_found(folder: Path) -> None:
    """--trainer-user must exist; else the owner of what is there is taken."""
    config = folder / "config.json"
    named = call("show", "shapes", "--config", config, "--trainer-user", "nobody")
    assert "User=nobody" in named.stdout.splitlines()
    unknown = call("show", "shapes", "--config", config, "--trainer-user", "no body")
    assert isinstance(unknown.exception, SettingsError)
    (folder / "output").rmdir()
    assert f"User={getpass.getuser()}" in call("show", "shapes", "-c", config).stdout.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "--config", "config.json"],
        ["install", "--trainer-user", "nobody"],
        ["install", "shapes", "--user", "--trainer-user", "nobody"],
    ],
)
def test_options_that_say_nothing_are_refused(arguments: list[str]) -> None:
    """A run's options without a run, and another user for one's own services."""
    assert call(*arguments).exit_code == 2


def test_a_wrong_configuration_is_told_before_anything_is_written(folder: Path) -> None:
    """The service would only fail at its start."""
    (folder / "config.json").write_text(json.dumps({"evaluation_type": "clip"}))
    refused = call("install", "shapes", "--user", "--config", folder / "config.json")
    assert isinstance(refused.exception, SettingsError)


def test_the_shipped_files_are_where_they_are_installed_from() -> None:
    """One source: the package's folder is the project's, all of it plain files."""
    project = ROOT / "systemd"
    shipped = sorted(path.relative_to(project) for path in project.rglob("*") if path.is_file())
    assert {str(path) for path in shipped} >= {UNIT, "clipwatch.conf", "examples/run.conf"}
    for path in shipped:
        assert template(str(path)) == (project / path).read_text()
        assert stat.S_ISREG((project / path).lstat().st_mode)


def test_each_example_says_where_it_goes() -> None:
    """The first line is the path to copy it to."""
    examples: Iterable[Path] = (ROOT / "systemd/examples").iterdir()
    for example in examples:
        first = example.read_text().splitlines()[0]
        assert first.startswith("# /etc/systemd/system/clipwatch@")
