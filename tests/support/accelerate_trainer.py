"""A trainer as the diffusers scripts are built: accelerate saves, hooks write the weights.

    python accelerate_trainer.py BASE OUTPUT full|lora STEPS EVERY

`full` writes unet/ and unet_ema/ from a save hook, before accelerate's own files; `lora` lets
accelerate save everything and writes the LoRA file after it, as train_text_to_image_lora.py does.
The numbers learned are noise; the folders are accelerate's, diffusers' and peft's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from diffusers import DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import EMAModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict


def main(base: str, output: str, kind: str, steps: int, every: int) -> None:
    """Train for some steps on noise and save every now and then."""
    project = ProjectConfiguration(project_dir=output, logging_dir=str(Path(output, "logs")))
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_config=project)
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet", use_safetensors=True)
    noise = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
    ema = EMAModel(unet.parameters(), model_cls=UNet2DConditionModel, model_config=unet.config)
    if kind == "lora":
        unet.requires_grad_(requires_grad=False)
        layers = ["to_k", "to_q", "to_v", "to_out.0"]
        unet.add_adapter(LoraConfig(r=4, init_lora_weights="gaussian", target_modules=layers))
    else:
        accelerator.register_save_state_pre_hook(_save_hook(ema))
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    unet, optimizer, schedule = accelerator.prepare(unet, optimizer, schedule)
    accelerator.init_trackers("text2image-fine-tune", config={"steps": steps})
    for step in range(1, steps + 1):
        latents = torch.randn(2, 4, 16, 16)
        times = torch.randint(0, noise.config.num_train_timesteps, (2,))
        predicted = unet(latents, times, torch.randn(2, 16, 64)).sample
        loss = torch.nn.functional.mse_loss(predicted, torch.randn_like(latents))
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if kind == "full":
            ema.step(unet.parameters())
        accelerator.log({"train_loss": float(loss)}, step=step)
        if step % every == 0:
            folder = Path(output, f"checkpoint-{step}")
            accelerator.save_state(str(folder))
            if kind == "lora":
                _save_lora(accelerator.unwrap_model(unet), folder)
    accelerator.end_training()


def _save_hook(ema: Any) -> Any:
    def save(models: list[Any], weights: list[Any], output_dir: str) -> None:
        ema.save_pretrained(str(Path(output_dir, "unet_ema")))
        for model in models:
            model.save_pretrained(str(Path(output_dir, "unet")))
            weights.pop()

    return save


def _save_lora(unet: Any, folder: Path) -> None:
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(
        save_directory=str(folder), unet_lora_layers=layers, safe_serialization=True
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
