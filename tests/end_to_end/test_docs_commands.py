"""What the documents tell people to type works, and what they show as its answer is its form."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from docs_kit import DOCUMENTS, objects, prose, scripts
from docs_world import DocsWorld
from places import ROOT

pytestmark = pytest.mark.timeout(600)  # the first command waits for its world

TYPED = sorted({script for document in DOCUMENTS for script in scripts(document)})

ANSWERS = [
    ("README.md", "runs", "clipwatch status --json"),
    ("README.md", "quantiles", "clipwatch score CHECKPOINT --json --images DIR"),
    ("docs/compare.md", "delta", "clipwatch compare 400 500 --json"),
    ("docs/compare.md", "tied", "clipwatch best --json"),
    ("docs/log.md", "seq", "clipwatch log --json"),
]
"""Where an object is shown, a key that it has, and who prints it."""


@pytest.fixture(scope="module")
def scratch(base: Path, tmp_path_factory: pytest.TempPathFactory) -> DocsWorld:
    """Return the world; all commands are typed in the same one."""
    return DocsWorld(tmp_path_factory.mktemp("documents"), base)


@pytest.mark.parametrize("script", TYPED, ids=lambda it: it.splitlines()[0][:70])
@pytest.mark.thorough
def test_commands_work(script: str, scratch: DocsWorld) -> None:
    """What a document says to type ends with 0."""
    ended = scratch.type(script)
    assert ended.returncode == 0, f"{script}\n{ended.stdout[-300:]}{ended.stderr[-300:]}"


@pytest.mark.parametrize(("document", "key", "command"), ANSWERS, ids=str)
@pytest.mark.thorough
def test_answers_have_the_form_that_is_shown(
    document: str, key: str, command: str, scratch: DocsWorld
) -> None:
    """The JSON of a document has the keys that the program's has, at every depth."""
    [shown] = [it for it in objects(ROOT / document) if key in it]
    ended = scratch.type(command)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout) if key != "seq" else _event(ended.stdout, shown["type"])
    assert list(_differences(shown, told, "")) == []


def _event(log: str, kind: str) -> Any:
    return next(it for it in map(json.loads, log.splitlines()) if it["type"] == kind)


def _differences(shown: Any, told: Any, where: str) -> list[str]:
    """Name keys that only one has; of lists the first items are compared, null is any value."""
    if isinstance(shown, dict) and isinstance(told, dict):
        odd = [f"{where}.{key}" for key in shown.keys() ^ told.keys()]
        both = shown.keys() & told.keys()
        return sum((_differences(shown[k], told[k], f"{where}.{k}") for k in both), odd)
    if isinstance(shown, list) and isinstance(told, list):
        if bool(shown) != bool(told):
            return [f"{where}: {len(shown)} and {len(told)} items"]
        return _differences(shown[0], told[0], f"{where}[0]") if shown else []
    alike = None in (shown, told) or _kind(shown) == _kind(told)
    return [] if alike else [f"{where}: {shown!r} and {told!r}"]


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)


@pytest.mark.parametrize(
    ("document", "command"),
    [
        ("docs/doctor.md", "clipwatch doctor --config FILE --json"),
        ("docs/prompts.md", "clipwatch prompts --config FILE --json"),
    ],
)
@pytest.mark.thorough
def test_keys_of_answers_are_named(document: str, command: str, scratch: DocsWorld) -> None:
    """Where a sentence says what `--json` prints, it names every key."""
    [named] = re.findall(r"`--json` prints[^`]*`([^`]*)`", prose(ROOT / document))
    told = json.loads(scratch.type(command).stdout)
    assert _keys(told) == set(re.findall(r'"(\w+)"', named))


def _keys(told: Any) -> set[str]:
    if isinstance(told, dict):
        return told.keys() | set().union(*map(_keys, told.values()))
    return set().union(*map(_keys, told)) if isinstance(told, list) else set()


def test_extras_are_those_of_the_package() -> None:
    """What is installed as clipwatch[...] exists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        extra
        for document in DOCUMENTS
        for extra in re.findall(r"clipwatch\[(\w+)\]", document.read_text(encoding="utf-8"))
    }
    assert named <= project["optional-dependencies"].keys()


def test_targets_are_those_of_the_makefile() -> None:
    """What is made is a target."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    documents = " ".join(it.read_text(encoding="utf-8") for it in DOCUMENTS)
    made = set(re.findall(r"(?:`|^)make (?:\w+=\S+ )*(\w+)", documents, re.MULTILINE))
    assert made <= targets
