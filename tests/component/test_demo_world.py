"""What the demo promises: a drawable world, models that know it, a trainer that leaves marks."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from clipwatch.demo import train
from clipwatch.demo.models import CLIP, VAE, write_base_pipeline
from clipwatch.demo.world import captions, draw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Keep torch to one thread: tests run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained pipeline."""
    folder = tmp_path_factory.mktemp("demo") / "base"
    write_base_pipeline(folder)
    return folder


def load(folder: Path) -> Any:
    """Load a pipeline folder, quietly."""
    pipeline = train.pipeline_class().from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run(base: Path, output_dir: Path, *more: str) -> None:
    """Train four steps with a checkpoint after each second one."""
    few = ("--steps", "4", "--checkpoint-every", "2")
    train.main(["--base", str(base), "--output-dir", str(output_dir), *few, *more])


def test_captions_are_all_different() -> None:
    """There are 216 captions, none of them twice."""
    assert len(captions()) == 216
    assert len(set(captions())) == 216
    assert "two red circles on a white background" in captions()


def test_equal_seeds_draw_equal_pictures() -> None:
    """A picture follows from caption and seed alone, and differs with the seed."""
    for caption in captions()[::20]:
        picture = draw(caption, np.random.default_rng(3))
        assert picture.shape == (32, 32, 3)
        assert picture.dtype == np.uint8
        assert np.array_equal(picture, draw(caption, np.random.default_rng(3)))
        assert not np.array_equal(picture, draw(caption, np.random.default_rng(4)))


def test_an_unknown_caption_is_refused() -> None:
    """Only captions of the world can be drawn."""
    with pytest.raises(ValueError, match="not a caption"):
        draw("four red circles on a white background", np.random.default_rng(0))


def test_drawing_needs_no_torch() -> None:
    """The world can be drawn without importing torch."""
    code = (
        "import sys, clipwatch.demo.world, clipwatch.demo.models; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_package_data_is_small_and_holds_no_pickle() -> None:
    """The shipped models take less than 2 MB, in JSON and safetensors only."""
    files = [path for folder in (CLIP, VAE) for path in folder.iterdir()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_clip_finds_the_right_caption() -> None:
    """On fresh pictures of all captions the tiny CLIP ranks the right one of 216 first."""
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model: Any = CLIPModel.from_pretrained(CLIP, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(CLIP)
    processor: Any = CLIPImageProcessorPil.from_pretrained(CLIP)
    rng = np.random.default_rng(11)
    pictures = [draw(caption, rng).repeat(2, axis=0).repeat(2, axis=1) for caption in captions()]
    with torch.no_grad():
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        tokens = tokenizer(list(captions()), padding=True, return_tensors="pt")
        assert pixels.shape == (216, 3, 32, 32)
        image = model.get_image_features(pixels).pooler_output
        text = model.get_text_features(**tokens).pooler_output
    cosines = torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    assert (cosines.argmax(dim=1) == torch.arange(216)).float().mean() > 0.85
    assert cosines.diagonal().mean() > 0.9
    assert abs(cosines.mean()) < 0.1


def test_vae_gives_pictures_back() -> None:
    """A picture that goes through the VAE comes back within 1 % of the range, on average."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(VAE)
    rng = np.random.default_rng(12)
    pictures = np.stack([draw(caption, rng) for caption in captions()])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1.0
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode()
        rebuilt = vae.decode(latents).sample
    assert latents.shape == (216, 4, 16, 16)
    assert (rebuilt - pixels).abs().mean() < 0.02
    assert (latents * vae.config.scaling_factor).std() == pytest.approx(1.0, abs=0.15)


def test_base_pipeline_loads_in_silence_and_generates(
    base: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The untrained pipeline loads without a warning and makes a picture of 32x32."""
    train.pipeline_class()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = load(base)
        pictures = pipeline(captions()[0], num_inference_steps=2, output_type="np").images
    assert pictures.shape == (1, 32, 32, 3)
    assert capfd.readouterr().err == ""
    assert not list(base.rglob("*.bin"))


def test_equal_seeds_write_equal_base_pipelines(base: Path, tmp_path: Path) -> None:
    """The UNet's weights follow from the seed, and torch's own random state is left alone."""
    before = torch.get_rng_state()
    write_base_pipeline(tmp_path / "same")
    write_base_pipeline(tmp_path / "other", seed=1)
    assert torch.equal(before, torch.get_rng_state())
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (base / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    assert (base / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    ("more", "kind", "weights"),
    [
        ((), "full", ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]),
        (("--lora",), "lora", ["pytorch_lora_weights.safetensors"]),
    ],
)
def test_a_checkpoint_is_complete_when_its_guard_appears(
    base: Path, tmp_path: Path, more: tuple[str, ...], kind: str, weights: list[str]
) -> None:
    """Files are written in the trainer's order, the manifest names them, the guard is last."""
    run(base, tmp_path, *more)
    state = ["optimizer.bin", "scheduler.bin", "random_states_0.pkl"]
    written = ["training_state.json", *weights, *state]
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert found == {*written, "checkpoint_manifest.json", ".guard"}
        manifest = json.loads((folder / "checkpoint_manifest.json").read_text())
        assert manifest["files"] == sorted(written)
        assert manifest["checkpoint"] == folder.name
        assert manifest["metadata"] == {"model_family": "sd1x", "model_type": kind}
        assert (folder / ".guard").read_text() == "complete\n"
        order = [*written, "checkpoint_manifest.json", ".guard"]
        times = [(folder / name).stat().st_mtime_ns for name in order]
        assert times == sorted(times)
        assert json.loads((folder / "training_state.json").read_text())["global_step"] == step
    assert list((tmp_path / "logs" / "shapes").glob("events.out.tfevents.*"))


@pytest.mark.thorough
def test_the_loss_is_logged_to_tensorboard(base: Path, tmp_path: Path) -> None:
    """The trainer's own run holds its loss under the steps it was measured at."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(base, tmp_path, "--project", "mine")
    events = EventAccumulator(str(tmp_path / "logs" / "mine")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [4]


@pytest.mark.thorough
def test_all_tensors_of_a_lora_are_applied(base: Path, tmp_path: Path) -> None:
    """Loading a LoRA checkpoint puts every tensor of its file into the UNet, and it shows."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import load_file

    run(base, tmp_path, "--lora")
    stored = load_file(tmp_path / "checkpoint-4" / "pytorch_lora_weights.safetensors")
    pipeline = load(base)
    settings: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np"}
    prompt = captions()[0]
    before = pipeline(prompt, generator=torch.Generator().manual_seed(0), **settings).images
    pipeline.load_lora_weights(tmp_path / "checkpoint-4")
    after = pipeline(prompt, generator=torch.Generator().manual_seed(0), **settings).images
    applied = get_peft_model_state_dict(pipeline.unet, adapter_name="default_0")
    assert {f"unet.{name}" for name in applied} == set(stored)
    assert all(torch.equal(applied[name.removeprefix("unet.")], stored[name]) for name in stored)
    assert np.abs(after - before).max() > 0


@pytest.mark.thorough
def test_training_twice_gives_the_same_weights(base: Path, tmp_path: Path) -> None:
    """Equal options give equal weights."""
    for name in ("first", "second"):
        run(base, tmp_path / name)
    first, second = (
        tmp_path / name / "checkpoint-4/unet/diffusion_pytorch_model.safetensors"
        for name in ("first", "second")
    )
    assert first.read_bytes() == second.read_bytes()
