"""LoRAs that diffusers' train_lcm_distill_lora_*.py leave: read whole, and sampled as LCM's are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

import adapter_kit as forms
import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.sighting import Whole
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.layouts import look_once

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base_pipeline(folder)
    return folder


def distilled(base: Path, folder: Path) -> Any:
    """Write a checkpoint as the hook of the scripts does; return the UNet that it was made of."""
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    model = get_peft_model(unet, LoraConfig(r=4, lora_alpha=8, target_modules=kit.LAYERS))
    noise = torch.Generator().manual_seed(1)
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            tensor.data = torch.randn(tensor.shape, generator=noise) * 0.1
    state = get_peft_model_state_dict(model, adapter_name="default")
    StableDiffusionPipeline.save_lora_weights(folder / "unet_lora", state)
    model.save_pretrained(folder)
    (folder / "random_states_0.pkl").write_bytes(b"")
    return model.base_model.model.eval()


def test_pictures_are_those_of_the_scripts_validation(base: Path, tmp_path: Path) -> None:
    """LCM's sampler with the base's schedule, and the alpha of PEFT's config beside it."""
    unet = distilled(base, tmp_path / "checkpoint-5")
    seen = look_once(tmp_path / "checkpoint-5", "live").verdict
    assert isinstance(seen, Whole)
    files = [it.path for it in seen.weights.files]
    assert (seen.weights.kind, files) == (
        "lora",
        [f"unet_lora/{forms.LORA}", "adapter_config.json"],
    )
    how = kit.protocol(base, scheduler="lcm", inference_steps=4, guidance=1.0)
    images = tmp_path / "images"
    kit.scores_of(Evaluator(), forms.request(tmp_path / "checkpoint-5", "live", how, images=images))
    pipeline = StableDiffusionPipeline.from_pretrained(base, unet=unet)
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    assert kit.same_pictures(kit.saved_images(how, images), kit.plain_images(how, pipeline))


def test_it_is_not_sampled_as_its_base_by_mistake(base: Path, tmp_path: Path) -> None:
    """Where nobody named a sampler it fails, with the key; one that is named is somebody's wish."""
    distilled(base, tmp_path / "checkpoint-5")
    evaluator = Evaluator()
    request = forms.request(tmp_path / "checkpoint-5", "live", kit.protocol(base))
    told = kit.failure(evaluator, request)
    assert told.kind == "weights"
    assert "holds an LCM LoRA (unet_lora/), which needs LCM's sampler" in told.reason
    assert '"validation_noise_scheduler": "lcm"' in told.reason
    how = kit.protocol(base, scheduler="euler")
    assert kit.scores_of(evaluator, forms.request(tmp_path / "checkpoint-5", "live", how))
