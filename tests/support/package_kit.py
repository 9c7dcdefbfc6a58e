"""The package of docs/plugins.md as it is installed beside clipwatch."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipwatch.layouts.claims import installed
from docs_kit import blocks
from places import ROOT

DOCUMENT = ROOT / "docs" / "plugins.md"


def write_package(folder: Path) -> Path:
    """Write the document's module and its entry points as an installer leaves them."""
    [module] = [block.text for block in blocks(DOCUMENT) if block.language == "python"]
    [project] = [block.text for block in blocks(DOCUMENT) if block.language == "toml"]
    [(group, points)] = tomllib.loads(project)["project"]["entry-points"].items()
    told = folder / "epoch_files-1.0.dist-info"
    told.mkdir(parents=True)
    (folder / "epoch_files.py").write_text(module)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: epoch-files\nVersion: 1.0\n")
    lines = [f"{name} = {place}" for name, place in points.items()]
    (told / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    return folder


@contextmanager
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the package installed in this process."""
    monkeypatch.syspath_prepend(write_package(folder))
    installed.cache_clear()
    try:
        yield
    finally:
        installed.cache_clear()
