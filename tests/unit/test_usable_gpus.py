"""Which GPU is taken: decided from values alone, so that no GPU is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from clipwatch.gpus import Gpu, GpuProcess, Refusal, usable
from clipwatch.gpus.usable import UNSEEN_BYTES, visible_gpus

GIB = 1 << 30
ME = 1
TRAINING = GpuProcess(4711, 30 * GIB, "python3.11")
BUSY = Gpu(0, "GPU-aa000000-1", "NVIDIA H100", 80 * GIB, 40 * GIB, (TRAINING,))
IDLE = Gpu(1, "GPU-ab000000-2", "NVIDIA H100", 80 * GIB, 79 * GIB)
SMALL = Gpu(2, "GPU-bb000000-3", "NVIDIA A10", 24 * GIB, 23 * GIB)
HIDDEN = replace(SMALL, unseen_bytes=20 * GIB)
PARTS = tuple(
    Gpu(3, f"MIG-{name}", "NVIDIA H100 MIG 1g.10gb", 10 * GIB, free * GIB)
    for name, free in (("aa", 8), ("ab", 9))
)
ALL = (BUSY, IDLE, SMALL)

uuids = st.text("ab", min_size=1, max_size=3)


@st.composite
def machines(draw: st.DrawFn) -> list[Gpu]:
    """Some GPUs, some of them split, with processes of ours and of others."""
    made: list[Gpu] = []
    processes = st.lists(
        st.builds(GpuProcess, st.integers(1, 4), st.none() | st.integers(0, GIB), st.just("p")),
        max_size=3,
    ).map(tuple)
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["GPU-", "GPU-", "MIG-"]))
        for _ in range(draw(st.integers(1, 2)) if kind == "MIG-" else 1):
            gpu = Gpu(
                index=index,
                uuid=kind + draw(uuids),
                name=draw(st.sampled_from(["NVIDIA H100", "NVIDIA A10"])),
                total_bytes=9,
                free_bytes=draw(st.integers(0, 3)),
                processes=draw(processes),
                unseen_bytes=draw(st.sampled_from([0, UNSEEN_BYTES, UNSEEN_BYTES + 1])),
            )
            if gpu.uuid not in {it.uuid for it in made}:
                made.append(gpu)
    return made


names = st.integers(0, 5).map(str) | uuids.map("GPU-{}".format) | uuids.map("MIG-{}".format)
lists = st.none() | st.lists(names | st.sampled_from(["", "-1", "x"]), max_size=4).map(",".join)
wishes = (
    st.sampled_from(["cuda"] * 3 + ["cuda:0", "cuda:1", "cuda:9"])
    | uuids.map("GPU-{}".format)
    | uuids.map("MIG-{}".format)
)
orders = st.sampled_from([None, "PCI_BUS_ID", "FASTEST_FIRST"])


def used(gpu: Gpu) -> bool:
    """Whether somebody else computes on it."""
    return gpu.unseen_bytes > GIB or any(process.pid != ME for process in gpu.processes)


@given(machines(), wishes, lists, orders, st.booleans())
def test_what_is_chosen(
    gpus: list[Gpu], wanted: str, visible: str | None, order: str | None, share: bool
) -> None:
    """None of others' unless shared, none that is hidden; idle ones first, the emptiest first.

    Whoever is refused is told why in one line.
    """
    chosen = usable(wanted, gpus, visible=visible, order=order, own_pids={ME}, share=share)
    if isinstance(chosen, Refusal):
        assert str(chosen).isprintable()
        assert all((chosen.problem, chosen.fix))
        return
    shown = gpus if visible is None else visible_gpus(gpus, visible)
    gpu = chosen[0]
    if wanted.startswith(("GPU-", "MIG-")):
        assert [it for it in shown if it.uuid.startswith(wanted)] == list(chosen) == [gpu]
    elif wanted != "cuda":
        number = int(wanted[5:])
        assert gpu == shown[number] if visible is not None else gpu.index == number
        assert chosen == (gpu,)
    else:
        assert set(chosen) == {it for it in shown if share or not used(it)}
    assert share or not any(map(used, chosen))
    ranks = [(used(it), -it.free_bytes) for it in chosen]
    assert ranks == sorted(ranks)


@given(machines(), st.data())
def test_the_same_gpus_the_same_choice(gpus: list[Gpu], data: st.DataObject) -> None:
    """In whatever order they are told."""
    other = data.draw(st.permutations(gpus))
    first = usable("cuda", gpus, own_pids={ME}, share=True)
    assert type(first) is type(again := usable("cuda", other, own_pids={ME}, share=True))
    assert isinstance(first, Refusal) or first == again


@given(machines(), wishes, lists)
def test_sharing_refuses_nothing_that_is_there(
    gpus: list[Gpu], wanted: str, visible: str | None
) -> None:
    """What is refused though it may be shared is refused for its name, not for its users."""
    refused = usable(wanted, gpus, visible=visible, share=True)
    alone = usable(
        wanted, [replace(it, processes=(), unseen_bytes=0) for it in gpus], visible=visible
    )
    assert isinstance(refused, Refusal) == isinstance(alone, Refusal)


@given(
    st.lists(uuids, unique=True, max_size=4),
    st.lists(names | st.sampled_from(["", "-1", "x", " 1", "1x", " GPU-a", "GPU-"]), max_size=5),
)
def test_cuda_visible_devices_is_read_as_pytorch_reads_it(
    uuids: list[str], written: list[str]
) -> None:
    """The same GPUs in the same order as by PyTorch's own reading of it, written independently."""
    visible = ",".join(written)
    assume(not visible.startswith("MIG-"))  # PyTorch leaves these to the driver
    gpus = [Gpu(index, f"GPU-{uuid}", "", 0, 0) for index, uuid in enumerate(uuids)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", visible)
        theirs = torch.cuda._parse_visible_devices()
        if theirs and isinstance(theirs[0], str):
            told = [gpu.uuid for gpu in gpus]
            theirs = torch.cuda._transform_uuid_to_ordinals(theirs, told)
    expected: list[int] = []
    for ordinal in theirs:
        if not isinstance(ordinal, int) or ordinal >= len(gpus):
            break
        expected.append(ordinal)
    assert [gpu.index for gpu in visible_gpus(gpus, visible)] == expected


@pytest.mark.parametrize(
    ("wanted", "visible", "expected"),
    [
        ("cuda", None, (IDLE, SMALL)),
        ("cuda", "0,2", (SMALL,)),
        ("cuda:2", None, (SMALL,)),
        ("cuda:1", "0,2", (SMALL,)),
        ("cuda:0", "GPU-ab,GPU-aa", (IDLE,)),
        ("GPU-b", None, (SMALL,)),
        ("GPU-ab000000-2", "1", (IDLE,)),
    ],
)
def test_names_of_gpus(wanted: str, visible: str | None, expected: tuple[Gpu, ...]) -> None:
    """Numbers count what CUDA_VISIBLE_DEVICES shows, else the machine; UUIDs may be cut short."""
    assert usable(wanted, ALL, visible=visible) == expected


def test_parts_of_gpus() -> None:
    """Parts are chosen as GPUs are, named by UUID; the number of the whole means its first part."""
    gpus = (BUSY, *PARTS)
    assert usable("cuda", gpus) == (PARTS[1], PARTS[0])
    assert usable("MIG-aa", gpus) == (PARTS[0],)
    assert usable("cuda:3", gpus) == (PARTS[0],)
    assert usable("cuda", gpus, visible="MIG-aa") == (PARTS[0],)


@pytest.mark.parametrize("wanted", ["cpu", "mps"])
def test_what_is_no_gpu_of_nvidias(wanted: str) -> None:
    """Other devices are not NVML's matter, whoever computes on its GPUs."""
    assert usable(wanted, (BUSY,)) == ()


def test_without_nvml_pytorch_finds_the_device() -> None:
    """AMD, or no library: nothing can be checked, so only what needs UUIDs is refused."""
    assert usable("cuda", None) == usable("cuda:1", None, visible="0,1") == ()
    assert isinstance(usable("GPU-aa", None), Refusal)


def test_our_own_processes_are_no_others() -> None:
    """An evaluator of ours that is about to end does not keep us from its GPU."""
    assert isinstance(usable("cuda:0", ALL), Refusal)
    assert usable("cuda:0", ALL, own_pids={TRAINING.pid}) == (BUSY,)


def test_sharing_takes_an_idle_gpu_all_the_same() -> None:
    """`share_gpu` allows what is not preferred."""
    assert usable("cuda", ALL, share=True) == (IDLE, SMALL, BUSY)
    emptier = replace(BUSY, index=7, uuid="GPU-c", free_bytes=50 * GIB)
    assert usable("cuda", (BUSY, emptier), share=True) == (emptier, BUSY)


WAY_OUT = "name another GPU with device, or set share_gpu to true"


@pytest.mark.parametrize(
    ("wanted", "gpus", "options", "text"),
    [
        (
            *("cuda:0", ALL, {"training": {4711}}),
            (
                "GPU 0 (NVIDIA H100, GPU-aa000000) is in use by pid 4711 (python3.11, it seems the"
                f" training): {WAY_OUT}"
            ),
        ),
        (
            *("cuda", (BUSY, HIDDEN), {}),
            (
                "no GPU is free: GPU 0 (NVIDIA H100, GPU-aa000000) is in use by pid 4711"
                " (python3.11); GPU 2 (NVIDIA A10, GPU-bb000000) is in use by processes that cannot"
                f" be seen from here (20.0 GiB): {WAY_OUT}"
            ),
        ),
        (
            *("cuda:5", (IDLE,), {}),
            (
                "device 'cuda:5' is no GPU here, or not just one: correct it: there is GPU 1"
                " (NVIDIA H100, GPU-ab000000)"
            ),
        ),
        (
            *("cuda", (IDLE,), {"visible": "-1"}),
            (
                "CUDA_VISIBLE_DEVICES='-1' shows no GPU: correct it: there is GPU 1 (NVIDIA H100,"
                " GPU-ab000000)"
            ),
        ),
        (
            *("cuda", (), {}),
            "the driver shows no GPU that works: see nvidia-smi, or set device to 'cpu'",
        ),
        (
            *("GPU-aa", None, {}),
            "device 'GPU-aa': no driver that knows UUIDs can be asked: use cuda:N",
        ),
        (
            *("cuda", ALL, {"visible": "1", "order": "FASTEST_FIRST"}),
            (
                "with CUDA_DEVICE_ORDER='FASTEST_FIRST' nobody but CUDA knows which GPU a number"
                " means: name GPUs by UUID (nvidia-smi -L), or set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            ),
        ),
    ],
)
def test_what_is_said(
    wanted: str, gpus: Sequence[Gpu] | None, options: dict[str, object], text: str
) -> None:
    """Which GPU, who is there and what to do; to a name that fits nothing, what there is."""
    assert str(usable(wanted, gpus, **options)) == text  # type: ignore[arg-type]


def test_a_crowd_is_told_in_one_line() -> None:
    """Eight GPUs with eight processes each: three of each are named, the training first."""
    crowd = tuple(GpuProcess(pid, 0, "python") for pid in range(100, 108))
    gpus = [replace(BUSY, index=n, uuid=f"GPU-0000000{n}", processes=crowd) for n in range(8)]
    refused = usable("cuda", gpus, training={107})
    assert isinstance(refused, Refusal)
    assert str(refused).count("GPU ") == 3 + 2  # "no GPU is", "another GPU with"
    assert "; 5 more: " in str(refused)
    assert "pid 107 (python, it seems the training) and pid 100 (python) and" in str(refused)
    assert len(str(refused)) < 600


@pytest.mark.parametrize("order", [None, "PCI_BUS_ID", "FASTEST_FIRST"])
def test_numbers_and_the_order_of_gpus(order: str | None) -> None:
    """Of GPUs of one model every order is nvidia-smi's; UUIDs and "any" depend on none."""
    alike = (BUSY, IDLE)
    assert usable("cuda:1", alike, order=order) == (IDLE,)
    assert usable("cuda", ALL, order=order) == (IDLE, SMALL)
    assert usable("GPU-bb", ALL, visible="GPU-bb", order=order) == (SMALL,)


def test_a_little_memory_out_of_sight_is_nobody() -> None:
    """What drivers and desktops keep for themselves does not make a GPU one of others'."""
    sizes = (0, UNSEEN_BYTES, UNSEEN_BYTES + 1)
    found = [usable("cuda", (replace(IDLE, unseen_bytes=size),)) for size in sizes]
    assert [isinstance(it, Refusal) for it in found] == [False, False, True]
