"""Configurations of SimpleTuner, and an installed one, as its tests need them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clipwatch.settings import Settings, load

LEAST = {"output_dir": "out", "model_family": "sdxl", "seed": 7}
OWN = {"evaluation_type": "clip", "device": "cuda"}


def read(folder: Path, keys: dict[str, Any], **own: Any) -> Settings:
    """Load a config.json of LEAST and other keys, with an object `clipwatch` of OWN and others."""
    config = {**LEAST, **keys, "clipwatch": {**OWN, **own}}
    (folder / "config.json").write_text(json.dumps(config, indent=0))
    return load(folder, environ={}, cwd=folder)


def install(site: Path, version: str = "4.8.0") -> Path:
    """Write what a package `simpletuner` has that is read, and return its folder.

    Its prompts would leave a mark if they were run.
    """
    package = site / "simpletuner"
    (package / "helpers").mkdir(parents=True)
    (package / "examples").mkdir()
    (package / "__init__.py").write_text(f'"""The trainer."""\n__version__ = "{version}"\n')
    (package / "helpers" / "prompts.py").write_text(
        "import os\nopen('ran', 'w')\n"
        "prompts = {\n"
        '    "fox": "a fox in the snow",\n'
        '    "hut": "a hut "\n'
        '    "by the sea",\n'
        "}\n"
        'audio_prompts = {"song": object()}\n'
    )
    return package
