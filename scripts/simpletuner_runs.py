"""Run the real SimpleTuner on a CPU with tiny models, and keep what it made for the tests.

    python scripts/simpletuner_runs.py --trainer ENV/bin/python --work DIR [--keep] [RUN...]

Each run trains ten steps on tiny random weights and validates once: half a minute to two minutes on
two cores, and some 20 MB in DIR, of which the log is RUN.log. --keep puts what the tests compare
with into tests/data/simpletuner; its README.md says what was measured.

The trainer wants Python 3.12 or later and an environment of its own, about 5.5 GB:

    pip install torch==2.14.1 torchvision==0.29.1 'simpletuner[cpu]==4.10.1'
    pip install transformers==5.15.1

This script runs in clipwatch's development environment, with tests/ and scripts/ of this tree.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parent))
import simpletuner_bases as bases
from simpletuner_configs import COMMON, HUB, OTHER_VAE, PROMPTS, RUNS, SIZE, STEPS

from clipwatch.demo.world import captions, draw

KEPT = Path(__file__).parents[1] / "tests" / "data" / "simpletuner"

COMMIT = "0" * 40

SHIM = """import torch

torch.Tensor.pin_memory = lambda self, *_, **__: self
"""
"""The trainer pins memory unasked, which torch does not do where no GPU is."""

MEND = """
import functools
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler as Flow

LEFT_OUT = {
    "StableDiffusionPipeline": lambda: {"safety_checker": None, "feature_extractor": None},
    "SanaPipeline": lambda: {"scheduler": Flow.from_pretrained("bases/sana/scheduler")},
}

def complete(cls, **named):
    super(DiffusionPipeline, cls).__init_subclass__(**named)
    if cls.__name__ in LEFT_OUT:
        init = cls.__init__

        @functools.wraps(init)
        def whole(self, *args, **parts):
            init(self, *args, **{**LEFT_OUT[cls.__name__](), **parts})

        cls.__init__ = whole

DiffusionPipeline.__init_subclass__ = classmethod(complete)
"""
"""Parts that it leaves out of a pipeline that is to encode prompts, at which it stops."""

MENDED = ("sd1x", "sana")
"""Families that need it."""

KEEP = ("*.safetensors", "*.json", ".guard")
"""Files of a checkpoint that are read."""

DROP = ("training_state*", "checkpoint_manifest.json", "ramtorch*")
"""Files of them that are not."""


def main() -> None:
    """Read the arguments and make the runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trainer", type=Path, required=True, help="its environment's Python")
    parser.add_argument("--work", type=Path, required=True, help="where the runs are made")
    parser.add_argument("--keep", action="store_true", help="put them into tests/data/simpletuner")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=", ".join(RUNS))
    options = parser.parse_args()
    work = options.work.absolute()
    for name in options.runs or RUNS:
        prepare(work, name)
        code = train(options.trainer, work, name)
        pictures = sorted((work / "output" / name / "validation_images").glob("*.png"))
        print(f"{name}: exit code {code}, {len(pictures)} pictures")
        if options.keep and pictures:
            keep(work, name)


def prepare(work: Path, name: str) -> None:
    """Write the base, the training pictures and the configuration of a run."""
    shutil.rmtree(work / "output" / name, ignore_errors=True)
    family = RUNS[name]["model_family"]
    base = work / "bases" / family
    if not base.is_dir():
        bases.write(family, base)
    if "bases/other" in RUNS[name].values() and not (work / "bases" / "other").is_dir():
        bases.write_parts(work / "bases")
    if repository := HUB.get(family):
        cached = work / "hub" / f"models--{repository.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True, exist_ok=True)
        (cached / "refs" / "main").write_text(COMMIT)
        if not (cached / "snapshots").is_dir():
            shutil.copytree(base, cached / "snapshots" / COMMIT)
    if not (work / "data").is_dir():
        draw_pictures(work / "data")
    (work / "prompts.json").write_text(json.dumps(PROMPTS, indent=2) + "\n")
    config = work / "config" / name
    config.mkdir(parents=True, exist_ok=True)
    (config / "backends.json").write_text(json.dumps(backends(name), indent=2))
    keys = {
        **COMMON,
        "pretrained_model_name_or_path": f"bases/{family}",
        "data_backend_config": f"config/{name}/backends.json",
        "output_dir": f"output/{name}",
        "cache_dir": f"cache/{name}",
        **RUNS[name],
    }
    if isinstance(network := keys.get("lycoris_config"), dict):
        (config / "lycoris.json").write_text(json.dumps(network, indent=2))
        keys["lycoris_config"] = f"config/{name}/lycoris.json"
    if family in OTHER_VAE:
        keys.setdefault("pretrained_vae_model_name_or_path", f"bases/{family}")
    (config / "config.json").write_text(json.dumps(keys, indent=2) + "\n")


def draw_pictures(folder: Path) -> None:
    """Write four pictures to train on, with their captions."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, caption in enumerate(captions()[::54]):
        picture = Image.fromarray(draw(caption, rng))
        picture = picture.resize((SIZE, SIZE), Image.Resampling.NEAREST)
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)


def backends(name: str) -> list[dict[str, Any]]:
    """Return the trainer's data backends of a run."""
    return [
        {
            "id": "shapes",
            "type": "local",
            "instance_data_dir": "data",
            "crop": False,
            "resolution": SIZE,
            "resolution_type": "pixel",
            "minimum_image_size": 16,
            "caption_strategy": "textfile",
            "metadata_backend": "discovery",
            "repeats": 100,
            "cache_dir_vae": f"cache/{name}/vae",
        },
        {
            "id": "texts",
            "type": "local",
            "dataset_type": "text_embeds",
            "default": True,
            "cache_dir": f"cache/{name}/text",
        },
    ]


def train(python: Path, work: Path, name: str) -> int:
    """Run the trainer; its words go to NAME.log. Returns its exit code."""
    shim = work / "shim"
    shim.mkdir(exist_ok=True)
    mended = RUNS[name]["model_family"] in MENDED
    (shim / "sitecustomize.py").write_text(SHIM + MEND * mended)
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('simpletuner').origin)"],
        check=True,
        capture_output=True,
        text=True,
    )
    script = Path(found.stdout.strip()).with_name("train.py")
    precision = json.loads((work / "config" / name / "config.json").read_text())["mixed_precision"]
    environ = {
        **os.environ,
        "PYTHONPATH": str(shim),
        "ENV": name,
        "SIMPLETUNER_ENVIRONMENT": name,
        "CONFIG_BACKEND": "json",
        "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_MIXED_PRECISION": precision,
        "MIXED_PRECISION": precision,
        "TORCHDYNAMO_DISABLE": "1",  # compiling an optimizer takes longer than ten steps
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(work / "hub"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    with (work / f"{name}.log").open("w") as log:
        return subprocess.run(
            [python, script], cwd=work, env=environ, stdout=log, stderr=log, check=False
        ).returncode


def keep(work: Path, name: str) -> None:
    """Copy what the tests need of a run, and pack the bases that it was made with."""
    run, kept = work / "output" / name, KEPT / name
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    shutil.copy(work / "config" / name / "config.json", kept)
    shutil.copytree(run / "validation_images", kept / "validation_images")
    checkpoint = run / f"checkpoint-{STEPS}"
    dropped = {path for pattern in DROP for path in checkpoint.rglob(pattern)}
    for pattern in KEEP:
        for path in set(checkpoint.rglob(pattern)) - dropped:
            target = kept / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(work / "prompts.json", KEPT)
    (KEPT / "bases").mkdir(exist_ok=True)
    config = json.loads((kept / "config.json").read_text())
    named = {it.split("/")[1] for it in config.values() if str(it).startswith("bases/")}
    for base in sorted(named):
        pack(work / "bases" / base, KEPT / "bases" / f"{base}.tar.xz")


def pack(folder: Path, archive: Path) -> None:
    """Pack a folder so that the same files give the same bytes."""
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(it for it in folder.rglob("*") if it.is_file()):
            member = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())
            content = path.read_bytes()
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    main()
