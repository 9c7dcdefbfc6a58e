"""The executor for a Ray cluster, on a real one of several nodes on this machine."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest
from ray.exceptions import RayTaskError

import clipwatch
from clipwatch.domain.events import WeightFile
from clipwatch.executors.base import Executor, Refusal
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Scored
from clipwatch.executors.ray import RayExecutor, evaluators, link
from clipwatch.executors.ray import executor as executor_module
from clipwatch.executors.ray.messages import End
from clipwatch.kit.errors import SettingsError
from clipwatch.testing.executors import ExecutorContract
from fast_worker import score_of
from ray_kit import RayCluster, Told, ray_cluster, slots, until, workers
from world import checkpoint, settings

# the cluster takes ten seconds to start
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Run a cluster of two nodes with a slot each."""
    with ray_cluster(tmp_path_factory.mktemp("ray")) as made:
        made.add()
        made.add()
        yield made


@pytest.fixture
def executor(cluster: RayCluster, tmp_path: Path) -> RayExecutor:
    """Return an executor with the fast evaluator, as soon as all slots are free."""
    made = RayExecutor(settings(tmp_path, ray_address=cluster.address), "fast_worker")
    slots(made, 2)
    return made


@pytest.fixture
def job(tmp_path: Path) -> Evaluate:
    """Return an evaluation of four images or more."""
    folder = checkpoint(tmp_path / "output", 10)
    file = folder / "pytorch_lora_weights.safetensors"
    found = file.stat()
    files = (WeightFile(file.name, found.st_size, found.st_mtime_ns, found.st_ino),)
    protocol = settings(tmp_path).protocol
    return Evaluate(
        str(folder), "lora", "", files, protocol, (), str(tmp_path / "images"), "cpu", 2
    )


class TestRay(ExecutorContract):
    """An actor on a node, with the real child but for the models."""

    @pytest.fixture
    def executor(self, executor: Executor) -> Executor:
        """See ExecutorContract."""
        return executor


def test_a_kill_ends_all_that_ran_on_the_node(executor: RayExecutor, job: Evaluate) -> None:
    """Neither a process nor a file stays there, and the slot is free."""
    evaluator = Told(executor, slots(executor, 2)[0])
    evaluator.ask(job)
    evaluator.until(Scored)
    assert workers("fast_worker")
    evaluator.handle.kill()
    until(lambda: not workers("fast_worker") and not workers("ray::Host"))
    assert left_on_nodes() == []
    slots(executor, 2)


def test_who_has_nothing_to_do_leaves_the_cluster(
    executor: RayExecutor, job: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluator without a request ends by itself, so its GPU is there for others."""
    monkeypatch.setattr(executor_module, "IDLE_SECONDS", 0.5)
    evaluator = Told(executor, slots(executor, 2)[0])
    evaluator.ask(job)
    evaluator.until(Finished)
    until(lambda: not evaluator.handle.alive)
    until(lambda: not workers("ray::Host"))
    evaluator.ask(job)
    assert isinstance(failed := evaluator.reply(), Failed)
    assert failed.kind == "killed"


def test_a_worker_that_is_killed_is_told(executor: RayExecutor, job: Evaluate) -> None:
    """The batch in flight is lost, what it left is deleted by the next one, which works."""
    evaluator = Told(executor, slots(executor, 2)[0])
    evaluator.ask(job)
    evaluator.until(Scored)
    for worker in workers("ray::Host"):
        worker.kill()
    assert isinstance(failed := evaluator.reply(), Failed)
    assert failed.kind == "killed"
    assert "was lost" in failed.reason
    until(lambda: not evaluator.handle.alive and not workers("fast_worker"))
    another = Told(executor, slots(executor, 2)[0])
    another.ask(job)
    another.until(Finished)
    assert len(left_on_nodes()) == 1
    another.handle.kill()


def test_an_evaluator_that_ends_is_told_as_here(executor: RayExecutor, job: Evaluate) -> None:
    """Its process on the node may die of whatever; the actor starts another."""
    evaluator = Told(executor, slots(executor, 2)[0])
    evaluator.ask(job)
    evaluator.until(Scored)
    for child in workers("fast_worker"):
        child.kill()
    assert isinstance(failed := evaluator.reply(), Failed)
    assert failed.kind == "killed"
    assert "SIGKILL" in failed.reason
    evaluator.ask(job)
    evaluator.until(Finished)
    evaluator.handle.kill()


def test_a_lost_link_is_told_and_made_anew(
    executor: RayExecutor, cluster: RayCluster, job: Evaluate
) -> None:
    """As when the head was away: the evaluations in hand fail, nothing of them stays on a node."""
    evaluator = Told(executor, slots(executor, 2)[0])
    evaluator.ask(job)
    evaluator.until(Scored)
    link.link_to(cluster.address)._child.kill()
    assert isinstance(failed := evaluator.reply(), Failed)
    assert failed.kind == "killed"
    assert not evaluator.handle.alive
    until(lambda: not workers("fast_worker") and not workers("ray::Host"))
    slots(executor, 2)


def test_where_the_storage_is_not_shared_a_checkpoint_travels(
    cluster: RayCluster, executor: RayExecutor, job: Evaluate
) -> None:
    """The node gets its files and the daemon the images; one that was written again is refused."""
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("only root can hide a folder from a process")
    here = [slot.name for slot in slots(executor, 2)]
    images, checkpoint = Path(str(job.images_dir)), Path(job.path)
    weights = b"".join((checkpoint / it.path).read_bytes() for it in job.files)
    scores: dict[tuple[str, int], float] = {}
    with cluster.without(checkpoint):
        evaluator = Told(executor, next(it for it in slots(executor, 3) if it.name not in here))
        evaluator.ask(job)
        while isinstance(reply := evaluator.reply(), Loaded | Scored):
            if isinstance(reply, Scored):
                assert all((images / str(it.image)).is_file() for it in reply.images)
                scores |= {(it.prompt_id, it.index): it.score for it in reply.images}
                evaluator.handle.kept()
        assert isinstance(reply, Finished), reply
        evaluator.ask(job)
        evaluator.until(Finished)
        other = msgspec.structs.replace(job, files=(replace(job.files[0], mtime_ns=1),))
        evaluator.ask(other)
        assert isinstance(failed := evaluator.reply(), Failed)
        assert failed == Failed("changed", f"{checkpoint / job.files[0].path} was written again")
        evaluator.handle.kill()
    wanted = {(it.id, n): score_of(weights, it.text, seed) for it, n, seed in job.protocol.images()}
    assert scores == wanted


def test_a_node_with_another_clipwatch_is_refused(cluster: RayCluster, tmp_path: Path) -> None:
    """A number is made by the version that the log names."""
    real = Path(clipwatch.__file__).parent
    (tmp_path / "old" / "clipwatch").mkdir(parents=True)
    shim = f"__path__ = [{str(real)!r}]\n__version__ = '0.0.9'\n"
    (tmp_path / "old" / "clipwatch" / "__init__.py").write_text(shim)
    path = f"{tmp_path / 'old'}:{os.environ['PYTHONPATH']}"
    node = cluster.add(num_gpus=1, env_vars={"PYTHONPATH": path})
    try:
        executor = RayExecutor(settings(tmp_path, ray_address=cluster.address, device="cuda"))
        until(lambda: "0.0.9" in str(executor.slots()))
        assert isinstance(refusal := executor.slots(), Refusal)
        assert refusal.problem == (
            "no node of the Ray cluster can evaluate: 127.0.0.1 has clipwatch 0.0.9"
        )
        assert f"install clipwatch {clipwatch.__version__}" in refusal.fix
    finally:
        cluster.cluster.remove_node(node, allow_graceful=False)


def test_no_cluster_is_a_refusal_that_says_what_to_do(tmp_path: Path) -> None:
    """None is started instead."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    executor = RayExecutor(settings(tmp_path, ray_address=address))
    until(lambda: "no Ray cluster answers" in str(executor.slots()))
    assert "ray start --head" in str(executor.slots())
    with pytest.raises(SettingsError, match="cuda:1 names a device of this machine"):
        RayExecutor(settings(tmp_path, device="cuda:1"))


def left_on_nodes() -> list[Path]:
    """Return the folders that evaluators have or left on the nodes."""
    return list(Path(os.environ["TMPDIR"], f"clipwatch-ray-{os.geteuid()}").iterdir())


def test_images_have_a_folder_wherever_they_are_asked_for(tmp_path: Path) -> None:
    """With those above it that lack, as where this machine evaluates."""
    evaluators._write(tmp_path / "a/b/c", {"p-0.png": b"pixels"})
    assert (tmp_path / "a/b/c/p-0.png").read_bytes() == b"pixels"


@pytest.mark.parametrize("where", ["here", "on the node"])
def test_a_full_disk_is_waited_for(where: str) -> None:
    """Here, where the images are kept, or on the node, where the checkpoint travels to."""
    error: Exception = OSError(errno.ENOSPC, "No space left on device", "/x")
    if where != "here":
        error = RayTaskError("write", f"Traceback\n{error!r}", error).as_instanceof_cause()
    found = evaluators._failure(error, "GPU 0 of node a", "/checkpoint-10", placed=True)
    assert found.kind == "disk"
    assert "No space left on device" in found.reason


def test_an_order_to_a_link_that_has_just_died_is_no_fault() -> None:
    """Its end is told by who reads from it; the thread that writes ends in silence."""
    dead = link.Link.__new__(link.Link)
    dead._orders = SimpleQueue()
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as child:
        child.wait()
        dead._child = child
        dead.send(End(1))
        dead._write()
