"""Tables of `clipwatch export`, read back as the events that they tell of."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from clipwatch.domain.events import (
    CheckpointDiscarded,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ImageScore,
    ImagesScored,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.importing import ELSEWHERE
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import name_evaluation
from clipwatch.journal import Recorded
from clipwatch.kit.errors import ClipwatchError
from clipwatch.kit.spreadsheets import uncelled
from clipwatch.results.rows import DECIDES, ImageRow
from clipwatch.results.tables import score_tables
from clipwatch.statistics.intervals import by_category, describe
from clipwatch.tasks.export import COLUMNS, pyarrow

HEAD: Final = 4096
"""Bytes by which a table is known."""

_LATER: Final = {it.name for it in fields(ImageRow) if it.name == "finished"}
"""Columns that tables of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a table tells: events by stream, and what of it cannot be taken over, a line each."""

    streams: Mapping[str, Sequence[Recorded]]
    left_out: tuple[str, ...]


def read(path: Path, begins: bytes, protocols: Mapping[str, EvaluationProtocol]) -> Table | None:
    """Read a table; None if the file is none.

    Args:
        path: The file.
        begins: Its first `HEAD` bytes.
        protocols: By digest. Results under another one cannot be taken over: a table tells no more
            of it.

    Raises:
        ClipwatchError: A row is none of `clipwatch export`; the text says which.
        SettingsError: A package lacks that reads it.
    """
    rows = _rows(path, begins)
    if rows is None:
        return None
    found: dict[tuple[str, str], list[ImageRow]] = {}
    try:
        for row in rows:
            found.setdefault((row.run, row.evaluation), []).append(row)
    except OSError as error:
        raise ClipwatchError(f"{path} cannot be read: {error.strerror}") from error
    made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return _table(path, found.values(), protocols, made)


def _rows(path: Path, begins: bytes) -> Iterator[ImageRow] | None:
    if begins.startswith(b"PAR1"):
        return _of_parquet(path)
    head = begins.decode("utf-8-sig", "replace").partition("\n")[0].strip()
    if set(COLUMNS) - _LATER <= set(head.split(",")):
        return _of_csv(path)
    if head.startswith("{") and '"prompt_id"' in head and '"evaluation"' in head:
        return _of_jsonl(path)
    return None


def _of_jsonl(path: Path) -> Iterator[ImageRow]:
    decode = msgspec.json.Decoder(ImageRow).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                raise _no_row(path, f"line {number}", error) from error


def _of_csv(path: Path) -> Iterator[ImageRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for cells in reader:
                told = {name: text or "" for name, text in cells.items() if name}
                given = told | {name: None for name in _NULLS if not told[name]}
                for name in _NAMES:
                    given[name] = uncelled(told[name])
                yield msgspec.convert(given, ImageRow, strict=False)
        except (csv.Error, msgspec.MsgspecError, UnicodeError) as error:
            raise _no_row(path, f"line {reader.line_num}", error) from error


def _of_parquet(path: Path) -> Iterator[ImageRow]:
    lib, parquet = pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for told in batch.to_pylist():
                    yield msgspec.convert(told, ImageRow)
    except (lib.ArrowException, msgspec.MsgspecError) as error:
        raise _no_row(path, "a row", error) from error


_NULLS: Final = ("strength", "image")
_NAMES: Final = ("run", "checkpoint", "evaluation", "scorer")  # a prompt's may begin so itself


def _no_row(path: Path, where: str, error: Exception) -> ClipwatchError:
    problem = f"{path}: {where} is none of clipwatch export: {str(error).splitlines()[0]}"
    return ClipwatchError(problem, fix="import the log itself")


def _table(
    path: Path,
    evaluations: Iterable[Sequence[ImageRow]],
    protocols: Mapping[str, EvaluationProtocol],
    made: datetime,
) -> Table:
    streams: dict[str, list[Recorded]] = {}
    defined: set[tuple[str, str]] = set()
    unknown: dict[str, int] = {}
    later: set[str] = set()
    left_out: list[str] = []

    def add(run: str, stream: str, time: datetime, *events: Event) -> None:
        own = streams.setdefault(stream, [])
        own += [Recorded(0, time, run, stream, len(own) + n, it) for n, it in enumerate(events, 1)]

    for rows in evaluations:
        row = rows[0]
        protocol = protocols.get(row.protocol)
        if protocol is None:
            unknown[row.protocol] = unknown.get(row.protocol, 0) + 1
            continue
        later |= {it.scorer for it in rows} - {it.name or DECIDES for it in protocol.scorers}
        told = _evaluation(path, rows, protocol)
        if isinstance(told, str):
            left_out.append(told)
            continue
        run = f"run/{row.run}"
        time = datetime.fromisoformat(row.finished) if row.finished else made
        if run not in streams:
            add(row.run, run, time, RunStarted("", "", (), {}, ""))
        if (row.run, row.protocol) not in defined:
            add(row.run, run, time, ProtocolDefined(row.protocol, protocol))
            defined.add((row.run, row.protocol))
        place = (row.step, row.checkpoint, f"/{row.checkpoint}")
        add(row.run, run, time, CheckpointDiscarded(*place, "vanished", ELSEWHERE, row.unit))
        add(row.run, evaluation_stream(row.run, row.evaluation), time, *told)
    left_out += [
        f"{count} results under protocol {digest}: this log does not know it, and a table does not"
        " tell what it is: import the log itself"
        for digest, count in unknown.items()
    ]
    left_out += [
        f"the scores by {name!r}: it scored later, and a table does not tell what it is: import the"
        " log itself"
        for name in sorted(later)
    ]
    if any(
        it.questions for digest in {it for _, it in defined} for it in protocols[digest].prompts
    ):
        left_out.append(
            "the answers to the prompts' questions: a table has none: import the log itself"
        )
    return Table(streams, tuple(left_out))


def _evaluation(
    path: Path, rows: Sequence[ImageRow], protocol: EvaluationProtocol
) -> list[Event] | str:
    """Return the events of an evaluation, or why there are none.

    Raises:
        ClipwatchError: Its rows contradict each other, or the protocol.
    """
    row, digest = rows[0], rows[0].evaluation.rpartition("/")[0].rpartition("/")[2]
    seeds = {(prompt.id, index): seed for prompt, index, seed in protocol.images()}
    names = {it.name for it in protocol.scorers}
    same = (row.protocol, row.step, row.checkpoint)
    found: dict[tuple[str, int], dict[str, float]] = {}
    for it in rows:
        key, scorer = (it.prompt_id, it.index), "" if it.scorer == DECIDES else it.scorer
        key = key if key in seeds else (uncelled(it.prompt_id), it.index)
        sound = (it.protocol, it.step, it.checkpoint) == same and math.isfinite(it.score)
        if not sound or seeds.get(key) != it.seed:
            problem = f"{path}: {row.evaluation}: {it.prompt_id} {it.index} is none of its images"
            raise ClipwatchError(problem, fix="import the log itself")
        if scorer in names:
            found.setdefault(key, {})[scorer] = it.score
    if row.evaluation != name_evaluation(row.checkpoint, digest, row.protocol) or not digest:
        raise ClipwatchError(f"{path}: {row.evaluation} is no evaluation of {row.checkpoint}")
    whole = sum(scores.keys() == names for scores in found.values())
    if whole != len(seeds):
        return f"{row.evaluation}: {whole} of {len(seeds)} images are in the table: import the log"
    images = tuple(
        ImageScore(prompt, index, seed, found[prompt, index])
        for (prompt, index), seed in seeds.items()
    )
    tables = score_tables(images)
    categories = {prompt.id: prompt.category for prompt in protocol.prompts if prompt.category}
    scores = {name: describe(table) for name, table in tables.items()}
    completed = EvaluationCompleted(
        row.evaluation, scores, categories=by_category(tables[""], categories)
    )
    place = (row.evaluation, row.checkpoint, row.step)
    started = EvaluationStarted(*place, digest, row.protocol, {})
    return [started, ImagesScored(row.evaluation, images), completed]
