"""The walls between the rooms hold, can be seen to hold, and are drawn as they are."""

from __future__ import annotations

import ast
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = next(it for it in Path(__file__).parents if (it / "pyproject.toml").exists())
PACKAGES = (ROOT / "daemon" / "clipwatch", ROOT / "adapters" / "clipwatch_adapters")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
LAYERS = next(it["layers"] for it in CONTRACTS if it["type"] == "layers")
ROOMS = [room.strip() for layer in LAYERS for room in layer.split("|")]

MOST_LINES, MEDIAN_LINES, MOST_OF_A_CLASS = 400, 120, 200


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check as `make check` does, over the packages below a folder."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    path = f"import sys; sys.path[:0] = [{str(folder / 'daemon')!r}, {str(folder / 'adapters')!r}]"
    call = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-P", "-c", f"{path}; {call}", "--no-logo", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("domain/names.py", "from clipwatch.journal import store", "Higher rooms know lower ones"),
        ("domain/names.py", "import sqlite3", "The domain does nothing"),
        ("results/view.py", "import torch", "torch is the evaluator's and the demo's"),
        ("delivery/trackers.py", "import clipwatch_adapters.memory", "The core knows no adapter"),
        ("statistics/scores.py", "from clipwatch.statistics import best", "No circles"),
    ],
)
def test_a_planted_import_is_found_though_it_is_late(
    tmp_path: Path, file: str, line: str, contract: str
) -> None:
    """A wall that nobody can break is none: each contract is broken by what it forbids."""
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package.relative_to(ROOT))
    assert checked(tmp_path).returncode == 0
    with (tmp_path / "daemon" / "clipwatch" / file).open("a", encoding="utf-8") as code:
        code.write(f"\n\ndef late() -> None:\n    {line}\n")
    found = checked(tmp_path)
    assert found.returncode == 1
    assert f"{contract} BROKEN" in found.stdout


def test_an_adapter_that_reaches_into_the_core_is_found(tmp_path: Path) -> None:
    """Ours see what those of third parties see."""
    for package in PACKAGES:
        shutil.copytree(package, tmp_path / package.relative_to(ROOT))
    with (tmp_path / "adapters/clipwatch_adapters/memory.py").open("a", encoding="utf-8") as code:
        code.write("\n\ndef late() -> None:\n    import clipwatch.journal\n")
    assert "An adapter knows its interface BROKEN" in checked(tmp_path).stdout


def test_the_page_draws_the_layers_that_are_checked() -> None:
    """The drawing names the rooms in the order of the contract."""
    drawing = PAGE.split("```")[1]
    drawn = [re.split(r"\s{2,}", line)[0].strip() for line in drawing.strip().splitlines()]
    assert drawn == LAYERS


def test_the_page_tells_what_each_room_is_for() -> None:
    """No room is left out, and none is told that is not there."""
    told = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    there = {it.name for it in PACKAGES[0].iterdir() if (it / "__init__.py").exists()}
    assert sorted(told) == sorted(there)
    assert set(ROOMS) == there


def test_the_page_says_why_each_package_is_installed() -> None:
    """A dependency without a reason is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = re.findall(
        r"^\| ([a-z0-9, -]+) \| ", PAGE.partition("## What is installed")[2], re.MULTILINE
    )
    told = [name for row in rows for name in row.split(", ") if name != "package"]
    asked = [re.split(r"[<>=!~]", it)[0] for it in project["dependencies"]]
    assert sorted(told) == sorted(asked)
    extras = PAGE.partition("Extras: ")[2]
    assert all(f"`{name}`" in extras for name in project["optional-dependencies"])


def test_no_module_stands_in_the_corridor() -> None:
    """A stranger finds a line by its room."""
    flat = {it.stem for it in PACKAGES[0].glob("*.py")}
    assert flat <= {"__init__", "__main__"}


def test_files_can_be_read_in_one_go() -> None:
    """Half of them have 120 lines at most, none has more than 400, no class more than 200."""
    files = {it: it.read_text("utf-8") for root in PACKAGES for it in root.rglob("*.py")}
    lengths = {it: len(text.splitlines()) for it, text in files.items() if text.count("\n") > 1}
    assert statistics.median(lengths.values()) <= MEDIAN_LINES
    assert [it for it, length in lengths.items() if length > MOST_LINES] == []
    long = [
        f"{it.relative_to(ROOT)}: {node.name}"
        for it, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
        and (node.end_lineno or 0) - node.lineno >= MOST_OF_A_CLASS
    ]
    assert long == []
