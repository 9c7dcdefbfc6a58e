"""What tests of Comet share: a clean environment, a server, and what archives hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipwatch_adapters.comet.archives import held, points
from fake_comet import KEY, FakeComet


def isolate(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Leave no key, mode or file of the machine that runs the test."""
    for name in [name for name in os.environ if name.startswith("COMET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[FakeComet]:
    """Run a server, with its address and key in an otherwise clean environment."""
    isolate(monkeypatch, home)
    with FakeComet() as fake:
        monkeypatch.setenv("COMET_URL_OVERRIDE", fake.url)
        monkeypatch.setenv("COMET_API_KEY", KEY)
        yield fake


def means(folder: str) -> list[tuple[int, float]]:
    """Return (step, value) of clip/mean in all archives of a folder, in their order."""
    archives = sorted(Path(folder).glob("*.zip"))
    assert all(held(it) for it in archives)
    return [
        (step, value) for it in archives for name, step, value in points(it) if name == "clip/mean"
    ]
