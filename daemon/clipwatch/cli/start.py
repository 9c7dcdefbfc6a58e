"""`clipwatch start`: the daemon."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from clipwatch.cli.options import (
    config_option,
    examples,
    here,
    in_hand,
    run_options,
    tell,
)
from clipwatch.cli.paths import meant
from clipwatch.kit.errors import SettingsError


@click.command(
    epilog=examples(
        "clipwatch start --config config.json",
        "clipwatch start loras/ --base-model models/sd15",
        "clipwatch start --once --device cpu --max-prompts 16",
        "clipwatch start --exit-when-done export,idle:3600",
        "clipwatch start --print-settings",
    )
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@config_option
@run_options
@click.option(
    "--health-address",
    metavar="HOST:PORT",
    help="Where health and metrics are served, or off.  [default: off]",
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
    config: Path | None,
    once: bool,
    log_format: str,
    print_settings: bool,
    **flags: Any,
) -> None:
    """Watch a run and publish its scores.

    PATH is the folder of the checkpoints, its address (hf://OWNER/REPOSITORY, s3://BUCKET/FOLDER),
    or some files in it: then no config is needed, only --base-model where nothing tells it. A PATH
    that is a config is as with --config.

    Checkpoints are evaluated newest first. An option goes before the same key of the config; the
    defaults below hold where neither says anything.

    SIGTERM or Ctrl-C stops it, a second one at once; SIGHUP makes it read the settings again, and
    a file with a mistake in it leaves the old ones in force.

    Ends with 0 when it is stopped; with --once and --exit-when-done with 0, or 1 if something
    failed, and with --once also if nothing that lies there is understood; with 2 when the
    configuration is wrong.
    """
    what = meant(paths, config, flags["output_dir"], here())
    if paths and (told := what.elsewhere("start", paths[0])):
        if once:
            raise SettingsError(told)
        tell((told,))  # what is to come may lie there itself
    reread = what.reader(flags, here())
    with in_hand("settings", "reading them"):
        settings = reread()
    tell((*what.notes(here()), *settings.notes))
    if print_settings:
        for origin in settings.origins:
            click.echo(f"{origin.key} = {json.dumps(origin.value, default=str)}  ({origin.source})")
        return
    from clipwatch.cli.watching import watch

    _, code = watch(settings, reread, once=once, objects=log_format == "json")
    sys.exit(code)
