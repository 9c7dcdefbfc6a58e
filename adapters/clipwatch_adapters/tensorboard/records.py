"""What TensorBoard is told of one result, and how it is recognised again."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has none
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_STRING
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.text import metadata as texts

from clipwatch.kit.decoding import decoder
from clipwatch.results.series import AdviceGiven, ImageScore, Result, Series
from clipwatch_adapters.shared.media import jpeg, showcase
from clipwatch_adapters.shared.numbers import FORM, Names, prompt_means, scalars
from clipwatch_adapters.tensorboard.event_files import frame

ROWS = 500
"""Prompts shown in the table of one result."""

HEADING = 120
"""Characters of a prompt above its images; a person who wants all of it points at the (i)."""

BUCKETS = 30
"""Of a histogram, as TensorBoard's own writer makes; the page lays them out anew."""

PLUGIN = "clipwatch"
"""Marks the receipt's tensor; no TensorBoard plugin shows it."""

_AXES = {
    "epoch": "The axis counts **epochs**: the trainer tells no steps.",
    "file": "The axis counts **files**, by their names: nothing orders them.",
}

_ENTITIES = {ord(mark): f"&#{ord(mark)};" for mark in string.punctuation}


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a record says of itself; `later` names the scorers that came after the result."""

    run: str
    protocol: str
    seq: int
    step: int
    evaluation: str
    form: int = 1
    later: tuple[str, ...] = ()


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
            receipt: Receipt = decoder(Receipt).decode(b"".join(value.tensor.string_val))
            return receipt
    return None


def record(series: Series, names: Names, result: Result) -> bytes:
    """Return all that is shown of one result, as one record dated by the evaluation."""
    scores = series.scores(result.evaluation)
    known = (series.run, series.digest, result.seq, result.step, result.evaluation)
    own = Receipt(*known, FORM, tuple(sorted(result.later)))
    values = [
        Summary.Value(
            tag="clipwatch/receipt",
            metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN)),
            tensor=strings(msgspec.json.encode(own)),
        ),
        *(Summary.Value(tag=tag, simple_value=x) for tag, x in scalars(names, result).items()),
        *([_text("clipwatch/advice", _advice(result.advice))] if result.advice else []),
        *([_text("clipwatch/axis", _AXES[series.unit])] if series.unit in _AXES else []),
        _text("clipwatch/prompts", _table(series, names, scores)),
        *_histogram([it for it in prompt_means(scores) if math.isfinite(it)]),
        *_images(series, scores),
    ]
    return frame(
        Event(
            wall_time=result.finished.timestamp(), step=result.step, summary=Summary(value=values)
        ).SerializeToString()
    )


def _text(tag: str, markdown: str) -> Summary.Value:
    metadata = texts.create_summary_metadata(tag, "")
    return Summary.Value(tag=tag, metadata=metadata, tensor=strings(markdown.encode()))


def _advice(advice: Sequence[AdviceGiven]) -> str:
    return "\n\n".join(f"**{_literal(each.kind)}**: {_literal(each.text)}" for each in advice)


def _histogram(means: Sequence[float]) -> Iterator[Summary.Value]:
    """Yield how the prompts' means are spread: buckets of one width, as (left, right, count)."""
    if not means:
        return
    low, high = min(means), max(means)
    number = BUCKETS if low < high else 1
    width = (high - low) / number
    counts = [0] * number
    for mean in means:
        counts[min(int((mean - low) / width), number - 1) if width else -1] += 1
    edges = [low + place * width for place in range(number)] + [high]
    rows = zip(edges, edges[1:], counts, strict=False)
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=it) for it in (number, 3)])
    yield Summary.Value(
        tag="clipwatch/histogram",
        metadata=histograms.create_summary_metadata("", ""),
        tensor=TensorProto(
            dtype=DT_DOUBLE, tensor_shape=shape, double_val=[x for row in rows for x in row]
        ),
    )


def _images(series: Series, scores: Sequence[ImageScore]) -> Iterator[Summary.Value]:
    """Yield the images that are shown, headed by their prompts.

    TensorBoard keeps the texts that came with a tag's first image. So a score, which differs from
    step to step, can be read only from the image.
    """
    prompts = {prompt.id: prompt.text for prompt in series.protocol.prompts}
    for score in showcase(series.protocol, scores):
        label = f"score {score.score:.{series.digits('')}f}"
        try:
            encoded, width, height = jpeg(series.images / str(score.image), label=label)
        except OSError:
            continue  # removed by the retention rule; the numbers stand without it
        prompt = _one_line(prompts[score.prompt_id])
        heading = f"{prompt[:HEADING]}…" if len(prompt) > HEADING else prompt
        yield Summary.Value(
            tag=f"clipwatch/image/{_one_line(score.prompt_id)}",
            metadata=images.create_summary_metadata(heading, _literal(prompt)),
            tensor=strings(str(width).encode(), str(height).encode(), encoded),
        )


def _table(series: Series, names: Names, scores: Sequence[ImageScore]) -> str:
    """Return a Markdown table of the prompts' mean scores, in the protocol's order.

    Each scorer has a column; a prompt that it has not scored leaves a cell empty.
    """
    by_prompt: dict[str, list[ImageScore]] = {}
    for score in scores:
        by_prompt.setdefault(score.prompt_id, []).append(score)
    rows = [
        [
            _literal(prompt.text),
            _literal(prompt.category),
            *(
                _mean([s.scores[name] for s in own if name in s.scores], series.digits(name))
                for name in names.scorers
            ),
        ]
        for prompt in series.protocol.prompts[:ROWS]
        if (own := by_prompt.get(prompt.id))
    ]
    columns = (_literal(word) if name else "score" for name, word in names.scorers.items())
    titles = ["prompt", "category", *columns]
    sides = [":--", ":--", *("--:" for _ in titles[2:])]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, sides, *rows))
    left_out = len(series.protocol.prompts) - ROWS
    return f"{table}\n\n{left_out} more prompts are not shown." if left_out > 0 else table


def _mean(scores: Sequence[float], digits: int) -> str:
    return f"{sum(scores) / len(scores):.{digits}f}" if scores else ""


def _one_line(text: str) -> str:
    """Replace line breaks, NUL and whatever else cannot be printed by spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _literal(text: str) -> str:
    """Return Markdown that shows the text as it is, also within a table."""
    return _one_line(text).translate(_ENTITIES)


def strings(*values: bytes) -> TensorProto:
    """Return one string as a scalar, or several as a vector."""
    dims = [TensorShapeProto.Dim(size=len(values))] if len(values) > 1 else []
    return TensorProto(dtype=DT_STRING, tensor_shape=TensorShapeProto(dim=dims), string_val=values)
