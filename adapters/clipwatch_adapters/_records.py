"""What TensorBoard is told of one result, and how it is recognised again."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has none
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.text import metadata as texts

from clipwatch.events import ImageScore
from clipwatch.protocol import EvaluationProtocol
from clipwatch.trackers import Result, Series
from clipwatch_adapters._events import frame
from clipwatch_adapters._media import jpeg, showcase

ROWS = 500
"""Prompts shown in the table of one result."""

PLUGIN = "clipwatch"
"""Marks the receipt's tensor; no TensorBoard plugin shows it."""

_ENTITIES = {ord(mark): f"&#{ord(mark)};" for mark in string.punctuation}


class Receipt(msgspec.Struct, frozen=True):
    """What a record says of itself."""

    run: str
    protocol: str
    seq: int
    step: int
    evaluation: str


def receipt(payload: bytes) -> Receipt | None:
    """Return the receipt of a record of a result, None for any other record.

    Raises:
        ValueError: It is no event, or its receipt is not as we write it.
    """
    try:
        values = Event.FromString(payload).summary.value
    except DecodeError as error:
        raise ValueError("no event") from error
    for value in values:
        if value.metadata.plugin_data.plugin_name == PLUGIN:
            return msgspec.json.decode(b"".join(value.tensor.string_val), type=Receipt)
    return None


def head(series: Series) -> Iterator[bytes]:
    """Yield what each file begins with: the format's version, and a chart of mean within min..max.

    Dated by the run's first result, so that a repetition gives the same bytes.
    """
    began = series.results[0].finished.timestamp()
    yield frame(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
    band = layout_pb2.MarginChartContent.Series(
        value="clip/mean", lower="clip/min", upper="clip/max"
    )
    charts = [
        layout_pb2.Chart(
            title="mean, min to max", margin=layout_pb2.MarginChartContent(series=[band])
        ),
        layout_pb2.Chart(title="std", multiline=layout_pb2.MultilineChartContent(tag=["clip/std"])),
    ]
    layout = layout_pb2.Layout(category=[layout_pb2.Category(title="clip", chart=charts)])
    value = Summary.Value(
        tag=custom_scalars.CONFIG_SUMMARY_TAG,
        metadata=custom_scalars.create_summary_metadata(),
        tensor=_strings(layout.SerializeToString()),
    )
    yield frame(Event(wall_time=began, summary=Summary(value=[value])).SerializeToString())


def record(series: Series, result: Result) -> bytes:
    """Return all that is shown of one result, as one record dated by the evaluation."""
    clip = result.clip
    scalars = {"mean": clip.mean, "min": clip.min, "max": clip.max, "std": clip.std}
    scores = series.scores(result.evaluation)
    own = Receipt(series.run, series.protocol.digest, result.seq, result.step, result.evaluation)
    values = [
        Summary.Value(
            tag="clipwatch/receipt",
            metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN)),
            tensor=_strings(msgspec.json.encode(own)),
        ),
        *(Summary.Value(tag=f"clip/{name}", simple_value=x) for name, x in scalars.items()),
        Summary.Value(tag="clip/images", simple_value=clip.n),
        Summary.Value(
            tag="clipwatch/prompts",
            metadata=texts.create_summary_metadata("clipwatch/prompts", ""),
            tensor=_strings(_table(series.protocol, scores).encode()),
        ),
        *_images(series, scores),
    ]
    return frame(
        Event(
            wall_time=result.finished.timestamp(), step=result.step, summary=Summary(value=values)
        ).SerializeToString()
    )


def _images(series: Series, scores: Sequence[ImageScore]) -> Iterator[Summary.Value]:
    prompts = {prompt.id: prompt.text for prompt in series.protocol.prompts}
    for score in showcase(series.protocol, scores):
        try:
            encoded, width, height = jpeg(series.images / str(score.image))
        except OSError:
            continue  # removed by the retention rule; the numbers stand without it
        tag = f"clipwatch/image/{_one_line(score.prompt_id)}"
        yield Summary.Value(
            tag=tag,
            metadata=images.create_summary_metadata(tag, _literal(prompts[score.prompt_id])),
            tensor=_strings(str(width).encode(), str(height).encode(), encoded),
        )


def _table(protocol: EvaluationProtocol, scores: Sequence[ImageScore]) -> str:
    """Return a Markdown table of the prompts' mean scores, in the protocol's order."""
    by_prompt: dict[str, list[float]] = {}
    for score in scores:
        by_prompt.setdefault(score.prompt_id, []).append(score.score)
    rows = [
        f"| {_literal(prompt.text)} | {_literal(prompt.category)} | {sum(of) / len(of):.4f} |"
        for prompt in protocol.prompts[:ROWS]
        if (of := by_prompt.get(prompt.id))
    ]
    table = "\n".join(["| prompt | category | score |", "|:--|:--|--:|", *rows])
    left_out = len(protocol.prompts) - ROWS
    return f"{table}\n\n{left_out} more prompts are not shown." if left_out > 0 else table


def _one_line(text: str) -> str:
    """Replace line breaks, NUL and whatever else cannot be printed by spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _literal(text: str) -> str:
    """Return Markdown that shows the text as it is, also within a table."""
    return _one_line(text).translate(_ENTITIES)


def _strings(*values: bytes) -> TensorProto:
    """Return one string as a scalar, or several as a vector."""
    dims = [TensorShapeProto.Dim(size=len(values))] if len(values) > 1 else []
    return TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(dim=dims), string_val=values)
