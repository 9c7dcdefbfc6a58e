"""What a daemon tells of itself over HTTP: real servers on loopback, metrics read by a parser."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clipwatch.domain.state import Run, Trial
from clipwatch.executors.messages import Evaluate, Failed, Finished, Reply
from clipwatch.gpus import Gpu
from clipwatch.service.health.metrics import exposition, of_daemon, of_gpus, of_loop, of_run
from clipwatch.service.health.probes import LoopState, not_alive, not_ready
from clipwatch.service.health.server import HealthServer
from clipwatch.service.heartbeat import STALE_SECONDS
from clipwatch.settings.values import Address
from places import ROOT
from real_world import daemon, until, write_config
from web_kit import get
from world import World, checkpoint, usual

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

RUN = Run("shapes-0a1b2c", "/out", "p", ("wandb",), {})


def parsed(text: str) -> Samples:
    """Return (name, labels but the run) → value."""
    return {
        (
            sample.name,
            frozenset((k, v) for k, v in sample.labels.items() if k != "run"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metric(samples: Samples, name: str, **labels: str) -> float:
    """Return one value."""
    return samples[f"clipwatch_{name}", frozenset(labels.items())]


@contextmanager
def serving(loop: LoopState) -> Iterator[Address]:
    """Serve a loop on a free port."""
    server = HealthServer(Address("127.0.0.1", 0), lambda: [loop])
    try:
        yield server.address
    finally:
        server.close()


def test_a_loop_that_goes_round_is_well() -> None:
    """It is ill after two minutes without a turn, whatever it says of its work."""
    loop = LoopState(RUN, 1, "watching", at=1000.0)
    assert not_alive(loop, 1000.0 + STALE_SECONDS) == ""
    assert not_alive(loop, 1001.0 + STALE_SECONDS) == "the loop has stood still for 121 s"


@pytest.mark.parametrize(
    ("loop", "why"),
    [
        (LoopState(at=0.0), "starting"),
        (LoopState(RUN, 1, "watching", at=0.0), ""),
        (
            LoopState(replace(RUN, problem="/out does not exist yet"), 1, "watching", 0.0),
            "/out does",
        ),
        (LoopState(RUN, 1, "draining", at=0.0), "draining"),
        (LoopState(RUN, 1, "stopping", at=0.0), "stopping"),
        (LoopState(RUN, 1, "watching", at=-1000.0), "the loop has stood still"),
    ],
)
def test_ready_is_who_watches(loop: LoopState, why: str) -> None:
    """Not before the first look, not without a readable directory, not when it ends."""
    told = not_ready(loop, 0.0)
    assert told.startswith(why)
    assert bool(told) == bool(why)


def test_each_page_answers() -> None:
    """Health, readiness, metrics and status; HEAD too; what is not there is said."""
    with serving(LoopState(RUN, 7, "watching")) as address:
        for path in ("/healthz", "/livez", "/readyz", "/readyz?verbose"):
            assert get(address, path) == (200, "ok\n")
        code, body = get(address, "/status")
        assert code == 200
        status = json.loads(body)
        assert (status["phase"], status["log_sequence"]) == ("watching", 7)
        assert status["runs"][0]["run"] == "shapes-0a1b2c"
        code, body = get(address, "/metrics")
        assert code == 200
        assert metric(parsed(body), "log_sequence") == 7
        assert metric(parsed(body), "ready") == 1
        assert get(address, "/healthz", "HEAD") == (200, "")
        assert get(address, "/") == (
            404,
            "known are /healthz /livez /metrics /readyz /status\n",
        )
        assert get(address, "/healthz", "POST")[0] == 501


def test_the_content_type_is_what_prometheus_expects() -> None:
    """Prometheus 3 refuses a scrape without a known one."""
    with (
        serving(LoopState(RUN)) as address,
        urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/plain; version=")


def test_what_is_not_well_answers_503() -> None:
    """Both pages, with the reason."""
    still = LoopState(RUN, 1, "watching", at=time.monotonic() - 10 * STALE_SECONDS)
    with serving(still) as address:
        for path in ("/healthz", "/readyz"):
            code, body = get(address, path)
            assert code == 503
            assert body.startswith("the loop has stood still for ")
        assert metric(parsed(get(address, "/metrics")[1]), "ready") == 0
    with serving(LoopState(RUN, 1, "draining")) as address:
        assert get(address, "/healthz") == (200, "ok\n")
        assert get(address, "/readyz") == (503, "draining\n")


def test_an_address_of_either_family_is_served() -> None:
    """IPv6 too; a closed server gives its port back."""
    server = HealthServer(Address("::1", 0), lambda: [LoopState(RUN)])
    assert str(server.address).startswith("[::1]:")
    assert get(server.address, "/healthz")[0] == 200
    server.close()
    again = HealthServer(server.address, lambda: [LoopState(RUN)])
    again.close()


def test_metrics_are_a_fold_of_the_log(tmp_path: Path) -> None:
    """Checkpoints by state, images, seconds by phase, the last result: what the log says."""
    world = World(tmp_path)
    for step in (100, 200, 300):
        checkpoint(world.output, step, step)
    (checkpoint(world.output, 400) / ".guard").unlink()

    def script(request: Evaluate) -> list[Reply] | None:
        if request.path.endswith("200"):
            return [Failed("weights", "3 of 9 tensors fit")]
        phases = {"load": 1.0, "generate": 6.0, "score": 0.5, "save": 0.5}
        return [*usual(request)[:-1], Finished(0, 8.0, phases)]

    world.script = script
    assert world.once() == 1
    text = exposition(lambda: [LoopState(world.run, 42, "watching")])().decode()
    samples = parsed(text)
    counts = {
        state: metric(samples, "checkpoints", state=state) for state in ("published", "failed")
    }
    assert counts == {"published": 2, "failed": 1}
    assert metric(samples, "checkpoints", state="waiting") == 1
    assert metric(samples, "checkpoints", state="discarded") == 0
    assert metric(samples, "images_total") == 8
    phases = {p: metric(samples, "evaluation_seconds_total", phase=p) for p in ("load", "generate")}
    assert phases == {"load": 2.0, "generate": 12.0}
    assert metric(samples, "images_per_second") == 0.5
    assert metric(samples, "step") == 300
    clip = world.run.evaluations[world.run.scored[world.run.protocol][0]].clip
    assert clip is not None
    assert metric(samples, "clip_score", statistic="mean") == pytest.approx(clip.mean)
    assert metric(samples, "tracker_lag", tracker="memory") == 0
    assert metric(samples, "queue_age_seconds") == 0
    assert f'run="{world.run.name}"' in text


def test_the_queue_grows_old_and_a_tracker_lags(tmp_path: Path) -> None:
    """Both are told in the units that an alert needs."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    world.script = lambda request: usual(request, images=1)  # and never ends
    with world.live():
        until(lambda: world.log.exists() and bool(world.run.evaluations))
    run = world.run
    later = datetime.now(UTC) + timedelta(hours=1)
    ages = {family.name: family.samples for family in of_run(run, later)}
    assert ages["clipwatch_queue_age_seconds"][0].value == pytest.approx(3600, abs=60)
    scored = replace(run, scored={run.protocol: tuple(run.evaluations)})
    lag = {family.name: family.samples for family in of_run(scored, later)}["clipwatch_tracker_lag"]
    assert [(sample.labels, sample.value) for sample in lag] == [({"tracker": "memory"}, 1)]


def test_memory_of_gpus_is_told_by_uuid() -> None:
    """Used and total, of each one in sight."""
    gpus = [Gpu(1, "GPU-ab", "NVIDIA H100", 80 << 30, 50 << 30, ())]
    used, total = of_gpus(gpus)
    labels = {"gpu": "1", "uuid": "GPU-ab"}
    assert [(x.labels, x.value) for x in used.samples] == [(labels, 30 << 30)]
    assert [(x.labels, x.value) for x in total.samples] == [(labels, 80 << 30)]


def free_port() -> int:
    """Return a port that was free just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        number: int = found.getsockname()[1]
        return number


def answers(port: int, path: str) -> int:
    """Return the code of a page, 0 while nobody listens."""
    try:
        return get(Address("127.0.0.1", port), path)[0]
    except OSError:
        return 0


def test_a_daemon_serves_where_its_settings_say(folder: Path) -> None:
    """A changed address is taken up by a reload; off closes it."""
    first, second = free_port(), free_port()
    write_config(folder, health_address=f"127.0.0.1:{first}", rescan_seconds=0.5)
    with daemon(folder) as process:
        until(lambda: answers(first, "/readyz") == 200)
        write_config(folder, health_address=f"127.0.0.1:{second}", rescan_seconds=0.5)
        process.send_signal(1)
        until(lambda: answers(second, "/readyz") == 200)
        assert answers(first, "/readyz") == 0
        (folder / "output").rmdir()
        until(lambda: answers(second, "/readyz") == 503)
        assert answers(second, "/healthz") == 200
        write_config(folder, health_address="off")
        process.send_signal(1)
        until(lambda: answers(second, "/healthz") == 0)
        process.terminate()
        assert process.wait(60) == 0


def test_a_taken_port_is_no_reason_to_end(folder: Path) -> None:
    """One line says so, and the watch begins."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write_config(folder, health_address=address)
        with daemon(folder) as process:
            until(lambda: "no checkpoint there yet" in (folder / "said").read_text())
            process.terminate()
            assert process.wait(60) == 0
    said = (folder / "said").read_text()
    assert f"no health page: {address}: Address already in use; name another health_address" in said


def test_in_a_terminal_nothing_is_served(folder: Path) -> None:
    """Without a setting the daemon listens nowhere."""
    import psutil

    with daemon(folder) as process:
        until(lambda: "no checkpoint there yet" in (folder / "said").read_text())
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        listening = [c for p in family for c in p.net_connections() if c.status == "LISTEN"]
        assert not listening


DOCS = ROOT / "docs"


def names(run: Run) -> set[str]:
    """Return the names of all samples that a daemon with a result and a GPU serves."""
    loop = LoopState(run, 1, "watching")
    served = [*of_daemon(), *of_loop(loop, loop.at), *of_gpus([Gpu(0, "GPU-ab", "H100", 2, 1, ())])]
    return {sample.name for family in served for sample in family.samples}


def test_documents_name_what_is_served(tmp_path: Path) -> None:
    """The manual lists every metric; dashboard and alerts ask for none that is not there."""
    world = World(tmp_path)
    checkpoint(world.output, 1, 1)
    world.script = lambda request: [*usual(request)[:-1], Finished(0, 8.0, {"load": 1.0})]
    world.once()
    run = world.run
    failing = {"memory": replace(run.trackers["memory"], trials={run.protocol: Trial(attempt=2)})}
    served = names(replace(run, trackers=failing))
    manual = (DOCS / "health.md").read_text()
    listed = set(re.findall(r"`(clipwatch_\w+)", manual))
    assert listed == {name for name in served if name.startswith("clipwatch_")}
    for file in ("grafana.json", "alerts.yml"):
        asked = re.findall(r"\b(?:clipwatch|process)_\w+", (DOCS / "monitoring" / file).read_text())
        assert asked
        assert set(asked) <= served, file


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Prometheus")
def test_prometheus_accepts_metrics_and_rules(tmp_path: Path) -> None:
    """By its own checker: the page of a daemon, and the alert rules."""
    page = exposition(lambda: [LoopState(RUN, 7, "watching")])()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = ["promtool", "check", "rules", str(DOCS / "monitoring" / "alerts.yml")]
    checked = subprocess.run(rules, cwd=tmp_path, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
