"""What each event file begins with: the format's version, and how the custom scalars are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
    MultilineChartContent,
)

from clipwatch.trackers import Series
from clipwatch_adapters._events import frame
from clipwatch_adapters._records import strings
from clipwatch_adapters._scalars import Names, scalars


def head(series: Series, names: Names) -> bytes:
    """Return the records that a file of the series begins with.

    Dated by the run's first result, so that a repetition gives the same bytes. A session that
    starts a second time makes TensorBoard's Python reader drop what it read from that step on, of
    the generation before (plugin_event_accumulator._CheckForRestartAndMaybePurge); the other one
    passes it over.
    """
    began = series.results[0].finished.timestamp()
    value = Summary.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=strings(layout(series, names).SerializeToString()),
    )
    version = Event(wall_time=began, file_version="brain.Event:2")
    first = min(result.step for result in series.results)
    session = SessionLog(status=SessionLog.START)
    start = Event(wall_time=began, step=first, session_log=session)
    charts = Event(wall_time=began, summary=Summary(value=[value]))
    return b"".join(frame(it.SerializeToString()) for it in (version, start, start, charts))


def layout(series: Series, names: Names) -> Layout:
    """Return the charts: the scores with their intervals, and a group for each further scorer.

    Charts of what no result has so far are there from the start: a layout that changes makes a new
    file, which not every reader follows.
    """
    last = {result.step: result for result in series.results}
    shown = [scalars(names, result) for result in last.values()]
    groups = {"clip": [*_charts(names)]}
    groups |= {word: [_interval(word), _extremes(word)] for word in names.scorers.values()}
    return Layout(
        category=[
            Category(title=title, chart=[chart for chart in charts if _drawable(chart, shown)])
            for title, charts in groups.items()
        ]
    )


def _drawable(chart: Chart, shown: Sequence[Mapping[str, float]]) -> bool:
    """TensorBoard draws no band, but an error, where a point has a value and lacks its ends."""
    bands = [{each.value, each.lower, each.upper} for each in chart.margin.series]
    return all(not band & tags.keys() or band <= tags.keys() for band in bands for tags in shown)


def _charts(names: Names) -> Iterator[Chart]:
    yield _interval("clip")
    yield _extremes("clip")
    for title, tag in (
        ("difference to the base model, with 95 % interval", "clip/delta_base"),
        (
            "difference to the best earlier step, interval corrected for picking it",
            "clip/delta_best",
        ),
    ):
        yield _band(title, tag, f"{tag}_low", f"{tag}_high")
    if names.categories:
        yield _lines("categories", "clip/category/")
    yield _lines("std", "clip/std")


def _interval(group: str) -> Chart:
    return _band("mean, with 95 % interval", f"{group}/mean", f"{group}/ci_low", f"{group}/ci_high")


def _extremes(group: str) -> Chart:
    return _band("mean, min to max", f"{group}/mean", f"{group}/min", f"{group}/max")


def _band(title: str, value: str, lower: str, upper: str) -> Chart:
    series = MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return Chart(title=title, margin=MarginChartContent(series=[series]))


def _lines(title: str, beginning: str) -> Chart:
    """Draw all tags that begin so: TensorBoard takes it as a pattern for a tag's beginning."""
    return Chart(title=title, multiline=MultilineChartContent(tag=[beginning]))
