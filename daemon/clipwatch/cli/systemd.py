"""`clipwatch systemd`: the service's files, shown or installed."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clipwatch.cli.options import chosen_config, examples, here
from clipwatch.kit.errors import SettingsError

if TYPE_CHECKING:
    from clipwatch.service.units import Run

Command = TypeVar("Command", bound=Callable[..., Any])


def _facts(command: Command) -> Command:
    """Add what `show` and `install` are asked."""
    for decorate in (
        click.option(
            "--trainer-user",
            metavar="USER",
            help="Who trains.  [default: the output directory's owner]",
        ),
        click.option(
            "-c",
            "--config",
            type=click.Path(path_type=Path),
            help="The trainer's config.json, of RUN.  [default: the one here]",
        ),
        click.option("--user", "own", is_flag=True, help="For your own services, without root."),
        click.argument("run", required=False),
    ):
        command = decorate(command)
    return command


@click.group(
    epilog=examples(
        "clipwatch systemd show my-lora --config /runs/my-lora/config.json",
        "clipwatch systemd install --user my-lora --config config.json",
    )
)
def systemd() -> None:
    """Run clipwatch as a service.

    It starts with the machine, and again after a fault.

    RUN is the name you give a training: its service is clipwatch@RUN. Without it only the files
    that all runs share are meant, as after an upgrade.
    """


@systemd.command(
    epilog=examples(
        "clipwatch systemd show",
        "clipwatch systemd show my-lora --config /runs/my-lora/config.json",
    )
)
@_facts
def show(run: str | None, own: bool, config: Path | None, trainer_user: str | None) -> None:
    """Print the files that `install` would write."""
    for path, text in _files(run, own, config, trainer_user).items():
        click.echo(f"# {path}\n{text}")


@systemd.command(
    epilog=examples(
        "clipwatch systemd install my-lora --config /runs/my-lora/config.json",
        "clipwatch systemd install --user my-lora --config config.json",
        "clipwatch systemd install --force",
    )
)
@_facts
@click.option("--force", is_flag=True, help="Replace files that say something else.")
def install(
    run: str | None, own: bool, config: Path | None, trainer_user: str | None, force: bool
) -> None:
    """Write the service's files, and say what to type next."""
    from clipwatch.service.units import write

    for path, done in write(_files(run, own, config, trainer_user), force=force).items():
        click.echo(f"{done:<9}  {path}")
    click.echo("next:")
    for line in _next(run or "RUN", own=own):
        click.echo(f"  {line}")


def _files(
    name: str | None, own: bool, config: Path | None, trainer_user: str | None
) -> dict[Path, str]:
    from clipwatch.service.units import system_files, user_files

    if own and trainer_user:
        raise click.UsageError("--trainer-user goes without --user: your services run as you")
    if name is None and (config or trainer_user):
        raise click.UsageError("name the run: clipwatch systemd install RUN --config FILE")
    run = None if name is None else _run(name, chosen_config(config), trainer_user)
    executable = Path(sys.executable).with_name("clipwatch")
    if not executable.exists():
        raise SettingsError(
            f"there is no {executable}", fix="install clipwatch with this Python's pip"
        )
    if own:
        return user_files(executable, run, Path("~/.config").expanduser())
    return system_files(executable, run)


def _run(name: str, config: Path, trainer_user: str | None) -> Run:
    """Read a run's configuration as its service will: with none of our own variables.

    Raises:
        SettingsError: It is wrong, or nobody has the user's name.
    """
    from clipwatch.service.units import Run
    from clipwatch.settings import load

    environ = {key: value for key, value in os.environ.items() if not key.startswith("CLIPWATCH_")}
    settings = load(config, environ=environ, cwd=here())
    output_dir = settings.paths.output_dir
    if settings.paths.address:
        output_dir = here() / settings.config  # which is all that is read of this machine
    if trainer_user is None:
        owned = output_dir if output_dir.exists() else settings.config
        trainer_user = _user_name(owned.stat().st_uid)
    else:
        try:
            pwd.getpwnam(trainer_user)
        except KeyError:
            raise SettingsError(f"there is no user {trainer_user!r} here") from None
    return Run(
        name=name,
        config=here() / settings.config,
        working_dir=settings.paths.working_dir,
        output_dir=output_dir,
        logging_dir=settings.paths.logging_dir,
        user=trainer_user,
    )


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _next(run: str, *, own: bool) -> list[str]:
    if own:
        return [
            "systemctl --user daemon-reload",
            f"systemctl --user enable --now clipwatch@{run}",
            "loginctl enable-linger    # it stays when you log out",
        ]
    return [
        "systemd-sysusers",
        "systemctl daemon-reload",
        f"systemctl enable --now clipwatch@{run}",
        f"clipwatch status --state-dir /var/lib/clipwatch/{run}",
    ]
