"""`clipwatch status`: every run and its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.kit.textfiles import printable

if TYPE_CHECKING:
    from clipwatch.domain.state import Run


@click.command(epilog=examples("clipwatch status", "clipwatch status --json"))
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show every run and the state of its checkpoints.

    Scores are cosines of CLIP's embeddings; ± is half the 95 % interval of the mean. A line below
    the table says where each tracker shows the curve.

    Ends with 0, also when there is nothing yet.
    """
    from clipwatch.journal import log_file
    from clipwatch.journal.projection import read_state
    from clipwatch.results import view
    from clipwatch.results.reading import page_of

    path = log_file(chosen_state_dir(state_dir))
    state = read_state(path)
    pages = {name: page_of(path.parent.absolute(), name) for name in state}
    if as_json:
        told = view.as_json(state)
        for entry, run in zip(told["runs"], state.values(), strict=True):
            entry["not_understood"] = _unread(run) or None
            entry["page"] = str(pages[run.name]) if pages[run.name].is_file() else None
        click.echo(json.dumps(told, indent=2))
    elif state:
        click.echo(view.listing(state))
        for run in state.values():
            if pages[run.name].is_file():
                click.echo(f"page: {printable(str(pages[run.name]))}")
            if there := _unread(run):
                click.echo(f"nothing in {printable(run.output_dir)} is understood: {there}")
    else:
        click.echo(f"nothing yet in {path.parent}")


def _unread(run: Run) -> str:
    """Return what lies in a run's directory where nothing of it is understood; "" elsewhere."""
    from contextlib import suppress

    from clipwatch.kit.errors import ClipwatchError
    from clipwatch.layouts.claims import chosen
    from clipwatch.layouts.lying import lying_in
    from clipwatch.results import view

    if not view.unread(run, "?"):  # its disk is not asked for nothing
        return ""
    there = ""
    with suppress(OSError, ClipwatchError):  # it need not be there any more
        told = (run.settings.get(key, "") for key in ("layout_files", "layout_step"))
        only = tuple(filter(None, run.settings.get("layout_only", "").split(",")))
        layouts = chosen(run.settings.get("layout", "") or "auto", *told, only)
        there = lying_in(Path(run.output_dir), layouts)
    return view.unread(run, there)
