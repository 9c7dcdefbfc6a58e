"""`clipwatch prompts`: what the images are made for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from clipwatch.cli.options import here


@click.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), help="List this config's prompts.")
@click.option("--json", "as_json", is_flag=True, help="Print a SimpleTuner prompt library.")
def prompts(config: Path | None, as_json: bool) -> None:
    """List the built-in prompts, or those of a configuration."""
    from clipwatch.prompts import builtin
    from clipwatch.settings import load

    listed = builtin()
    if config is not None:
        flags = {"evaluation_type": "clip"}
        listed = load(config, flags=flags, environ=os.environ, cwd=here()).protocol.prompts
    if as_json:
        library = {p.id: {"prompt": p.text, "category": p.category} for p in listed}
        click.echo(json.dumps(library, indent=2, ensure_ascii=False))
        return
    for prompt in listed:
        click.echo(f"{prompt.category:<18} {prompt.id:<24} {prompt.text}")
