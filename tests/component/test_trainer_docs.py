"""docs/trainers.md: what it says to write for a trainer finds that trainer's checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clipwatch.cli import main
from clipwatch.layouts import Scanner
from clipwatch.settings import load
from places import ROOT
from trainer_runs import file, written

SECTION = re.compile(r"^### ([^\n]+)\n\n```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECTIONS = dict(SECTION.findall((ROOT / "docs/trainers.md").read_text(encoding="utf-8")))

RUNS = {
    "sd-scripts, kohya_ss, FluxGym, musubi-tuner": ("kohya-lora", "", [8, 6, 4]),
    "ai-toolkit": ("aitk-flux", "", [2000, 1500, 1250, 1000, 750]),
    "OneTrainer": ("onetrainer-lora-kohya_lora", "workspace", [100, 50]),
    "diffusion-pipe": ("dp-flux", "runs", [100, 50]),
    "EveryDream2": ("ed2", "", [300, 260, 200, 100]),
}
"""Heading → a run, the folder in which it lies for the document, and the steps that are whole."""


def started(folder: Path, told: dict[str, Any]) -> list[int]:
    """Return the steps that a start with this config would score; what it prints is no error."""
    (folder / "base").mkdir()
    (folder / "config.json").write_text(json.dumps(told))
    arguments = ["start", "--config", str(folder / "config.json"), "--print-settings"]
    ended = CliRunner().invoke(main, [*arguments, "--device", "cpu"])
    assert ended.exit_code == 0, ended.output
    settings = load(folder / "config.json", flags={"device": "cpu"}, environ={}, cwd=folder)
    scanner = Scanner(
        settings.paths.output_dir,
        weights=settings.protocol.weights,
        settle_seconds=0.0,
        layouts=settings.watching.layouts,
    )
    found = scanner.scan()
    return [it.step for it in found if type(it.verdict).__name__ == "Whole"]


@pytest.mark.parametrize("heading", RUNS)
def test_what_the_document_says_finds_the_checkpoints(heading: str, tmp_path: Path) -> None:
    """With the layout that it names, and without it."""
    run, below, steps = RUNS[heading]
    told = json.loads(SECTIONS[heading])
    for number, layout in enumerate((told["clipwatch"]["layout"], "auto")):
        folder = tmp_path / str(number)
        written(run, folder / below)
        told["clipwatch"]["layout"] = layout
        assert started(folder, told) == steps


def test_the_users_own_words_find_theirs(tmp_path: Path) -> None:
    """The section on other trainers."""
    data = file("kohya-gui", "out/shape-step00000004.safetensors")
    (tmp_path / "loras").mkdir()
    for name in ("style_s10.safetensors", "style_s200.safetensors", "other_s3.safetensors"):
        (tmp_path / "loras" / name).write_bytes(data)
    text = re.search(
        r"### Any other trainer.*?```json\n(.*?)```",
        (ROOT / "docs/trainers.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert text
    assert started(tmp_path, json.loads(text[1])) == [200, 10]


def test_every_section_is_tried() -> None:
    """No trainer is in the document alone."""
    assert SECTIONS.keys() == RUNS.keys()


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"layout": "kohia"}, "must be one of ai_toolkit, auto,"),
        ({"layout": "generic"}, "generic needs layout_files"),
        ({"layout": "generic", "layout_files": "*"}, "generic needs layout_step"),
        ({"layout_step": r"(\d+)"}, "is for the layout 'generic' alone"),
        ({"layout": "generic", "layout_files": "*", "layout_step": "("}, "a regular expression"),
        ({"layout": "generic", "layout_files": "*", "layout_step": "x"}, "must have one group"),
    ],
)
def test_a_layout_that_cannot_be_meant_is_refused(
    own: dict[str, str], problem: str, tmp_path: Path
) -> None:
    """In one line, with the key, and exit code 2."""
    (tmp_path / "base").mkdir()
    told = {
        "output_dir": "out",
        "pretrained_model_name_or_path": "base",
        "clipwatch": {"evaluation_type": "clip", "prompts": "core", "device": "cpu", **own},
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    arguments = ["start", "--config", str(tmp_path / "config.json"), "--print-settings"]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 2
    assert problem in ended.output
