"""`clipwatch score`: one checkpoint, now."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

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
from clipwatch.kit.addresses import address, wrong

if TYPE_CHECKING:
    from clipwatch.domain.merging import Shard

DIGITS = 9
"""Of the number of shards, at most."""


class Place(click.Path):
    """A path, or an address as one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a path to nothing, and an address that cannot be used here."""
        if not address(value):
            return super().convert(value, param, ctx)
        if told := wrong(address(value)):
            self.fail(": ".join(told), param, ctx)
        return Path(value)


def _shard(_: click.Context, __: click.Parameter, value: str | None) -> Shard | None:
    """Read a shard as a person writes it, 2/8; a usage error where it is none."""
    from clipwatch.domain.merging import Shard

    if value is None:
        return None
    number, _slash, of = value.partition("/")
    whole = all(it.isascii() and it.isdigit() and len(it) <= DIGITS for it in (number, of))
    if not whole or not 1 <= int(number) <= int(of):
        raise click.BadParameter(f"{value!r} is no shard: write 1/8 to 8/8 for eight of them")
    return Shard(int(number), int(of))


@click.command(
    epilog=examples(
        "clipwatch score output/checkpoint-500",
        "clipwatch score output/checkpoint-500 --images pictures --json",
        "clipwatch score output/checkpoint-500 --holdout held-out",
        "clipwatch score output/checkpoint-500 --shard 2/8 --save parts",
        "clipwatch score hf://me/my-lora/checkpoint-500",
    )
)
@click.argument("checkpoint", type=Place(path_type=Path, exists=True))
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the scored images in this folder, as image_format says.  [default: keep none]",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Keep scores and images in this folder, for clipwatch import; what was begun goes on.",
)
@click.option(
    "--shard",
    callback=_shard,
    metavar="NUMBER/OF",
    help="Score a part of the prompts, as 2/8 for the second of eight; with --save.  [default: "
    "1/1]",
)
@click.option(
    "--holdout",
    metavar="PATH",
    help="Measure the loss on these images with captions, too: a folder or a table.  [default: the "
    "config's]",
)
@device_option
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="IMAGES",
    help="So many images are generated at once.  [default: auto]",
)
def score(
    checkpoint: Path,
    config: Path | None,
    as_json: bool,
    images: Path | None,
    save: Path | None,
    shard: Shard | None,
    **flags: Any,
) -> None:
    """Score one checkpoint now: a folder, a file, or the address of a folder.

    Prints each image's score, lowest first, and their mean with half its 95 % interval. Writes no
    log and publishes nothing: clipwatch import takes what --save keeps into a log. With --shard
    several machines score one checkpoint, each a part of its prompts.

    With held-out images, of --holdout or the settings, the denoiser's loss on them comes after
    that: lower is better. Parts that --save keeps have none.

    Ends with 1 if the checkpoint cannot be scored; with 2 when the configuration is wrong.
    """
    from clipwatch.domain.merging import Shard
    from clipwatch.kit.processes import give_way
    from clipwatch.settings import load
    from clipwatch.tasks.score import Saving, score_checkpoint

    if shard and not save:
        raise click.UsageError("--shard needs --save, the folder in which its part is kept")
    if save and images:
        raise click.UsageError("--images cannot be had with --save, which keeps the images itself")
    if save and flags["holdout"]:
        raise click.UsageError("--holdout cannot be had with --save: parts keep no losses")
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
    saving = Saving(here() / save, shard or Shard()) if save else None
    with ExitStack() as stack:
        if remote := address(checkpoint):
            checkpoint = stack.enter_context(_copied(remote))
        result = score_checkpoint(settings, checkpoint, images, saving, remote)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    if result["images"]:
        _print(result)
    if saving:
        count = len(result["images"])
        told = f"{count} images" if count else "no prompt is left for it"
        click.echo(f"shard {saving.shard}: {told}, kept in {result['part']}")


def _print(result: dict[str, Any]) -> None:
    clip = result["clip"]
    for image in sorted(result["images"], key=lambda item: item["score"]):
        click.echo(f"{image['score']:.4f}  {image['prompt_id']}  {image['prompt']}")
    half = "" if clip["low"] is None else f" ± {(clip['high'] - clip['low']) / 2:.4f}"
    click.echo(
        f"mean {clip['mean']:.4f}{half}  min {clip['min']:.4f}  max {clip['max']:.4f}  "
        f"std {clip['std']:.4f}  ({clip['n']} images)"
    )
    if losses := result.get("losses"):
        click.echo(_loss(losses))


def _loss(losses: dict[str, Any]) -> str:
    from clipwatch.domain.losses import THIRDS

    if problem := losses.get("problem"):
        return f"no held-out loss: {problem}"
    half = f" ± {(losses['ci'][1] - losses['ci'][0]) / 2:.4f}" if losses["ci"] else ""
    parts = "  ".join(f"{it} noise {losses[f'heldout_{it}_noise']:.4f}" for it in THIRDS)
    trained = ""
    if "trained" in losses:
        trained = f"  on the training's {losses['trained']:.4f}  gap {losses['gap']:+.4f}"
    count = losses["n_images"]
    images = f"{count} image{'s' * (count != 1)}"
    return f"held-out loss {losses['heldout']:.4f}{half}  {parts}{trained}  ({images})"


@contextmanager
def _copied(remote: str) -> Iterator[Path]:
    """Have a checkpoint that lies at an address here while it is scored."""
    from clipwatch.mirror import Remote

    with TemporaryDirectory(prefix="clipwatch-") as folder:
        with in_hand(remote, "copying it"):
            copy = Remote(remote).fetch_all(Path(folder))
        yield copy
