"""What each event file begins with: the format, how custom scalars are drawn, the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.struct_pb2 import Value  # type: ignore[import-untyped]  # it has none
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MarginChartContent,
    MultilineChartContent,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from clipwatch.results.series import Series
from clipwatch_adapters.shared.numbers import Names, scalars
from clipwatch_adapters.shared.protocol import hparams
from clipwatch_adapters.tensorboard.event_files import frame
from clipwatch_adapters.tensorboard.records import strings


def head(series: Series, names: Names) -> bytes:
    """Return the records that a file of the series begins with.

    Dated by the run's first result, so that a repetition gives the same bytes. A session that
    starts a second time makes TensorBoard's Python reader drop what it read from that step on, of
    the generation before (plugin_event_accumulator._CheckForRestartAndMaybePurge); the other one
    passes it over.
    """
    began = series.results[0].finished.timestamp()
    drawn = Summary.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=strings(layout(series, names).SerializeToString()),
    )
    version = Event(wall_time=began, file_version="brain.Event:2")
    first = min(result.step for result in series.results)
    session = SessionLog(status=SessionLog.START)
    start = Event(wall_time=began, step=first, session_log=session)
    shown = Event(wall_time=began, summary=Summary(value=[drawn, _hparams(series, names, began)]))
    return b"".join(frame(it.SerializeToString()) for it in (version, start, start, shown))


def _hparams(series: Series, names: Names, began: float) -> Summary.Value:
    """Return the protocol as a session of the HParams page.

    What columns there are is left to TensorBoard, which makes them of all sessions: it takes the
    first list of columns that any run has, so one of ours would hide a trainer's. It shows the
    first five that differ, or else the first ones by name.
    """
    start = SessionStartInfo(start_time_secs=began)
    for name, value in hparams(series, names).items():
        number = isinstance(value, int | float)
        start.hparams[name].CopyFrom(
            Value(number_value=value) if number else Value(string_value=value)
        )
    content = HParamsPluginData(session_start_info=start)
    plugin = SummaryMetadata.PluginData(
        plugin_name="hparams",
        content=content.SerializeToString(deterministic=True),  # the order of a map's keys
    )
    nothing = TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)])
    return Summary.Value(
        tag="_hparams_/session_start_info",
        metadata=SummaryMetadata(plugin_data=plugin),
        tensor=TensorProto(dtype=DT_FLOAT, tensor_shape=nothing),
    )


def layout(series: Series, names: Names) -> Layout:
    """Return the charts: the mean in its interval first, and a group for each further scorer.

    TensorBoard shows a group's bands in the opposite order, behind its lines: it puts the nth card
    before the nth element, and each card is two (index.js, _insertItem). So a group here is bands
    alone or lines alone, and bands stand last first.

    Charts of what no result has so far are there from the start: a layout that changes makes a new
    file, which not every reader follows.
    """
    last = {result.step: result for result in series.results}
    shown = [scalars(names, result) for result in last.values()]
    groups = {"clip": _means("clip"), "clip_delta": _deltas()}
    if names.categories:
        lines = MultilineChartContent(tag=["clip_category/"])  # a pattern of a tag's beginning
        groups["clip_category"] = [Chart(title="mean of each category", multiline=lines)]
    scorers = (names.group(scorer) for scorer in names.scorers if scorer)
    groups |= {scorer: _means(scorer) for scorer in scorers}
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


def _means(group: str) -> list[Chart]:
    mean, ends = f"{group}/mean", f"{group}_interval"
    return [
        _band("mean, min to max", mean, f"{group}/min", f"{group}/max"),
        _band("mean, with 95 % interval", mean, f"{ends}/low", f"{ends}/high"),
    ]


def _deltas() -> list[Chart]:
    return [
        _band(title, tag, f"{tag}_low", f"{tag}_high")
        for title, tag in (
            (
                "difference to the best earlier step, interval corrected for picking it",
                "clip_delta/best",
            ),
            ("difference to the base model, with 95 % interval", "clip_delta/base"),
        )
    ]


def _band(title: str, value: str, lower: str, upper: str) -> Chart:
    series = MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return Chart(title=title, margin=MarginChartContent(series=[series]))
