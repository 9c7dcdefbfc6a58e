"""`clipwatch blend`: an average of checkpoints that may be better than any of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, device_option, examples, state_dir_option
from clipwatch.domain.strengths import title, told
from clipwatch.kit.textfiles import printable
from clipwatch.results.differences import listed
from clipwatch.results.figures import digits, interval, number, plural
from clipwatch.results.sentences import strength_of

if TYPE_CHECKING:
    from clipwatch.domain.blends import Recipe
    from clipwatch.tasks.blend_outcome import Outcome


@click.command(
    epilog=examples(
        "clipwatch blend my-lora",
        "clipwatch blend my-lora --images 600",
        "clipwatch blend my-lora --device cuda:1 --json",
    )
)
@click.argument("run", default="", shell_complete=completing.runs)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    metavar="IMAGES",
    help="Make so many at most, those of the test among them.  [default: 8 evaluations']",
)
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@state_dir_option
def blend(
    run: str, images: int | None, device: str | None, as_json: bool, state_dir: Path | None
) -> None:
    """Search an average of RUN's checkpoints that is better than the best.

    An experiment. Weighted averages of the saved checkpoints, LoRAs or weights in full, are tried
    on half of the prompts. The one that does best there is scored on the other half, beside the
    best checkpoint, and written below the state directory. Only that one test says whether it is
    better, and what was tried before has no part in it.

    RUN may be left out where one run is known, and the beginning of its name is enough. It is
    scored as the run's checkpoints are. Scores are kept: a call that was ended goes on. Nothing is
    published, and nothing is written where the training writes.

    Ends with 1 when there is too little to search, or the evaluator failed.
    """
    from clipwatch.kit.errors import SettingsError
    from clipwatch.kit.processes import give_way
    from clipwatch.loop.console import Console
    from clipwatch.settings import KEYS
    from clipwatch.tasks.blend import search

    flags = {}
    if device is not None:
        try:
            flags["device"] = str(KEYS["device"].read(device))
        except ValueError as error:
            raise SettingsError(f"--device: {error}") from error
    give_way()
    console = Console()
    try:
        found = search(chosen_state_dir(state_dir).absolute(), run, images, flags, console)
    finally:
        console.close()
    if as_json:
        click.echo(json.dumps(as_object(found), indent=2))
        return
    for line in lines(found):
        click.echo(printable(line))


def lines(found: Outcome) -> Iterator[str]:
    """Yield what is said of a search."""
    best, least = title(found.run, found.best.id), found.scale.digits
    made = plural(found.images, "image")
    at = told(found.run, found.best.protocol)
    blended = f"blend of {parts(found.blend)} ({found.blend.how}){at and f' at {at}'}"
    if found.tested is None:
        a, b = (number(it, least) for it in found.means)
        yield (
            f"{blended}: {b} on the {found.searched} prompts that it was chosen by, best ({best})"
            f" {a}: no blend is above it: keep {best}; {made}"
        )
        return
    tested, it = found.tested, found.tested.found
    places = digits(it.low, it.high, least)
    a, b = (number(mean, least) for mean in tested.means)
    delta = number(abs(it.delta), places)
    if tested.better:
        verdict = f"better by {delta} ({interval(it.low, it.high, places)})"
    elif it.verdict == "worse":
        verdict = f"worse by {delta} ({interval(-it.high, -it.low, places)}): keep {best}"
    else:
        by = f"{number(it.delta, places)}, {interval(it.low, it.high, places)}"
        verdict = f"not surely better ({by}): keep {best}"
    yield (
        f"{blended}: {b} on {plural(it.n_prompts, 'held-out prompt')}, best ({best}) {a}: {verdict}"
        f"; {made}"
    )
    if tested.looks > 1:
        yield (
            f"{tested.looks} blends of this run were tested on these prompts, so p counts"
            f" {tested.looks**2} times: {tested.p:.4f}"
        )
    yield f"written to {tested.written}"


def parts(recipe: Recipe) -> str:
    """Name what a blend is made of, with the shares where they are not equal."""
    if len({share for _, share in recipe.shares}) == 1:
        return listed([name for name, _ in recipe.shares])
    return listed([f"{share:.2f} {name}" for name, share in recipe.shares])


def as_object(found: Outcome) -> dict[str, object]:
    """Return a search's outcome as one JSON object."""
    tested, at = found.tested, strength_of(found.run, found.best)
    best = {"step": found.best.step, "checkpoint": found.best.checkpoint}
    return {
        "run": found.run.name,
        "best": best if at is None else best | {"strength": at},
        "blend": {"how": found.blend.how, "shares": dict(found.blend.shares)},
        "searched": {"n_prompts": found.searched, "best": found.means[0], "blend": found.means[1]},
        "images": found.images,
        "tested": tested
        and {
            "n_prompts": tested.found.n_prompts,
            "best": tested.means[0],
            "blend": tested.means[1],
            "delta": tested.found.delta,
            "ci": [tested.found.low, tested.found.high],
            "p": tested.found.p,
            "looks": tested.looks,
            "better": tested.better,
            "written": str(tested.written),
        },
    }
