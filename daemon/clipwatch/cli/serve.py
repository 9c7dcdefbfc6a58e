"""`clipwatch serve`: the page of `clipwatch report`, live, and blind votes."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, now_and_then, state_dir_option
from clipwatch.kit.errors import ClipwatchError, SettingsError

if TYPE_CHECKING:
    from clipwatch.report.live import Live
    from clipwatch.settings.values import Address

ADDRESS = "127.0.0.1:9465"


@click.command(
    epilog=examples(
        "clipwatch serve",
        "clipwatch serve my-lora --address 127.0.0.1:8000",
    )
)
@click.argument("run", nargs=-1, shell_complete=completing.runs)
@click.option(
    "--address",
    default=ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="Where, on this machine alone; port 0 for one that is free.",
)
@state_dir_option
def serve(run: tuple[str, ...], address: str, state_dir: Path | None) -> None:
    """Show the page of clipwatch report live, and ask for blind votes.

    RUN may be left out, for all runs, of more than ten those with the newest results; the beginning
    of a name is enough.

    New results arrive in the browser by themselves. Votes on images without names are asked for
    there, and counted by clipwatch best --votes. A vote is all that is ever written. Ctrl-C or
    SIGTERM end it, with 0.
    """
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    place = _place(address)
    from clipwatch.report.live import Live
    from clipwatch.report.site import Site
    from clipwatch.service.web import WebServer

    live = Live(chosen_state_dir(state_dir), run, now_and_then())
    site = Site(live)
    try:
        server = WebServer(place, site.get, site.post)
    except OSError as error:
        why = error.strerror or error
        raise SettingsError(f"{place}: {why}", fix="name another --address") from error
    try:
        rest = live.look()
        click.echo(f"http://{server.address}/ shows it; Ctrl-C ends")
        _keep(live, rest)
    finally:
        server.close()


def _keep(live: Live, rest: float) -> NoReturn:
    """Look for news for ever; what stands in the way, or has no place, is said once."""
    from clipwatch.report.live import PAUSE_SECONDS

    trouble = left_out = ""
    while True:
        if live.left_out and live.left_out != left_out:
            click.echo(live.left_out)
        left_out = live.left_out
        time.sleep(rest)
        try:
            rest, now = live.look(), ""
        except ClipwatchError as error:
            rest, now = PAUSE_SECONDS, str(error)
        if now and now != trouble:
            click.echo(f"the page is not made anew: {now}", err=True)
        trouble = now


def _place(address: str) -> Address:
    """Return where to listen.

    Raises:
        SettingsError: That is no address, or not of this machine alone.
    """
    import socket

    from clipwatch.service.web import is_loopback
    from clipwatch.settings.readers import address as read

    try:
        place = read(address)
        found = socket.getaddrinfo(place.host, place.port) if place else []
    except (ValueError, OSError) as error:
        raise SettingsError(f"--address {address}: {error}") from error
    if place is None or not all(is_loopback(str(it[4][0])) for it in found):
        raise SettingsError(
            f"--address {address}: others could read and vote there",
            fix="name 127.0.0.1:PORT; from another machine, ssh -L leads to it",
        )
    return place


def _end(*_: object) -> NoReturn:
    sys.exit(0)
