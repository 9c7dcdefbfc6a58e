"""`clipwatch prompts`: what the images are made for."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli.options import examples, here, in_hand, max_prompts_option

if TYPE_CHECKING:
    from clipwatch.prompts import Listed


@click.command(
    epilog=examples(
        "clipwatch prompts",
        "clipwatch prompts --config config.json",
        "clipwatch prompts --library compositional:500 --json > prompts.json",
        "clipwatch prompts --library my-prompts.txt --max-prompts 100",
    )
)
@click.option("-c", "--config", type=click.Path(path_type=Path), help="List what this one names.")
@click.option(
    "--library",
    metavar="NAME|FILE",
    help="core, compositional:N, hf:owner/name[@revision][/split][:column], simpletuner, or a file."
    "  [default: core]",
)
@max_prompts_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which is a library, too.")
def prompts(
    config: Path | None, library: str | None, max_prompts: int | None, as_json: bool
) -> None:
    """Show the prompts that would be used.

    Those of a library, of a configuration, or the built-in ones.

    Ends with 2 when there are none, or something in them is wrong.
    """
    from clipwatch.kit.textfiles import plain
    from clipwatch.prompts import questions

    with in_hand("prompts", "reading them"):
        found, notes = _found(config, library, max_prompts)
    if as_json:
        listed = [
            {"id": it.id, "prompt": it.text, "category": it.category}
            | ({} if it.strength is None else {"adapter_strength": it.strength})
            | questions.written(it.questions)
            for it in found
        ]
        whole = {"prompts": listed, "notes": notes}
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    categories = Counter(prompt.category or "(none)" for prompt in found)
    width, name = max(map(len, categories)), max(len(prompt.id) for prompt in found)
    for prompt in found:
        line = plain(f"{prompt.category:<{width}}  {prompt.id:<{name}}  {prompt.text}")
        click.echo(line.rstrip())
    click.echo()
    for category, number in sorted(categories.items()):
        click.echo(f"{plain(category):<{width}}  {number}")
    click.echo(f"{'all':<{width}}  {len(found)}")
    for note in notes:
        click.echo(f"Note: {note}", err=True)


def _found(config: Path | None, library: str | None, most: int | None) -> Listed:
    from clipwatch import prompts
    from clipwatch.settings import load
    from clipwatch.settings.prompts import TRAINERS, of_trainer
    from clipwatch.settings.values import Given

    if config is not None:
        flags = {"evaluation_type": "clip", "prompts": library, "max_prompts": most}
        settings = load(config, flags=flags, environ=os.environ, cwd=here())
        return prompts.Listed(settings.protocol.prompts, settings.remarks)
    name = library or "core"
    if name == TRAINERS:
        return prompts.chosen(of_trainer(Given(None, "", name), os.environ, here()), most)
    listed = prompts.library(name) or prompts.read(here() / name)
    return prompts.chosen(listed, most)
