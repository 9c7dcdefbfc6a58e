"""`clipwatch start`: the daemon."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipwatch.cli.options import (
    chosen_config,
    config_option,
    examples,
    here,
    in_hand,
    only_given,
    run_options,
    tell,
)
from clipwatch.kit.errors import SettingsError

if TYPE_CHECKING:
    from clipwatch.loop.supervisor import Supervisor


@click.command(
    epilog=examples(
        "clipwatch start --config config.json",
        "clipwatch start --once --device cpu --max-prompts 16",
        "clipwatch start --exit-when-done export,idle:3600",
        "clipwatch start --print-settings",
    )
)
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
@click.option("--print-settings", is_flag=True, help="Show every setting and its source, and end.")
def start(config: Path | None, once: bool, print_settings: bool, **flags: Any) -> None:
    """Watch a run and publish its scores.

    Checkpoints are evaluated newest first. An option goes before the same key of the config; the
    defaults below hold where neither says anything.

    SIGTERM or Ctrl-C stops it, a second one at once; SIGHUP makes it read the settings again, and
    a file with a mistake in it leaves the old ones in force.

    Ends with 0 when it is stopped; with --once and --exit-when-done with 0, or 1 if something
    failed, and with --once also if nothing that lies there is understood; with 2 when the
    configuration is wrong.
    """
    from clipwatch.settings import load

    path = chosen_config(config)
    reread = partial(load, path, flags=only_given(flags), environ=dict(os.environ), cwd=here())
    with in_hand("settings", "reading them"):
        settings = reread()
    tell(settings.notes)
    if print_settings:
        for origin in settings.origins:
            click.echo(f"{origin.key} = {json.dumps(origin.value, default=str)}  ({origin.source})")
        return
    from clipwatch.domain.strengths import written
    from clipwatch.journal import Journal, log_file
    from clipwatch.kit.processes import give_way
    from clipwatch.loop.console import Console
    from clipwatch.loop.recognising import recognise
    from clipwatch.loop.run_log import when_unlocked
    from clipwatch.loop.supervisor import Supervisor
    from clipwatch.prompts import FEW
    from clipwatch.service.lock import exclusive
    from clipwatch.service.sd_notify import ServiceManager
    from clipwatch.settings import left_out

    if settings.service.give_way:
        give_way()
    _runs_on(settings.compute.device)
    if once:
        _expect(settings.paths.output_dir)
    state, console = settings.paths.state_dir, Console()
    patiently = partial(when_unlocked, once=once, say=console.say)
    found = patiently(lambda: recognise(log_file(state), settings.paths.output_dir))
    with exclusive(state, found.name), patiently(lambda: Journal(log_file(state))) as journal:
        supervisor = Supervisor(once=once, service=ServiceManager(os.environ))
        supervisor.watch(settings, journal, console, name=found.name, reread=reread)
        obey_signals(supervisor)
        protocol = settings.protocol
        images = len(protocol.prompts) * protocol.images_per_prompt
        several = [written(it) for it in sorted(p.adapter_strength for p in settings.protocols)]
        each = f" at each strength ({', '.join(several)})" if several[1:] else ""
        console.say(f"watching {settings.paths.output_dir} as run {found.name}")
        if found.copy_of:
            console.say(
                f"it holds weights of run {found.copy_of}, whose own directory is still there; "
                f"if it is to go on as that one: clipwatch adopt {found.copy_of}"
            )
        console.say(
            f"{images} images a checkpoint{each}, {protocol.width}x{protocol.height}, "
            f"{protocol.inference_steps} steps, {protocol.weights} weights, "
            f"on {settings.compute.device}; scorer {protocol.decides}"
        )
        if left := left_out.device(settings):
            console.say(str(left))
        if len(protocol.prompts) < FEW:
            console.say(
                f"a mean over so few prompts ({len(protocol.prompts)}) says little about a model: "
                "better hundreds; see README.md, What the numbers mean"
            )
        named = ", ".join(settings.publishing.trackers) or "none"
        console.say(f"trackers: {left_out.trackers(settings) or named}")
        console.say(f"state in {settings.paths.state_dir}")
        code = supervisor.run()
    sys.exit(code)


def _runs_on(device: str) -> None:
    """Refuse a GPU where torch is a build without any, by its version, as importing it is slow."""
    try:
        build = version("torch")
    except PackageNotFoundError:  # it came by another way than a package of Python's
        return
    if device.startswith("cuda") and build.endswith("+cpu"):
        raise SettingsError(
            f"{device!r} needs a GPU, and the installed torch {build} is built without",
            fix="install another build, see docs/install.md, or set device to 'cpu'",
            key="device",
        )


def _expect(output_dir: Path) -> None:
    """Refuse a folder that is not there, before anything is written down of it."""
    try:
        output_dir.stat()
    except FileNotFoundError:
        raise SettingsError(
            "does not exist", fix=f"correct the path {output_dir}", key="output_dir"
        ) from None
    except OSError:
        return  # the look tells


def obey_signals(supervisor: Supervisor) -> None:
    """Stop at SIGTERM and SIGINT, reload at SIGHUP."""
    at_terminal = os.isatty(2)

    def hang_up(*_: object) -> None:
        if at_terminal and not os.isatty(2):  # it was closed, and we with it
            supervisor.stop()
        else:
            supervisor.reload()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants it ignored
        signal.signal(signal.SIGHUP, hang_up)
