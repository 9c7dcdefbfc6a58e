"""One session with W&B, in a process of its own: `python -m clipwatch_adapters.wandb.session`.

A job comes as JSON on standard input, one outcome goes as JSON to standard output. The parent may
kill it at any point: a row is known by its evaluation, and a session goes on where the server's run
ends.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from clipwatch.kit.decoding import decoder
from clipwatch.kit.processes import importing
from clipwatch_adapters.wandb.outcome import Outcome, explain

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import wandb

STEP = "clipwatch/step"
TEXTS = CHECKPOINT, EVALUATION = "clipwatch/checkpoint", "clipwatch/evaluation"
MEDIA = SAMPLES, PICTURES, SCORES, HISTOGRAM = (
    *("clipwatch/samples", "clipwatch/pictures"),
    *("clipwatch/scores", "clipwatch/histogram"),
)
BEST = "clip_best/"
BINS = 32
"""Of the histogram."""

GAVE_UP = "filestream: fatal error: "
"""In wandb-core's log: it sends no more rows. Neither log() nor finish() tells."""
NO_ALERT = "sender: sendAlert: failed to notify scriptable run alert: "
"""In wandb-core's log: an alert was not taken, and will not be sent again."""

CAPTION = 1000
"""Characters of a caption. W&B leaves out a row of more than 10 MB, and says so nowhere."""


class HistoryRow(msgspec.Struct, frozen=True):
    """One result: scalars, samples as (image file, caption), and the table of scores by prompt.

    `place` is W&B's own step. `pictures` are those of the samples again, as a table: in the first
    two of its columns are files, "" for none. `alerts` are (title, text); W&B takes titles of fewer
    than 64 characters.
    """

    place: int
    values: dict[str, float | int | str]
    samples: tuple[tuple[str, str], ...]
    prompt_scores: tuple[float, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[float | str | None, ...], ...]
    picture_columns: tuple[str, ...] = ()
    pictures: tuple[tuple[float | str | None, ...], ...] = ()
    alerts: tuple[tuple[str, str], ...] = ()


class Job(msgspec.Struct, frozen=True):
    """Bring those of `rows` (by `place`; none: only read) that lack to the run in `seconds`.

    `folder` is W&B's own: it gets the run's files. `entity` "" is the key's default, `key` "" the
    one that `wandb login` left. `trainer` is the id of the trainer's run, "" if it is not known.
    `metrics` are all scalars of the run: each session's definitions take the place of those before
    it. `summary` is what the run's shows once the rows are there, by results of these `steps`.
    """

    mode: Literal["online", "offline"]
    key: str
    entity: str
    project: str
    id: str
    name: str
    group: str
    config: dict[str, Any]
    folder: str
    seconds: float
    trainer: str = ""
    metrics: tuple[str, ...] = ()
    summary: dict[str, float | int | str] = {}
    steps: tuple[int, ...] = ()
    rows: tuple[HistoryRow, ...] = ()


class LogLine(msgspec.Struct):
    """A line of wandb-core's log."""

    msg: str


class UploadError(Exception):
    """Rows that were sent are not there, or not so far."""


def perform(job: Job) -> Outcome:
    """Send what the run lacks, then read it back.

    Raises:
        Exception: Whatever wandb raises; `judge` knows what it means.
    """
    deadline = time.monotonic() + job.seconds
    if job.mode == "offline":
        _wait_for_a_free_name(Path(job.folder), job.id)
        _send(job, job.rows, job.rows[0].place)
        return Outcome("ok")
    held, url, shown = _read(job)
    rows = lacking(job.rows, held, shown)
    if not rows:
        return Outcome("ok", shown=shown, url=url)
    sent, problem = _send(job, rows, held)
    while True:
        held, url, shown = _read(job)
        if held >= sent:
            return Outcome("ok", shown=shown, url=url)
        if problem:
            raise UploadError(problem)
        if time.monotonic() > deadline:
            return Outcome("unavailable", f"{url} does not show what it was sent so far")
        time.sleep(0.5)


def lacking(rows: Sequence[HistoryRow], held: int, shown: Collection[str]) -> list[HistoryRow]:
    """Return the rows whose evaluations are not shown, each at a place that is free.

    The run may have rows that this log does not know: of one that was lost, or is older than they.

    Args:
        rows: In order of their places.
        held: The first place behind all rows of the run, which takes none before it.
        shown: The evaluations of the run's rows.
    """
    found: list[HistoryRow] = []
    for row in rows:
        if row.values[EVALUATION] not in shown:
            found.append(replace(row, place=max(row.place, held)))
            held = found[-1].place + 1
    return found


def standing(
    ours: Mapping[str, float | int | str], shown: Mapping[str, Any], steps: Collection[int]
) -> dict[str, float | int | str]:
    """Return what of our summary is written over that which the run shows.

    A last or best result at a step of which our log knows nothing stands, if it is later or higher:
    another log brought it, of which ours may be an older copy.
    """
    last, best = shown.get("clip_last/step"), shown.get(f"{BEST}step")
    kept = {**ours}
    if last is not None and last not in steps and last > ours["clip_last/step"]:
        kept = {key: value for key, value in ours.items() if key.startswith(BEST)}
    if best is not None and best not in steps and shown[f"{BEST}mean"] > ours[f"{BEST}mean"]:
        kept = {key: value for key, value in kept.items() if not key.startswith(BEST)}
    return kept


def outdated(
    ours: Mapping[str, object], shown: Collection[str], metrics: Sequence[str]
) -> list[str]:
    """Return what a run shows of an earlier result, and the newest does not have."""
    newest = "clip_last/step" in ours
    return [key for key in metrics if newest and key in shown and key not in ours]


def _send(job: Job, rows: Sequence[HistoryRow], held: int) -> tuple[int, str]:
    """Log rows from place `held` on; return what `held` should be then, and what failed."""
    import wandb

    run = wandb.init(
        entity=job.entity or None,
        project=job.project,
        id=job.id,
        name=job.name,
        group=job.group,
        job_type="eval",
        config=job.config | {"trainer_run": _trainer(job)},
        dir=job.folder,
        resume="allow" if job.mode == "online" else None,
        mode=job.mode,
        settings=_settings(job),
    )
    shown = dict(run.summary)  # what a definition hides would lack later
    run.define_metric(STEP, hidden=True, summary="none")
    for key in (*job.metrics, *TEXTS):  # rows come in any order: the summary is ours
        run.define_metric(key, step_metric=STEP, step_sync=False, summary="none")
    for key in MEDIA:
        run.define_metric(key, step_metric=STEP, step_sync=False)
    ours = standing(job.summary, shown, job.steps)
    run.summary.update(ours)
    for key in outdated(ours, shown, job.metrics):
        del run.summary[key]  # type: ignore[no-untyped-call]
    start = max(held, run.starting_step)  # the two are told by different parts of the server
    with TemporaryDirectory() as scratch:
        for row in rows:
            if row.place >= start:
                for title, text in row.alerts:  # first: a row that is there is not sent again
                    run.alert(title, text, level="WARN")
                _log(run, row, Path(scratch))
    run.finish()
    log = Path(run.settings.log_internal)
    if problem := _problem(log, NO_ALERT):
        sys.stderr.write(f"W&B did not take an alert, its text is in the row: {problem}\n")
    return max(start, rows[-1].place + 1), _problem(log, GAVE_UP)


def _problem(log: Path, kind: str) -> str:
    """Return what wandb-core says of a kind of failure, "" without one: only its log tells."""
    with suppress(OSError, msgspec.DecodeError):
        for line in log.read_bytes().splitlines():
            if kind.encode() in line:
                said: LogLine = decoder(LogLine).decode(line)
                return said.msg.removeprefix(kind)
    return ""


def _settings(job: Job) -> wandb.Settings:
    """Nothing about the machine, nothing on the terminal, and bounds on every wait.

    The row of an alert waits for it: an alert that is not taken soon is given up for the row.
    """
    import wandb

    hurried = any(row.alerts for row in job.rows)
    return wandb.Settings(
        api_key=job.key or None,
        silent=True,
        console="off",
        disable_git=True,
        disable_job_creation=True,
        finish_timeout=0.3 * job.seconds,
        init_timeout=0.4 * job.seconds,
        save_code=False,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_file_stream_transmit_interval=1,
        x_graphql_retry_max=2 if hurried else None,
        x_graphql_retry_wait_max_seconds=2 if hurried else None,
        x_graphql_retry_wait_min_seconds=1 if hurried else None,
        x_graphql_timeout_seconds=0.15 * job.seconds if hurried else None,
        x_save_requirements=False,
    )


def _wait_for_a_free_name(folder: Path, run_id: str) -> None:
    """W&B names a run's folder by the second; two sessions of one second would share it."""
    while (folder / "wandb" / f"offline-run-{datetime.now():%Y%m%d_%H%M%S}-{run_id}").exists():  # noqa: DTZ005 - local time, as W&B does
        time.sleep(0.1)


def _log(run: wandb.Run, row: HistoryRow, scratch: Path) -> None:
    """Log one row; without its media where these cannot be had."""
    try:
        run.log({**row.values, **_media(row, scratch)}, step=row.place, commit=True)
    except Exception as error:  # noqa: BLE001 - media are secondary, whatever is wrong with them
        sys.stderr.write(f"row {row.place} goes without media: {error}\n")
        run.log(dict(row.values), step=row.place, commit=True)


def _media(row: HistoryRow, scratch: Path) -> dict[str, Any]:
    """Return tables, histogram, and the samples of the most frequent size (W&B wants one size)."""
    import wandb

    media: dict[str, Any] = {
        SCORES: wandb.Table(columns=[*row.columns], data=[[*line] for line in row.table]),
    }
    if row.prompt_scores:
        media[HISTOGRAM] = wandb.Histogram([*row.prompt_scores], num_bins=BINS)
    sources = [source for source, _ in row.samples]
    sources += [str(source) for line in row.pictures for source in line[:2] if source]
    copies = _copies(sources, scratch / str(row.place))
    if shown := [(copies[source], caption) for source, caption in row.samples if source in copies]:
        ((size, _),) = Counter(size for (size, _), _ in shown).most_common(1)
        media[SAMPLES] = [
            wandb.Image(copy, caption=caption[:CAPTION])
            for (its, copy), caption in shown
            if its == size
        ]
        media[PICTURES] = wandb.Table(
            columns=[*row.picture_columns],
            data=[
                [
                    *(wandb.Image(copies[str(it)][1]) if it in copies else None for it in line[:2]),
                    *line[2:],
                ]
                for line in row.pictures
            ],
        )
    return media


def _copies(sources: Sequence[str], folder: Path) -> dict[str, tuple[tuple[int, int], str]]:
    """Return source → size and file of a small copy in the folder; those that are gone lack."""
    from clipwatch_adapters.shared.media import jpeg

    folder.mkdir()
    found: dict[str, tuple[tuple[int, int], str]] = {}
    for number, source in enumerate(dict.fromkeys(sources)):
        with suppress(OSError):
            data, width, height = jpeg(Path(source))
            copy = folder / f"{number}.jpg"
            copy.write_bytes(data)
            found[source] = ((width, height), str(copy))
    return found


def _read(job: Job) -> tuple[int, str, tuple[str, ...]]:
    """Return what the run holds, see Outcome, and the first place behind all of its rows.

    Its address is told also before it exists.

    Raises:
        UploadError: The server does not show all of them so far.
    """
    import wandb

    run, entity = _found(job, job.id)
    if run is None:
        address = f"{quote(entity)}/{quote(job.project)}/runs/{job.id}"
        return 0, f"{wandb.setup().settings.app_url.rstrip('/')}/{address}", ()
    held = run.lastHistoryStep + 1

    def rows(*keys: str, first: int = 0) -> dict[int, dict[str, Any]]:
        scan = run.scan_history(
            [*keys, "_step"], page_size=max(held - first, 1), min_step=first, use_cache=False
        )
        return {row["_step"]: row for row in scan}

    found = rows(EVALUATION)
    if held and held - 1 not in found:
        if held - 1 not in rows(first=held - 1):  # told by different parts of the server
            raise UploadError(f"{run.url} does not show its newest row")
        found = rows(EVALUATION)  # it is another's, unless it came between the two
    return held, run.url, tuple(str(row[EVALUATION]) for row in found.values())


def _trainer(job: Job) -> str:
    """Return the address of the trainer's run where the server has it, else its id."""
    run, _ = _found(job, job.trainer) if job.trainer and job.mode == "online" else (None, "")
    return str(run.url) if run else job.trainer


def _found(job: Job, run_id: str) -> tuple[Any, str]:
    """Return a run of the project as the server tells it, None if there is none, and the entity."""
    import wandb

    api = wandb.Api(timeout=max(2, round(0.2 * job.seconds)), api_key=job.key or None)
    entity = job.entity or api.default_entity or ""
    try:
        return api.run(f"{entity}/{job.project}/{run_id}"), entity
    except (ValueError, wandb.errors.CommError) as error:
        if "Could not find run" not in str(error):
            raise
        return None, entity


def _server() -> str:
    try:
        import wandb

        return str(wandb.setup().settings.base_url)
    except Exception:  # noqa: BLE001 - only wanted for a text
        return "its server"


def outcome(job: Job) -> Outcome:
    """Return what came of a job, errors too."""
    try:
        with importing():
            import wandb  # noqa: F401 - all else here needs it
        return perform(job)
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome
        return explain(error, _server(), job.key)
