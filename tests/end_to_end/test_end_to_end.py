"""The main job with real parts: a trainer, diffusers pipelines, CLIP, TensorBoard and W&B files."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from clipwatch.demo import models
from places import SUPPORT
from real_world import (
    PROMPTS,
    clipwatch,
    daemon,
    digests,
    environment,
    guarded,
    open_to_others,
    points,
    scored_images,
    status,
    until,
)


def independent_scores(images: list[Path], prompts: list[str]) -> list[float]:
    """Score PNG files with nothing but transformers."""
    import torch
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = CLIPModel.from_pretrained(models.CLIP, dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(models.CLIP)(
        prompts, padding=True, truncation=True, return_tensors="pt"
    )
    processor = CLIPImageProcessorPil.from_pretrained(models.CLIP)
    pixels = processor([Image.open(path) for path in images], return_tensors="pt")
    with torch.inference_mode():
        output = model(**tokens, **pixels)
    cosines = torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)
    return [float(cosine) for cosine in cosines]


def test_checkpoints_become_points_in_tensorboard_and_rows_in_wandb(
    project: Path, base: Path
) -> None:
    """The main job: scored, published at the checkpoint's step, and a second start does nothing."""
    output = project / "output"
    for step in (100, 200):
        guarded(output, base, step)
    before = digests(output)

    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert f"tensorboard --logdir {output / 'logs'}" in ended.stderr

    listed = status(project)
    assert [(item["step"], item["state"]) for item in listed] == [
        (100, "published"),
        (200, "published"),
    ]
    assert all(item["clip"]["n"] == 8 for item in listed)
    assert {path.suffix for path in (project / "state").rglob("*")} > {".db", ".lock", ".png"}
    assert open_to_others(project / "state") == []
    run = output / "logs/shapes/clipwatch"
    for key in ("mean", "min", "max", "std"):
        shown = points(run, f"clip/{key}")
        assert [step for step, _ in shown] == [100, 200]
        assert [value for _, value in shown] == pytest.approx([i["clip"][key] for i in listed])
    offline = list((project / "state/wandb").rglob("*.wandb"))
    assert len(offline) in {1, 2}

    images = scored_images(project)
    assert len(images) == 16
    root = next((project / "state/images").iterdir())
    texts = dict(zip(dict.fromkeys(image.prompt_id for image in images), PROMPTS, strict=True))
    theirs = independent_scores(
        [root / str(image.image) for image in images], [texts[image.prompt_id] for image in images]
    )
    assert [image.score for image in images] == pytest.approx(theirs, abs=1e-3)

    untouched = {name: at for name, at in digests(output).items() if "shapes/clipwatch" not in name}
    assert untouched == before
    kept = {**digests(project / "state/wandb"), **digests(output)}
    logged = clipwatch("log", "--json", "--state-dir", "state", cwd=project).stdout
    again = clipwatch("start", "--once", cwd=project)
    assert again.returncode == 0, again.stderr
    assert {**digests(project / "state/wandb"), **digests(output)} == kept
    assert clipwatch("log", "--json", "--state-dir", "state", cwd=project).stdout == logged


@pytest.mark.thorough
def test_kill_minus_nine_costs_the_batch_in_flight_and_nothing_else(
    project: Path, base: Path
) -> None:
    """Killed while it loads and twice amid the images, it ends with the undisturbed result."""
    guarded(project / "output", base, 100)

    def scored() -> list[tuple[str, int]]:
        return [(image.prompt_id, image.index) for image in scored_images(project)]

    def loading() -> bool:
        return b": loading" in (project / "said").read_bytes()

    for moment in (loading, lambda: len(scored()) >= 2, lambda: len(scored()) >= 5):
        before = scored()
        with daemon(project, "--batch-size", "1") as process:
            until(moment)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert scored()[: len(before)] == before
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert len(scored()) == len(set(scored())) == 8
    once_more = points(project / "output/logs/shapes/clipwatch", "clip/mean")

    shutil.rmtree(project / "state")
    shutil.rmtree(project / "output/logs/shapes/clipwatch")
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    undisturbed = points(project / "output/logs/shapes/clipwatch", "clip/mean")
    assert [step for step, _ in once_more] == [100]
    assert once_more[0][1] == pytest.approx(undisturbed[0][1], abs=1e-4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.thorough
def test_a_checkpoint_written_while_it_watches_is_published_and_a_signal_ends_it(
    project: Path, base: Path, number: signal.Signals
) -> None:
    """A live daemon sees the guard appear, publishes, and ends with 0 and no traceback."""
    output = project / "output"
    said = project / "said"
    with daemon(project, "--report-to", "tensorboard") as process:
        until(lambda: b"watching" in said.read_bytes())
        folder = guarded(output, base, 300)
        until(lambda: b"published to" in said.read_bytes())
        process.send_signal(number)
        assert process.wait(60) == 0
    assert b"Traceback" not in said.read_bytes()
    assert points(output / "logs/shapes/clipwatch", "clip/mean")[0][0] == 300
    shutil.rmtree(folder)
    assert status(project)[0]["state"] == "published"


@pytest.mark.thorough
def test_a_trained_lora_is_scored_by_hand_with_exactly_the_pixels_kept(
    project: Path, base: Path
) -> None:
    """`score` on what the demo's trainer wrote: JSON as documented, PNGs that score the same."""
    trainer = [sys.executable, "-m", "clipwatch.demo.train", "--base", str(base), "--lora"]
    trainer += ["--output-dir", str(project / "trained"), "--steps", "2", "--checkpoint-every", "2"]
    subprocess.run(trainer, env=environment(), capture_output=True, check=True)
    kept = project / "kept"
    ended = clipwatch(
        "score", "trained/checkpoint-2", "--config", "config.json", "--json", "--images", kept,
        cwd=project,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["step"] == 2
    assert set(told["clip"]) >= {"mean", "min", "max", "std", "n", "low", "high"}
    assert [image["prompt"] for image in told["images"]] == [p for p in PROMPTS for _ in (0, 1)]
    keys = {"prompt_id", "prompt", "category", "seed", "score", "image"}
    assert all(set(image) == keys for image in told["images"])
    files = [project / image["image"] for image in told["images"]]
    assert sorted(files) == sorted(kept.iterdir())
    theirs = independent_scores(files, [image["prompt"] for image in told["images"]])
    assert [image["score"] for image in told["images"]] == pytest.approx(theirs, abs=1e-3)
    assert not (project / "state").exists()


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.thorough
def test_a_run_of_accelerate_is_followed_while_it_trains(
    project: Path, base: Path, kind: str
) -> None:
    """Checkpoints as the diffusers scripts leave them settle, are scored, and share the chart."""
    output = project / "output"
    shutil.rmtree(output)
    trainer = [sys.executable, SUPPORT / "accelerate_trainer.py", base, output]
    with daemon(project, "--report-to", "tensorboard") as process:
        subprocess.run(
            [*map(str, trainer), kind, "4", "2"], env=environment(), capture_output=True, check=True
        )
        written = digests(output)
        until(lambda: (project / "said").read_bytes().count(b"published to") >= 1)
        until(lambda: [item["state"] for item in status(project)] == ["published"] * 2)
        process.terminate()
        assert process.wait(60) == 0
    run = output / "logs/text2image-fine-tune"
    assert [step for step, _ in points(run / "clipwatch", "clip/mean")] == [2, 4]
    kept = {name: at for name, at in digests(output).items() if "/clipwatch/" not in name}
    assert kept == written
    if kind == "full":
        live = {item["step"]: item["clip"]["mean"] for item in status(project)}
        config = json.loads((project / "config.json").read_text())
        config["clipwatch"]["weights"] = "ema"
        (project / "config.json").write_text(json.dumps(config))
        ended = clipwatch("start", "--once", "--report-to", "tensorboard", cwd=project)
        assert ended.returncode == 0, ended.stderr
        ema = {item["step"]: item["clip"]["mean"] for item in status(project)}
        assert ema.keys() == live.keys()
        assert ema != live


@pytest.mark.thorough
def test_folders_without_a_marker_or_a_future_are_told(project: Path, base: Path) -> None:
    """A pipeline folder counts by the number in its name; a pickle is discarded, never opened."""
    output = project / "output"
    shutil.copytree(base, output / "pipeline-20")
    (output / "checkpoint-30").mkdir()
    (output / "checkpoint-30" / "pytorch_lora_weights.bin").write_bytes(b"never opened")
    ended = clipwatch("start", "--once", "--report-to", "tensorboard", cwd=project)
    assert ended.returncode == 0, ended.stderr
    listed = {item["step"]: item for item in status(project)}
    assert {step: item["state"] for step, item in listed.items()} == {
        20: "published",
        30: "discarded",
    }
    assert "pickle" in listed[30]["reason"]
