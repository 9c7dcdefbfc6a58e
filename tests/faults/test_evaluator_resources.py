"""Memory, disk and time run short: each is called by its name, and the next try may succeed."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from msgspec import structs
from PIL import Image

import evaluator_kit as kit
from clipwatch.evaluator import evaluation
from clipwatch.evaluator.batching import Search
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError, cause, failing_as, failure_of
from clipwatch.evaluator.images import save_image
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.executors.messages import Failed, Finished, Loaded, Reply, Scored, Working
from evaluator_child import Children

PIXELS = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(32, 32, 3)

pytestmark = kit.QUIET


# --- memory --------------------------------------------------------------------------------------

CUDA_OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
CUDA_ERROR = RuntimeError("CUDA error: an illegal memory access was encountered")


def wrapped(inner: Exception) -> Exception:
    """Return an error as libraries raise it when they could not load a file."""
    try:
        try:
            raise inner
        except Exception:  # noqa: BLE001 - so do they
            raise OSError("Unable to load weights from checkpoint file")  # noqa: B904
    except OSError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CUDA_OOM, "memory"),
        (torch.OutOfMemoryError("Allocation on device"), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
            "memory",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "memory"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "disk"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "disk"),
        (CUDA_ERROR, "internal"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "internal"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), None),
        (ValueError("shapes do not match"), None),
    ],
)
def test_the_machine_at_fault_is_never_the_checkpoint(error: Exception, kind: str | None) -> None:
    """Raised in the middle of loading weights, and wrapped by the library, too."""
    for it in (error, wrapped(error)):
        assert cause(it) == kind
        with pytest.raises(EvaluationError) as caught, failing_as("weights", "/c"):
            raise it
        assert failure_of(caught.value).kind == (kind or "weights")
        assert failure_of(it).kind == (kind or "internal")


@pytest.mark.parametrize("name", ["full", "lora", "pipeline"])
@pytest.mark.thorough
def test_half_the_batch_after_the_device_was_full(
    world: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A batch of 4 fails for memory; the same process then scores all images, 2 at once."""
    forward = UNet2DConditionModel.forward

    def small(self: Any, sample: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        if len(sample) > 4:  # with guidance, twice the batch
            raise CUDA_OOM
        return forward(self, sample, *arguments, **named)

    how = kit.protocol(world / "base")
    expected = kit.scores_of(Evaluator(), kit.request(world / name, name, how, batch_size=2))
    monkeypatch.setattr(UNet2DConditionModel, "forward", small)
    failed = kit.failure(evaluator, kit.request(world / name, name, how, batch_size=4))
    assert (failed.kind, "CUDA out of memory" in failed.reason) == ("memory", True)
    found = kit.scores_of(evaluator, kit.request(world / name, name, how, batch_size=2))
    assert kit.same(found, expected)


def out_of_memory(
    monkeypatch: pytest.MonkeyPatch, place: tuple[type, str], when: Callable[[Any, Any], bool]
) -> list[int]:
    """Let a method run out of memory at times; return the lengths of what it was called with."""
    kind, name = place
    original, calls = getattr(kind, name), list[int]()

    def small(self: Any, sample: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        calls.append(len(sample))
        if when(self, sample):
            raise CUDA_OOM
        return original(self, sample, *arguments, **named)

    monkeypatch.setattr(kind, name, small)
    return calls


@pytest.mark.thorough
def test_images_are_decoded_one_by_one_first(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a batch cannot be decoded it is made again, as large as before, and scores stay."""
    request = kit.request(world / "full", "full", kit.protocol(world / "base"))
    expected = kit.scores_of(Evaluator(), request)
    evaluator = Evaluator()
    place = (AutoencoderKL, "_decode")
    calls = out_of_memory(monkeypatch, place, lambda _, sample: len(sample) > 1)
    assert kit.same(kit.scores_of(evaluator, request), expected, kit.NEAR)
    assert calls == [4, 1, 1, 1, 1]
    assert kit.same(kit.scores_of(evaluator, request), expected, kit.NEAR)
    assert calls[5:] == [1, 1, 1, 1]  # which is known by now


@pytest.mark.thorough
def test_a_search_halves_what_does_not_fit(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images are made by half, nothing failed, and the size stays."""
    how = kit.protocol(world / "base", images_per_prompt=6, guidance=1.0)
    request = kit.request(world / "full", "full", how, batch_size=0, batch_limit=8)
    monkeypatch.setattr(Search, "after", kit.doubling_pays)
    evaluator = Evaluator()
    place = (UNet2DConditionModel, "forward")
    calls = out_of_memory(monkeypatch, place, lambda _, sample: len(sample) > 3)
    assert kit.batches(evaluator, request) == ([1, 1, 2, 2, 2, 2, 2], 2)
    assert calls == [1, 1, 1, 1, 2, 2, 4, 4, *[2] * 8]  # two steps each; once more, decoded singly
    assert kit.batches(evaluator, request) == ([2] * 6, 2)


@pytest.mark.thorough
def test_a_scorer_without_memory_ends_a_search(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its images are gone, so the attempt fails; the next one is made by half."""
    how = kit.protocol(world / "base", images_per_prompt=4)
    request = kit.request(world / "full", "full", how, batch_size=0, batch_limit=8)
    monkeypatch.setattr(Search, "after", kit.doubling_pays)
    evaluator = Evaluator()
    out_of_memory(monkeypatch, (DualEncoder, "score"), lambda _, images: len(images) > 2)
    assert kit.failure(evaluator, request).kind == "memory"
    assert kit.batches(evaluator, request) == ([2] * 4, 2)


@pytest.mark.thorough
def test_tiles_are_the_last_resort(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only for a single image, once, and with a warning; what does not even fit so has failed."""
    request = kit.request(world / "full", "full", kit.protocol(world / "base"), batch_size=1)
    evaluator = Evaluator()
    place = (AutoencoderKL, "_decode")
    with monkeypatch.context() as patched:
        calls = out_of_memory(patched, place, lambda vae, _: not vae.use_tiling)
        four = structs.replace(request, batch_size=4)
        assert kit.failure(evaluator, four).kind == "memory"
        assert calls == [4, 1]  # at once, and one by one
        assert not caplog.messages
        assert len(kit.scores_of(evaluator, request)) == 4
    assert ["decoded in tiles" in message for message in caplog.messages] == [True]
    calls = out_of_memory(monkeypatch, (UNet2DConditionModel, "forward"), lambda *_: True)
    assert kit.failure(evaluator, request).kind == "memory"
    assert len(calls) == 1
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("error", "kind"), [(CUDA_OOM, "memory"), (CUDA_ERROR, "internal")])
def test_a_device_that_fails_while_weights_are_loaded(
    world: Path,
    evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: str,
) -> None:
    """The LoRA is not to blame, and has its scores at the next try."""
    request = kit.request(world / "lora", "lora", kit.protocol(world / "base"))
    expected = kit.scores_of(evaluator, request)
    kit.scores_of(evaluator, kit.request(world / "base", "base", request.protocol))  # or it stays

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(peft, "inject_adapter_in_model", fail)
        assert kit.failure(evaluator, request).kind == kind
    assert kit.same(kit.scores_of(evaluator, request), expected)


LITTLE_MEMORY = """
import re, resource, sys
from clipwatch.evaluator import evaluate, worker
from clipwatch.executors.messages import Loaded
def limited(self, request, send, plain=evaluate.Evaluator.evaluate):
    def sending(message):
        if isinstance(message, Loaded):
            used = int(re.search("VmSize:\\\\s+(\\\\d+)", open("/proc/self/status").read())[1])
            resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + (100 << 20), -1))
        send(message)
    plain(self, request, sending)
evaluate.Evaluator.evaluate = limited
sys.exit(worker.main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.thorough
def test_host_memory_that_runs_short(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real process under a limit of the system says so, lives on, and does what fits."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small = kit.protocol(world / "base")
    large = replace(small, width=768, height=768)
    with Children(tmp_path, monkeypatch) as children:
        child = children.start(LITTLE_MEMORY, opening="")
        child.handle.evaluate(kit.request(world / "full", "full", large))
        assert isinstance(child.reply(), Loaded)
        failed = child.reply()
        assert isinstance(failed, Failed)
        assert failed.kind == "memory", failed
        child.handle.evaluate(kit.request(world / "full", "full", small, batch_size=1))
        assert isinstance(child.reply(), Loaded)
        for _ in range(4):
            assert isinstance(child.reply(), Scored)
            child.handle.kept()
        assert isinstance(child.reply(), Finished)


NO_ROOM_TO_MAP = """
import resource, sys
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation.weights import _opened
from pathlib import Path
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), -1))
try:
    _opened(Path(sys.argv[1]))
except EvaluationError as error:
    print(error.kind, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.thorough
def test_a_file_that_cannot_be_mapped_is_not_to_blame(tmp_path: Path) -> None:
    """A machine without room says so, and the checkpoint has its turn later."""
    header = b'{"x":{"dtype":"U8","shape":[1073741824],"data_offsets":[0,1073741824]}}'
    with (tmp_path / "large.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (1 << 30))
    command = [sys.executable, "-c", NO_ROOM_TO_MAP, str(tmp_path / "large.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("memory "), done.stderr
    assert "large.safetensors" in done.stdout


# --- images --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12k,mode=700", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root, to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_called_so(world: Path, small_disk: Path, evaluator: Evaluator) -> None:
    """What fitted is whole, nothing unfinished is left, and with more room it goes on."""
    how = kit.protocol(world / "base", width=48, height=48)
    request = kit.request(world / "full", "full", how, images=small_disk / "im", batch_size=1)
    *_, scored, failed = kit.replies_of(evaluator, request)
    assert isinstance(failed, Failed)
    assert (failed.kind, "No space left on device" in failed.reason) == ("disk", True)
    assert str(small_disk / "im") in failed.reason
    assert isinstance(scored, Scored)
    kept = sorted(path.name for path in (small_disk / "im").iterdir())
    assert 0 < len(kept) < 4
    assert scored.images[-1].image in kept
    for name in kept:
        Image.open(small_disk / "im" / name).load()
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    assert len(kit.scores_of(evaluator, request)) == len(list((small_disk / "im").iterdir())) == 4


@pytest.mark.parametrize("access", [0o700, 0o750, 0o755])
def test_images_are_as_private_as_their_folder(tmp_path: Path, access: int) -> None:
    """So are folders that are made for them."""
    before = os.umask(0)
    try:
        (tmp_path / "state").mkdir(mode=access)
        save_image(PIXELS, tmp_path / "state" / "a" / "b" / "red-0.png")
    finally:
        os.umask(before)
    for name, expected in {"a": access, "a/b": access, "a/b/red-0.png": access & 0o666}.items():
        assert stat.S_IMODE((tmp_path / "state" / name).stat().st_mode) == expected


def test_the_umask_is_heeded(tmp_path: Path) -> None:
    """Who wants all new files private has them so."""
    tmp_path.chmod(0o755)
    before = os.umask(0o077)
    try:
        save_image(PIXELS, tmp_path / "red-0.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "red-0.png").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", [".red-0.png.tmp", "red-0.png"])
@pytest.mark.parametrize("link", [False, True])
def test_what_lies_in_the_way_of_an_image(tmp_path: Path, name: str, link: bool) -> None:
    """Left by one that was killed, or laid there as a link to elsewhere: it is replaced."""
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "im").mkdir()
    if link:
        (tmp_path / "im" / name).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "im" / name).write_bytes(b"\x89PNG half of one")
    save_image(PIXELS, tmp_path / "im" / "red-0.png")
    assert [path.name for path in (tmp_path / "im").iterdir()] == ["red-0.png"]
    assert not (tmp_path / "im" / "red-0.png").is_symlink()
    assert Image.open(tmp_path / "im" / "red-0.png").tobytes() == PIXELS.numpy().tobytes()
    assert (tmp_path / "elsewhere").read_text() == "precious"


# --- signs of life -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["full", "lora", "pipeline"])
@pytest.mark.thorough(but=1)
def test_models_at_work_give_signs_of_life(
    world: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Text encoder, each step of the denoiser, and VAE: there is no long silence in between."""
    monkeypatch.setattr(evaluation, "_WORKING_SECONDS", 0.0)
    messages: list[Reply] = []
    how = kit.protocol(world / "base", inference_steps=7)
    evaluator.evaluate(kit.request(world / name, name, how), messages.append)
    kinds = [type(message) for message in messages]
    making = kinds[kinds.index(Loaded) : kinds.index(Scored)]
    assert making.count(Working) > 7 + 2
    assert kinds[-2:] == [Scored, Finished]


def test_signs_of_life_come_at_most_once_a_second(
    world: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by 0.3 s whenever somebody looks at it."""
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks) * 0.3)
    monkeypatch.setattr(evaluation, "time", clock)
    messages: list[Reply] = []
    how = kit.protocol(world / "base", inference_steps=7)
    evaluator.evaluate(kit.request(world / "full", "full", how), messages.append)
    said = sum(isinstance(message, Working) for message in messages)
    seconds = next(ticks) * 0.3
    assert 1 < said <= seconds
    assert said >= seconds / 1.3 - 1
