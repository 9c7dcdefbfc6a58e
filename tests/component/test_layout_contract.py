"""The contract of layouts, held by each that comes with clipwatch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clipwatch.layouts import (
    ai_toolkit,
    diffusers_script,
    diffusion_pipe,
    kohya,
    onetrainer,
    simpletuner,
    step_folder,
)
from clipwatch.layouts.base import Layout
from clipwatch.testing.layouts import LayoutContract, Save
from layout_kit import diffusers_lora, weights
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


class TestKohya(LayoutContract):
    """Single files of sd-scripts."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return kohya

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return lambda output, step: weights(output / f"a-step{step:08}.safetensors")


class TestAiToolkit(LayoutContract):
    """Single files with nine digits."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return ai_toolkit

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return lambda output, step: weights(output / f"a_{step:09}.safetensors")


class TestOneTrainer(LayoutContract):
    """Single files with three numbers, of which the first counts."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return onetrainer

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return lambda output, step: weights(
            output / f"2026-11-28_00-00-46-save-{step}-3-7.safetensors"
        )


class TestStepFolder(LayoutContract):
    """LoRAs in folders of any script."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return step_folder

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return lambda output, step: weights(
            output / f"step-{step}/pytorch_lora_weights.safetensors"
        )


def _with_config(output: Path, step: int) -> None:
    weights(output / f"step{step}/adapter_model.safetensors")
    (output / f"step{step}/dp.toml").write_text("")


class TestDiffusionPipe(LayoutContract):
    """LoRAs with the training's .toml behind them."""

    @pytest.fixture
    def layout(self) -> Layout:
        """See LayoutContract."""
        return diffusion_pipe

    @pytest.fixture
    def save(self) -> Save:
        """See LayoutContract."""
        return _with_config
