"""`clipwatch rank`: score what lies in a folder, and say which is best."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipwatch.cli.best import as_lines, as_object, outdone_ones
from clipwatch.cli.options import config_option, examples, here, in_hand, run_options, tell
from clipwatch.cli.paths import meant
from clipwatch.domain.strengths import base_of, label
from clipwatch.kit.errors import ClipwatchError, SettingsError
from clipwatch.kit.textfiles import printable
from clipwatch.results.differences import listed
from clipwatch.results.figures import number, plural

if TYPE_CHECKING:
    from clipwatch.domain.state import Run
    from clipwatch.results.ranking import Ranking
    from clipwatch.settings import Settings


@click.command(
    epilog=examples(
        "clipwatch rank loras/ --base-model models/sd15",
        "clipwatch rank a.safetensors b.safetensors --base-model models/sd15",
        "clipwatch rank output/ --prompts my-prompts.txt --json",
        "clipwatch rank loras/ --base-model models/sd15 --full",
    )
)
@click.argument(
    "paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@config_option
@run_options
@click.option("--full", is_flag=True, help="Make all images, also of what is surely not the best.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rank(
    paths: tuple[Path, ...], config: Path | None, full: bool, as_json: bool, **flags: Any
) -> None:
    """Score what is there; name the best, and what cannot be told from it.

    PATH is a folder of LoRAs or checkpoints, or some files in it. No config is needed, only
    --base-model where nothing tells it. Files whose names tell no step are checkpoints of their
    own, each under its name.

    What is surely not the best after 32, 48, 72, ... prompts gets no more images, and is named as
    such: the best one is lost by that in 2.5 % of calls at most. Not so with --full or further
    scorers, and where precision or decide end evaluations. Whatever when_behind is, nothing is
    passed over.

    Scores are kept: a second call generates nothing that is there already. Nothing is published
    unless --report-to or the config says where.

    Ends with 1 when something failed or nothing could be scored; with 2 when something is missing
    or wrong.
    """
    from clipwatch.cli.watching import expect, watch
    from clipwatch.journal import log_file
    from clipwatch.results.named import present
    from clipwatch.results.ranking import rank as ranked
    from clipwatch.results.results import open_results

    what = meant(paths, config, flags["output_dir"], here(), there=True)
    if told := what.elsewhere("rank", paths[0]):
        raise SettingsError(told)
    with in_hand("settings", "reading them"):
        read = what.reader(flags, here(), ranked=True)
        reread = read if full else lambda: raced(read())
        settings = reread()
    tell((*what.notes(here()), *settings.notes))
    if not settings.paths.address:
        expect(settings.paths.output_dir)
    there = _there(settings)
    name, code = watch(settings, reread, once=True)
    with open_results(log_file(settings.paths.state_dir)) as results:
        run, ranking = results.state[name], None
        left = dict(left_out(run, there))
        if with_scores := scored_of(run, there):
            names = with_scores | outdone_of(run, there)
            race = settings.evaluating.race
            ranking = ranked(results, run, present(run), among=names, raced=race)
    if as_json:
        best = _object(ranking) if ranking else {"run": name, "best": None}
        count, most = images_of(run, there, settings)
        more = {"images": {"made": count, "of": most}, "prompts": _prompts(settings)}
        click.echo(json.dumps({**best, "left_out": left, **more}, indent=2))
    else:
        for line in _lines(ranking) if ranking else ():
            click.echo(line)
        for line in without_scores(left, settings.paths.output_dir):
            click.echo(line)
        if ranking and ranking.outdone:
            click.echo(_saved(*images_of(run, there, settings)))
        click.echo(_made(settings))
    sys.exit(code if ranking else 1)


def _object(ranking: Ranking) -> dict[str, object]:
    told = {"base": _base(ranking), "outdone": outdone_ones(ranking)}
    return {**as_object(ranking, _unlike(ranking)), **told}


def _lines(ranking: Ranking) -> Iterator[str]:
    yield from as_lines(ranking, _unlike(ranking))
    base = _base(ranking)
    if base is not None:
        yield f"The base model alone has {number(base, ranking.scale.digits)}."


def _unlike(ranking: Ranking) -> list[str]:
    from clipwatch.results.differences import circumstances

    return circumstances([evaluation for evaluation, _ in ranking.all])


def raced(settings: Settings) -> Settings:
    """Have no more images made of what is surely not the best.

    Not where something else ends evaluations, nor with further scorers, by whom another may be.
    """
    if settings.evaluating.early or len(settings.protocol.scorers) > 1:
        return settings
    return replace(settings, evaluating=replace(settings.evaluating, race=True))


def images_of(run: Run, there: set[str], settings: Settings) -> tuple[int, int]:
    """Return how many images these have, and how many they would have if all were made."""
    from clipwatch.domain.state import evaluation_of, protocols_of

    whole = [it for it in run.checkpoints.values() if it.name in there and it.state == "whole"]
    each = [evaluation_of(run, it, protocol) for it in whole for protocol in protocols_of(run, it)]
    made = sum(it.clip.n if it.clip else len(it.done) for it in each if it)
    protocol = settings.protocol
    return made, len(each) * len(protocol.prompts) * protocol.images_per_prompt


def _saved(made: int, most: int) -> str:
    """Say what was not made."""
    return f"{made:,} of {most:,} images were made; with --full the others are, too."


def _there(settings: Settings) -> set[str]:
    """Return the names of what is to be scored.

    Raises:
        ClipwatchError: There is nothing of the kind.
    """
    from clipwatch.layouts.claims import claims_in
    from clipwatch.layouts.lying import lying_in

    folder, layouts = settings.paths.output_dir, settings.watching.layouts
    if address := settings.paths.address:
        from clipwatch import mirror

        seen = mirror.found(folder, mirror.Remote(address).files(), layouts)
        if not seen.entries:
            raise ClipwatchError(f"there is nothing to score in {address}: {seen.lying}")
        return {it.name for it in seen.entries}
    found = {it.candidate.name for it in claims_in(folder, layouts)}
    if not found:
        lying = lying_in(folder, layouts) or "it holds no LoRA, model or checkpoint"
        raise ClipwatchError(f"there is nothing to score in {folder}: {lying}")
    return found


def scored_of(run: Run, there: set[str]) -> set[str]:
    """Return of these names those that have a score as they are now, at one strength at least."""
    from clipwatch.results.view import rows

    return {row.name for row in rows(run) if row.name in there and row.clip is not None}


def outdone_of(run: Run, there: set[str]) -> set[str]:
    """Return of these names those that are surely not the best, at one strength at least."""
    from clipwatch.results.view import rows

    return {row.name for row in rows(run) if row.name in there and row.outdone}


def left_out(run: Run, there: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what has no score, of several strengths with the strength, and why."""
    from clipwatch.results.view import rows

    for row in rows(run):
        if row.name in there and row.clip is None and row.outdone is None:
            at = "" if row.strength is None else f" at {label(row.strength)}"
            reason = (run.lacking if row.state == "waiting" else "") or row.reason or row.state
            yield f"{row.name}{at}", reason.removeprefix(f"{row.name}: ")


_AT = re.compile(rf" at {label(0)[:-1]}\S+$")

OTHER_BASE = "the base model has not"
"""Stands in the reason of what was made for another base model."""


def without_scores(left: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Yield a line for each reason, with all that have none for it.

    Args:
        left: As `left_out`.
        folder: In which these lie; reasons name their paths.
    """
    alike: dict[str, list[str]] = {}
    for name, reason in left.items():
        file = _AT.sub("", name)
        bare = reason.replace(str(folder / file), "it").replace(file, "it")
        alike.setdefault(bare, []).append(name)
    for bare, names in alike.items():
        several = len(names) > 1
        them = f"{len(names)} files ({listed(names)})" if several else names[0]
        told = bare if several else left[names[0]]
        fix = ": if it was made for another one, name that with --base-model"
        yield printable(f"No score for {them}: {told}{fix if OTHER_BASE in told else ''}")


def _base(ranking: Ranking) -> float | None:
    """Return the mean of the base model alone; None if it has no score."""
    base = ranking.run.evaluations.get(base_of(ranking.run, ranking.run.protocol))
    return base.clip.mean if base and base.clip else None


def _prompts(settings: Settings) -> dict[str, object]:
    """Return how many prompts were used, and where they are from."""
    asked = settings.prompting
    named = [asked.prompts] if asked.prompts else [asked.user_library, asked.prompt]
    own = ["core"] if asked.builtin else []
    return {"n": len(settings.protocol.prompts), "from": [*own, *filter(None, named)]}


def _made(settings: Settings) -> str:
    """Say what the pictures were made with."""
    told, protocol = _prompts(settings), settings.protocol
    sources = told["from"]
    named = " and ".join(sources) if isinstance(sources, list) else ""
    library = " (clipwatch's own; clipwatch prompts shows them)" if named == "core" else ""
    count = plural(len(protocol.prompts), "prompt")
    return printable(
        f"Made with {count} of {named}{library}, {protocol.width}x{protocol.height}, "
        f"{protocol.inference_steps} steps, guidance {protocol.guidance:g}, seed {protocol.seed}, "
        f"on {protocol.base_model}."
    )
