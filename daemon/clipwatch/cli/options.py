"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from clipwatch.kit.errors import SettingsError

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIGS = tuple(
    folder + name
    for folder in ("", "config/")
    for name in ("config.json", "config.toml", "config.env")
)
"""Where `--config` is looked for when it is not given, as SimpleTuner does."""

EVERY = 5
"""Seconds between two words on how far it is."""

STATE_DIR_HELP = (
    "Folder of the log and the images, on a local disk.  "
    "[default: $CLIPWATCH_STATE_DIR, else the platform's]"
)


def examples(*lines: str) -> str:
    """Return what ends a command's help: lines to type, left as they are."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


def state_dir_option(command: Command) -> Command:
    """Add --state-dir."""
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="CLIPWATCH_STATE_DIR",
        help=STATE_DIR_HELP,
    )(command)


def config_option(command: Command) -> Command:
    """Add --config."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        envvar="CLIPWATCH_CONFIG",
        help="The trainer's config.json, .toml or .env.  [default: config.json here or in config/]",
    )(command)


def device_option(command: Command) -> Command:
    """Add --device."""
    return click.option(
        "--device",
        help="auto, cpu, cuda:N, cuda, a UUID, or mps; several with commas.  [default: auto]",
    )(command)


def max_prompts_option(command: Command) -> Command:
    """Add --max-prompts."""
    return click.option(
        "--max-prompts",
        type=click.IntRange(min=1),
        metavar="PROMPTS",
        help="Use at most so many, spread over their categories.  [default: all]",
    )(command)


def run_options(command: Command) -> Command:
    """Add what is laid over a run's configuration."""
    for decorate in (
        click.option(
            "--report-to",
            metavar="NAMES",
            help="Trackers, separated by commas; or all, or none.  [default: the config's]",
        ),
        max_prompts_option,
        click.option(
            "--batch-size",
            metavar="IMAGES",
            help="So many images are generated at once, or auto.  [default: auto]",
        ),
        click.option(
            "--share-gpu", is_flag=True, default=None, help="Use a GPU that others compute on."
        ),
        device_option,
        click.option(
            "--output-dir",
            metavar="DIRECTORY",
            help="Where the trainer leaves checkpoints.  [default: the config's]",
        ),
        click.option(
            "--guidance",
            "validation_guidance",
            metavar="SCALE",
            help="Classifier-free guidance.  [default: the config's, else the base model's]",
        ),
        click.option(
            "--steps",
            "validation_num_inference_steps",
            metavar="STEPS",
            help="Denoising steps of each image.  [default: the config's, else 30]",
        ),
        click.option(
            "--size",
            "validation_resolution",
            metavar="PIXELS",
            help="Of the images, as 512 or 1024x768.  [default: the config's, else the base "
            "model's]",
        ),
        click.option(
            "--prompts",
            metavar="PROMPTS",
            help="A file, core, compositional:N or hf:NAME.  [default: the config's, else core]",
        ),
        click.option(
            "--base-model",
            "pretrained_model_name_or_path",
            metavar="MODEL",
            help="A folder of diffusers or an id of the Hub.  [default: the config's]",
        ),
        click.option(
            "--strengths",
            metavar="NUMBERS",
            help="Score a LoRA at each of these, as 0.6,0.8,1 or -1,0,1.  [default: the config's "
            "one]",
        ),
        click.option(
            "--layout",
            metavar="NAME",
            help="Whose checkpoints are looked for, as kohya; files for files of their own.  "
            "[default: any]",
        ),
        click.option("--state-dir", metavar="DIRECTORY", help=STATE_DIR_HELP),
    ):
        command = decorate(command)
    return command


def here() -> Path:
    """Return the directory of the call.

    Raises:
        SettingsError: Somebody deleted it.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise SettingsError(f"the current folder is gone: {error.strerror}") from error


@contextmanager
def in_hand(what: str, doing: str) -> Iterator[None]:
    """Tell at least every ten seconds what is done inside; nothing of what is soon over."""
    from clipwatch.loop.console import Console

    console = Console()
    try:
        with console.during(what, doing):
            yield
    finally:
        console.close()


def now_and_then() -> Callable[[str], None]:
    """Return what says how far it is, on stderr, after every few seconds."""
    last = time.monotonic()

    def told(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            click.echo(text, err=True)

    return told


def only_given(flags: dict[str, Any]) -> dict[str, Any]:
    """Leave out the flags that the call does not name."""
    return {key: value for key, value in flags.items() if value is not None}


def tell(notes: Iterable[str]) -> None:
    """Print what is to be known of the settings to stderr, a line each."""
    for note in notes:
        click.echo(f"Note: {note}", err=True)


def chosen_state_dir(given: Path | None) -> Path:
    """Return --state-dir, or the platform's."""
    from clipwatch.kit.statedir import default_state_dir

    return given or default_state_dir()


def chosen_config(given: Path | None) -> Path:
    """Return --config, or the first of CONFIGS that is here.

    Raises:
        SettingsError: None is.
    """
    if given is not None:
        return given
    for name in CONFIGS:
        if Path(name).exists():
            return Path(name)
    looked = ", ".join(CONFIGS)
    fix = "name the trainer's file with --config, or the folder of the checkpoints"
    raise SettingsError(f"none of {looked} is here", fix=fix)
