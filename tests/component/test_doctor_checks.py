"""What each check of the doctor says of which facts; models, limits and versions on real files."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from clipwatch import prompts
from clipwatch.demo.models import CLIP
from clipwatch.doctor import (
    device,
    judge_prompts,
    models,
    output,
    publishing,
    state_dir,
    surroundings,
)
from clipwatch.doctor.device import Torch
from clipwatch.doctor.output import Newest, Output
from clipwatch.doctor.state_dir import State
from clipwatch.doctor.surroundings import Inotify
from clipwatch.domain.delivered import Destination
from clipwatch.domain.kinds import WatchMode
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.gpus import Gpu, Refusal
from clipwatch.models import memory
from clipwatch.settings import load
from evaluator_kit import QUIET, protocol
from world import World, checkpoint, settings

pytestmark = QUIET

GIB = 2**30
GPU = Gpu(0, "GPU-12345678-9", "H100", 80 * GIB, 70 * GIB)
SEES = Torch("2.13.0", ("H100",))


def test_few_prompts() -> None:
    """One prompt fewer than FEW is a remark, FEW is none."""
    assert judge_prompts(prompts.FEW).verdict == "ok"
    assert judge_prompts(prompts.FEW - 1).verdict == "warn"


def test_no_trackers(tmp_path: Path) -> None:
    """A warning with the key where report_to is left out, none where it is "none"."""
    found = publishing.none(settings(tmp_path))
    assert (found.verdict, "stay in the log" in found.found) == ("warn", True)
    assert '"clipwatch": {"report_to": "tensorboard"}' in found.fix
    found = publishing.none(settings(tmp_path, report_to="none"))
    assert (found.verdict, found.found) == (
        "ok",
        "none, by --report-to: scores stay in the log",
    )


# Output directory --------------------------------------------------------------------------------

FOUND = Output(Path("/out"), "ext4", "auto", 5.0, "", 3, Newest("checkpoint-30"))


@pytest.mark.parametrize(
    ("kind", "watch", "way"),
    [
        ("ext4", "auto", "(ext4, events)"),
        ("nfs4", "auto", "(nfs4, a look every 5 s)"),
        ("ext4", "poll", "(ext4, a look every 5 s)"),
        ("nfs4", "events", "(nfs4, events)"),
        ("", "auto", "(unknown file system, a look every 5 s)"),
    ],
)
def test_how_changes_are_noticed(kind: str, watch: WatchMode, way: str) -> None:
    """The line tells the file system and how changes on it are noticed."""
    found = output.assess(replace(FOUND, kind=kind, watch=watch))
    assert found.verdict == "ok"
    assert found.found == f"/out {way}, 3 checkpoints, newest checkpoint-30 readable"


# State directory ---------------------------------------------------------------------------------

ROOM = State(Path("/state"), "ext4", None, 10 * GIB, GIB)


@pytest.mark.parametrize(
    ("changes", "verdict", "told"),
    [
        ({}, "ok", "(ext4, 10.7 GB free), a run may take 1.1 GB"),
        ({"free": GIB - 1}, "warn", "a run may take"),
        ({"free": state_dir.LEAST - 1}, "fail", "a run needs"),
        ({"kind": "nfs4"}, "fail", "not on a local disk"),
        ({"kind": "fuse.sshfs"}, "fail", "not on a local disk"),
        ({"kind": "bcachefs"}, "warn", "does not know"),
        ({"kind": ""}, "ok", "unknown file system"),
        ({"unwritable": Path("/state/x")}, "fail", "/state/x cannot be written"),
    ],
)
def test_room_for_the_state(changes: dict[str, object], verdict: str, told: str) -> None:
    """Writable, local, and with the space that a run needs: else warn or fail."""
    found = state_dir.assess(replace(ROOM, **changes))  # type: ignore[arg-type]
    assert (found.verdict, told in found.found) == (verdict, True), found
    assert bool(found.fix) == (verdict != "ok")


def test_needed_space_grows_with_images_and_copies(tmp_path: Path) -> None:
    """Images are counted as if uncompressed; copies of checkpoints count where they are made."""
    checkpoint(tmp_path / "output", 10)
    plain = settings(tmp_path, keep_images=5, stage="off")
    images = (5 + 1) * 4 * 256 * 256 * 3  # the newest, and the best
    assert state_dir.needed(plain) == state_dir.LEAST + images
    based = settings(tmp_path, keep_images=5, stage="off", baseline=True)
    assert state_dir.needed(based) == state_dir.LEAST + images * 7 // 6
    bounded = settings(tmp_path, keep_images="all", stage="off", keep_images_gb=0.5)
    assert state_dir.needed(bounded) == state_dir.LEAST + min(500_000_000, 100 * images // 6)
    assert state_dir.needed(settings(tmp_path, keep_images=0, stage="off")) == state_dir.LEAST
    weights = (tmp_path / "output/checkpoint-10/pytorch_lora_weights.safetensors").stat().st_size
    copied = settings(tmp_path, keep_images=5, stage="copy", stage_limit=3)
    assert state_dir.needed(copied) == state_dir.LEAST + images + 3 * weights


def test_state_directory_that_is_a_file(tmp_path: Path) -> None:
    """A file in the folder's place fails with its name."""
    run = settings(tmp_path, state_dir=str(tmp_path / "prompts.txt" / "state"))
    assert state_dir.look(run)[0].found == f"{tmp_path / 'prompts.txt'} cannot be written"


# Models ------------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(tmp_path: Path, base: Path) -> Path:
    """A copy of the base pipeline to spoil."""
    return Path(shutil.copytree(base, tmp_path / "pipeline"))


def test_whole_models(base: Path) -> None:
    """A local pipeline and CLIP are told with the size of their weights, and counted."""
    how = protocol(base)
    assert models.base(how).found == f"{base} (local, weights of 5.2 MB)"
    (found,) = models.scorers(how)
    assert found.found == f"{CLIP} (local, weights of 1.2 MB)"
    both = replace(how, scorers=(*how.scorers, ScorerSpec("second", "/nowhere")))
    assert [it.verdict for it in models.scorers(both)] == ["ok", "fail"]
    assert memory.elements(both) is None
    import torch
    from diffusers import StableDiffusionPipeline

    loaded = StableDiffusionPipeline.from_pretrained(base)
    parts = [it for it in loaded.components.values() if isinstance(it, torch.nn.Module)]
    counted = memory.elements(how)
    assert counted is not None
    numbers = sum(tensor.numel() for part in parts for tensor in part.state_dict().values())
    assert sum(it for part, it in counted.items() if part.startswith("base")) == numbers
    assert memory.needed(how, 4) is not None


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda it: (it / "model_index.json").unlink(), "no diffusers pipeline"),
        (lambda it: shutil.rmtree(it / "tokenizer"), "tokenizer/ is missing"),
        (
            lambda it: (it / "text_encoder" / "model.safetensors").unlink(),
            "text_encoder/ has no safetensors weights",
        ),
        (
            lambda it: (it / "vae" / "diffusion_pytorch_model.safetensors").rename(
                it / "vae" / "diffusion_pytorch_model.bin"
            ),
            "vae/ has no safetensors weights, only pickles",
        ),
        (
            lambda it: os.truncate(it / "unet" / "diffusion_pytorch_model.safetensors", 5000),
            "is not whole",
        ),
    ],
    ids=["index", "folder", "weights", "pickle", "cut"],
)
def test_pipelines_that_lack_something(pipeline: Path, spoil: object, told: str) -> None:
    """What lacks is named, and the check fails with a fix."""
    spoil(pipeline)  # type: ignore[operator]
    found = models.base(protocol(pipeline))
    assert (found.verdict, told in found.found) == ("fail", True), found
    assert found.fix
    assert memory.elements(protocol(pipeline)) is None


def test_variant_that_is_not_there(pipeline: Path) -> None:
    """Weights without the variant that is asked for are not those that would be loaded."""
    found = models.base(replace(protocol(pipeline), base_variant="fp16"))
    assert found.verdict == "fail"
    assert "no weights of the variant 'fp16'" in found.found


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda it: (it / "config.json").write_text('{"model_type": "clap"}'),
            "not a CLIP model",
        ),
        (lambda it: (it / "model.safetensors").rename(it / "pytorch_model.bin"), "only pickles"),
        (lambda it: (it / "tokenizer.json").unlink(), "its tokenizer is missing"),
        (lambda it: (it / "config.json").unlink(), "no model of transformers"),
    ],
    ids=["kind", "pickle", "tokenizer", "config"],
)
def test_scorers_that_lack_something(tmp_path: Path, base: Path, spoil: object, told: str) -> None:
    """What lacks is named, and the check fails with a fix."""
    folder = shutil.copytree(CLIP, tmp_path / "clip")
    spoil(folder)  # type: ignore[operator]
    (found,) = models.scorers(replace(protocol(base), scorers=(ScorerSpec("", str(folder)),)))
    assert (found.verdict, told in found.found, bool(found.fix)) == ("fail", True, True), found


# Device ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gpu", "torch", "need", "most", "verdict", "told"),
    [
        ("cpu", None, Torch("2.13"), GIB, None, "ok", "cpu, torch 2.13, 8.6 GB to take"),
        ("cpu", None, Torch("2.13"), 9 * GIB, None, "warn", "needed about 9.7 GB"),
        ("cpu", None, Torch(problem="torch cannot be used (x)"), GIB, None, "fail", "(x)"),
        ("mps", None, Torch("2.13"), GIB, None, "fail", "no Apple GPU"),
        ("cuda", None, Torch("2.13"), GIB, None, "fail", "torch 2.13 sees no GPU for cuda"),
        ("cuda", GPU, Torch("2.13"), GIB, None, "fail", "sees no GPU"),
        ("cuda", GPU, SEES, GIB, None, "ok", "GPU 0 (H100, GPU-12345678), torch 2.13.0, 75.2 GB"),
        ("cuda", GPU, SEES, 71 * GIB, None, "warn", "75.2 GB to take"),
        ("cuda", GPU, SEES, 9 * GIB, 8.0 * GIB, "warn", "8.6 GB to take"),
        ("cuda", None, SEES, GIB, None, "ok", "H100, torch 2.13.0, free memory unknown"),
        ("cuda", GPU, SEES, None, None, "ok", "the models are not here"),
    ],
)
def test_devices(
    name: str, gpu: Gpu | None, torch: Torch, need: int | None, most: float | None,
    verdict: str, told: str,
) -> None:  # fmt: skip
    """PyTorch must see the device, and its memory should be enough."""
    found = device.assess(name, gpu, torch, need, most, 8 * GIB)
    assert (found.verdict, told in found.found) == (verdict, True), found
    assert bool(found.fix) == (verdict != "ok")


def test_each_device_that_is_named_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in use beside others is left out, and no failure; slots of a processor are one device."""
    free, busy = Gpu(1, "GPU-b", "A10", 24 * GIB, 20 * GIB), Refusal("GPU 2 is in use", "wait")
    known = {"cuda:1": (free,), "cuda:2": busy, "cpu": ()}
    monkeypatch.setattr(device, "usable_gpus", lambda it: known[it.compute.device])
    asked: list[str] = []

    def ask(uuid: str) -> Torch:
        asked.append(uuid)
        return SEES

    monkeypatch.setattr(device, "ask_torch", ask)
    found = device.look(settings(tmp_path, device="cuda:1,cuda:2"))
    assert [it.verdict for it in found] == ["ok", "warn"]
    assert "GPU 1 (A10, GPU-b)" in found[0].found
    assert found[1].found == "GPU 2 is in use"
    assert asked == ["GPU-b"]
    assert [it.verdict for it in device.look(settings(tmp_path, device="cuda:2"))] == ["fail"]
    (both,) = device.look(settings(tmp_path, device="cpu,cpu"))
    assert both.found.startswith("cpu, torch")


@pytest.mark.thorough
def test_a_cpu_that_nobody_chose(tmp_path: Path) -> None:
    """A warning where "auto" came to the CPU, none where it was chosen; it tells what it found."""
    folder = str(tmp_path / "no-gpu")
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    settings(tmp_path)
    flags = {"evaluation_type": "clip", "prompts": "prompts.txt", "state_dir": folder}
    auto, chosen = (
        load(tmp_path / "config.json", flags={**flags, **more}, environ=hidden, cwd=tmp_path)
        for more in ({}, {"device": "cpu"})
    )
    (found,) = device.look(auto)
    assert (found.verdict, "no GPU is seen" in found.found) == ("warn", True)
    assert "cpu, torch" in found.found
    assert "set it to 'cpu' if it is meant" in found.fix
    assert device.look(chosen)[0].verdict == "ok"


def test_torch_is_asked_in_another_process() -> None:
    """It tells the version that is installed, and no GPU when it is shown none."""
    from importlib.metadata import version

    told = device.ask_torch("GPU-00000000-none")
    assert (told.version, told.gpus, told.problem) == (version("torch"), (), "")


# Clock, limits, versions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "newest", "verdict"),
    [
        (1.8e9, 1.8e9, "ok"),
        (1.8e9, 1.8e9 + surroundings.AHEAD_SECONDS, "ok"),
        (1.8e9, 1.8e9 + surroundings.AHEAD_SECONDS + 1, "warn"),
        (0.0, 0.0, "fail"),
    ],
)
def test_clocks(now: float, newest: float, verdict: str) -> None:
    """A year that cannot be fails, and files from the future are a remark."""
    assert surroundings.judge_clock(now, newest).verdict == verdict


def test_files_from_the_future(tmp_path: Path) -> None:
    """A weight file that is an hour ahead of our clock is noticed."""
    folder = checkpoint(tmp_path / "output", 10)
    run = settings(tmp_path)
    assert surroundings.clock(run)[0].verdict == "ok"
    later = time.time() + 3600
    os.utime(folder / "pytorch_lora_weights.safetensors", (later, later))
    found = surroundings.clock(run)[0]
    assert found.verdict == "warn"
    assert "the newest checkpoint is from 3" in found.found


@pytest.mark.parametrize(
    ("use", "fix"),
    [
        (Inotify(128, 10_000, 127, 100), ""),
        (Inotify(128, 10_000, 128, 100), "sysctl fs.inotify.max_user_instances=1024"),
        (Inotify(128, 10_000, 1, 9_995), "sysctl fs.inotify.max_user_watches=20000"),
    ],
)
def test_inotify_limits(use: Inotify, fix: str) -> None:
    """It must leave one more instance and a few more watches."""
    found = surroundings.judge_inotify(use)
    assert found.verdict == ("warn" if fix else "ok")
    assert found.fix.startswith(fix)


def test_inotify_use_is_counted(tmp_path: Path) -> None:
    """An instance and its watches of this process are in the count of its user."""
    libc = ctypes.CDLL(None)
    uid = os.geteuid()
    number = libc.inotify_init1(0)
    if number < 0:
        pytest.skip("no inotify instance is left on this machine")
    try:
        for name in "abc":
            (tmp_path / name).mkdir()
            assert libc.inotify_add_watch(number, os.fsencode(tmp_path / name), 0x100) > 0
        ours = Path(f"/proc/{os.getpid()}/fdinfo/{number}").read_text().count("inotify wd:")
        instances, watches = surroundings._in_use(uid)
    finally:
        os.close(number)
    assert ours == 3
    assert instances >= 1
    assert watches >= 3


def test_no_events_no_limits(tmp_path: Path) -> None:
    """With watch poll the limits do not matter."""
    (found,) = surroundings.inotify(settings(tmp_path, watch="poll"))
    assert (found.verdict, found.found) == ("ok", "not used: watch is poll")


def test_installed_versions() -> None:
    """What is installed here fits, and is told."""
    (found,) = surroundings.versions()
    assert found.verdict == "ok", found
    assert "torch 2." in found.found


def test_old_and_missing_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package older than clipwatch asks for fails with the command that mends it."""
    old = tmp_path / "peft-0.1.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = surroundings.versions()
    assert found.verdict == "fail"
    assert found.found.startswith("peft 0.1 is not >=")
    assert found.fix.startswith("pip install --upgrade 'peft>=")
    wanted = {"python": SpecifierSet(">=3.99"), "torch": SpecifierSet(">=2.5")}
    missing = surroundings.judge_versions(wanted, {"python": "3.11.7", "torch": ""})
    assert "torch is missing" in missing.found
    assert missing.fix == "install clipwatch with a Python >=3.99"


# Trackers ----------------------------------------------------------------------------------------


def test_where_results_go(tmp_path: Path) -> None:
    """An address and a folder below a writable one are well; below a file nothing can be made."""
    state = tmp_path / "state"
    assert publishing.assess("t", "https://wandb.ai/a/b", "", state).verdict == "ok"
    assert publishing.assess("t", str(tmp_path / "logs" / "run"), "", state).verdict == "ok"
    shown = publishing.assess("t", str(state / "run"), "wandb sync x", state)
    assert shown.found == f"{state / 'run'}; then `wandb sync x`"
    (tmp_path / "logs").touch()
    # no folder can be made below a file, whoever asks
    assert publishing.assess("t", str(tmp_path / "logs" / "run"), "", state).verdict == "fail"


def test_tensorboard_folder(tmp_path: Path) -> None:
    """TensorBoard's adapter tells the child run beside the trainer's, and makes nothing."""
    logs = tmp_path / "output" / "logs" / "p"
    logs.mkdir(parents=True)
    run = settings(tmp_path)
    run = replace(run, publishing=replace(run.publishing, project="p"))
    (found,) = publishing.look(run, "tensorboard")
    assert found.verdict == "ok"
    assert found.found.startswith(f"{logs / 'clipwatch'}; then `tensorboard --logdir")
    assert not list(logs.iterdir())


def test_what_is_still_to_be_published_is_told(tmp_path: Path) -> None:
    """Results in the log that a tracker does not show where it would publish now are counted."""
    world = World(tmp_path)
    checkpoint(world.output, 1)
    assert world.once() == 0
    (found,) = publishing.look(world.settings, "tensorboard")
    assert found.found.endswith("; 1 result of the log will be published there")
    run = world.run
    here = Destination("tracker", "memory", "memory")
    assert publishing.owed_at(run, here) == 0
    assert publishing.owed_at(run, replace(here, place="elsewhere")) == 1
