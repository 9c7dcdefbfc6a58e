"""The kernel as witness: of a tree full of pickles and modules none is opened, by any process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import evaluator_kit as kit
from clipwatch.demo.models import CLIP, write_base_pipeline
from real_world import PROMPTS, clipwatch, command, environment, guarded, write_config


def _traces() -> bool:
    """Whether one process may look at another's calls here."""
    if shutil.which("strace") is None:
        return False
    tried = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not _traces(), reason="needs strace, and a system that lets it trace"),
]

FOREIGN = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".py")
CALL = re.compile(r'(?:open|openat|openat2|execve)\((?:\S+?<(.*?)>, )?"((?:[^"\\]|\\.)*)"')
"""A call with the folder that it starts from, which strace adds, and a path."""

STRANGE = ["strange", "Strange"]


def arm(folder: Path) -> None:
    """Lay loadable pickles and modules of all names beside whatever lies in a folder and below."""
    for weights in list(folder.rglob("*.safetensors")):
        for suffix in FOREIGN[:-1]:
            torch.save(load_file(weights), weights.with_suffix(suffix))
        torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    for place in (folder, *(path for path in list(folder.rglob("*")) if path.is_dir())):
        for name in ("__init__", "pipeline", "modeling", "strange", place.name):
            (place / f"{name}.py").write_text("raise SystemExit('it was run')\n")


def disarm(folder: Path) -> None:
    """Leave the pickles alone."""
    for path in list(folder.rglob("*.safetensors")):
        path.unlink()


def edit(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A run of the user's with good and hostile checkpoints, all with pickles and code."""
    write_base_pipeline(tmp_path / "base")
    shutil.copytree(CLIP, tmp_path / "scorer")
    output = tmp_path / "output"
    guarded(output, tmp_path / "base", 1)
    kit.write_lora(tmp_path / "base", output / "checkpoint-2")
    kit.write_lora(tmp_path / "base", output / "checkpoint-3")
    for step in (4, 5, 6, 7):
        write_base_pipeline(output / f"checkpoint-{step}", seed=step)
    nested = output / "checkpoint-6" / "unet"
    shutil.rmtree(nested)
    shutil.copytree(output / "checkpoint-4", nested)
    for folder in (tmp_path / "base", tmp_path / "scorer", *output.iterdir()):
        arm(folder)
    disarm(output / "checkpoint-3")
    disarm(output / "checkpoint-5" / "text_encoder")
    disarm(nested / "unet")
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        shutil.copy(output / "checkpoint-4" / "unet" / name, nested)
    index = output / "checkpoint-6" / "model_index.json"
    edit(index, unet=["diffusers", "StableDiffusionPipeline"])
    edit(output / "checkpoint-7" / "model_index.json", unet=STRANGE)
    mapped = {"AutoConfig": "modeling.Strange", "AutoModel": "modeling.Strange"}
    for config in (tmp_path / "scorer", output / "checkpoint-4" / "text_encoder"):
        edit(config / "config.json", auto_map=mapped)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS[:2]))
    write_config(tmp_path, settle_seconds=0.5, rescan_seconds=0.5, batch_size=2)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "pretrained_evaluation_model_name_or_path": "./scorer",
        "model_family": "sd1x",
        "validation_resolution": "32x32",
        "validation_num_inference_steps": 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def traced(project: Path) -> tuple[int, set[Path]]:
    """Run `clipwatch start --once`; return its exit code and all that was opened in the project."""
    trace = project.with_name(f"{project.name}.trace")
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "8192", "-o", str(trace)]
    calls = ["-e", "trace=open,openat,openat2,execve"]
    ended = subprocess.run(
        [*strace, *calls, *command("start", "--once", "--config", project / "config.json")],
        cwd=project,
        env=environment() | {"PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = set()
    for start, name in CALL.findall(trace.read_text(errors="replace")):
        path = Path(start or project, name)
        if path.is_relative_to(project) and path.is_file():
            found.add(path.relative_to(project))
    trace.unlink()
    return ended.returncode, found


def states(project: Path) -> dict[int, str]:
    """Return the state of each checkpoint by step."""
    told = clipwatch("status", "--json", "--state-dir", "state", cwd=project)
    [run] = json.loads(told.stdout)["runs"]
    return {row["step"]: row["state"] for row in run["checkpoints"]}


@pytest.mark.timeout(600)
def test_the_kernel_saw_no_pickle_and_no_module_opened(project: Path) -> None:
    """Good checkpoints are scored, the others told; the trace has the safetensors of each model."""
    code, opened = traced(project)
    found = states(project)
    assert (code, [found[step] for step in (1, 2, 4)]) == (1, ["scored"] * 3)
    assert "scored" not in {found[step] for step in (3, 5, 6, 7)}
    assert not [path for path in opened if path.suffix in FOREIGN]
    weights = {str(path) for path in opened if path.suffix == ".safetensors"}
    assert weights >= {
        "scorer/model.safetensors",
        "base/text_encoder/model.safetensors",
        "output/checkpoint-1/unet/diffusion_pytorch_model.safetensors",
        "output/checkpoint-2/pytorch_lora_weights.safetensors",
        "output/checkpoint-4/unet/diffusion_pytorch_model.safetensors",
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", ["scorer", "base/text_encoder"])
def test_the_kernel_saw_no_pickle_opened_for_want_of_others(project: Path, model: str) -> None:
    """Models of nothing but pickles are no models: nothing is scored."""
    for step in range(3, 8):
        shutil.rmtree(project / "output" / f"checkpoint-{step}")
    disarm(project / model)
    code, opened = traced(project)
    assert code == 1
    assert "scored" not in states(project).values()
    assert Path("base/model_index.json") in opened
    assert not [path for path in opened if path.suffix in FOREIGN]
