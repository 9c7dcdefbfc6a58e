"""One session with Comet's package, in a process of its own: `python -m clipwatch_adapters.comet`.

Offline it leaves one archive. Online it reads which numbers the experiment has and sends only those
that lack: Comet takes the same number twice and shows both.
"""

from __future__ import annotations

import csv
import io
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from clipwatch.kit.spreadsheets import cell
from clipwatch_adapters.comet.archives import ROW
from clipwatch_adapters.comet.outcome import explain
from clipwatch_adapters.shared.media import jpeg
from clipwatch_adapters.shared.points import Points, lacking
from clipwatch_adapters.shared.sessions import Outcome, serve
from clipwatch_adapters.shared.told import Row

NAME = 100
"""Characters of an image's name: Comet makes a column of each."""


class Job(msgspec.Struct, frozen=True):
    """Bring those of `rows` that lack to the experiment, in `seconds`.

    Attributes:
        archives: The folder for an archive, "" to ask Comet's server.
        key: Of the account; "" is the one that Comet's own configuration names.
        workspace: "" is the default of configuration or account.
        project: That of the training.
        id: The experiment's key.
        name: What people see.
        tags: By which the project can be filtered.
        parameters: The protocol.
        others: Further words about the run.
        seconds: In which all has to be done.
        rows: In the order in which they are sent; all of the series where the server is only asked.
        send: Whether anything is sent.
    """

    archives: str
    key: str
    workspace: str
    project: str
    id: str
    name: str
    tags: tuple[str, ...]
    parameters: dict[str, Any]
    others: dict[str, str]
    seconds: float
    rows: tuple[Row, ...]
    send: bool


class NotShownError(Exception):
    """Comet does not show what it was sent so far."""


def perform(job: Job) -> Outcome:
    """Write an archive; or read what the server has, send what lacks and read it back.

    Raises:
        Exception: Whatever Comet's package raises; `explain` knows what it means.
    """
    sys.modules["matplotlib"] = None  # type: ignore[assignment]  # half of the import, and its fonts
    if job.archives:
        _send(job, job.rows)
        return Outcome("ok")
    deadline = time.monotonic() + job.seconds
    points, url = _read(job)
    missing = lacking(job.rows, points)
    if job.send and missing:
        _send(job, missing)
        while True:
            points, url = _read(job)
            missing = lacking(job.rows, points)
            if not missing:
                break
            if time.monotonic() > deadline:
                raise NotShownError
            time.sleep(1)
    lack = {row.id for row in missing}
    return Outcome("ok", shown=tuple(row.id for row in job.rows if row.id not in lack), url=url)


def _read(job: Job) -> tuple[Points, str]:
    """Return what the experiment has, and its address, which is told also before it is there.

    Raises:
        CometException, requests.RequestException: It cannot be asked.
    """
    from comet_ml import API
    from comet_ml.config import get_comet_root_url, get_config, get_workspace

    api = API(api_key=job.key or None, cache=False)
    experiment = api.get_experiment_by_key(job.id)
    if experiment is None:
        owner = get_workspace(job.workspace or None, get_config()) or api.get_default_workspace()
        return {}, "/".join((get_comet_root_url().rstrip("/"), owner, job.project, job.id))
    points: Points = {}
    for it in experiment.get_metrics() or ():
        with suppress(TypeError, ValueError):  # of somebody else
            place = str(it["metricName"]), int(it["step"])
            points.setdefault(place, []).append(float(it["metricValue"]))
    return points, str(experiment.url)


def _send(job: Job, rows: Sequence[Row]) -> None:
    import comet_ml

    experiment = comet_ml.start(
        api_key=job.key or None,
        workspace=job.workspace or None,
        project_name=job.project,
        experiment_key=job.id,
        mode="get_or_create",
        online=not job.archives,
        experiment_config=comet_ml.ExperimentConfig(
            name=job.name,
            tags=list(job.tags),
            offline_directory=job.archives or str(Path.cwd()),
            display_summary_level=0,
            parse_args=False,
            auto_output_logging=False,
            **dict.fromkeys(_AUTOMATIC, False),
        ),
    )
    experiment.send_notification = lambda *_, **__: None  # it would mail at each end of a session
    experiment.log_parameters(job.parameters)
    for name, value in job.others.items():
        experiment.log_other(name, value)
    with TemporaryDirectory() as scratch:
        for number, row in enumerate(rows):
            experiment.log_metrics(row.numbers, step=row.step)
            _log_words(experiment, row)
            _log_images(experiment, row, Path(scratch) / str(number))
        experiment.end()


_AUTOMATIC = (
    *("log_code", "log_graph", "log_git_metadata", "log_git_patch", "log_env_details"),
    *("log_env_gpu", "log_env_host", "log_env_cpu", "log_env_network", "log_env_disk"),
    *("auto_param_logging", "auto_metric_logging", "auto_log_co2"),
)
"""What Comet would tell of the machine and of our process by itself."""


def _log_words(experiment: Any, row: Row) -> None:
    """Log the table of scores, which names the row, and the advice."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(row.columns)
    writer.writerows([cell(it) for it in line] for line in row.table)
    word = re.sub(r"[^\w-]", "_", row.id)
    experiment.log_asset_data(
        text.getvalue(),
        name=f"clipwatch/scores/{row.step:08}-{word[-24:]}.csv",
        step=row.step,
        metadata={ROW: row.id, "checkpoint": row.checkpoint},
    )
    if row.advice:
        experiment.log_text(row.advice, step=row.step, metadata={"clipwatch": "advice"})


def _log_images(experiment: Any, row: Row, folder: Path) -> None:
    """Log the images that are there; the prompt is the name, by which Comet lays steps together."""
    folder.mkdir()
    for number, (source, prompt, caption) in enumerate(row.samples):
        with suppress(OSError):
            data, _, _ = jpeg(Path(source), label=caption.partition(":")[0])
            copy = folder / f"{number}.jpg"
            copy.write_bytes(data)
            experiment.log_image(
                str(copy),
                name=f"clipwatch/{number + 1} {prompt}"[:NAME],
                step=row.step,
                metadata={"caption": caption, "checkpoint": row.checkpoint},
            )


def main() -> None:
    """Perform the job on standard input."""
    serve(Job, perform, lambda error, job: explain(error, job.key))
