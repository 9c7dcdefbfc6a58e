"""A run that is evaluated on a real Ray cluster: its numbers are those of this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from clipwatch.domain import retries
from clipwatch.domain.events import EvaluationFailed, ImageScore, ImagesScored
from clipwatch.executors.base import Slot
from clipwatch.executors.messages import Reply, Scored
from clipwatch.executors.ray import RayExecutor
from clipwatch.executors.ray.executor import RayEvaluator
from clipwatch.models.identity import Identities
from clipwatch.settings import load
from evaluator_kit import same, same_pictures
from fast_worker import score_of
from loop_kit import states
from ray_kit import PATIENCE, RayCluster, ray_cluster, slots, until, workers
from real_world import command, environment, guarded, scored_images
from world import World, checkpoint

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]

NODES = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Run a cluster of three nodes with a slot each."""
    with ray_cluster(tmp_path_factory.mktemp("ray")) as made:
        for _ in range(NODES):
            made.add()
        yield made


def typed(project: Path, *words: str, ray: RayCluster | None) -> subprocess.CompletedProcess[str]:
    """Type a command that goes well, again where a busy cluster did not answer in time."""
    own = {"CLIPWATCH_EXECUTOR": "ray", "CLIPWATCH_RAY_ADDRESS": ray.address} if ray else {}
    while True:
        ended = subprocess.run(
            command(*words),
            cwd=project,
            env=environment() | own,
            capture_output=True,
            text=True,
            check=False,
        )
        if not (ended.returncode == 1 and "does not answer yet" in ended.stderr):
            assert ended.returncode == 0, ended.stderr
            return ended


def found(project: Path) -> tuple[list[ImageScore], list[bytes]]:
    """Return the scores by evaluation and image, and the pixels of each."""
    scores = sorted(scored_images(project), key=lambda it: str(it.image))
    kept = project / "state" / "images"
    folder = next(kept.iterdir())
    return scores, [Image.open(folder / str(it.image)).tobytes() for it in scores]


class Struck(RayExecutor):
    """Strikes once an evaluator has told its first images, before they are written down.

    Attributes:
        strike: What is done, in the slot where that was; nothing after the first time.
        struck: It was done.
    """

    strike: Callable[[Slot], None]
    struck: threading.Event

    def start(self, slot: Slot, receive: Callable[[Reply], None]) -> RayEvaluator:
        """Start one."""

        def heard(reply: Reply) -> None:
            if isinstance(reply, Scored) and not self.struck.is_set():
                self.struck.set()
                self.strike(slot)
            receive(reply)

        return super().start(slot, heard)


def alone(project: Path, base: Path) -> tuple[list[ImageScore], list[bytes]]:
    """Have a checkpoint evaluated on this machine; return what was found."""
    guarded(project / "output", base, 10)
    typed(project, "start", "--once", "--report-to", "none", ray=None)
    here = found(project)
    shutil.move(project / "state", project / "state-here")
    assert len(here[0]) == 8
    return here


def test_the_cluster_makes_the_images_and_scores_of_one_machine(
    cluster: RayCluster, project: Path, base: Path
) -> None:
    """The same checkpoints, evaluated here and there: image by image the same."""
    here = alone(project, base)
    said = typed(project, "start", "--once", "--report-to", "none", ray=cluster).stderr
    there = found(project)
    assert "on CPU 0 of node 127.0.0.1" in said
    assert same(there[0], here[0])
    assert same_pictures(there[1], here[1])
    until(lambda: not workers("ray::Host") and not workers("clipwatch.evaluator.worker"))


def test_a_node_that_dies_in_the_middle_changes_no_picture(
    cluster: RayCluster, project: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real pipelines: what the lost one was making another node makes, as one machine does."""
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"]["batch_size"] = 1  # or what is left would be made in other batches
    (project / "config.json").write_text(json.dumps(config))
    here = alone(project, base)
    monkeypatch.setattr(retries, "RETRY_SECONDS", (0.3,))
    (project / "world").mkdir()
    world = World(project / "world")
    flags = {"ray_address": cluster.address, "report_to": "none"}
    world.settings = load(project / "config.json", flags=flags, environ={}, cwd=project)
    monkeypatch.setattr(world, "identities", Identities())
    executor = Struck(world.settings)
    executor.struck = threading.Event()
    executor.strike = lambda slot: cluster.remove(slot.name)
    cluster.add()
    slots(executor, NODES + 1)
    world.executor = lambda _: executor
    with world.live():
        until(lambda: states(world).get(10) == "published", 3 * PATIENCE)
    there = found(project)
    assert executor.struck.is_set()
    failed = [it.event for it in world.logged if isinstance(it.event, EvaluationFailed)]
    assert "killed" in {it.kind for it in failed}
    assert same(there[0], here[0])
    assert same_pictures(there[1], here[1])


@pytest.mark.parametrize("what", ["worker", "node"])
def test_what_dies_in_the_middle_costs_time_and_nothing_else(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A worker, or a node with all that runs on it: every image is there once, by its own score."""
    monkeypatch.setattr(retries, "RETRY_SECONDS", (0.3,))
    world = World(tmp_path, ray_address=cluster.address, batch_size=1)
    executor = Struck(world.settings, "fast_worker")
    executor.struck = threading.Event()
    if what == "node":
        cluster.add()
    slots(executor, NODES + (what == "node"))

    def strike(slot: Slot) -> None:
        if what == "worker":
            for worker in workers("ray::Host"):
                worker.kill()
        else:
            cluster.remove(slot.name)

    executor.strike = strike
    world.executor = lambda _: executor
    folder = checkpoint(world.output, 10)
    weights = (folder / "pytorch_lora_weights.safetensors").read_bytes()
    with world.live():
        until(lambda: states(world).get(10) == "published")
    images = [
        it for r in world.logged if isinstance(r.event, ImagesScored) for it in r.event.images
    ]
    protocol = world.settings.protocol
    assert {(it.prompt_id, it.index): it.score for it in images} == {
        (it.id, n): score_of(weights, it.text, seed) for it, n, seed in protocol.images()
    }
    assert len(images) == len(list(protocol.images()))
    failed = [r.event for r in world.logged if isinstance(r.event, EvaluationFailed)]
    assert "killed" in {it.kind for it in failed}
    assert executor.struck.is_set()
