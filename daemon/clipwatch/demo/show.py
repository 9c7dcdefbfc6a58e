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
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console as RichConsole

from clipwatch.demo import models
from clipwatch.demo.telling import Drawn, Scene, Told
from clipwatch.domain.state import Run
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.loop.console import moves
from clipwatch.results import view
from clipwatch.results.table import table

PROMPTS, CHECKPOINTS, PROJECT, STEPS = 48, 10, "demo", 500

TRAINING_SECONDS = 170.0
"""The most that the training takes; with what comes before and after it makes five minutes."""

MARK = ".clipwatch-demo"
"""Stands in a folder that the demo made and may replace."""

STOP_SECONDS = 60.0

INTRODUCTION = """\
A tiny text-to-image model (1 million weights, 32x32 pixels) learns on this
CPU to draw coloured shapes, and writes checkpoints as SimpleTuner does. Beside
it the real clipwatch daemon finds each checkpoint, generates {prompts} images,
scores them with a tiny CLIP and publishes the scores. {duration}

The scale is the tiny CLIP's own: 0 is chance, about 0.95 a perfect picture.
It is not the scale of OpenAI's CLIP, where good models reach 0.30 to 0.35.
"""


SHORT = "It takes two minutes or\nthree on an idle machine, five at most on a busy one."
LONG = "It takes as long as its {steps} steps do."


def show(directory: Path, *, steps: int | None, lora: bool) -> int:
    """Run the demo in a folder and tell what the log says; return the exit code.

    Args:
        directory: Is made, or made anew.
        steps: Of the training, however long they take; None for as many as TRAINING_SECONDS allow.
        lora: Train a LoRA instead of the whole model.

    Raises:
        ClipwatchError: The folder holds something else, or training or daemon failed.
    """
    console = RichConsole(highlight=False, soft_wrap=True, emoji=False)
    duration = SHORT if steps is None else LONG.format(steps=steps)
    console.print(INTRODUCTION.format(prompts=PROMPTS, duration=duration))
    config, state_dir = prepare(directory, lora=lora)
    output, base = directory / "output", directory / "base"
    logs = {who: directory / f"{who}.log" for who in ("training", "clipwatch")}
    whole = steps or STEPS
    train = [sys.executable, "-m", "clipwatch.demo.train", "--base", str(base)]
    train += ["--output-dir", str(output), "--project", PROJECT, "--steps", str(whole)]
    train += ["--checkpoint-every", str(max(1, whole // CHECKPOINTS)), *["--lora"] * lora]
    train += [] if steps else ["--seconds", str(TRAINING_SECONDS)]
    watch = [sys.executable, "-m", "clipwatch", "start", "--config", str(config)]
    watch += ["--state-dir", str(state_dir)]
    run: Run | None = None
    with ExitStack() as stack:
        tell: Drawn | Told = Drawn(console) if moves(console) else Told(console)
        stack.enter_context(tell)
        training = stack.enter_context(_running(train, logs["training"]))
        daemon = None
        while not (run and training.poll() == 0 and _settled(run, output)):
            if daemon is None and base.exists():
                daemon = stack.enter_context(_running(watch, logs["clipwatch"]))
            run = next(iter(read_state(log_file(state_dir)).values()), None)
            tell.show(Scene(run, _lines(logs["training"]), over=training.poll() == 0))
            _check("the training", training, logs["training"])
            if daemon is not None:
                _check("clipwatch", daemon, logs["clipwatch"])
            time.sleep(0.25)
        tell.ending()
    console.print(table(run), markup=False)
    console.print(_farewell(directory, state_dir, run), markup=False)
    return 0


def prepare(directory: Path, *, lora: bool) -> tuple[Path, Path]:
    """Make the prompts and the configuration; return config and state directory.

    Raises:
        ClipwatchError: The folder exists and was not made by the demo.
        SettingsError: The folder cannot be made, read or written.
    """
    another = "name another with --directory"
    try:
        if directory.exists() and any(directory.iterdir()):
            if not (directory / MARK).exists():
                raise ClipwatchError(f"{directory} is not a demo's", fix=another)
            shutil.rmtree(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MARK).touch()
    except OSError as error:
        problem = f"the folder {directory} cannot be made or written ({error.strerror})"
        raise SettingsError(problem, fix=another) from error
    from clipwatch.demo.world import captions  # numpy takes a moment

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
            "report_to": "tensorboard,wandb",
            "device": "cpu",
            "batch_size": 16,
            "give_way": False,
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


def _settled(run: Run, output: Path) -> bool:
    """Whether every checkpoint that was written has come to its end."""
    ended = ("published", "failed", "discarded")
    listed = {row.name: row.state for row in view.rows(run)}
    written = [mark.parent.name for mark in output.glob("checkpoint-*/.guard")]
    return set(written) <= listed.keys() and all(it in ended for it in listed.values())


def _lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines() if log.exists() else []


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
And the images     {programs / "clipwatch"} serve --state-dir {state}
The table again    {programs / "clipwatch"} status --state-dir {state}
Everything so far  {programs / "clipwatch"} log --state-dir {state}
Send it to W&B     {programs / "wandb"} sync {state / "wandb"}/*/offline/*/wandb
"""
