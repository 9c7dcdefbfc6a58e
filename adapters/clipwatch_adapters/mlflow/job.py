"""What a session with MLflow is asked to do."""

from __future__ import annotations

from typing import Literal

import msgspec

from clipwatch_adapters.mlflow.points import Known


class Row(msgspec.Struct, frozen=True):
    """One result: its numbers, and what becomes files.

    `later` are numbers of scorers that came later, by the name of each one's mean. `texts` are
    files in `folder`. `samples` are (key, image file, label).
    """

    known: Known
    values: dict[str, float]
    later: dict[str, dict[str, float]]
    folder: str
    texts: dict[str, str]
    samples: tuple[tuple[str, str, str], ...]


class Job(msgspec.Struct, frozen=True):
    """What is to be done with the run of a series, by its `id`, in `seconds`.

    `first` is whether the series may stand in the trainer's run. `known` are all results of the
    series, `rows` those that are to be brought. `mean` is the number that tells which are there.
    `began` and `ended` are milliseconds. For the others see Destination.
    """

    task: Literal["read", "publish", "clear"]
    seconds: float
    uri: str
    experiment: str
    run_id: str
    asked: bool
    run_name: str
    dirs: tuple[str, ...]
    working_dir: str
    id: str
    name: str
    first: bool
    mean: str
    tags: dict[str, str]
    began: int
    ended: int
    known: tuple[Known, ...]
    rows: tuple[Row, ...]
