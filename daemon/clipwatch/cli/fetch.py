"""`clipwatch fetch`: the models, ahead."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import chosen_config, config_option, examples, here, in_hand
from clipwatch.kit.errors import ClipwatchError

if TYPE_CHECKING:
    from clipwatch.executors.messages import Fetched


@click.command(
    epilog=examples(
        "clipwatch fetch --config config.json",
        "HF_HOME=/shared/hub clipwatch fetch",
    )
)
@config_option
def fetch(config: Path | None) -> None:
    """Download the models of a run ahead.

    With base model and scorer in place it can go on without a network.
    Exactly the files that evaluations load are downloaded, into the Hub's cache (HF_HOME). What is
    there already is not downloaded again, and a download that was cut off goes on where it was.

    Ends with 1 if a model cannot be had; with 2 when the configuration is wrong.
    """
    from clipwatch.executors.fetching import check_online
    from clipwatch.executors.fetching import fetch as fetch_models
    from clipwatch.executors.messages import Coming, Missed
    from clipwatch.loop.console import Console
    from clipwatch.loop.preparing import MODELS
    from clipwatch.settings import load

    path = chosen_config(config)
    with in_hand("settings", "reading them"):
        settings = load(path, flags={"evaluation_type": "clip"}, environ=os.environ, cwd=here())
    protocol = settings.protocol
    check_online(protocol)
    missed = False
    console = Console()
    try:
        console.say(f"{MODELS}: looking for what lacks")
        console.working(MODELS, "looking for them")
        for reply in fetch_models(protocol):
            if isinstance(reply, Coming):
                console.working(MODELS, reply.text, reply.done, reply.total)
                continue
            console.rested(MODELS)  # nothing moves where a line is printed
            if isinstance(reply, Missed):
                missed = True
                click.echo(f"Error: {reply.reason}", err=True)
            else:
                click.echo(f"{reply.part:<12}{_where(reply)}")
            console.working(MODELS, "looking for the next one")
    except KeyboardInterrupt:
        raise ClipwatchError("stopped", fix="call it again to go on") from None
    finally:
        console.close()
    if missed:
        sys.exit(1)
    click.echo(f"{'prompts':<12}{len(protocol.prompts)}, all local")
    line = shlex.join(["clipwatch", "start", "--config", str(path)])
    click.echo(f"From here on no network is needed: HF_HUB_OFFLINE=1 {line}")


def _where(fetched: Fetched) -> str:
    """Say what became of a model."""
    if not fetched.commit:
        return f"{fetched.folder} is local ({_size(fetched.size)})"
    new = f"{_size(fetched.new)} downloaded" if fetched.new else "was here already"
    return f"{fetched.name} is in {fetched.folder} ({_size(fetched.size)}, {new})"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004
