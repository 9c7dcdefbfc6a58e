"""`clipwatch compare`: two checkpoints, prompt by prompt."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option
from clipwatch.results.figures import aligned, digits, few, interval, not_alike, number
from clipwatch.results.sentences import called, counted, item_of, verdict_of

if TYPE_CHECKING:
    from clipwatch.domain.state import Evaluation
    from clipwatch.results.pairs import Pair
    from clipwatch.statistics.scale import Scale
    from clipwatch.statistics.scores import Scores

SHOWN = 5
"""So many prompts that gained are shown, and as many that lost."""

TEXT = 60
"""Characters of a prompt that are shown."""


@click.command(
    epilog=examples(
        "clipwatch compare 400 500",
        "clipwatch compare my-lora@400 my-lora@best",
        "clipwatch compare first-run second-run --json",
        "clipwatch compare 0 500 --fail-if-worse",
        "clipwatch compare 500:0.8 500:1",
        "clipwatch compare style-a style-b",
        "clipwatch compare 400 500 --scorer loss",
    )
)
@click.argument("a", shell_complete=completing.scored)
@click.argument("b", shell_complete=completing.scored)
@click.option(
    "--scorer",
    metavar="NAME",
    help="Compare by this further scorer, not by the first; loss for the held-out loss.",
)
@click.option("--fail-if-worse", is_flag=True, help="End with 1 when B is surely worse than A.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@state_dir_option
def compare(
    a: str, b: str, scorer: str | None, fail_if_worse: bool, as_json: bool, state_dir: Path | None
) -> None:
    """Say whether checkpoint B is better than checkpoint A.

    A and B are each RUN@STEP, a STEP where one run is known (400 or @400), or RUN alone for its
    newest scored checkpoint. The beginning of a run's name is enough. RUN@best is what clipwatch
    best names; the interval of the difference to it is corrected for its having been picked.

    Both must have been scored under the same protocol. The prompts that both have are compared one
    by one. Step 0 is the base model. Where a run has several strengths, STEP:STRENGTH names one:
    500:0.8. Files that have no step are named as they are called: style-a, style-a.safetensors:0.8,
    RUN@style-a.

    Where both have a held-out loss of the same images (holdout in the settings) a line compares
    these, too; --scorer loss tells more of it. Of losses less is better.

    Ends with 1 when the two cannot be compared.
    """
    from clipwatch.journal import log_file
    from clipwatch.results.differences import circumstances
    from clipwatch.results.named import as_found, both, find, superseded
    from clipwatch.results.pairs import pair_of, pair_of_losses
    from clipwatch.results.results import open_results

    with open_results(log_file(chosen_state_dir(state_dir))) as results:
        names = find(results, a, scorer), find(results, b, scorer)
        evaluations = both(results, *names)
        names = as_found(names[0], evaluations[0]), as_found(names[1], evaluations[1])
        pair = pair_of(results, names, evaluations, scorer)
        losses = None
        if not pair.scale.turned:
            losses = pair_of_losses(results, names, evaluations)
        texts = results.texts(names[0].run, evaluations[0], scorer)
        changed = superseded(results, names[0], evaluations[0])
    unlike = circumstances(evaluations)
    if as_json:
        more = {"loss": _object(losses)} if losses else {}
        click.echo(json.dumps(_object(pair) | {"circumstances": unlike} | more, indent=2))
    else:
        one_run = names[0].run is names[1].run
        short = [it.short if one_run else str(it) for it in names]
        for line in _table(pair, short, evaluations):
            click.echo(line)
        named = zip(names, evaluations, strict=True)
        files = one_run and names[0].run.unit == "file"
        spoken = [called(it.run, of) for it, of in named] if files else short
        click.echo(f"\n{verdict_of(pair, *spoken)}")
        if losses:
            click.echo(verdict_of(losses, *spoken))
        for line in not_alike(unlike):
            click.echo(line)
        if changed:
            click.echo(f"\n{_superseded(short, changed)}")
        for line in _prompts(pair.shared, texts, pair.scale):
            click.echo(line)
    found = pair.found
    sys.exit(int(fail_if_worse and found.verdict == "worse"))


def _object(pair: Pair) -> dict[str, object]:
    found, looked = pair.found, pair.looked
    return {
        "a": found.a,
        "b": found.b,
        f"n_{item_of(pair.scale)}s": found.n_prompts,
        "delta": found.delta,
        "ci": [found.low, found.high],
        "p": found.p,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
        "detectable": found.detectable,
        "verdict": found.verdict,
        "picked_of": found.picked or None,
        "stopped": found.stopped,
        "among_all": looked
        and {
            "n_checkpoints": looked.checkpoints,
            "ci": list(looked.interval[1:]),
            "verdict": looked.verdict,
        },
    }


def _table(pair: Pair, short: Sequence[str], evaluations: Sequence[Evaluation]) -> Iterator[str]:
    found, least = pair.found, pair.scale.digits
    count = str(found.n_prompts)
    what = "loss" if pair.scale.turned else "mean"
    rows = [("", "", what, "95 % interval", f"{item_of(pair.scale)}s", "checkpoint")]
    for letter, name, evaluation, (mean, ends) in zip(
        "ab", short, evaluations, pair.means, strict=True
    ):
        told = interval(*ends, least) if ends else ""
        rows.append((letter, name, number(mean, least), told, count, evaluation.checkpoint))
    places = digits(found.low, found.high, least)
    told = "not known" if few(found.n_prompts) else interval(found.low, found.high, places)
    rows.append(("b - a", "", number(found.delta, places), told, count, ""))
    yield from aligned(rows, left=(0, 1, 5))
    yield ""
    yield from counted(pair)


def _superseded(short: Sequence[str], changed: Sequence[str]) -> str:
    both = " and ".join(dict.fromkeys(short))
    return (
        f"These are scores from before the settings or model files changed ({'; '.join(changed)}): "
        f"not yet scored anew are {both}, or one of them."
    )


def _prompts(shared: Sequence[Scores], texts: Mapping[str, str], scale: Scale) -> Iterator[str]:
    """Return the prompts that gained and lost most, or the images whose losses did."""
    from clipwatch.kit.textfiles import plain
    from clipwatch.statistics.scores import prompt_means

    a, b = map(prompt_means, shared)
    ordered = sorted(a, key=lambda id_: (a[id_] - b[id_], id_))
    gained = [id_ for id_ in ordered[:SHOWN] if b[id_] - a[id_] > scale.tie]
    lost = [id_ for id_ in reversed(ordered[-SHOWN:]) if a[id_] - b[id_] > scale.tie]
    heads = ("Rose most:", "Fell most:") if scale.turned else ("Gained most:", "Lost most:")
    for head, ids in zip(heads, (gained, lost), strict=True):
        if ids:
            yield from ("", head)
        for id_ in ids:
            yield (
                f"  {b[id_] - a[id_]:+.{scale.digits}f}  {interval(a[id_], b[id_], scale.digits)}  "
                f"{plain(texts[id_], TEXT)}"
            )
