"""The commands: parse, call, print. torch is imported by none of them, only by their children."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clipwatch import __version__
from clipwatch.errors import ClipwatchError, SettingsError

if TYPE_CHECKING:
    from clipwatch.journal import Recorded
    from clipwatch.supervisor import Supervisor

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIGS = ("config.json", "config/config.json")
"""Where `--config` is looked for when it is not given, as SimpleTuner does."""


FEW_PROMPTS = 32
"""Fewer scatter by more than checkpoints differ: one prompt's score spreads by about 0.025."""

STATE_DIR_HELP = (
    "Folder of the log and the images, on a local disk.  "
    "[default: $CLIPWATCH_STATE_DIR, else the platform's]"
)


class OneLineErrors(click.Group):
    """A group whose commands end with one line and the error's exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        if isinstance(sys.stdout, io.TextIOWrapper):  # a prompt may not fit the terminal's charset
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except ClipwatchError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


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
        help=f"The trainer's config.json.  [default: {' or '.join(CONFIGS)}]",
    )(command)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clipwatch")
def main() -> None:
    """Score the checkpoints of a text-to-image training with CLIP, beside the training.

    clipwatch watches the trainer's output directory, generates images from each complete
    checkpoint, scores them with CLIP and publishes clip/mean, clip/min, clip/max and clip/std to
    TensorBoard and W&B. It never touches the training.
    """


@main.command()
@config_option
@click.option("--state-dir", help=STATE_DIR_HELP)
@click.option("--output-dir", help="The trainer's output directory, instead of the config's.")
@click.option("--device", help="cpu, cuda:N, cuda (the GPU with most free memory) or auto.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images generated at once.")
@click.option("--report-to", help="Trackers, separated by commas; or all, or none.")
@click.option("--once", is_flag=True, help="Evaluate and publish what is there, then end.")
@click.option("--print-settings", is_flag=True, help="Show every setting and its source, and end.")
def start(config: Path | None, once: bool, print_settings: bool, **flags: Any) -> None:
    """Watch a run: evaluate its checkpoints, newest first, and publish the scores.

    SIGTERM or Ctrl-C stops it, a second one at once; SIGHUP makes it read the settings again, and
    a file with a mistake in it leaves the old ones in force.

    Ends with 0 when it is stopped; with --once with 0, or 1 if something failed; with 2 when the
    configuration is wrong.
    """
    from clipwatch.settings import load

    path = _config(config)
    reread = partial(load, path, flags=_given(flags), environ=dict(os.environ), cwd=_here())
    settings = reread()
    for remark in settings.remarks:
        click.echo(f"Note: {remark}", err=True)
    if print_settings:
        for origin in settings.origins:
            click.echo(f"{origin.key} = {json.dumps(origin.value, default=str)}  ({origin.source})")
        return
    from clipwatch.console import Console
    from clipwatch.journal import Journal, log_file
    from clipwatch.lock import exclusive
    from clipwatch.priority import give_way
    from clipwatch.service import ServiceManager
    from clipwatch.supervisor import Supervisor, run_name

    give_way()
    name = run_name(settings.output_dir)
    with exclusive(settings.state_dir, name), Journal(log_file(settings.state_dir)) as journal:
        console = Console()
        service = ServiceManager(os.environ)
        supervisor = Supervisor(
            settings, journal, console, once=once, reread=reread, service=service
        )
        obey_signals(supervisor)
        protocol = settings.protocol
        images = len(protocol.prompts) * protocol.images_per_prompt
        console.say(f"watching {settings.output_dir} as run {supervisor.name}")
        console.say(
            f"{images} images a checkpoint, {protocol.width}x{protocol.height}, "
            f"{protocol.inference_steps} steps, {protocol.weights} weights, on {settings.device}; "
            f"scorer {protocol.scorer}"
        )
        if len(protocol.prompts) < FEW_PROMPTS:
            console.say(
                f"a mean over so few prompts ({len(protocol.prompts)}) says little about a model: "
                "better hundreds; see README.md, What the numbers mean"
            )
        console.say(
            f"trackers: {', '.join(settings.trackers) or 'none'}; state in {settings.state_dir}"
        )
        code = supervisor.run()
    sys.exit(code)


@main.command()
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show every run and the state of its checkpoints."""
    from clipwatch import view
    from clipwatch.journal import log_file
    from clipwatch.ledger import read_state

    path = log_file(_state_dir(state_dir))
    state = read_state(path)
    if as_json:
        click.echo(json.dumps(view.as_json(state), indent=2))
    elif state:
        view.show(state)
    else:
        click.echo(f"nothing yet in {path.parent}")


@main.command()
@click.argument("step", type=click.IntRange(min=0))
@click.option("--run", "name", help="The run, where the log holds several.")
@state_dir_option
def retry(step: int, name: str | None, state_dir: Path | None) -> None:
    """Try the failed checkpoint of a STEP again.

    A running daemon takes it up within seconds, else the next start does.
    """
    from clipwatch.journal import log_file
    from clipwatch.retry import reopen

    for checkpoint in reopen(log_file(_state_dir(state_dir)), step, name):
        click.echo(f"{checkpoint}: will be tried again")


@main.command()
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--verify", "check", is_flag=True, help="Check the log: one line for each fault.")
def log(state_dir: Path | None, as_json: bool, check: bool) -> None:
    """Print the log: everything that happened, in order.

    Of a damaged log everything that is whole is printed, each fault goes to the error output, and
    it ends with 1.
    """
    from clipwatch.journal import log_file
    from clipwatch.journal.inspection import Fault, readable, verify
    from clipwatch.journal.logfile import present

    path = log_file(_state_dir(state_dir))
    if not present(path):
        if check:
            raise ClipwatchError(f"there is no log in {path.parent}: name its --state-dir")
        return
    events = faults = 0
    for found in verify(path) if check else readable(path):
        if isinstance(found, Fault):
            faults += 1
            click.echo(str(found), err=not check)
        else:
            events += 1
            if not check:
                click.echo(_as_json(found) if as_json else _as_line(found))
    if check:
        click.echo(f"{path}: {events} events are whole, {faults} fault{'s' * (faults != 1)}")
    sys.exit(int(faults > 0))


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, file_okay=False))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--images", type=click.Path(path_type=Path, file_okay=False), help="Keep the scored pixels."
)
@click.option("--device", help="cpu, cuda:N, cuda or auto.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images generated at once.")
def score(
    checkpoint: Path, config: Path | None, as_json: bool, images: Path | None, **flags: Any
) -> None:
    """Score one checkpoint now; writes no log and publishes nothing."""
    from clipwatch.score import score_checkpoint
    from clipwatch.settings import load

    flags = {"evaluation_type": "clip", **_given(flags)}
    settings = load(_config(config), flags=flags, environ=os.environ, cwd=_here())
    result = score_checkpoint(settings, checkpoint, images)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    clip = result["clip"]
    for image in sorted(result["images"], key=lambda item: item["score"]):
        click.echo(f"{image['score']:.4f}  {image['prompt_id']}  {image['prompt']}")
    click.echo(
        f"mean {clip['mean']:.4f}  min {clip['min']:.4f}  max {clip['max']:.4f}  "
        f"std {clip['std']:.4f}  ({clip['n']} images)"
    )


@main.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), help="List this config's prompts.")
@click.option("--json", "as_json", is_flag=True, help="Print a SimpleTuner prompt library.")
def prompts(config: Path | None, as_json: bool) -> None:
    """List the built-in prompts, or those of a configuration."""
    from clipwatch.prompts import builtin
    from clipwatch.settings import load

    listed = builtin()
    if config is not None:
        flags = {"evaluation_type": "clip"}
        listed = load(config, flags=flags, environ=os.environ, cwd=_here()).protocol.prompts
    if as_json:
        library = {p.id: {"prompt": p.text, "category": p.category} for p in listed}
        click.echo(json.dumps(library, indent=2, ensure_ascii=False))
        return
    for prompt in listed:
        click.echo(f"{prompt.category:<18} {prompt.id:<24} {prompt.text}")


@main.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-run"),
    show_default=True,
    help="Where the run is made; an earlier demo there is replaced.",
)
@click.option("--steps", type=click.IntRange(min=50), default=500, show_default=True)
@click.option("--lora", is_flag=True, help="Train a LoRA instead of the whole model.")
def demo(directory: Path, steps: int, lora: bool) -> None:
    """Train a tiny model on the CPU and watch it with the real daemon."""
    from clipwatch.demo.show import show

    sys.exit(show(directory, steps=steps, lora=lora))


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


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise SettingsError(f"the current folder is gone: {error.strerror}") from error


def _as_json(recorded: Recorded) -> str:
    from clipwatch.events import encode

    type_name, data = encode(recorded.event)
    head = {"seq": recorded.seq, "time": recorded.time.isoformat(), "run": recorded.run}
    return json.dumps({**head, "type": type_name, "data": json.loads(data)})


def _as_line(recorded: Recorded) -> str:
    from clipwatch.events import encode

    type_name, data = encode(recorded.event)
    short = data if len(data) <= 160 else data[:157] + "..."  # noqa: PLR2004 - a line
    when = f"{recorded.time:%Y-%m-%d %H:%M:%S}"
    return f"{recorded.seq:>6}  {when}  {recorded.run}  {type_name}  {short}"


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if value is not None}


def _state_dir(given: Path | None) -> Path:
    from clipwatch.settings import default_state_dir

    return given or default_state_dir()


def _config(given: Path | None) -> Path:
    if given is not None:
        return given
    for name in CONFIGS:
        if Path(name).exists():
            return Path(name)
    raise SettingsError(f"no {' or '.join(CONFIGS)} here: name the trainer's file with --config")
