"""The contract of layouts, held by each that comes with clipwatch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clipwatch.layouts import diffusers_script, simpletuner
from clipwatch.layouts.base import Layout
from clipwatch.testing.layouts import LayoutContract, Save
from layout_kit import diffusers_lora
from layout_kit import simpletuner as guarded


def saved(write: Callable[[Path], Path], output: Path, step: int) -> None:
    """Write a checkpoint-N."""
    folder = output / f"checkpoint-{step}"
    folder.mkdir()
    write(folder)


class TestSimpleTuner(LayoutContract):
    """LoRAs with a .guard."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return simpletuner

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return lambda output, step: saved(guarded, output, step)


class TestDiffusersScript(LayoutContract):
    """LoRAs without a mark."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return diffusers_script

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return lambda output, step: saved(diffusers_lora, output, step)
