"""Trackers whose packages may be missing: named, in `all`, and as doctor tells of them."""

from __future__ import annotations

import json
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from click.testing import CliRunner

from clipwatch.cli import main
from clipwatch.delivery import trackers
from clipwatch.doctor import publishing
from clipwatch.kit import plugins
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import Settings, load
from places import ROOT

LEAST = {"output_dir": "out", "evaluation_type": "clip", "model_family": "sdxl", "seed": 7}

MODULE = """
class Silent:
    "Works in a child process."
    needs = "no_such_cloud"

class Other:
    needs = "no_such_other"

class Heavy:
    needs = "no_such_heavy"
"""
METADATA = """Metadata-Version: 2.1
Name: third-trackers
Version: 1.0
Requires-Dist: no-such-loud; python_version > "3"
Provides-Extra: test
Requires-Dist: pytest; extra == "test"
Provides-Extra: sky
Requires-Dist: No.such_Cloud>=2; extra == "sky"
Provides-Extra: no-such-heavy
Requires-Dist: no-such-heavy-skinny; extra == "no-such-heavy"
"""
POINTS = """[clipwatch.adapters]
heavy = third_trackers:Heavy
loud = third_loud:Loud
other = third_trackers:Other
silent = third_trackers:Silent
"""
FIXES = {
    "silent": "pip install 'third-trackers[sky]'",
    "heavy": "pip install 'third-trackers[no-such-heavy]'",
    "other": "pip install no_such_other",
    "loud": "pip install no_such_loud",
}


@pytest.fixture(autouse=True)
def _beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a package with four trackers installed, none of whose libraries is there."""
    folder = tmp_path / "site"
    told = folder / "third_trackers-1.0.dist-info"
    told.mkdir(parents=True)
    (folder / "third_trackers.py").write_text(MODULE)
    (folder / "third_loud.py").write_text("import no_such_loud\n")
    (told / "METADATA").write_text(METADATA)
    (told / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "third_trackers", raising=False)


def read(folder: Path, report_to: str, *, own: bool = False) -> Settings:
    """Load LEAST with this report_to: the trainer's, or clipwatch's own."""
    keys = {"clipwatch": {"report_to": report_to}} if own else {"report_to": report_to}
    (folder / "config.json").write_text(json.dumps(LEAST | keys))
    return load(folder, environ={}, cwd=folder)


@pytest.mark.parametrize("name", sorted(FIXES))
def test_the_extra_is_named(name: str) -> None:
    """By the metadata of the package that registered the tracker; else the module itself."""
    with pytest.raises(SettingsError, match=f"tracker '{name}' needs the package no_such_") as told:
        trackers.load(name)
    assert told.value.fix == FIXES[name]


@pytest.mark.parametrize("own", [True, False])
def test_one_that_is_named_and_missing_ends_the_start(tmp_path: Path, *, own: bool) -> None:
    """With 2 and one line, whoever named it; `doctor` fails that tracker with the same fix."""
    settings = read(tmp_path, "tensorboard,silent", own=own)
    called = CliRunner().invoke(main, ["start", "--once", str(tmp_path / "config.json")])
    assert called.exit_code == 2
    assert called.stderr.splitlines()[-1].endswith(
        "tracker 'silent' needs the package no_such_cloud: pip install 'third-trackers[sky]'"
    )
    (found,) = publishing.look(settings, "silent")
    assert (found.verdict, found.fix) == ("fail", FIXES["silent"])


def test_all_are_those_that_are_installed(tmp_path: Path) -> None:
    """Those that are missing are told in one line, each with what installs it."""
    settings = read(tmp_path, "all")
    assert {"tensorboard", "wandb"} <= set(settings.publishing.trackers)
    assert FIXES.keys().isdisjoint(settings.publishing.trackers)
    (line,) = [it for it in settings.remarks if "'all'" in it]
    assert line.startswith("config.json:1: report_to: 'all' is what is installed, without ")
    for name, fix in FIXES.items():
        assert f"{name} ({fix})" in line
    assert read(tmp_path, "all,silent").publishing.trackers[-1] == "silent"  # refused at the start


def test_doctor_tells_the_version(tmp_path: Path) -> None:
    """Of each package that a tracker needs."""
    (found,) = publishing.look(read(tmp_path, "tensorboard"), "tensorboard")
    assert f"; tensorboard {version('tensorboard')}" in found.found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aim", 'name another for clipwatch alone: "clipwatch": {"report_to": "tensorboard"}'),
        ("clearml", "name another for clipwatch alone"),
        ("dvclive", "name another for clipwatch alone"),
        ("custom-tracker", "write an adapter, see docs/trackers.md, or name another"),
        ("simpletuner", "`clipwatch report` writes a page of its own, or name another"),
    ],
)
def test_a_tracker_without_an_adapter_is_told_with_what_to_type(
    tmp_path: Path, name: str, words: str
) -> None:
    """In one line: as a remark on the trainer's own key, as an error of clipwatch's."""
    settings = read(tmp_path, name)
    (line,) = [it for it in settings.remarks if "no adapter" in it]
    assert f"{name!r}, and publishes nowhere: {words}" in line
    assert settings.publishing.trackers == ()
    with pytest.raises(SettingsError, match="clipwatch has no adapter for") as told:
        read(tmp_path, name, own=True)
    assert words in str(told.value)


def test_our_own_extras_bring_what_our_adapters_need() -> None:
    """Each adapter of clipwatch's says what it needs, and the project's file names that."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    named = " ".join([*project["dependencies"], *(it for extra in extras for it in extra)])
    for name in project["entry-points"][plugins.TRACKERS]:
        (point,) = entry_points(group=plugins.TRACKERS, name=name)
        needs = plugins.needed(point.load())
        assert needs in named
        assert needs or name in {"csv", "jsonl"}
