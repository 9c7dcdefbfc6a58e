"""One session with Trackio's store in its process: `python -m clipwatch_adapters.trackio`.

A job comes as JSON on standard input, one outcome goes as JSON to standard output. The parent may
kill it at any point: rows come in one transaction, each known by its evaluation.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import numpy as np

from clipwatch.kit.errors import TrackerRefused, TrackerUnavailable
from clipwatch.kit.processes import importing
from clipwatch_adapters.shared.disk import plain_errors
from clipwatch_adapters.shared.media import jpeg
from clipwatch_adapters.shared.sessions import Outcome, one_line, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKED_SECONDS = 5.0
"""How long another program may keep the store locked; Trackio itself would wait for a minute."""

TRAINERS = ("trainer_run", "_Group")
"""What the run's config tells of the trainer's run."""

EVALUATION = "clipwatch/evaluation"
BINS = 32
"""Of the histogram."""
CAPTION = 1000
"""Characters of a caption."""
FULL = 1 << 20
"""Bytes below which a disk is full: SQLite needs some for each process."""
LENGTH = 300
"""Characters that are kept of Trackio's texts."""

UPGRADE = "pip install 'trackio>=0.43'"

USED = {
    "bulk_log": {"metrics_list", "steps", "timestamps", "config", "log_ids", "run_id"},
    "bulk_alert": {"titles", "texts", "levels", "steps", "timestamps", "alert_ids", "run_id"},
    "get_logs": {"project", "run_id"},
    "get_run_config": {"project", "run_id"},
    "delete_run": {"project", "run", "run_id"},
    "get_run_records": {"project"},
    "get_project_db_path": {"project"},
    "init_db": {"project"},
}
"""What is used of Trackio's storage, which it does not promise to others: method → arguments."""


class Row(msgspec.Struct, frozen=True):
    """A row of the run: scalars, and what is shown beside them.

    `at` is when it was scored (ISO 8601). `samples` are (key, image file, caption), `alerts` are
    (title, text).
    """

    id: str
    step: int
    at: str
    values: dict[str, float | int | str]
    table: tuple[dict[str, float | str | None], ...]
    prompt_scores: tuple[float, ...] = ()
    samples: tuple[tuple[str, str, str], ...] = ()
    alerts: tuple[tuple[str, str], ...] = ()


class Job(msgspec.Struct, frozen=True):
    """Read a run of the project; before, remove it (`clear`), or bring rows in `seconds`.

    `run` is its id, `name` what it is called when it begins. `stale` are ids of rows that go.
    `trainer` is what the trainer's own run is called, if it has that name.
    """

    project: str
    run: str
    name: str
    trainer: str
    config: dict[str, Any]
    seconds: float
    rows: tuple[Row, ...] = ()
    stale: tuple[str, ...] = ()
    clear: bool = False


def perform(job: Job) -> Outcome:
    """Do the job, then read the run back.

    Raises:
        TrackerRefused, TrackerUnavailable: What somebody must mend, and what may pass.
        sqlite3.Error: `explain` knows what it means.
    """
    with plain_errors("Trackio", _folder()):
        return _performed(job)


def _folder() -> Path:
    return Path(os.environ["TRACKIO_DIR"])


def _performed(job: Job) -> Outcome:
    store = _storage()
    file: Path = store.get_project_db_path(job.project)
    if job.rows or job.clear:
        _check(store, job.project)
    if file.exists():
        _open(file, job)
    if job.clear:
        store.delete_run(job.project, job.name, run_id=job.run)
    if job.rows:
        _write(store, job)
    logs = store.get_logs(job.project, run_id=job.run) if file.exists() else []
    if job.clear and logs:
        raise TrackerUnavailable(f"Trackio could not remove the run {job.name} from {file}")
    return Outcome("ok", shown=tuple(it[EVALUATION] for it in logs if EVALUATION in it))


def _storage() -> Any:
    """Return Trackio's storage.

    Raises:
        TrackerRefused: It is not there, or another version's.
    """
    try:
        with importing():
            import trackio
            from trackio.sqlite_storage import SQLiteStorage
    except ImportError as error:
        what = f"Trackio's package cannot be loaded ({error})"
        raise TrackerRefused(what, fix="pip install 'clipwatch[trackio]'") from error
    for name, arguments in USED.items():
        found = getattr(SQLiteStorage, name, None)
        if found is None or not arguments <= inspect.signature(found).parameters.keys():
            what = f"Trackio {trackio.__version__} has no {name} as clipwatch needs it"
            raise TrackerRefused(what, fix=UPGRADE)
    return SQLiteStorage


def _check(store: Any, project: str) -> None:
    """Refuse what Trackio does not write into its database.

    Raises:
        TrackerRefused: The name is reserved, or the store is on a network file system.
    """
    from trackio.utils import TRACKIO_DIR, get_storage_mode

    try:
        store.validate_project_name(project)
    except ValueError as error:
        what = f"Trackio has no project {project!r} ({error})"[:LENGTH]
        raise TrackerRefused(what, fix="set another tracker_project_name") from error
    if get_storage_mode() != "sqlite":
        raise TrackerRefused(
            f"{TRACKIO_DIR} is on a network file system, where Trackio writes no database",
            fix='name a local store for clipwatch: "clipwatch": {"trackio": {"dir": "..."}}',
        )


def _open(file: Path, job: Job) -> None:
    """See that the database can be used, sooner than Trackio would say so.

    Raises:
        TrackerRefused: A much older Trackio began it: ours would give it a form in which that
            cannot log any more.
        sqlite3.Error: It is locked, damaged, or may not be written.
    """
    with closing(
        sqlite3.connect(f"file:{quote(str(file))}?mode=rw", timeout=LOCKED_SECONDS, uri=True)
    ) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(metrics)")}
        if columns and "run_id" not in columns:
            what = f"{file} is of an older Trackio, whose training could not go on with ours"
            raise TrackerRefused(what, fix="upgrade the training's: pip install -U trackio")
        if job.rows or job.clear:
            connection.execute("BEGIN IMMEDIATE")


def _forget(file: Path, job: Job) -> None:
    """Remove the stale rows, each one of ours, which Trackio has no call for.

    Before others take their places: of a kill amid the two, what lacks is seen.
    """
    if job.stale:
        with closing(sqlite3.connect(file, timeout=LOCKED_SECONDS)) as connection, connection:
            connection.executemany(
                "DELETE FROM metrics WHERE run_id = ? AND log_id = ?",
                [(job.run, _log_id(job, it)) for it in job.stale],
            )


def _write(store: Any, job: Job) -> None:
    """Bring images, then alerts, then all rows at once: a row that is there is not sent again."""
    records = store.get_run_records(job.project)
    name = next((it["name"] for it in records if it["id"] == job.run), job.name)
    alerts = [
        (f"{job.run}/{row.id}/{number}", row, *alert)
        for row in job.rows
        for number, alert in enumerate(row.alerts)
    ]
    metrics = [_metrics(row, job.project, name) for row in job.rows]
    store.bulk_alert(
        project=job.project,
        run=name,
        run_id=job.run,
        alert_ids=[known for known, *_ in alerts],
        titles=[title for *_, title, _ in alerts],
        texts=[text for *_, text in alerts],
        levels=["warn"] * len(alerts),
        steps=[row.step for _, row, *_ in alerts],
        timestamps=[row.at for _, row, *_ in alerts],
    )
    _forget(store.init_db(job.project), job)
    store.bulk_log(
        project=job.project,
        run=name,
        run_id=job.run,
        metrics_list=metrics,
        steps=[row.step for row in job.rows],
        timestamps=[row.at for row in job.rows],
        log_ids=[_log_id(job, row.id) for row in job.rows],
        config=_config(store, job, records),
    )


def _log_id(job: Job, row: str) -> str:
    return f"{job.run}/{row}"


def _config(store: Any, job: Job, records: list[dict[str, str]]) -> dict[str, Any]:
    """Return the run's config, with the trainer's run and its group where it is known which it is.

    What was found once stays: a restarted trainer has another run, and the project may get others.
    """
    kept = store.get_run_config(job.project, run_id=job.run) or {}
    known = {key: kept[key] for key in TRAINERS if kept.get(key)}
    if "trainer_run" not in known:
        others = [it for it in records if not it["id"].startswith("cw-")]
        named = [it for it in others if it["name"] == job.trainer] or others
        if len(named) == 1:
            found = store.get_run_config(job.project, run_id=named[0]["id"]) or {}
            known = {"trainer_run": named[0]["name"], "_Group": found.get("_Group")}
    return {
        "_Created": kept.get("_Created") or min(row.at for row in job.rows),
        **job.config,
        **known,
    }


def _metrics(row: Row, project: str, run: str) -> dict[str, Any]:
    """Return a row as Trackio's own log() would store it."""
    shown: dict[str, Any] = dict(_images(row, project, run))
    if row.prompt_scores:
        counts, edges = np.histogram(row.prompt_scores, bins=BINS)
        histogram = {"_type": "trackio.histogram", "bins": [*edges], "values": [*counts]}
        shown["clipwatch/histogram"] = histogram
    shown["clipwatch/scores"] = {"_type": "trackio.table", "_value": [*row.table]}
    return {**row.values, EVALUATION: row.id, **shown}


def _images(row: Row, project: str, run: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield key → image as the dashboard shows it; its file's name comes from what it holds."""
    from trackio.media import get_project_media_path
    from trackio.utils import MEDIA_DIR

    for key, source, told in row.samples:
        try:
            data, *_ = jpeg(Path(source))
        except OSError:  # it is gone
            continue
        folder = get_project_media_path(project, run, row.step)
        file = folder / f"{hashlib.sha256(data).hexdigest()[:20]}.jpg"
        part = file.with_suffix(".part")
        part.write_bytes(data)
        part.replace(file)
        path = str(file.relative_to(MEDIA_DIR))
        yield key, {"_type": "trackio.image", "file_path": path, "caption": told[:CAPTION]}


_MENDABLE = {
    sqlite3.SQLITE_READONLY: "let clipwatch write there",
    sqlite3.SQLITE_CANTOPEN: "let clipwatch write there",
    sqlite3.SQLITE_PERM: "let clipwatch write there",
    sqlite3.SQLITE_CORRUPT: "restore it from a backup, or move it away",
    sqlite3.SQLITE_NOTADB: "move it away",
}


def explain(error: Exception, job: Job) -> Outcome:  # noqa: ARG001 - nothing in it is a secret
    """Say what an error means for the next attempt, in one line."""
    match error:
        case TrackerRefused():
            return Outcome("refused", error.problem, error.fix)
        case TrackerUnavailable():
            return Outcome("unavailable", str(error))
        case sqlite3.Error():
            return _of_database(error, _folder())
    text = one_line(error)
    return Outcome("unavailable", f"the Trackio session failed ({type(error).__name__}: {text})")


def _of_database(error: sqlite3.Error, file: Path) -> Outcome:
    what = f"Trackio: {file}: {error}"
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if fix := _MENDABLE.get(code):
        return Outcome("refused", what, fix)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        what += ", another program keeps it"
    if code == sqlite3.SQLITE_IOERR and disk_usage(file).free < FULL:  # of its files beside it
        what += ", the disk is full"
    return Outcome("unavailable", f"{what}; it will be tried again")


def main() -> None:
    """Perform the job on standard input; whatever Trackio prints goes to standard error."""
    serve(Job, perform, explain)
