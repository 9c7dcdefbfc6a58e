"""`clipwatch score`: one checkpoint, now."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from clipwatch.cli.options import chosen_config, config_option, here, in_hand, only_given


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True, file_okay=False))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--images", type=click.Path(path_type=Path, file_okay=False), help="Keep the scored pixels."
)
@click.option("--device", help="auto, cpu, cuda:N, cuda, the UUID of a GPU, or mps.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images generated at once.")
def score(
    checkpoint: Path, config: Path | None, as_json: bool, images: Path | None, **flags: Any
) -> None:
    """Score one checkpoint now.

    Writes no log and publishes nothing.
    """
    from clipwatch.priority import give_way
    from clipwatch.score import score_checkpoint
    from clipwatch.settings import load

    flags = {"evaluation_type": "clip", **only_given(flags)}
    with in_hand("settings", "reading them"):
        settings = load(chosen_config(config), flags=flags, environ=os.environ, cwd=here())
    if settings.give_way:
        give_way()
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
