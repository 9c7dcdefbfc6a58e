"""`clipwatch ignored`: which requirements of the prompts a checkpoint's images do not meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clipwatch.cli import completing
from clipwatch.cli.options import chosen_state_dir, examples, state_dir_option

if TYPE_CHECKING:
    from clipwatch.results.ignored import Requirements

SHOWN = 20


@click.command(
    epilog=examples(
        "clipwatch ignored",
        "clipwatch ignored my-lora@400",
        "clipwatch ignored --most 100",
        "clipwatch ignored --json",
    )
)
@click.argument("checkpoint", default="@best", shell_complete=completing.scored)
@click.option("--scorer", metavar="NAME", help="Whose answers.  [default: the first that asks]")
@click.option(
    "--most",
    type=click.IntRange(1),
    default=SHOWN,
    show_default=True,
    metavar="NUMBER",
    help="Show so many requirements.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all of them.")
@state_dir_option
def ignored(
    checkpoint: str, scorer: str | None, most: int, as_json: bool, state_dir: Path | None
) -> None:
    """Show which requirements of the prompts are ignored.

    CHECKPOINT is RUN@STEP, a STEP where one run is known, RUN@best, or RUN alone for its newest
    scored checkpoint; without it the best one.

    Where a scorer of kind "questions" asks the prompts' own questions, a table says how probable
    the right answers are for each skill, beside the base model, and a list which requirements are
    met least. Each prompt's figures are means over its images.

    Ends with 1 when no scorer asked about that checkpoint.
    """
    from clipwatch.journal import log_file
    from clipwatch.results.ignored import least, requirements, skills
    from clipwatch.results.named import find
    from clipwatch.results.results import open_results

    with open_results(log_file(chosen_state_dir(state_dir))) as results:
        found = requirements(results, find(results, checkpoint), scorer)
    if as_json:
        click.echo(json.dumps(_object(found), indent=2, ensure_ascii=False))
        return
    by = f", by {found.scorer}" if found.scorer else ""
    click.echo(f"{found.named}, {found.evaluation.checkpoint}{by}")
    for line in ("", *skills(found), "", "Met least:", "", *least(found, most)):
        click.echo(line)


def _object(found: Requirements) -> dict[str, object]:
    import msgspec

    return {
        "run": found.named.run.name,
        "step": found.evaluation.step,
        "checkpoint": found.evaluation.checkpoint,
        "scorer": found.scorer,
        "answered": msgspec.to_builtins(found.now),
        "base": msgspec.to_builtins(found.base),
        "questions": [
            {
                "question": it.question.text,
                "answer": it.question.answer,
                "skill": it.question.skill,
                "probability": it.value,
                "base": it.base,
                "prompt_id": it.prompt.id,
                "prompt": it.prompt.text,
            }
            for it in found.met
        ],
    }
