"""A run from its settings to its end, as `start` and `rank` have it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from clipwatch.kit.errors import SettingsError

if TYPE_CHECKING:
    from clipwatch.loop.recognising import Recognised
    from clipwatch.loop.supervisor import Supervisor
    from clipwatch.settings import Settings


def watch(
    settings: Settings, reread: Callable[[], Settings], *, once: bool, objects: bool = False
) -> tuple[str, int]:
    """Watch a run until it ends; return its name in the log, and the exit code.

    Args:
        settings: Of the run.
        reread: Reads the settings again, when asked to.
        once: End when everything that is there is evaluated and published.
        objects: Say everything as objects on stdout, for machines.

    Raises:
        SettingsError: The settings ask for what is not here.
        ClipwatchError: The log cannot be had, or somebody else has the run.
    """
    from clipwatch.executors.named import LOCAL
    from clipwatch.journal import Journal, log_file
    from clipwatch.kit.processes import give_way, return_memory
    from clipwatch.loop.console import Console
    from clipwatch.loop.objects import ObjectConsole
    from clipwatch.loop.recognising import recognise
    from clipwatch.loop.run_log import when_unlocked
    from clipwatch.loop.supervisor import Supervisor
    from clipwatch.service.lock import exclusive
    from clipwatch.service.sd_notify import ServiceManager

    if settings.service.give_way:
        give_way()
    return_memory()
    if settings.compute.executor == LOCAL:
        runs_on(settings.compute.device)
    if once and not settings.paths.address:
        expect(settings.paths.output_dir)
    state, console = settings.paths.state_dir, ObjectConsole() if objects else Console()
    patiently = partial(when_unlocked, once=once, say=console.say)
    where, layout = settings.paths.named, settings.watching.layout
    with ExitStack() as stack:
        with console.during("log", "reading it"):  # which may be long
            found = patiently(lambda: recognise(log_file(state), where, layout))
            stack.enter_context(exclusive(state, found.name))
            journal = stack.enter_context(patiently(lambda: Journal(log_file(state))))
            supervisor = Supervisor(once=once, service=ServiceManager(os.environ))
            supervisor.watch(settings, journal, console, name=found.name, reread=reread, alone=True)
        obey_signals(supervisor)
        for line in _told(settings, found):
            console.say(line)
        code = supervisor.run()
    return found.name, code


def _told(settings: Settings, found: Recognised) -> Iterator[str]:
    """Yield what is about to be done."""
    from clipwatch.domain.strengths import written
    from clipwatch.layouts.claims import FILES
    from clipwatch.prompts import FEW
    from clipwatch.results.reading import page_of
    from clipwatch.settings import left_out

    protocol = settings.protocol
    images = len(protocol.prompts) * protocol.images_per_prompt
    several = [written(it) for it in sorted(p.adapter_strength for p in settings.protocols)]
    each = f" at each strength ({', '.join(several)})" if several[1:] else ""
    yield f"watching {settings.paths.named} as run {found.name}"
    if settings.paths.address:
        yield (
            f"what is evaluated is copied from there to {settings.paths.output_dir}, "
            f"{settings.staging.stage_limit} at once, and deleted when it is scored"
        )
    if settings.watching.layout == FILES:
        yield (
            "no training orders what lies there: each file is a checkpoint of its own, and "
            "its number only its place among their names"
        )
    if found.copy_of:
        yield (
            f"it holds weights of run {found.copy_of}, whose own directory is still there; "
            f"if it is to go on as that one: clipwatch adopt {found.copy_of}"
        )
    yield (
        f"{images} images a checkpoint{each}, {protocol.width}x{protocol.height}, "
        f"{protocol.inference_steps} steps, {protocol.weights} weights, "
        f"on {settings.compute.device}; scorer {protocol.decides}"
    )
    if left := left_out.device(settings):
        yield str(left)
    if len(protocol.prompts) < FEW:
        yield (
            f"a mean over so few prompts ({len(protocol.prompts)}) says little about a model: "
            "better hundreds; see README.md, What the numbers mean"
        )
    named = ", ".join(settings.publishing.trackers) or "none"
    yield f"trackers: {left_out.trackers(settings) or named}"
    yield f"state in {settings.paths.state_dir}"
    if settings.publishing.report:
        page = page_of(settings.paths.state_dir, found.name)
        yield f"page, made anew after results: {page}"


def runs_on(device: str) -> None:
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


def expect(output_dir: Path) -> None:
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
