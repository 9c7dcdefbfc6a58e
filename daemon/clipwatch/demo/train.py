"""A real trainer for the shapes world, on the CPU: something for the daemon to watch.

    python -m clipwatch.demo.train --base DIR --output-dir DIR [--lora]

It plays a stranger to the daemon: it knows nothing of clipwatch but the shapes world, and leaves
checkpoints the way SimpleTuner does, file by file, with ``.guard`` as the last. A base that is not
there is written first, untrained.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model_state_dict
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from transformers.utils import logging as transformers_logging

from clipwatch.demo.models import write_base_pipeline
from clipwatch.demo.pace import Pace
from clipwatch.demo.world import captions, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 32
WARM_UP = 40
CAPTION_DROP = 0.1
LORA_LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
)


@dataclass(frozen=True)
class Options:
    """What the command line says; folders are not created yet.

    With `seconds` above 0 the training is through after that time at the latest, see Pace.
    """

    base: Path
    output_dir: Path
    steps: int = 500
    checkpoint_every: int = 50
    seconds: float = 0.0
    lora: bool = False
    seed: int = 0
    threads: int = 1
    project: str = "shapes"

    @property
    def rate(self) -> float:
        """The highest learning rate of the run."""
        return 5e-3 if self.lora else 2e-3


@dataclass(frozen=True, slots=True)
class Examples:
    """Encoded pictures with their captions; the last text is the empty one.

    latents: (N, 4, 16, 16) float32, spread about 1. labels: (N,) int64, indices into texts.
    texts: (217, 16, 64) float32, the text encoder's states.
    """

    latents: torch.Tensor
    labels: torch.Tensor
    texts: torch.Tensor


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m clipwatch.demo.train")
    parser.add_argument("--base", type=Path, required=True, help="pipeline folder to start from")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Options.steps)
    parser.add_argument("--checkpoint-every", type=int, default=Options.checkpoint_every)
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="0 for no limit")
    parser.add_argument("--lora", action="store_true", help="train a LoRA of rank 8, not the UNet")
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--threads", type=int, default=Options.threads)
    parser.add_argument("--project", default=Options.project, help="folder of the logs")
    train(Options(**vars(parser.parse_args(arguments))))


def train(options: Options) -> None:
    """Run the whole training.

    Equal options on the same machine give equal weights, unless the time is limited.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random.seed(options.seed)  # it is saved with each checkpoint
    rng = np.random.default_rng(options.seed)
    pipeline_type = pipeline_class()
    if not options.base.exists():
        part = options.base.with_name(f".{options.base.name}")
        write_base_pipeline(part)
        part.rename(options.base)  # so that it is there as a whole or not at all
    pipeline = pipeline_type.from_pretrained(options.base)
    pace = Pace(options.steps, options.checkpoint_every, options.seconds)
    print("drawing and encoding pictures", flush=True)  # which the demo looks for
    examples = encode(pipeline, rng, count=min(options.steps * BATCH, 16 * len(captions())))
    unet = prepare(pipeline.unet, lora=options.lora)
    weights = [weight for weight in unet.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: rate_factor(pace.position(done), options.steps)
    )
    log = EventFileWriter(str(options.output_dir / "logs" / options.project))
    print(f"{len(examples.latents)} pictures, {sum(w.numel() for w in weights)} weights to train")
    step = position = 0
    while position < options.steps:
        step += 1
        loss = loss_of(unet, pipeline.scheduler, examples, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        position = pace.position(step)
        if step % 10 == 0 or position == options.steps:
            rate = float(schedule.get_last_lr()[0])
            note(log, step, train_loss=loss.item(), learning_rate=rate)
            whole = round(step * options.steps / position)
            print(f"step {step}/{whole} loss {loss.item():.4f} {pace.spent:.0f} s", flush=True)
        if pace.saves(step, position):
            parts = {"optimizer.bin": optimizer, "scheduler.bin": schedule}
            save_checkpoint(options, step, unet, parts, rng)
    log.close()
    if options.lora:
        save_weights(options.output_dir, unet, lora=True)
    else:
        pipeline.save_pretrained(options.output_dir / "pipeline")


def pipeline_class() -> Any:
    """Return Stable Diffusion's pipeline, without the chatter of importing and loading it."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.disable_progress_bar()
    return StableDiffusionPipeline


@torch.no_grad()
def encode(pipeline: Any, rng: np.random.Generator, *, count: int) -> Examples:
    """Draw ``count`` pictures, every caption as often as the others, and encode all there is."""
    words = [*captions(), ""]
    tokens = pipeline.tokenizer(
        words, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    labels = torch.arange(count) % (len(words) - 1)
    pictures = torch.from_numpy(np.stack([draw(words[label], rng) for label in labels]))
    latents = [
        pipeline.vae.encode(part.permute(0, 3, 1, 2) / 127.5 - 1.0).latent_dist.sample()
        for part in torch.split(pictures, 64)
    ]
    return Examples(
        latents=torch.cat(latents) * pipeline.vae.config.scaling_factor,
        labels=labels,
        texts=pipeline.text_encoder(tokens).last_hidden_state,
    )


def prepare(unet: Any, *, lora: bool) -> Any:
    """Return the UNet ready to train: all of it, or low-rank additions to a frozen one."""
    if lora:
        unet.requires_grad_(requires_grad=False)
        unet.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=list(LORA_LAYERS)))
    return unet.train()


def rate_factor(done: int, steps: int) -> float:
    """Return the share of the highest rate after ``done`` steps: warm-up, cosine down to 5 %."""
    warm_up = min(WARM_UP, max(steps // 4, 1))
    if done < warm_up:
        return (done + 1) / warm_up
    progress = (done - warm_up) / max(steps - warm_up, 1)
    return 0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * progress))


def loss_of(
    unet: Any, scheduler: Any, examples: Examples, rng: np.random.Generator
) -> torch.Tensor:
    """Return the mean squared error of the velocity over one batch; () float32, with gradient."""
    chosen = torch.from_numpy(rng.integers(len(examples.latents), size=BATCH))
    latents, labels = examples.latents[chosen], examples.labels[chosen]
    dropped = torch.rand(BATCH) < CAPTION_DROP
    texts = examples.texts[torch.where(dropped, len(examples.texts) - 1, labels)]
    last = scheduler.config.num_train_timesteps
    timesteps = ((torch.arange(BATCH) + torch.rand(BATCH)) / BATCH * last).long()
    noise = torch.randn_like(latents)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    wanted = scheduler.get_velocity(latents, noise, timesteps)
    found = unet(noisy, timesteps, encoder_hidden_states=texts).sample
    return torch.nn.functional.mse_loss(found, wanted)


def note(log: Any, step: int, **values: float) -> None:
    """Write one event per value to TensorBoard, under the value's name."""
    for tag, value in values.items():
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        log.add_event(Event(wall_time=time.time(), step=step, summary=summary))
    log.flush()


# --- checkpoints ---------------------------------------------------------------------------------


def save_checkpoint(
    options: Options, step: int, unet: Any, parts: dict[str, Any], rng: np.random.Generator
) -> None:
    """Write ``checkpoint-<step>``, in the trainer's order: ``.guard`` last, by a rename."""
    folder = options.output_dir / f"checkpoint-{step}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".guard").unlink(missing_ok=True)
    write_json(
        folder / "training_state.json",
        {"global_step": step, "epoch_step": step, "epoch": 1}
        | {"exhausted_backends": [], "repeats": {}},
    )
    save_weights(folder, unet, lora=options.lora)
    for name, part in parts.items():
        torch.save(part.state_dict(), folder / name)
    states = {
        "step": step,
        "random_state": random.getstate(),
        "numpy_random_state": rng.bit_generator.state,
        "torch_manual_seed": torch.get_rng_state(),
    }
    torch.save(states, folder / "random_states_0.pkl")
    files = (path for path in folder.rglob("*") if path.is_file())
    write_json(
        folder / "checkpoint_manifest.json",
        {
            "version": 1,
            "checkpoint": folder.name,
            "files": sorted(path.relative_to(folder).as_posix() for path in files),
            "metadata": {
                "model_family": "sd1x",
                "model_type": "lora" if options.lora else "full",
            },
        },
    )
    guard = folder / ".guard.tmp"
    guard.write_text("complete\n", encoding="utf-8")
    guard.rename(folder / ".guard")
    print(f"saved {folder.name}", flush=True)


def save_weights(folder: Path, unet: Any, *, lora: bool) -> None:
    """Write ``unet/`` or ``pytorch_lora_weights.safetensors``; alpha and rank go to its metadata.

    The LoRA's keys keep PEFT's names: the other spelling covers attention layers only, and a file
    that mixes the two is loaded in part, with no error.
    """
    if not lora:
        unet.save_pretrained(folder / "unet")
        return
    adapter = unet.peft_config["default"].to_dict()
    pipeline_class().save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata={
            key: sorted(value) if isinstance(value, set) else value
            for key, value in adapter.items()
        },
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as indented JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
