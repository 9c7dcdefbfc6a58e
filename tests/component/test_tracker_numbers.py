"""The numbers that trackers show: their names, and what TensorBoard's reader finds of them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from clipwatch.domain.protocol import Prompt
from clipwatch.results.series import Result, Series
from clipwatch.testing.series import make_protocol, make_series, make_target, with_everything
from clipwatch_adapters.shared.numbers import FORM, Names, scalars, unique
from clipwatch_adapters.tensorboard import TensorBoardTracker
from clipwatch_adapters.tensorboard import event_files as _events
from tensorboard_kit import event_file

LAYOUT = "custom_scalars__config__"

ODD_NAMES = st.text(st.sampled_from("aAäß/\\. _-~*|\0\n\u0301日😀2"), max_size=5) | st.text()


@given(names=st.lists(ODD_NAMES, max_size=12))
def test_odd_names_become_safe_tags_that_differ(names: list[str]) -> None:
    """Whatever the names hold, each has a word of its own that means nothing else in a tag."""
    words = unique(names)
    assert words.keys() == set(names)
    told = [word.casefold() for word in words.values()]
    assert len(set(told)) == len(told)
    for word in words.values():
        assert word
        assert word.isprintable()
        assert not set(word) & set("/\\. ~*|:?#%&")
        assert not word.startswith("_")


@given(names=st.lists(ODD_NAMES, max_size=12), count=st.integers(0, 12))
def test_a_name_is_given_for_good(names: list[str], count: int) -> None:
    """Names that come later change none of those before them."""
    assert unique(names[:count]).items() <= unique(names).items()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["objects", "Food & Beverage"], ["objects", "Food_Beverage"]),
        (["a/b", "a.b", "a b", "a_b"], ["a_b", "a_b-2", "a_b-3", "a_b-4"]),
        (["a b", "a b-2", "a_b"], ["a_b", "a_b-2", "a_b-3"]),
        (["", "///", "\0"], ["unnamed", "unnamed-2", "unnamed-3"]),
        (["日本", "e\u0301té", "étÉ"], ["日本", "été", "étÉ-2"]),
        (["x" * 200], ["x" * 80]),
    ],
)
def test_names_stay_readable(names: list[str], words: list[str]) -> None:
    """A name is changed no more than it must be, and a number tells like ones apart."""
    assert list(unique(names).values()) == words


@given(names=st.lists(ODD_NAMES, max_size=5))
def test_what_matters_is_sorted_first(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a scorer is called, the group `clip` stands before all others and holds four."""
    series = with_everything(make_series(tmp_path_factory.getbasetemp(), [100, 200], images=False))
    result = replace(series.results[1], others=dict.fromkeys(names, series.results[1].clip))
    tags = sorted(scalars(Names.of(replace(series, results=(result,))), result))
    assert tags[:4] == ["clip/max", "clip/mean", "clip/min", "clip/std"]
    groups = [tag.partition("/")[0] for tag in tags[4:]]
    assert all(group > "clip" for group in groups)
    assert not {"clipwatch", "system"} & set(groups)
    assert len(tags) == 4 + 2 + 2 + 6 + 2 + 8 * len(set(names))


def told(series: Series, seq: int) -> dict[str, float]:
    """Return the scalars of one result."""
    return scalars(Names.of(series), series.results[seq])


def test_a_result_of_an_earlier_log_has_the_old_numbers(tmp_path: Path) -> None:
    """Without the new fields there are five scalars, and none stands for what is not known."""
    series = make_series(tmp_path, [100], images=False)
    clip = series.results[0].clip
    assert told(series, 0) == {
        "clip/mean": clip.mean,
        "clip/min": clip.min,
        "clip/max": clip.max,
        "clip/std": clip.std,
        "clip_count/images": 4,
    }


def test_all_that_is_known_has_a_tag(tmp_path: Path) -> None:
    """Intervals, differences, categories and further scorers are shown, in a fixed order."""
    series = with_everything(make_series(tmp_path, [100, 200], images=False))
    result = series.results[1]
    found = told(series, 1)
    own = ["/mean", "/min", "/max", "/std", "_interval/low", "_interval/high"]
    own += ["_count/images", "_count/prompts"]
    deltas = [f"clip_delta/{of}{end}" for of in ("base", "best") for end in ("", "_low", "_high")]
    assert list(found) == [
        *(f"clip{name}" for name in own),
        *deltas,
        "clip_category/objects",
        "clip_category/places",
        *(f"scorer_odd_name{name}" for name in own),
        *(f"scorer_siglip{name}" for name in own),
    ]
    assert result.against_base
    assert (found["clip_interval/low"], found["clip_interval/high"]) == (
        result.clip.low,
        result.clip.high,
    )
    assert (found["clip_count/images"], found["clip_count/prompts"]) == (4, 2)
    assert found["clip_delta/base_high"] == result.against_base.high
    assert found["clip_category/places"] == result.categories["places"].mean
    assert found["scorer_siglip_interval/low"] == result.others["siglip"].low
    assert not any("delta" in tag for tag in told(series, 0))


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    """Trackers draw no point for an interval that could not be told."""
    series = with_everything(make_series(tmp_path, [100], images=False))
    clip = replace(series.results[0].clip, low=math.nan, high=math.inf, prompts=4)
    found = told(replace(series, results=(replace(series.results[0], clip=clip),)), 0)
    assert not {"clip_interval/low", "clip_interval/high", "clip_count/prompts"} & found.keys()
    assert all(map(math.isfinite, found.values()))


def test_categories_come_in_the_protocols_order(tmp_path: Path) -> None:
    """Names that the protocol knows are settled before any result is there."""
    prompts = [Prompt("1", "a", "b c"), Prompt("2", "b", ""), Prompt("3", "c", "b/c")]
    series = make_series(tmp_path, [100], protocol=make_protocol(prompts), images=False)
    assert Names.of(series).categories == {"b c": "b_c", "b/c": "b_c-2"}


def publish(folder: Path, series: Series) -> Path:
    """Publish each result by a tracker that was just started; return the run's folder."""
    target = make_target(folder)
    for result in series.results:
        grown = replace(series, results=series.results[: result.seq + 1])
        TensorBoardTracker(target).publish(grown, [result.seq])
    return Path(TensorBoardTracker(target).where(series))


def drawn(run: Path) -> dict[str, list[str]]:
    """Return "group: chart" → the tags it draws, as TensorBoard decodes the file's layout."""
    tensor = EventAccumulator(str(run)).Reload().Tensors(LAYOUT)[0].tensor_proto
    layout = Layout.FromString(tensor.string_val[0])
    return {
        f"{group.title}: {chart.title}": [
            *chart.multiline.tag,
            *(tag for each in chart.margin.series for tag in (each.value, each.lower, each.upper)),
        ]
        for group in layout.category
        for chart in group.chart
    }


def text(run: Path, tag: str, index: int) -> str:
    """Return a Markdown text of the run."""
    tensor = EventAccumulator(str(run)).Reload().Tensors(tag)[index].tensor_proto
    return bytes(tensor.string_val[0]).decode()


def test_tensorboard_reads_every_number(tmp_path: Path) -> None:
    """Each scalar of each result is a point at its step; a float32 holds its value."""
    series = with_everything(make_series(tmp_path, [100, 200, 300], images=False))
    run = EventAccumulator(str(publish(tmp_path, series)), size_guidance={"scalars": 0}).Reload()
    expected: dict[str, dict[int, object]] = {}
    for result in series.results:
        for tag, value in told(series, result.seq).items():
            expected.setdefault(tag, {})[result.step] = pytest.approx(value, rel=1e-6)
    assert {
        tag: {point.step: point.value for point in run.Scalars(tag)}
        for tag in run.Tags()["scalars"]
    } == expected
    assert len(expected) == 8 + 6 + 2 + 2 * 8


def test_the_layout_draws_only_what_is_written(tmp_path: Path) -> None:
    """Each chart draws its own group's scalars; the mean in its band is what is shown first.

    TensorBoard shows the bands of a group last first (see test_tensorboard_browser.py).
    """
    series = with_everything(make_series(tmp_path, [100, 200], images=False))
    charts = drawn(publish(tmp_path, series))
    best = "clip_delta: difference to the best earlier step, interval corrected for picking it"
    assert list(charts) == [
        "clip: mean, min to max",
        "clip: mean, with 95 % interval",
        best,
        "clip_delta: difference to the base model, with 95 % interval",
        "clip_category: mean of each category",
        "scorer_odd_name: mean, min to max",
        "scorer_odd_name: mean, with 95 % interval",
        "scorer_siglip: mean, min to max",
        "scorer_siglip: mean, with 95 % interval",
    ]
    interval = ["clip/mean", "clip_interval/low", "clip_interval/high"]
    assert charts["clip: mean, with 95 % interval"] == interval
    assert charts[best] == ["clip_delta/best", "clip_delta/best_low", "clip_delta/best_high"]
    tags = told(series, 1)
    for title, wanted in charts.items():
        assert len(wanted) in {1, 3}
        for tag in wanted:
            matched = [found for found in tags if re.match(tag, found)]
            assert tag in tags if len(wanted) == 3 else matched
            assert all(found.startswith(title.partition(":")[0]) for found in matched)


def test_a_band_is_laid_out_only_where_tensorboard_draws_it(tmp_path: Path) -> None:
    """A point without an interval takes the band off, which would be an error, until it goes."""
    bare = make_series(tmp_path, [100, 200, 100], images=False)
    full = with_everything(bare)
    mixed = replace(full, results=(bare.results[0], *full.results[1:]))
    band = "clip: mean, with 95 % interval"
    for count, expected in {1: False, 2: False, 3: True}.items():
        run = publish(tmp_path / "mixed", replace(mixed, results=mixed.results[:count]))
        assert (band in drawn(run)) == expected
        assert "clip: mean, min to max" in drawn(run)
    results = [replace(r, clip=replace(r.clip, low=None, high=None)) for r in full.results]
    assert band not in drawn(publish(tmp_path / "none", replace(full, results=tuple(results))))


def test_without_categories_there_is_no_chart_of_them(tmp_path: Path) -> None:
    """Prompts that have no category leave no empty chart."""
    protocol = make_protocol([Prompt("1", "a"), Prompt("2", "b")])
    series = make_series(tmp_path, [100], protocol=protocol, images=False)
    assert "clip_category: mean of each category" not in drawn(publish(tmp_path, series))


def test_advice_stands_in_the_record_of_its_result(tmp_path: Path) -> None:
    """Advice is a text at the step it came with, shown as it is, and nowhere else."""
    series = with_everything(make_series(tmp_path, [100, 200, 300], images=False))
    run = publish(tmp_path, series)
    events = EventAccumulator(str(run)).Reload().Tensors("clipwatch/advice")
    assert [event.step for event in events] == [200]
    first, second = text(run, "clipwatch/advice", 0).split("\n\n")
    assert first.startswith("**regressed**: Seen&#58; regressed &#60;b&#62;&#42;now&#42;")
    assert second.startswith("**plateau**: ")


def test_further_scorers_have_a_column(tmp_path: Path) -> None:
    """The table has each scorer's mean by prompt, and an empty cell where it gave none."""
    series = with_everything(make_series(tmp_path, [100], images=False))
    scores = list(series.scores(series.results[0].evaluation))
    scores[1] = replace(scores[1], others={"siglip": 0.5})
    run = publish(tmp_path, replace(series, scores=lambda _: tuple(scores)))
    title, _, first, second, *_ = text(run, "clipwatch/prompts", 0).splitlines()
    assert title == "| prompt | category | score | odd&#95;name | siglip |"
    assert first == "| a red cube on a table | objects | 0.2000 | 2.0000 | 0.1000 |"
    assert second.endswith("| objects | 0.2010 |  | 0.5000 |")


def as_before(file: Path) -> None:
    """Give a file the form of an earlier version: a receipt without one, and clip/n."""
    frames = []
    for _, payload in _events.records(file):
        event = Event.FromString(payload)
        for value in event.summary.value:
            value.tag = value.tag.replace("clip_count/images", "clip/n")
            if value.tag == "clipwatch/receipt":
                receipt = json.loads(value.tensor.string_val[0])
                assert receipt.pop("form") == FORM
                value.tensor.string_val[0] = json.dumps(receipt).encode()
        frames.append(_events.frame(event.SerializeToString()))
    file.write_bytes(b"".join(frames))


def test_a_file_with_earlier_names_is_written_anew(tmp_path: Path) -> None:
    """Its results count as missing and come under today's names; what the log lost stays."""
    series = make_series(tmp_path, [50, 100, 200, 300], images=False)
    run = publish(tmp_path, replace(series, results=series.results[:3]))
    old = event_file(run)
    as_before(old)
    results = tuple(replace(it, seq=it.seq - 1) for it in series.results[1:])
    rest = replace(series, results=results)
    tracker = TensorBoardTracker(make_target(tmp_path))
    assert tracker.published(replace(rest, results=results[:2])) == frozenset()
    tracker.publish(rest, [0, 1, 2])
    assert event_file(run) != old
    assert tracker.published(rest) == {0, 1, 2}
    points = EventAccumulator(str(run)).Reload()
    assert [point.step for point in points.Scalars("clip/mean")] == [50, 100, 200, 300]
    assert [point.step for point in points.Scalars("clip/n")] == [50]
    assert [point.step for point in points.Scalars("clip_count/images")] == [100, 200, 300]


def test_a_new_scorer_is_laid_out_once(tmp_path: Path) -> None:
    """A scorer that joins makes one new file with its charts; without one, the file only grows."""
    full = with_everything(make_series(tmp_path, [100, 200, 300, 400], images=False))

    def without(result: Result) -> Result:
        return replace(
            result, others={name: s for name, s in result.others.items() if "o" not in name}
        )

    results = (*map(without, full.results[:2]), *full.results[2:])
    files = []
    for count in range(1, 5):
        run = publish(tmp_path, replace(full, results=results[:count]))
        files.append(event_file(run).name)
        assert ("scorer_odd_name: mean, min to max" in drawn(run)) == (count > 2)
    assert len(set(files[:2])) == len(set(files[2:])) == 1
    assert files[1] != files[2]
