"""A run's results as a file, in JSON Lines and in CSV, for those who plot themselves.

A line is a step of a series, and the file holds all series of the run, each in the order of its
steps. What comes last is added at the end; else the file is read, and written anew as a whole
beside its place, a line at a time: the daemon does it, and its memory is not to grow with the run.
So a kill leaves whole lines, but for the last one, and a late result stands where it belongs.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgspec

from clipwatch.delivery.trackers import Target
from clipwatch.kit.filesystems import make_private
from clipwatch.kit.spreadsheets import cell
from clipwatch.results.series import Result, Series
from clipwatch_adapters.shared.disk import plain_errors, private, write_private
from clipwatch_adapters.shared.numbers import Names, scalars

Row = dict[str, Any]

HEAD: Final = (
    *("run", "series", "protocol", "strength"),
    *("step", "unit", "checkpoint", "evaluation", "finished"),
)
"""What stands before the numbers of a result."""

LONGEST = 1 << 20
"""Bytes of a line, more than any has."""


@dataclass(frozen=True, slots=True)
class _End:
    """How a file that we wrote ends: what is needed to add to it without reading it."""

    file: tuple[int, int, int]
    series: str
    step: int
    names: Names
    numbers: frozenset[str]


class Table:
    """A Tracker whose place is one file, in the form that `name`, `read` and `write` make."""

    name = ""

    def __init__(self, target: Target) -> None:
        self._file = target.state_dir / f"results.{self.name}"
        self._end: _End | None = None

    def told(self, text: str) -> object:
        """Return a text as it stands in the file."""
        return text

    def read(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """Yield the rows of a file, up to the first that is damaged."""
        raise NotImplementedError

    def numbers(self, rows: Iterable[Row]) -> frozenset[str]:
        """Return the names of the numbers of all rows, as far as a file has to know them."""
        raise NotImplementedError

    def write(self, rows: Iterable[Row], numbers: AbstractSet[str]) -> Iterator[bytes]:
        """Yield the lines of a file whose rows have these numbers."""
        raise NotImplementedError

    def line(self, row: Row, numbers: frozenset[str]) -> bytes | None:
        """Return a further line of a file that has these numbers, None where it does not fit."""
        raise NotImplementedError

    def destination(self) -> str:
        """Return the file."""
        return str(self._file)

    def published(self, series: Series) -> frozenset[int]:
        """Read the file; a result counts when its step shows it or a later one.

        One that lacks what a later scorer said does not.
        """
        with plain_errors(self.name, self._file.parent):
            shown = self._standing(series, self._rows())
        return frozenset(
            it.seq for it in series.results if it.step in shown and shown[it.step].seq >= it.seq
        )

    def publish(self, series: Series, missing: Sequence[int]) -> None:
        """Write the series anew with the missing results; other series stay as they are."""
        with plain_errors(self.name, self._file.parent):
            shown = self._standing(series, self._rows())
            for result in (series.results[seq] for seq in missing):
                if result.step not in shown or shown[result.step].seq < result.seq:
                    shown[result.step] = result
            names = Names.of(series)
            numbers, last = self._replace(series, names, [shown[it] for it in sorted(shown)])
            if last == series.name:
                self._end = _End(self._now(), last, max(shown), names, numbers)

    def extend(self, series: Series) -> bool:
        """Add the one result of a series, if it comes last and nobody wrote there since."""
        with plain_errors(self.name, self._file.parent):
            end, (result,) = self._end, series.results
            if end is None or end.series != series.name or end.step >= result.step:
                return False
            named = (end.names.categories.keys(), end.names.scorers.keys())
            known = result.categories.keys() <= named[0] and result.scores.keys() <= named[1]
            line = self.line(_row(series, end.names, result), end.numbers) if known else None
            if line is None or self._now() != end.file:
                return False
            self._end = None  # unless it comes to its end
            with open(self._file, "ab", opener=private) as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._end = replace(end, file=self._now(), step=result.step)
            return True

    def clear(self, series: Series) -> None:
        """Write the file without the series."""
        with plain_errors(self.name, self._file.parent):
            self._replace(series, Names.of(series), ())

    def where(self, series: Series) -> str:
        """Return the file, and which of its series."""
        return f"{self._file}#{series.name}"

    def hint(self, series: Series) -> str:  # noqa: ARG002 - as a Tracker
        """Anything shows a table."""
        return ""

    def _replace(
        self, series: Series, names: Names, results: Sequence[Result]
    ) -> tuple[frozenset[str], str]:
        """Write the file with these results of a series, where it stood or at the end.

        Return the names of its numbers, and the series of its last line.
        """
        self._end = None
        make_private(self._file.parent)
        numbers, last = self.numbers(self._with(series, names, results)), ""

        def rows() -> Iterator[Row]:
            nonlocal last
            for row in self._with(series, names, results):
                last = row["series"]
                yield row

        write_private(self._file, self.write(rows(), numbers), lasting=True)
        return numbers, last

    def _with(self, series: Series, names: Names, results: Sequence[Result]) -> Iterator[Row]:
        """Yield the rows of the file with these results of a series in the place of its own."""
        own = (_row(series, names, it) for it in results)
        for row in self._rows():
            if row["series"] == series.name:
                yield from own  # once
            else:
                yield row
        yield from own

    def _now(self) -> tuple[int, int, int]:
        with suppress(FileNotFoundError):
            found = self._file.lstat()
            return found.st_size, found.st_mtime_ns, found.st_ino
        return 0, 0, 0

    def _rows(self) -> Iterator[Row]:
        with suppress(FileNotFoundError), open(self._file, "rb", opener=private) as file:
            yield from self.read(iter(partial(file.readline, LONGEST), b""))

    def _standing(self, series: Series, held: Iterable[Row]) -> dict[int, Result]:
        """Return step → the result that the file shows there; what the log has not is passed over.

        The file stands beside the log, and follows it.
        """
        known = {self.told(it.evaluation): it for it in series.results}
        names = Names.of(series)
        found = (
            it
            for row in held
            if row["series"] == series.name and (it := known.get(row["evaluation"]))
            if all(f"{names.group(scorer)}/mean" in row for scorer in it.later)
        )
        return {it.step: it for it in sorted(found, key=lambda it: it.seq)}


class JsonlTable(Table):
    """`results.jsonl`: an object a line; what is not known of a result is left out."""

    name = "jsonl"

    def read(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """See Table."""
        with suppress(msgspec.DecodeError):
            for line in lines:
                yield _checked(msgspec.json.decode(line, type=Row))

    def numbers(self, rows: Iterable[Row]) -> frozenset[str]:  # noqa: ARG002 - any fit
        """See Table."""
        return frozenset()

    def write(self, rows: Iterable[Row], numbers: AbstractSet[str]) -> Iterator[bytes]:  # noqa: ARG002
        """See Table."""
        return (msgspec.json.encode(row) + b"\n" for row in rows)

    def line(self, row: Row, numbers: frozenset[str]) -> bytes | None:
        """See Table."""
        return next(self.write([row], numbers))


class CsvTable(Table):
    """`results.csv`: the numbers of all results in the order of their names, empty where unknown.

    A text that a spreadsheet would compute has a "'" before it.
    """

    name = "csv"

    def told(self, text: str) -> object:
        """See Table."""
        return cell(text)

    def read(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """See Table."""
        # of a line that was torn, a number may be cut
        whole = (line.decode(errors="replace") for line in lines if line.endswith(b"\n"))
        with suppress(csv.Error, msgspec.DecodeError):
            for row in csv.DictReader(whole):
                yield _checked({name: it for name, it in row.items() if it})

    def numbers(self, rows: Iterable[Row]) -> frozenset[str]:
        """See Table."""
        return frozenset(name for row in rows for name in row).difference(HEAD)

    def write(self, rows: Iterable[Row], numbers: AbstractSet[str]) -> Iterator[bytes]:
        """See Table."""
        names = (*HEAD, *sorted(numbers))
        yield _cells({name: name for name in names}, names)
        for row in rows:
            yield _cells(row, names)

    def line(self, row: Row, numbers: frozenset[str]) -> bytes | None:
        """See Table."""
        fits = row.keys() <= numbers.union(HEAD)
        return _cells(row, (*HEAD, *sorted(numbers))) if fits else None


def _cells(row: Row, names: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cell(row.get(name)) for name in names)
    return text.getvalue().encode()


def _checked(row: Row) -> Row:
    """Return a row as others may use it.

    Raises:
        msgspec.DecodeError: It is none of ours.
    """
    if not all(isinstance(row.get(key), str) for key in ("series", "evaluation")):
        raise msgspec.DecodeError
    return row


def _row(series: Series, names: Names, result: Result) -> Row:
    return {
        "run": series.run,
        "series": series.name,
        "protocol": series.digest,
        "strength": series.protocol.adapter_strength if series.label else None,
        "step": result.step,
        "unit": series.unit,
        "checkpoint": result.checkpoint,
        "evaluation": result.evaluation,
        "finished": result.finished.isoformat(timespec="seconds"),
        **scalars(names, result),
    }
