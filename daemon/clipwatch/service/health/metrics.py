"""The numbers for Prometheus: a fold of the log, and the GPUs' memory as the driver tells it.

Names follow https://prometheus.io/docs/practices/naming/; docs/health.md lists them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from clipwatch import __version__
from clipwatch.domain.delivered import owed
from clipwatch.domain.queue import queue
from clipwatch.domain.state import Run, images
from clipwatch.gpus import Gpu, read_gpus
from clipwatch.results.view import STATES, states
from clipwatch.service.health.probes import LoopState, not_ready

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)
Value = float | Mapping[str, float]


def exposition(loops: Callable[[], Sequence[LoopState]]) -> Callable[[], bytes]:
    """Return what makes the page of all metrics, as text of the exposition format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Metrics(loops))
    return lambda: generate_latest(registry)


class _Metrics(Collector):
    """Makes the metrics anew for each scrape; those of a run carry its name.

    Those of the daemon itself have a name as well where it has one run, and none where it has more.
    """

    def __init__(self, loops: Callable[[], Sequence[LoopState]]) -> None:
        self._loops = loops

    def describe(self) -> list[Metric]:
        """Tell nothing ahead, so that no scrape is made when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once, with the samples of all runs."""
        loops, now = self._loops(), time.monotonic()
        families: dict[str, Metric] = {}
        for loop in loops:
            for family in of_loop(loop, now):
                _name(family, loop.run.name if loop.run else "")
                families.setdefault(family.name, family)
                if families[family.name] is not family:
                    families[family.name].samples += family.samples
        only = loops[0].run.name if len(loops) == 1 and loops[0].run else ""
        for family in of_daemon():
            _name(family, only)
            yield family
        yield from families.values()


def _name(family: Metric, run: str) -> None:
    """Give a family's samples the name of a run."""
    family.samples = [x._replace(labels={"run": run, **x.labels}) for x in family.samples]


def of_daemon() -> Iterator[Metric]:
    """Yield what is known of a daemon, whichever runs it has."""
    yield InfoMetricFamily("clipwatch", "Its version.", {"version": __version__})
    yield from of_gpus(read_gpus() or ())
    yield from ProcessCollector(registry=None).collect()


def of_loop(loop: LoopState, now: float) -> Iterator[Metric]:
    """Yield what is known of a run; `now` by the loop's clock."""
    yield _gauge("ready", "1 while it watches, 0 otherwise.", not not_ready(loop, now))
    yield _gauge("log_sequence", "Number of the log's last event.", loop.seq)
    if loop.run is not None:
        yield from of_run(loop.run, datetime.now(UTC))


def of_run(run: Run, now: datetime) -> Iterator[Metric]:
    """Yield what the log says of a run."""
    count = Counter(state for _, state in states(run))
    yield _gauge("checkpoints", "Checkpoints by state.", {x: count[x] for x in STATES}, "state")
    skipped = "Checkpoints left out, as newer ones came before their turn."
    yield _gauge("skipped_checkpoints", skipped, run.skipped)
    yield _counter("images", "Images generated and scored.", images(run))
    seconds = dict.fromkeys(("load", "generate", "score", "save"), 0.0) | dict(run.spent)
    yield _counter("evaluation_seconds", "Time of finished evaluations.", seconds, "phase")
    waiting = [c.since for c in queue(run) if c.since is not None]
    age = max(0.0, (now - min(waiting)).total_seconds()) if waiting else 0.0
    yield _gauge("queue_age_seconds", "How long the longest waiting checkpoint has waited.", age)
    lag = {name: sum(map(len, owed(run, "tracker", name).values())) for name in run.tracker_names}
    yield _gauge("tracker_lag", "Results that a tracker does not show yet.", lag, "tracker")
    failures = {
        name: max((it.attempt for it in run.trackers[name].trials.values()), default=0)
        for name in run.tracker_names
        if name in run.trackers
    }
    yield _gauge("tracker_failures", "Failed attempts in a row.", failures, "tracker")
    yield _gauge("output_readable", "1 while the output directory can be read.", not run.problem)
    yield _gauge("models_usable", "1 while the models can be used.", not run.lacking)
    yield from _of_latest(run)


def _of_latest(run: Run) -> Iterator[Metric]:
    """Yield the result of the highest step, and how fast the last evaluation was."""
    scored = [run.evaluations[id_] for id_ in run.scored.get(run.protocol, ())]
    if not scored:
        return
    last, highest = scored[-1], max(scored, key=lambda evaluation: evaluation.step)
    if last.seconds > 0:
        rate = last.images / last.seconds
        yield _gauge("images_per_second", "Images a second of the last evaluation.", rate)
    if last.finished is not None:
        when = last.finished.timestamp()
        yield _gauge("last_score_timestamp_seconds", "When the last result was scored.", when)
    yield _gauge("step", "The highest step with a score.", highest.step)
    if (clip := highest.clip) is not None:
        values = {"mean": clip.mean, "min": clip.min, "max": clip.max, "std": clip.std}
        yield _gauge("clip_score", "Scores of the highest step with a score.", values, "statistic")


def of_gpus(found: Sequence[Gpu]) -> Iterator[Metric]:
    """Yield the memory of the GPUs that this process may see."""
    names = ("gpu", "uuid")
    used = GaugeMetricFamily("clipwatch_gpu_memory_used_bytes", "By all processes.", labels=names)
    total = GaugeMetricFamily("clipwatch_gpu_memory_total_bytes", "That it has.", labels=names)
    for gpu in found:
        used.add_metric((str(gpu.index), gpu.uuid), gpu.total_bytes - gpu.free_bytes)
        total.add_metric((str(gpu.index), gpu.uuid), gpu.total_bytes)
    yield from (used, total)


def _gauge(name: str, text: str, value: Value, label: str = "") -> GaugeMetricFamily:
    return _filled(
        GaugeMetricFamily(f"clipwatch_{name}", text, labels=[label] * bool(label)), value
    )


def _counter(name: str, text: str, value: Value, label: str = "") -> CounterMetricFamily:
    return _filled(
        CounterMetricFamily(f"clipwatch_{name}", text, labels=[label] * bool(label)), value
    )


def _filled(family: Family, value: Value) -> Family:
    """Add one number, or one for each value of the family's label."""
    numbers = (
        {(key,): number for key, number in value.items()}
        if isinstance(value, Mapping)
        else {(): value}
    )
    for labels, number in numbers.items():
        family.add_metric(labels, number)
    return family
