"""Devices as they are named, and the slots that they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipwatch.executors import local
from clipwatch.executors.base import Refusal
from clipwatch.executors.local import LocalExecutor
from clipwatch.gpus import Gpu
from clipwatch.gpus.usable import merged
from clipwatch.kit.environment import environment
from clipwatch.kit.errors import SettingsError
from clipwatch.settings import load
from world import settings

A, B = Gpu(0, "GPU-a", "A10", 24, 20), Gpu(1, "GPU-b", "A10", 24, 22)


@pytest.mark.parametrize(
    ("written", "read", "slots"),
    [
        ("cpu", "cpu", 1),
        ("cpu,cpu", "cpu,cpu", 2),
        ("cuda:1, cuda:2", "cuda:1,cuda:2", 2),
        (["cuda:1", "GPU-12345678", "MIG-1/2/0"], "cuda:1,GPU-12345678,MIG-1/2/0", 3),
        (["cuda:1"], "cuda:1", 1),
        ("cuda", "cuda", 1),
    ],
)
def test_each_name_is_a_slot(tmp_path: Path, written: object, read: str, slots: int) -> None:
    """With commas or in a list; one alone means what it always meant."""
    compute = settings(tmp_path, device=written).compute
    assert (compute.device, compute.most_slots) == (read, slots)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("cuda:1,auto", "must name several by cuda:N or UUID each, or be cpu,cpu"),
        ("cuda,cuda", "must name several by cuda:N or UUID each, or be cpu,cpu"),
        ("mps,mps", "must name several by cuda:N or UUID each, or be cpu,cpu"),
        ("cuda:1,", "must name several by cuda:N or UUID each, or be cpu,cpu"),
        ("cpu*2", "must be auto, cpu, cuda, cuda:N, GPU-UUID, MIG-UUID or mps"),
        ([], "must be auto, cpu, cuda, cuda:N, GPU-UUID, MIG-UUID or mps"),
        ("cuda:1,cpu", "must be all GPUs or all cpu, which make other images"),
        ("cuda:1,cuda:2,cuda:1", "names cuda:1 twice"),
    ],
)
def test_what_is_no_list_of_devices_is_told(tmp_path: Path, written: object, told: str) -> None:
    """In a line that says what may stand there."""
    with pytest.raises(SettingsError) as refused:
        settings(tmp_path, device=written)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_key_has_another_spelling(tmp_path: Path) -> None:
    """Wherever settings stand; both in one place are one too many, in two the nearer one counts."""
    settings(tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text().rstrip("}")
    own = '"evaluation_type": "clip", "prompts": "prompts.txt", "state_dir": "state", '
    config.write_text(text + ', "clipwatch": {' + own + '"devices": ["cpu", "cpu"]}}')
    assert load(config, environ={}, cwd=tmp_path).compute.devices == ("cpu", "cpu")
    near = load(config, environ={"CLIPWATCH_DEVICE": "cpu"}, cwd=tmp_path)
    assert near.compute.devices == ("cpu",)
    config.write_text(text + ', "clipwatch": {' + own + '"device": "cpu", "devices": "cpu"}}')
    with pytest.raises(SettingsError, match="is the same as device, which is set as well"):
        load(config, environ={}, cwd=tmp_path)


def test_slots_bound_what_a_run_takes(tmp_path: Path) -> None:
    """Left out it is the devices that are named here, and all that another executor tells."""
    assert settings(tmp_path, device="cuda", slots=4).compute.most_slots == 4
    assert settings(tmp_path, device="cpu,cpu,cpu", slots=2).compute.most_slots == 2


def test_the_same_is_made_in_one_slot_and_in_several(tmp_path: Path) -> None:
    """How many there are is no part of the protocol: the curve goes on."""
    one, two = settings(tmp_path), settings(tmp_path, device="cpu,cpu", slots=2)
    assert one.protocol == two.protocol


def test_several_slots_of_the_processor_share_it(tmp_path: Path) -> None:
    """Each has its name, its part of the memory, and of the threads."""
    slots = LocalExecutor(settings(tmp_path, device="cpu,cpu")).slots()
    assert not isinstance(slots, Refusal)
    assert [(it.name, it.device, it.title) for it in slots] == [
        ("cpu", "cpu", "cpu 1"),
        ("cpu 2", "cpu", "cpu 2"),
    ]
    assert environment({}, 16)["OMP_NUM_THREADS"] == "8"
    assert environment({}, 16 // 2)["OMP_NUM_THREADS"] == "4"
    assert environment({}, 2 // 4)["OMP_NUM_THREADS"] == "1"


def test_devices_of_which_no_driver_tells_are_slots_as_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AMD's, say: PyTorch counts them."""
    monkeypatch.setattr(local, "usable_gpus", lambda _: ())
    slots = LocalExecutor(settings(tmp_path, device="cuda:1,cuda:3")).slots()
    assert not isinstance(slots, Refusal)
    assert [(it.name, it.device, it.gpu, it.title) for it in slots] == [
        ("cuda:1", "cuda:1", "", "cuda:1"),
        ("cuda:3", "cuda:3", "", "cuda:3"),
    ]


def test_one_gpu_that_is_free_is_enough() -> None:
    """They come in the order of their names, each once; all in use are told in one line."""
    busy, gone = Refusal("GPU 0 is in use", "wait"), Refusal("device 'cuda:9' is no GPU", "mend it")
    assert merged([(B,), (A,), (B,)]) == (B, A)
    assert merged([busy, (B,)]) == (B,)
    assert merged([busy]) == busy
    assert merged([busy, gone]) == Refusal("GPU 0 is in use; device 'cuda:9' is no GPU", "wait")
    assert merged([()]) == ()
