"""`clipwatch score`: one checkpoint, now."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from clipwatch.cli.options import (
    chosen_config,
    config_option,
    device_option,
    examples,
    here,
    in_hand,
    only_given,
    tell,
)


@click.command(
    epilog=examples(
        "clipwatch score output/checkpoint-500",
        "clipwatch score output/checkpoint-500 --images pictures --json",
    )
)
@click.argument("checkpoint", type=click.Path(path_type=Path, exists=True))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the scored images in this folder, as image_format says.  [default: keep none]",
)
@device_option
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="IMAGES",
    help="So many images are generated at once.  [default: auto]",
)
def score(
    checkpoint: Path, config: Path | None, as_json: bool, images: Path | None, **flags: Any
) -> None:
    """Score one checkpoint now.

    Prints each image's score, lowest first, and their mean with half its 95 % interval. Writes no
    log and publishes nothing.

    Ends with 1 if the checkpoint cannot be scored; with 2 when the configuration is wrong.
    """
    from clipwatch.kit.processes import give_way
    from clipwatch.settings import load
    from clipwatch.tasks.score import score_checkpoint

    flags = {"evaluation_type": "clip", **only_given(flags)}
    with in_hand("settings", "reading them"):
        settings = load(chosen_config(config), flags=flags, environ=os.environ, cwd=here())
    tell(settings.notes)
    if settings.protocols[1:]:
        from clipwatch.domain.strengths import label

        at = label(settings.protocol.adapter_strength)
        tell([f"it is scored at {at}; clipwatch start scores each of the strengths"])
    if settings.service.give_way:
        give_way()
    result = score_checkpoint(settings, checkpoint, images)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    clip = result["clip"]
    for image in sorted(result["images"], key=lambda item: item["score"]):
        click.echo(f"{image['score']:.4f}  {image['prompt_id']}  {image['prompt']}")
    half = "" if clip["low"] is None else f" ± {(clip['high'] - clip['low']) / 2:.4f}"
    click.echo(
        f"mean {clip['mean']:.4f}{half}  min {clip['min']:.4f}  max {clip['max']:.4f}  "
        f"std {clip['std']:.4f}  ({clip['n']} images)"
    )
