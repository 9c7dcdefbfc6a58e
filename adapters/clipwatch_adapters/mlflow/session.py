"""One session with MLflow, in a process of its own: `python -m clipwatch_adapters.mlflow`.

The parent may kill it at any point: the tag of a run is there from its beginning, all numbers of a
result come at once, behind its files, and a point that is sent again is the same point.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from clipwatch.kit.processes import importing
from clipwatch_adapters.mlflow.destination import SERIES, SQLITE, secrets
from clipwatch_adapters.mlflow.job import Job, Row
from clipwatch_adapters.mlflow.outcome import Outcome, Refusal, explain, passing
from clipwatch_adapters.mlflow.points import Point, held, last, shown, time_of
from clipwatch_adapters.mlflow.trainers import Seen, trainers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run

OURS = "clipwatch"
"""The source of companion runs."""
SOURCE, PARENT = "mlflow.source.name", "mlflow.parentRunId"
IMAGES = "mlflow.loggedImages"
"""Without it MLflow's page looks for no images."""

NEWEST = 100
"""How many runs of the experiment are looked through for the trainer's."""

PER_CALL = 500
"""Metrics of a call, of which MLflow takes 1000."""

THUMBNAIL = 256
"""Pixels of the copy that MLflow's page shows first, as its own client makes it."""


class Place(NamedTuple):
    """Where a series stands, or is to stand.

    Attributes:
        experiment_id: "" before there is one.
        run: The run's id, "" for a companion that is still to be made.
        attached: Whether it is the trainer's.
        trainer: The trainer's run, "" if it cannot be told.
        left: A companion whose results go into the trainer's run, "" for none.
    """

    experiment_id: str = ""
    run: str = ""
    attached: bool = False
    trainer: str = ""
    left: str = ""


def outcome(job: Job) -> Outcome:
    """Return what came of a job, errors too."""
    deadline = time.monotonic() + job.seconds
    try:
        if job.task != "publish" and _absent(job.uri):  # MLflow would make it
            return Outcome("ok")
        with importing():
            import mlflow  # noqa: F401 - all else here needs it
        return perform(job, deadline)
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome
        return explain(error, job.uri, secrets(job.uri, os.environ))


def perform(job: Job, deadline: float) -> Outcome:
    """Do what is asked, as far as that can be done in time, then read back.

    Raises:
        Exception: Whatever mlflow raises; `explain` knows what it means.
    """
    import mlflow.store.db.utils as database
    from mlflow import MlflowClient

    database.MAX_RETRY_COUNT = 2  # ten take minutes, and we are called again
    client = MlflowClient(tracking_uri=job.uri)
    place = find(client, job)
    if job.task == "clear":
        _delete(client, job, place)
        place = Place(place.experiment_id)
    late = False
    if job.task == "publish":
        place = _ready(client, job, place)
        late = not _send(client, job, place, deadline)
    if late:
        return Outcome("unavailable", "MLflow takes its time: the other results follow")
    return Outcome(
        "ok",
        experiment_id=place.experiment_id,
        run=place.run if place.attached else "",
        shown=_shown(client, job, place.run) if place.run else (),
    )


def find(client: MlflowClient, job: Job) -> Place:
    """Return where the series stands: what bears its tag, else what is to bear it.

    A companion that began before the trainer's run could be seen is left for that one, as long as
    it holds a single step.
    """
    experiment = client.get_experiment_by_name(job.experiment)
    if experiment is None:
        return Place()
    id_ = experiment.experiment_id
    if experiment.lifecycle_stage == "deleted":
        fix = f"restore it, mlflow experiments restore --experiment-id {id_}, or name another"
        raise Refusal(f"the experiment {job.experiment!r} is deleted", fix)
    tagged = client.search_runs(
        [id_], f"tags.`{SERIES}` = '{job.id}'", order_by=["attributes.start_time ASC"]
    )
    attached = next((it.info.run_id for it in tagged if not _ours(it)), "")
    if attached:
        return Place(id_, attached, attached=True, trainer=attached)
    companion = next((it.info.run_id for it in tagged), "")
    begun = len(last(_history(client, companion, job.mean))) if companion else 0
    if job.task == "read" and (begun > 1 or not job.first):
        return Place(id_, companion)
    trainer = trainers(_asked(client, job, id_), _seen(client, id_), job)
    if trainer and job.first and begun <= 1 and trainer.free(job.mean):
        return Place(id_, trainer.id, attached=True, trainer=trainer.id, left=companion)
    return Place(id_, companion, trainer=trainer.id if trainer else "")


def _seen(client: MlflowClient, experiment_id: str) -> list[Seen]:
    found = client.search_runs(
        [experiment_id], max_results=NEWEST, order_by=["attributes.start_time DESC"]
    )
    return [_as_seen(it) for it in found if not _ours(it)]


def _asked(client: MlflowClient, job: Job, experiment_id: str) -> Seen | None:
    """Return the run that was named, by a person or our environment, which may mean another.

    Raises:
        Refusal: A person named it, and it is not there.
    """
    if not job.run_id:
        return None
    problem = f"there is no run {job.run_id} in the experiment {job.experiment!r}"
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(job.run_id)
    except MlflowException as error:
        if passing(error):
            raise
    else:
        if (run.info.experiment_id, run.info.lifecycle_stage) == (experiment_id, "active"):
            return None if _ours(run) else _as_seen(run)
    if job.asked:
        raise Refusal(problem, "correct run_id or experiment")
    return None


def _as_seen(run: Run) -> Seen:
    data = run.data
    return Seen(
        id=run.info.run_id,
        name=run.info.run_name or "",
        series=data.tags.get(SERIES, ""),
        output_dir=data.params.get("output_dir", ""),
        metrics=frozenset(data.metrics),
    )


def _ours(run: Run) -> bool:
    return bool(run.data.tags.get(SOURCE) == OURS)


def _ready(client: MlflowClient, job: Job, place: Place) -> Place:
    """Return a place whose run is there and bears its tags."""
    from mlflow.entities import RunTag

    experiment_id = place.experiment_id or client.create_experiment(job.experiment)
    parent = {PARENT: place.trainer} if place.trainer and not place.attached else {}
    tags = job.tags | {IMAGES: "True"} | parent
    if not place.run:
        made = client.create_run(
            experiment_id,
            start_time=job.began,
            tags=tags | {SOURCE: OURS, "mlflow.source.type": "LOCAL"},
            run_name=job.name,
        )
        return place._replace(experiment_id=experiment_id, run=made.info.run_id)
    client.log_batch(place.run, tags=[RunTag(key, it) for key, it in tags.items()])
    if place.left:
        client.delete_run(place.left)
    return place


def _send(client: MlflowClient, job: Job, place: Place, deadline: float) -> bool:
    """Bring the results that the run lacks, those alone that stand at their steps; tell if all."""
    points = _history(client, place.run, job.mean)
    newest, there = last(points), held(job.known, points)
    rows = {it.known.step: it for it in sorted(job.rows, key=lambda it: it.known.seq)}
    durations = [0.0]
    for row in rows.values():
        began = time.monotonic()
        if began + 2 * max(durations) > deadline:
            return False
        step = row.known.step
        top, point = there.get(step, (None, None))
        if top == row.known and point:
            _bring(client, place.run, row, point[1], {})
        elif top is None or top.seq < row.known.seq:
            _bring(client, place.run, row, time_of(row.known, newest.get(step)), row.values)
        durations.append(time.monotonic() - began)
    if not place.attached:
        client.set_terminated(place.run, "FINISHED", job.ended)
    return True


def _bring(client: MlflowClient, run: str, row: Row, at: int, values: Mapping[str, float]) -> None:
    """Bring one result: first its files, as far as they are taken, then all numbers at once.

    `values` are those that came with it, unless they are there.
    """
    from mlflow.entities import Metric

    with TemporaryDirectory() as scratch:
        try:
            _write(Path(scratch), row, at)
            client.log_artifacts(run, scratch)
        except Exception as error:  # noqa: BLE001 - files are secondary, whatever is wrong
            sys.stderr.write(f"step {row.known.step} goes without its files: {error}\n")
    told = {**values}
    for numbers in row.later.values():
        told |= numbers
    names = [*reversed(told)]  # the mean, which tells that it is there, comes last
    for first in range(0, len(names), PER_CALL):
        metrics = [
            Metric(name, told[name], at, row.known.step) for name in names[first : first + PER_CALL]
        ]
        client.log_batch(run, metrics=metrics)


def _write(folder: Path, row: Row, at: int) -> None:
    """Write what becomes artifacts; the images under the names by which MLflow's page finds them.

    Its own client gives each file another name whenever it is sent.
    """
    from clipwatch_adapters.shared import media

    for name, text in row.texts.items():
        path = folder / row.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    images = folder / "images"
    images.mkdir()
    for key, source, label in row.samples:
        with suppress(OSError):  # it may be gone
            image = media.shown(Path(source), label)
            name = f"clipwatch~{key}+step+{row.known.step}+timestamp+{at}+{row.known.mark}"
            (images / f"{name}.webp").write_bytes(media.encoded(image, "WEBP")[0])
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            (images / f"{name}+compressed.webp").write_bytes(media.encoded(image, "WEBP")[0])


def _shown(client: MlflowClient, job: Job, run: str) -> tuple[int, ...]:
    names = sorted({name for it in job.known for name in it.later})
    later = {name: {point[:2] for point in _history(client, run, name)} for name in names}
    return shown(job.known, _history(client, run, job.mean), later)


def _history(client: MlflowClient, run: str, name: str) -> list[Point]:
    return [(it.step, it.timestamp, it.value) for it in client.get_metric_history(run, name)]


def _delete(client: MlflowClient, job: Job, place: Place) -> None:
    """Delete what companions hold of the series."""
    if place.attached and not place.left and _history(client, place.run, job.mean):
        problem = f"the results stand in the trainer's run {place.run}, out of which it takes none"
        raise Refusal(problem, "another experiment gets all of them")
    for run in (place.run if not place.attached else "", place.left):
        if run:
            client.delete_run(run)


def _absent(uri: str) -> bool:
    """Tell whether a database, or a folder, is not there so far."""
    path = uri.removeprefix(SQLITE if uri.startswith(SQLITE) else "file://")
    return path != uri and not Path(unquote(path)).exists()
