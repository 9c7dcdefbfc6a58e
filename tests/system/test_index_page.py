"""The package's page on an index: every link on it leads somewhere, or there is none."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCE = "https://git.example.org/us/clipwatch"
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """Return hatch_build.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_are_whole_addresses(build: ModuleType) -> None:
    """Each link to a file of the project names the repository and the version; others stay.

    A picture is the file itself, a link leads to the page that shows it.
    """
    page = build.index_page(README, SOURCE, "1.2.3")
    links = LINK.findall(page)
    assert all("://" in link for link in links)
    begins = {f"{SOURCE}/{it}/v1.2.3/" for it in ("blob", "raw")}
    ours = [link.removeprefix(it) for link in links for it in begins if link.startswith(it)]
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert pictures
    assert all(it.startswith(f"{SOURCE}/raw/v1.2.3/docs/pictures/") for it in pictures)
    assert page.count("/raw/") == len(pictures)
    assert ours == [link for link in LINK.findall(README) if "://" not in link]
    assert all((ROOT / link.partition("#")[0]).exists() for link in ours)


def test_without_an_address_words_remain(build: ModuleType) -> None:
    """No link is dead, no word is lost, and no picture is a gap."""
    page = build.index_page(README, "", "1.2.3")
    assert all("://" in link for link in LINK.findall(page))
    text = re.sub(r"!\[[^\]]+\]\([^)]*\)", "", README)
    assert page == re.sub(r"\[([^\]]+)\]\((?!\w+://)[^)]*\)", r"\1", text)


@pytest.mark.parametrize(("source", "count"), [("", 0), (SOURCE, 4)])
def test_the_metadata_is_filled_in(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, source: str, count: int
) -> None:
    """The hook gives the page, and the addresses where there are some."""
    monkeypatch.setattr(build, "origin", lambda _: "")
    metadata: dict[str, Any] = {"version": "1.2.3"}
    build.IndexPage(str(ROOT), {"source": source}).update(metadata)
    assert metadata["readme"]["text"] == build.index_page(README, source, "1.2.3")
    assert len(metadata["urls"]) == count
    assert all(it.startswith(SOURCE) for it in metadata["urls"].values())


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://git.example.org/us/clipwatch.git", SOURCE),
        ("https://git.example.org/us/clipwatch/", SOURCE),
        ("https://someone:secret@git.example.org/us/clipwatch", SOURCE),
        ("git@git.example.org:us/clipwatch.git", SOURCE),
        ("ssh://git@git.example.org:2222/us/clipwatch.git", SOURCE),
        ("/srv/git/clipwatch.git", ""),
        ("../clipwatch", ""),
        ("file:///srv/git/clipwatch", ""),
    ],
)
def test_a_clone_knows_where_it_came_from(
    build: ModuleType, tmp_path: Path, remote: str, address: str
) -> None:
    """Without a login that may stand in it; a folder that is no clone, or of a path, knows none."""
    assert build.origin(tmp_path) == ""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    assert build.origin(tmp_path) == ""
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    assert build.origin(tmp_path) == address


def test_the_pythons_are_told_alike() -> None:
    """Classifiers and documents name the versions that the package takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    first, end = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    named = re.findall(r"Python :: 3\.(\d+)", " ".join(project["classifiers"]))
    assert list(map(int, named)) == list(range(first, end))
    for document in ("README.md", "docs/install.md", "CONTRIBUTING.md"):
        assert f"Python 3.{first} to 3.{end - 1}" in Path(ROOT / document).read_text()
