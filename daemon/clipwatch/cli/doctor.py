"""`clipwatch doctor`: what would stop a run, before it does."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clipwatch.cli.options import (
    chosen_config,
    config_option,
    examples,
    here,
    in_hand,
    only_given,
    run_options,
)

if TYPE_CHECKING:
    from clipwatch.doctor import Finding
    from clipwatch.settings import Settings

_NAME = 19


@click.command(
    epilog=examples(
        "clipwatch doctor",
        "clipwatch doctor --config config.json --device cuda:1",
        "clipwatch doctor --json",
    )
)
@config_option
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def doctor(config: Path | None, as_json: bool, **flags: Any) -> None:
    """Look for what would stop a run.

    A line for each thing that a run needs, and a fix for what is not well.
    Changes nothing, and may be called while a run is watched. No check takes long, whatever hangs.

    Ends with 1 if something would stop a run; with 2 when the configuration is wrong.
    """
    from clipwatch.doctor import checks, configuration, examine
    from clipwatch.settings import load

    def settings() -> Settings:
        path = chosen_config(config)
        return load(path, flags=only_given(flags), environ=os.environ, cwd=here())

    with in_hand("settings", "reading them"):
        first, loaded = configuration(settings)
    findings = [first]
    if not as_json:
        click.echo(_lines(first))
    examined = examine(checks(loaded))
    while True:
        with in_hand("doctor", "looking"):
            finding = next(examined, None)
        if finding is None:
            break
        findings.append(finding)
        if not as_json:
            click.echo(_lines(finding))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    failed = any(finding.verdict == "fail" for finding in findings)
    sys.exit(2 if loaded is None else int(failed))


def _lines(finding: Finding) -> str:
    head = f"{finding.verdict:<6}{finding.check:<{_NAME}} "
    fix = f"\n{'':<{len(head)}}fix: {finding.fix}" if finding.fix else ""
    return f"{head}{finding.found}{fix}"
