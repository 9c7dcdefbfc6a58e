"""The TensorBoard adapter as TensorBoard's real server shows it, with each of its two readers."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from clipwatch.domain.protocol import Prompt
from clipwatch.testing.series import (
    PROMPTS,
    make_protocol,
    make_series,
    make_target,
    with_everything,
)
from clipwatch_adapters.tensorboard import TensorBoardTracker, event_files, logdir_hint
from tensorboard_kit import Server, event_file, publish_each, target_below, tensorboard, until
from tracker_kit import bring


@pytest.fixture(scope="module")
def rust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with the default reader, the data server."""
    if find_spec("tensorboard_data_server") is None:
        pytest.skip("tensorboard-data-server has no wheel for this platform")
    logdir = tmp_path_factory.mktemp("logs")
    arguments = ["--logdir", str(logdir), "--load_fast=true"]
    with tensorboard(logdir, arguments, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server with the reader of notebooks and other platforms."""
    logdir = tmp_path_factory.mktemp("logs")
    arguments = ["--logdir", str(logdir), "--load_fast=false"]
    with tensorboard(logdir, arguments, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(params=["rust", "python"])
def server(request: pytest.FixtureRequest) -> Server:
    """Return each of the two servers."""
    server: Server = request.getfixturevalue(request.param)
    return server


def write_scalar(writer: EventFileWriter, step: int, value: float) -> None:
    """Log clip/mean as a trainer does."""
    summary = Summary(value=[Summary.Value(tag="clip/mean", simple_value=value)])
    writer.add_event(Event(wall_time=1.7e9 + step, step=step, summary=summary))
    writer.flush()


@pytest.mark.thorough(but=1)
def test_points_are_shown_in_order(server: Server, tmp_path: Path) -> None:
    """Each of the five scalars has one point a step, with the evaluation's time and value."""
    target = target_below(server.logdir, tmp_path, "ordered")
    series = make_series(tmp_path, [100, 200, 300])
    publish_each(target, series)
    run = "ordered/clipwatch"
    for name in ("mean", "min", "max", "std"):
        expected = [
            (result.step, round(getattr(result.clip, name), 4)) for result in series.results
        ]
        until(lambda name=name: server.points(run, f"clip/{name}"), expected)  # type: ignore[misc]
    assert server.points(run, "clip_count/images") == [(100, 4), (200, 4), (300, 4)]
    walls = [wall for wall, _, _ in server.get("plugin/scalars/scalars", run=run, tag="clip/mean")]
    assert walls == [result.finished.timestamp() for result in series.results]
    tags = set(server.get("plugin/scalars/tags")[run])
    assert tags == {"clip/mean", "clip/min", "clip/max", "clip/std", "clip_count/images"}


def test_late_and_repeated_steps_are_put_in_place(server: Server, tmp_path: Path) -> None:
    """A step that comes late or again is one point at its place, and hides no other."""
    target = target_below(tmp_path / "unseen", tmp_path, "late")
    series = make_series(tmp_path, [100, 200, 400, 300, 200])
    publish_each(target, series)
    (target.logging_dir / "late").rename(server.logdir / "late")
    mean = [result.clip.mean for result in series.results]
    expected = [(100, mean[0]), (200, mean[4]), (300, mean[3]), (400, mean[2])]
    until(
        lambda: server.points("late/clipwatch", "clip/mean"),
        [(step, round(value, 4)) for step, value in expected],
    )


@pytest.mark.thorough
def test_an_open_chart_follows_late_steps(server: Server, tmp_path: Path) -> None:
    """Each reader shows the new generation without a restart, then appended points."""
    target = target_below(server.logdir, tmp_path, "live")
    series = make_series(tmp_path, [100, 300, 200, 300, 400])
    tracker = TensorBoardTracker(target)
    for seq, steps in enumerate([[100], [100, 300], [100, 200, 300], [100, 200, 300], None]):
        tracker.publish(series, [seq])
        last = {result.step: round(result.clip.mean, 4) for result in series.results[: seq + 1]}
        expected = [(step, last[step]) for step in steps or [100, 200, 300, 400]]
        until(lambda: server.points("live/clipwatch", "clip/mean"), expected)


def tear(file: Path) -> None:
    """Leave half of the last record, as a kill does."""
    os.truncate(file, file.stat().st_size - 300)


def zero(file: Path) -> None:
    """Overwrite 16 bytes in the middle by zeros, as a network file system does."""
    with file.open("r+b") as out:
        out.seek(file.stat().st_size // 2)
        out.write(bytes(16))


def join(file: Path) -> None:
    """Add a file of somebody else's, which the run then shows as well."""
    writer = EventFileWriter(str(file.parent))
    summary = Summary(value=[Summary.Value(tag="loss", simple_value=1)])
    writer.add_event(Event(wall_time=1.7e9, step=7, summary=summary))
    writer.close()


def delete(file: Path) -> None:
    """Remove our folder."""
    shutil.rmtree(file.parent)


@pytest.mark.parametrize("damage", [tear, zero, join, delete])
@pytest.mark.thorough(but=2)
def test_after_damage_each_point_is_shown_once(
    server: Server, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Whatever happened to our file, after the next publication each tag has one point a step."""
    name = damage.__name__
    target = target_below(tmp_path / "unseen", tmp_path, name)
    series = make_series(tmp_path, [100, 200, 300])
    publish_each(target, replace(series, results=series.results[:2]))
    (file,) = (target.logging_dir / name / "clipwatch").iterdir()
    damage(file)
    assert bring(TensorBoardTracker(target), series) == {0, 1, 2}
    (target.logging_dir / name).rename(server.logdir / name)
    run = f"{name}/clipwatch"
    for tag in ("mean", "min", "max", "std"):
        points = [(r.step, round(getattr(r.clip, tag), 4)) for r in series.results]
        until(lambda tag=tag: server.points(run, f"clip/{tag}"), points)  # type: ignore[misc]
    until(lambda: server.points(run, "loss"), [(7, 1)] if damage is join else [])


@pytest.mark.parametrize("damage", [tear, zero])
@pytest.mark.thorough(but=1)
def test_an_open_chart_survives_damage(
    server: Server, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Each reader, which saw the damage, shows the mended curve without a restart."""
    name = f"open-{damage.__name__}"
    target = target_below(server.logdir, tmp_path, name)
    series = make_series(tmp_path, [100, 200, 300])
    publish_each(target, replace(series, results=series.results[:2]))
    run = f"{name}/clipwatch"
    until(lambda: len(server.points(run, "clip/mean")), 2)
    (file,) = (target.logging_dir / run).iterdir()
    damage(file)
    assert bring(TensorBoardTracker(target), series) == {0, 1, 2}
    points = [(result.step, round(result.clip.mean, 4)) for result in series.results]
    until(lambda: server.points(run, "clip/mean"), points)


@pytest.mark.thorough(but=1)
def test_an_open_chart_goes_beyond_the_highest_number(server: Server, tmp_path: Path) -> None:
    """Somebody planted a file with it: what is written after that is shown, time and again."""
    target = target_below(server.logdir, tmp_path, "highest")
    series = make_series(tmp_path, [100, 300, 200, 150])
    publish_each(target, replace(series, results=series.results[:2]))
    until(lambda: len(server.points("highest/clipwatch", "clip/mean")), 2)
    folder = target.logging_dir / "highest" / "clipwatch"
    (folder / f"{event_files.PREFIX}9999999999").touch()
    for length in (3, 4):  # each begins another file, as its step comes late
        assert bring(TensorBoardTracker(target), replace(series, results=series.results[:length]))
        shown = sorted((it.step, round(it.clip.mean, 4)) for it in series.results[:length])
        until(partial(server.points, "highest/clipwatch", "clip/mean"), shown)
    assert event_file(folder).name == f"{event_files.PREFIX}99999999990000000002"


@pytest.mark.thorough(but=1)
def test_the_trainers_curve_goes_on(server: Server, tmp_path: Path) -> None:
    """Both write, both are shown under one tag, and the trainer's files hold what it wrote."""
    target = target_below(server.logdir, tmp_path, "both")
    trainer_run = server.logdir / "both"
    writer = EventFileWriter(str(trainer_run))
    series = make_series(tmp_path, [100, 300, 200])
    for seq, step in enumerate([101, 201, 301]):
        write_scalar(writer, step, 0.5)
        (file,) = trainer_run.glob("events*")
        before = file.read_bytes()
        TensorBoardTracker(target).publish(series, [seq])
        assert file.read_bytes() == before
        until(lambda: len(server.points("both", "clip/mean")), seq + 1)
    writer.close()
    assert server.points("both", "clip/mean") == [(101, 0.5), (201, 0.5), (301, 0.5)]
    assert sorted(path.name for path in trainer_run.iterdir()) == ["clipwatch", file.name]
    until(lambda: bool(server.points("both/clipwatch", "clip/mean")), expected=True)


@pytest.mark.thorough(but=1)
def test_images_are_shown_with_their_prompts(server: Server, tmp_path: Path) -> None:
    """Each chosen prompt is a tag, headed and described by its text, with a JPEG a step."""
    target = target_below(server.logdir, tmp_path, "images")
    hostile = Prompt("odd|id", "<b>no\0</b>\n# [x](y) *z* _é_ `|`", "odd")
    prompts = (*PROMPTS, hostile, Prompt("long", "word " * 99))
    series = make_series(tmp_path, [100, 200], protocol=make_protocol(prompts))
    publish_each(target, series)
    run = "images/clipwatch"
    tags = {f"clipwatch/image/{prompt.id}" for prompt in prompts}
    until(lambda: set(server.get("plugin/images/tags").get(run, {})), tags)
    tag = "clipwatch/image/odd|id"

    def images() -> Any:
        return server.get("plugin/images/images", run=run, tag=tag, sample="0")

    until(lambda: [image["step"] for image in images()], [100, 200])
    shown = server.get("plugin/images/tags")[run]
    assert shown[tag]["displayName"] == "<b>no </b> # [x](y) *z* _é_ `|`"
    assert shown["clipwatch/image/long"]["displayName"] == "word " * 24 + "…"
    described = shown[tag]["description"]
    assert unescape(described) == "<p><b>no </b> # [x](y) *z* _é_ `|`</p>"
    assert "<b>" not in described
    query = dict(parse_qsl(images()[0]["query"]))
    kind, body = server.fetch("plugin/images/individualImage", **query)
    assert kind == "image/jpeg"
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (64, 48 + 15)


@pytest.mark.thorough(but=1)
def test_the_spread_of_the_prompts_is_a_histogram(server: Server, tmp_path: Path) -> None:
    """A histogram a step counts the means of the prompts between the lowest and the highest."""
    target = target_below(server.logdir, tmp_path, "spread")
    protocol = make_protocol(images_per_prompt=2)
    series = make_series(tmp_path, [100, 300, 200], protocol=protocol, images=False)
    publish_each(target, series)

    def spread() -> Any:
        query = {"run": "spread/clipwatch", "tag": "clipwatch/histogram"}
        return server.get("plugin/histograms/histograms", **query) or []

    until(lambda: [step for _, step, _ in spread()], [100, 200, 300])
    for (_, _, buckets), seq in zip(spread(), (0, 2, 1), strict=True):
        scores = [score.score for score in series.scores(f"clipwatch-{seq}")]
        means = [(a + b) / 2 for a, b in zip(scores[::2], scores[1::2], strict=True)]
        assert (buckets[0][0], buckets[-1][1]) == pytest.approx((min(means), max(means)))
        assert [count for _, _, count in buckets if count] == [1, 1, 1, 1]
        assert len(buckets) == 30


def hparams(server: Server, what: str, **query: Any) -> Any:
    """Ask the HParams page's part of a server."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body = json.dumps({"experimentName": "", **query})
    connection.request("POST", f"/data/plugin/hparams/{what}", body)
    return json.loads(connection.getresponse().read())


@pytest.mark.thorough
def test_a_trainers_hparams_page_stays_its_own(tmp_path: Path) -> None:
    """Where the trainer says which columns there are, as accelerate does, ours hide none."""
    target = target_below(tmp_path / "logs", tmp_path, "tuned")
    writer = EventFileWriter(str(target.logging_dir / "tuned" / "1700000000.5"))
    columns = summary_v2.hparams_config_pb([summary_v2.HParam("rate")], [summary_v2.Metric("loss")])
    for told in (columns, summary_v2.hparams_pb({"rate": 1e-4})):
        writer.add_event(
            Event(wall_time=1.7e9, summary=Summary.FromString(told.SerializeToString()))
        )
    writer.close()
    publish_each(target, make_series(tmp_path, [100], images=False))
    with tensorboard(target.logging_dir, ["--logdir", str(target.logging_dir)], tmp_path) as server:
        until(lambda: bool(server.points("tuned/clipwatch", "clip/mean")), expected=True)
        until(lambda: "hparamInfos" in hparams(server, "experiment"), expected=True)
        shown = hparams(server, "experiment")
    assert [it["name"] for it in shown["hparamInfos"]] == ["rate"]
    assert [it["name"]["tag"] for it in shown["metricInfos"]] == ["loss"]


@pytest.mark.thorough(but=1)
def test_the_protocols_are_compared(server: Server, tmp_path: Path) -> None:
    """The HParams page has a session for each run, with its protocol and its newest numbers."""
    target = target_below(server.logdir, tmp_path, "sessions")
    series = make_series(tmp_path, [100, 300, 200], images=False)
    other = replace(make_protocol(), guidance=2.5, adapter_strength=0.6, zero_snr=True)
    changed = make_series(tmp_path, [100], name="clipwatch-other", protocol=other, images=False)
    for each in (series, changed):
        publish_each(target, each)

    def sessions() -> dict[str, Any]:
        query = {"allowedStatuses": ["STATUS_UNKNOWN"], "colParams": [], "startIndex": 0}
        found = hparams(server, "session_groups", sliceSize=1000, **query).get("sessionGroups", [])
        named = {group["sessions"][0]["name"]: group for group in found}
        return {name: it for name, it in named.items() if name.startswith("sessions/")}

    runs = ["sessions/clipwatch", "sessions/clipwatch-other"]
    until(lambda: sorted(sessions()), runs)
    until(lambda: all(it["metricValues"] for it in sessions().values()), expected=True)
    first, second = (sessions()[run] for run in runs)
    known = {"scheduler": "euler", "guidance": 5, "inference_steps": 20, "adapter_strength": 1}
    known |= {"scorer": "some/clip", "prompts": 4, "protocol": series.digest, "width": 64}
    assert {name: first["hparams"][name] for name in known} == known
    assert second["hparams"]["zero_snr"] == "True"
    assert "zero_snr" not in first["hparams"]
    differ = {name for name, it in first["hparams"].items() if second["hparams"][name] != it}
    assert differ == {"guidance", "adapter_strength", "protocol"}
    means = {it["name"]["tag"]: it for it in first["metricValues"]}
    assert means["clip/mean"]["trainingStep"] == 300
    assert means["clip/mean"]["value"] == pytest.approx(series.results[1].clip.mean)


@pytest.mark.thorough(but=1)
def test_each_prompts_score_is_tabled(server: Server, tmp_path: Path) -> None:
    """The table shows prompts literally, with category and mean score, up to a bound it tells."""
    target = target_below(server.logdir, tmp_path, "table")
    prompts = [Prompt(f"p{n}", f"a | b <i>{n}</i>", "odd") for n in range(503)]
    protocol = make_protocol(prompts, images_per_prompt=2)
    series = make_series(tmp_path, [100], protocol=protocol, images=False)
    publish_each(target, series)
    run = "table/clipwatch"

    def text() -> str:
        answer = server.get("plugin/text/text", run=run, tag="clipwatch/prompts")
        return str(answer[0]["text"]) if answer else ""

    until(lambda: "more prompts" in text(), expected=True)
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", text())]
    scores = [score.score for score in series.scores("clipwatch-0")]
    assert cells[:3] == ["a | b <i>0</i>", "odd", f"{(scores[0] + scores[1]) / 2:.4f}"]
    assert len(cells) == 3 * 500
    assert "3 more prompts are not shown." in text()


@pytest.mark.thorough(but=1)
def test_the_charts_are_laid_out(server: Server, tmp_path: Path) -> None:
    """The custom scalars page has a band for intervals and differences, and finds each tag."""
    target = target_below(server.logdir, tmp_path, "charts")
    series = with_everything(make_series(tmp_path, [100, 200], images=False))
    publish_each(target, series)

    def groups() -> list[dict[str, Any]]:
        layout = server.get("plugin/custom_scalars/layout") or {"category": []}
        return list(layout["category"])

    titles = ["clip", "clip_delta", "clip_category", "scorer_odd_name", "scorer_siglip"]
    # the layouts of all runs are joined: other tests have runs without further scorers
    until(lambda: [group["title"] for group in groups()], titles)
    charts = {(g["title"], c["title"]): c for g in groups() for c in g["chart"]}
    band = charts["clip", "mean, with 95 % interval"]["margin"]["series"]
    assert band == [
        {"value": "clip/mean", "lower": "clip_interval/low", "upper": "clip_interval/high"}
    ]
    for (group, _), chart in charts.items():
        margin = chart.get("margin") or {"series": []}
        tags = [tag for line in margin["series"] for tag in line.values()]
        for tag in tags or chart["multiline"]["tag"]:
            query = {"run": "charts/clipwatch", "tag": tag}
            found = server.get("plugin/custom_scalars/scalars", **query)
            assert found["regex_valid"]
            assert any(name.startswith(group) for name in found["tag_to_events"])
    query = {"run": "charts/clipwatch", "tag": "clip_category/"}
    found = server.get("plugin/custom_scalars/scalars", **query)["tag_to_events"]
    assert {tag: [step for _, step, _ in points] for tag, points in found.items()} == {
        "clip_category/objects": [100, 200],
        "clip_category/places": [100, 200],
    }


@pytest.mark.thorough(but=1)
def test_advice_is_shown_as_text(server: Server, tmp_path: Path) -> None:
    """Advice stands at its step, its kind in bold, and no markup in it takes effect."""
    target = target_below(server.logdir, tmp_path, "advice")
    publish_each(target, with_everything(make_series(tmp_path, [100, 200], images=False)))

    def said() -> Any:
        return server.get("plugin/text/text", run="advice/clipwatch", tag="clipwatch/advice") or []

    until(lambda: [text["step"] for text in said()], [200])
    html = said()[0]["text"]
    assert html.count("<p>") == 2
    assert html.startswith("<p><strong>regressed</strong>: Seen")
    assert "Seen: regressed <b>*now*</b>." in unescape(html)
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("beside", "runs"),
    [
        (True, {"our project", "our project/clipwatch"}),
        (False, {"trainer/other", "clipwatch/clipwatch"}),
    ],
)
def test_the_hint_shows_both_curves(tmp_path: Path, beside: bool, runs: set[str]) -> None:
    """The command told to the user shows the trainer's run and ours, wherever ours is."""
    target = make_target(tmp_path, project="our project")
    trainer_runs = ["our project"] if beside else ["other", "third"]
    for name in trainer_runs:
        writer = EventFileWriter(str(target.logging_dir / name))
        write_scalar(writer, 100, 0.5)
        writer.close()
    series = make_series(tmp_path, [100])
    publish_each(target, series)
    hint = logdir_hint(target, TensorBoardTracker(target).where(series))
    command, *arguments = shlex.split(hint)
    assert command == "tensorboard"
    with tensorboard(target.logging_dir, arguments, tmp_path) as server:
        until(lambda: runs <= set(server.get("plugin/scalars/tags")), expected=True)
        for run in runs:
            assert [step for step, _ in server.points(run, "clip/mean")] == [100]
