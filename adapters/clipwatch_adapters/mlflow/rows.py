"""What MLflow is told of a series: a run's tags, and the numbers, files and images of a result."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

from clipwatch.kit.spreadsheets import cell
from clipwatch_adapters.mlflow.destination import SERIES
from clipwatch_adapters.mlflow.job import Job, Row
from clipwatch_adapters.mlflow.points import Known, mark
from clipwatch_adapters.shared.media import showcase
from clipwatch_adapters.shared.numbers import Names
from clipwatch_adapters.shared.protocol import hparams
from clipwatch_adapters.shared.rows import advice, numbers, score_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clipwatch.results.series import ImageScore, Result, Series
    from clipwatch_adapters.mlflow.destination import Destination

LENGTH = 5000
"""Characters of a tag's value: what MLflow took before it took 8000."""


def job(
    to: Destination,
    series: Series,
    results: Sequence[Result],
    task: Literal["read", "publish", "clear"],
    seconds: float,
) -> Job:
    """Return what a session is to do: with these results if it is to publish."""
    names = Names.of(series)
    times = [it.finished.timestamp() for it in series.results]
    return Job(
        task=task,
        seconds=seconds,
        uri=to.uri,
        experiment=to.experiment,
        run_id=to.run_id,
        asked=to.asked,
        run_name=to.run_name,
        dirs=to.dirs,
        working_dir=str(to.working_dir),
        id=to.identity(series),
        name=f"{to.run_name} / {series.name}",
        first=series.name == "clipwatch",
        mean=f"{names.group('')}/mean",
        tags=tags(series, names, to.identity(series)) if results else {},
        began=round(1000 * min(times, default=0)),
        ended=round(1000 * max(times, default=0)),
        known=tuple(_known(names, it) for it in series.results),
        rows=tuple(row(series, names, it) for it in results),
    )


def tags(series: Series, names: Names, identity: str) -> dict[str, str]:
    """Return what a run says of a series: whose it is, the protocol, and the newest advice."""
    told: dict[str, object] = {
        "run": series.run,
        **({"strength": series.protocol.adapter_strength} if series.label else {}),
        **hparams(series, names),
    }
    advised = [it for it in series.results if it.advice]
    if advised:
        newest = max(advised, key=lambda it: (it.step, it.seq))
        told["advice"] = f"{series.unit} {newest.step}: {advice(newest)}"
    return {f"clipwatch.{key}": f"{it}"[:LENGTH] for key, it in told.items()} | {SERIES: identity}


def row(series: Series, names: Names, result: Result) -> Row:
    """Return a result as a session brings it."""
    scores = series.scores(result.evaluation)
    texts = {"prompts.csv": _csv(series, names, scores)}
    if result.advice:
        texts["advice.txt"] = f"{advice(result)}\n"
    keys = _keys(series)
    return Row(
        known=_known(names, result),
        values=_fitting(numbers(names, (result, ""))),
        later={
            _mean(names, scorer): _fitting(numbers(names, (result, scorer)))
            for scorer in result.later
        },
        folder=f"clipwatch/{series.unit}-{result.step:08d}",
        texts=texts,
        samples=tuple(
            (
                keys[it.prompt_id],
                str(series.images / (it.image or "")),
                f"{it.score:.{series.digits('')}f}",
            )
            for it in showcase(series.protocol, scores)
        ),
    )


def _known(names: Names, result: Result) -> Known:
    return Known(
        seq=result.seq,
        step=result.step,
        second=int(result.finished.timestamp()),
        mark=mark(result.evaluation),
        mean=result.clip.mean,
        later=tuple(_mean(names, scorer) for scorer in result.later),
    )


def _mean(names: Names, scorer: str) -> str:
    return next(iter(_fitting({f"{names.group(scorer)}/mean": 0.0})))


def _fitting(values: Mapping[str, float]) -> dict[str, float]:
    r"""Name numbers as MLflow takes them: `\w`, "/" and "-" are fine, marks of scripts are not."""
    return {re.sub(r"[^/\w-]", lambda it: f"{ord(it[0]):x}", key): it for key, it in values.items()}


def _keys(series: Series) -> dict[str, str]:
    """Return prompt's id → what its images are called, in ASCII, as they become names of files."""
    plain = {it.id: re.sub(r"[^A-Za-z0-9_-]+", "_", it.id)[:60] for it in series.protocol.prompts}
    taken = Counter(word.casefold() for word in plain.values())
    return {
        id_: word if taken[word.casefold()] == 1 else f"{word}-{place}"
        for place, (id_, word) in enumerate(plain.items())
    }


def _csv(series: Series, names: Names, scores: Sequence[ImageScore]) -> str:
    """Return a table of the prompts with their scores, which MLflow shows, in a narrow window."""
    columns, lines = score_table(series, names, scores, tuple(names.scorers))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for id_, category, prompt, *given in (columns, *lines):
        writer.writerow([cell(it) for it in (prompt, *given, category, id_)])
    return text.getvalue()
