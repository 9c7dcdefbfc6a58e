"""One session with SwanLab's package, in a process: `python -m clipwatch_adapters.swanlab`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from clipwatch_adapters.shared.media import jpeg
from clipwatch_adapters.shared.sessions import Outcome, kinds, one_line, serve
from clipwatch_adapters.shared.told import Row
from clipwatch_adapters.swanlab.files import EVALUATION


class Job(msgspec.Struct, frozen=True):
    """Write `rows` as a run, in `seconds`.

    Attributes:
        folder: For SwanLab's files.
        workspace: "" is the default of the account that will upload them.
        project: That of the training.
        id: The run's.
        name: What people see.
        group: The training's name.
        config: The protocol.
        seconds: In which all has to be done.
        rows: All rows of one step follow each other.
    """

    folder: str
    workspace: str
    project: str
    id: str
    name: str
    group: str
    config: dict[str, Any]
    seconds: float
    rows: tuple[Row, ...]


def explain(error: Exception, _job: Job) -> Outcome:
    """Say what an error means, in one line."""
    text = one_line(error)
    if "ImportError" in kinds(error):
        what = f"SwanLab's package cannot be loaded ({text})"
        return Outcome("refused", what, "pip install 'clipwatch[swanlab]'")
    return Outcome("unavailable", f"the SwanLab session failed ({text})")


def perform(job: Job) -> Outcome:
    """Make a run of files.

    Raises:
        Exception: Whatever SwanLab's package raises; `explain` knows what it means.
    """
    import swanlab

    probe = ("hardware", "runtime", "requirements", "conda", "git", "swanlab", "monitor")
    swanlab.init(
        mode="offline",
        log_dir=job.folder,
        workspace=job.workspace or None,
        project=job.project,
        name=job.name,
        group=job.group,
        job_type="eval",
        tags=["clipwatch"],
        id=job.id,
        config=job.config,
        settings=swanlab.Settings.model_validate(
            {
                "interactive": False,
                "probe": dict.fromkeys(probe, False),
                "terminal": {"proxy_type": "none"},
            }
        ),
    )
    with TemporaryDirectory() as scratch:
        for step, its in groupby(job.rows, key=lambda row: row.step):
            swanlab.log(_logged(list(its), Path(scratch) / str(step)), step=step)
        swanlab.finish()
    return Outcome("ok")


def _logged(rows: Sequence[Row], folder: Path) -> dict[str, Any]:
    """Return all of a step: SwanLab takes a step of a key once in a session."""
    import swanlab

    columns = {
        name: [line[place] for line in row.table]
        for row in rows
        for place, name in enumerate(row.columns)
    }
    table = swanlab.echarts.Table()
    lines = zip(*columns.values(), strict=True)
    table.add([*columns], [["" if cell is None else cell for cell in line] for line in lines])
    logged: dict[str, Any] = {name: x for row in rows for name, x in row.numbers.items()}
    logged["clipwatch/scores"] = table
    if samples := list(_samples(rows, folder)):
        logged["clipwatch/samples"] = samples
    if advice := "\n".join(row.advice for row in rows if row.advice):
        logged["clipwatch/advice"] = swanlab.Text(advice)
    return logged | {EVALUATION: [swanlab.Text(row.checkpoint, caption=row.id) for row in rows]}


def _samples(rows: Iterable[Row], folder: Path) -> Iterable[Any]:
    import swanlab

    folder.mkdir()
    for number, (source, _, caption) in enumerate(it for row in rows for it in row.samples):
        with suppress(OSError):
            data, _, _ = jpeg(Path(source))
            copy = folder / f"{number}.jpg"
            copy.write_bytes(data)
            yield swanlab.Image(str(copy), caption=caption)


def main() -> None:
    """Perform the job on standard input."""
    serve(Job, perform, explain)
