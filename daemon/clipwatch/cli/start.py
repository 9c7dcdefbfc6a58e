"""`clipwatch start`: the daemon."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipwatch.cli.options import (
    examples,
    here,
    in_hand,
    run_options,
    tell,
)
from clipwatch.cli.paths import Called, called, meant
from clipwatch.kit.errors import SettingsError

if TYPE_CHECKING:
    from clipwatch.settings import Settings


@click.command(
    epilog=examples(
        "clipwatch start --config config.json",
        "clipwatch start loras/ --base-model models/sd15",
        "clipwatch start --once --device cpu --max-prompts 16",
        "clipwatch start --exit-when-done export,idle:3600",
        "clipwatch start --print-settings",
        "clipwatch start --config a/config.json --config b/config.json",
        "clipwatch start --runs trainings/ --device cuda:1",
    )
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The trainer's config.json, .toml or .env; several for as many runs.  [default: "
    "$CLIPWATCH_CONFIG, else config.json here or in config/]",
)
@click.option(
    "--runs",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Watch every run whose config is found below it; they may come and go.  [default: "
    "$CLIPWATCH_RUNS]",
)
@run_options
@click.option(
    "--health-address",
    metavar="HOST:PORT",
    help="Where health and metrics are served, or off.  [default: off]",
)
@click.option(
    "--when-behind",
    metavar="WHAT",
    help="When checkpoints come faster than they are scored: wait (all have their turn), newest "
    "(jump to it) or spread (keep an even spread). With --once all are scored.  [default: wait]",
)
@click.option(
    "--drain-seconds",
    metavar="SECONDS",
    help="When stopped, first evaluate what is left, for so long at most.  [default: 0]",
)
@click.option(
    "--exit-when-done",
    metavar="SIGNS",
    help="End with the training, told by any of export, file:NAME, idle:SECONDS (with commas "
    "between).  [default: stay]",
)
@click.option("--once", is_flag=True, help="Evaluate and publish what is there, then end.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What is said: lines for people on stderr, or objects on stdout.",
)
@click.option("--print-settings", is_flag=True, help="Show every setting and its source, and end.")
def start(
    paths: tuple[Path, ...],
    configs: tuple[Path, ...],
    runs: Path | None,
    once: bool,
    log_format: str,
    print_settings: bool,
    **flags: Any,
) -> None:
    """Watch a run, or several, and publish their scores.

    PATH is the folder of the checkpoints, its address (hf://OWNER/REPOSITORY, s3://BUCKET/FOLDER),
    or some files in it: then no config is needed, only --base-model where nothing tells it. A PATH
    that is a config is as with --config.

    Checkpoints are evaluated newest first. An option goes before the same key of the config; the
    defaults below hold where neither says anything.

    With several --config, or with --runs, one daemon watches all of them: newest first in each, and
    by turns. Options are laid over every config. See docs/runs.md.

    SIGTERM or Ctrl-C stops it, a second one at once; SIGHUP makes it read the settings again, and
    a file with a mistake in it leaves the old ones in force.

    Ends with 0 when it is stopped; with --once and --exit-when-done with 0, or 1 if something
    failed, and with --once also if nothing that lies there is understood; with 2 when the
    configuration is wrong.
    """
    chosen = called(paths, configs, runs, flags["output_dir"], os.environ)
    if chosen.several:
        sys.exit(_several(chosen, flags, once, log_format, print_settings))
    what = meant(paths, chosen.config, flags["output_dir"], here())
    if paths and (told := what.elsewhere("start", paths[0])):
        if once:
            raise SettingsError(told)
        tell((told,))  # what is to come may lie there itself
    reread = what.reader(flags, here())
    with in_hand("settings", "reading them"):
        settings = reread()
    tell((*what.notes(here()), *settings.notes))
    if print_settings:
        _print(settings)
        return
    from clipwatch.cli.watching import watch

    _, code = watch(settings, reread, once=once, objects=log_format == "json")
    sys.exit(code)


def _several(
    chosen: Called, flags: dict[str, Any], once: bool, log_format: str, print_settings: bool
) -> int:
    from clipwatch.cli.finding import Finder
    from clipwatch.cli.several import watch_several

    root = chosen.runs and here() / chosen.runs
    finder = Finder(chosen.configs, root, flags, here())
    if not print_settings:
        objects = log_format == "json"
        return watch_several(finder, root, flags, once=once, objects=objects)
    news = finder.look(frozenset())
    tell(news.said)
    for wanted in news.wanted:
        click.echo(f"# {wanted.config}")
        _print(wanted.settings)
    return finder.code


def _print(settings: Settings) -> None:
    for origin in settings.origins:
        click.echo(f"{origin.key} = {json.dumps(origin.value, default=str)}  ({origin.source})")
