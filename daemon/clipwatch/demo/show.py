"""`clipwatch demo`: a live training of a tiny model, and the real daemon beside it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from clipwatch import view
from clipwatch.demo import models
from clipwatch.demo.world import captions
from clipwatch.errors import ClipwatchError
from clipwatch.evaluator.quiet import quiet
from clipwatch.journal import log_file
from clipwatch.ledger import read_state
from clipwatch.state import Run

PROMPTS, CHECKPOINTS, PROJECT = 48, 10, "demo"
MARK = ".clipwatch-demo"
"""Stands in a folder that the demo made and may replace."""

STOP_SECONDS = 60.0

INTRODUCTION = """\
A tiny text-to-image model (1 million weights, 32x32 pixels) learns on this
CPU to draw coloured shapes, and writes checkpoints as SimpleTuner does. Beside
it the real clipwatch daemon finds each checkpoint, generates {prompts} images,
scores them with a tiny CLIP and publishes the scores. It takes a few minutes.

The scale is the tiny CLIP's own: 0 is chance, about 0.95 a perfect picture.
It is not the scale of OpenAI's CLIP, where good models reach 0.30 to 0.35.
"""


def show(directory: Path, *, steps: int, lora: bool) -> int:
    """Run the demo in a folder and draw what the log says; return the exit code.

    Raises:
        ClipwatchError: The folder holds something else, or training or daemon failed.
    """
    console = Console()
    config, state_dir = prepare(directory, lora=lora)
    console.print(INTRODUCTION.format(prompts=PROMPTS), highlight=False)
    every = max(1, steps // CHECKPOINTS)
    train = [sys.executable, "-m", "clipwatch.demo.train", "--base", str(directory / "base")]
    train += ["--output-dir", str(directory / "output"), "--project", PROJECT]
    train += ["--steps", str(steps), "--checkpoint-every", str(every), *["--lora"] * lora]
    watch = [sys.executable, "-m", "clipwatch", "start", "--config", str(config)]
    watch += ["--state-dir", str(state_dir)]
    with (
        _running(train, directory / "training.log") as training,
        _running(watch, directory / "clipwatch.log") as daemon,
        Live(console=console, refresh_per_second=4, transient=True) as live,
    ):
        while True:
            run = next(iter(read_state(log_file(state_dir)).values()), None)
            live.update(_drawing(run, directory / "training.log"))
            _check("the training", training, directory / "training.log")
            _check("clipwatch", daemon, directory / "clipwatch.log")
            if run and training.poll() == 0 and _settled(run, steps // every):
                break
            time.sleep(0.25)
    console.print(Text(view.table(run)))
    console.print(_farewell(directory, state_dir, run), highlight=False, soft_wrap=True)
    return 0


def prepare(directory: Path, *, lora: bool) -> tuple[Path, Path]:
    """Make the base model, the prompts and the configuration; return config and state directory.

    Raises:
        ClipwatchError: The folder exists and was not made by the demo.
    """
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARK).exists():
            raise ClipwatchError(
                f"{directory} is not a demo's", fix="name another with --directory"
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).touch()
    quiet()
    models.write_base_pipeline(directory / "base")
    chosen = random.Random(0).sample(captions(), PROMPTS)  # noqa: S311 - a fixed choice, no secret
    library = {
        text.replace(" ", "-"): {"prompt": text, "category": f"{text.split()[0]} to count"}
        for text in chosen
    }
    prompts = directory / "prompts.json"
    prompts.write_text(json.dumps(library, indent=2), encoding="utf-8")
    config = directory / "config.json"
    settings = {
        "output_dir": str(directory.absolute() / "output"),
        "checkpoint_step_interval": 50,
        "checkpoints_total_limit": 0,
        "model_family": "sd1x",
        "model_type": "lora" if lora else "full",
        "pretrained_model_name_or_path": str(directory.absolute() / "base"),
        "tracker_project_name": PROJECT,
        "tracker_run_name": "shapes",
        "user_prompt_library": str(prompts.absolute()),
        "validation_num_inference_steps": 10,
        "validation_guidance": 3.0,
        "validation_resolution": "32x32",
        "validation_negative_prompt": "",
        "validation_seed": 0,
        "clipwatch": {
            "evaluation_type": "clip",
            "pretrained_evaluation_model_name_or_path": str(models.CLIP),
            "report_to": "all",
            "device": "cpu",
            "batch_size": 16,
            "wandb": {"mode": "offline"},
        },
    }
    config.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return config, directory / "state"


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one core, ended with SIGTERM, whose output goes to a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={k: v for k, v in environment.items() if not k.startswith("CLIPWATCH_")},
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _check(who: str, process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll():
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ClipwatchError(f"{who} ended with {process.returncode}, see {log}: {''.join(last)}")


def _settled(run: Run, checkpoints: int) -> bool:
    ended = ("published", "failed", "discarded")
    listed = view.rows(run)
    return len(listed) >= checkpoints and all(row.state in ended for row in listed)


def _drawing(run: Run | None, training_log: Path) -> Group:
    lines = training_log.read_text(errors="replace").splitlines() if training_log.exists() else []
    last = next((line for line in reversed(lines) if line.startswith("step")), "starting ...")
    table = Text(view.table(run)) if run and run.checkpoints else Text("no checkpoint yet")
    return Group(Text(f"training: {last}"), table)


def _farewell(directory: Path, state_dir: Path, run: Run) -> str:
    curve = Path(run.trackers["tensorboard"].where)  # below it the trainer's run and ours
    here, state, programs = directory.absolute(), state_dir.absolute(), Path(sys.executable).parent
    return f"""\
The run            {here / "output"}
Log and images     {state}
Its settings       {here / "config.json"}
What each one said {here / "training.log"}
                   {here / "clipwatch.log"}

See the curves     {programs / "tensorboard"} --logdir {curve.parents[1]}
The table again    {programs / "clipwatch"} status --state-dir {state}
Everything so far  {programs / "clipwatch"} log --state-dir {state}
Send it to W&B     {programs / "wandb"} sync {state / "wandb"}/*/offline/*/wandb
"""
