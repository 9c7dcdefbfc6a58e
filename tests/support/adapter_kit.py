"""Checkpoints of a tiny base in every form that is read, and what an adapter changes."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import StableDiffusionPipeline
from lycoris import create_lycoris
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

import evaluator_kit as kit
from clipwatch.demo.models import write_base_pipeline
from clipwatch.domain.kinds import TrainedWeights
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.sighting import Whole
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.executors.messages import Evaluate
from clipwatch.layouts import look_once

LORA: Final = "pytorch_lora_weights.safetensors"
LINEAR: Final = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
POINT: Final = "down_blocks.1.attentions.0.proj_in"
CONV: Final = "mid_block.resnets.0.conv1"
LAYERS: Final = (LINEAR, POINT, CONV)
"""Modules of the demo's UNet: a linear layer, and convolutions over single points and over nine."""

TARGETS: Final = ["to_q", "to_v", "to_out.0", "proj_in", "conv1"]
RANK, ALPHA = 4, 6.0

State = dict[str, torch.Tensor]

logging.getLogger("LyCORIS").setLevel(logging.ERROR)

# --- LoRA ----------------------------------------------------------------------------------------


def trained(
    model: Any, layers: list[str], seed: int, *, dora: bool = False
) -> tuple[State, dict[str, Any]]:
    """Return the tensors and the LoraConfig of an adapter that was trained on a model.

    It had the trainer's dropout, and all of it is drawn from the seed.
    """
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.5, target_modules=layers, use_dora=dora
    )
    model.add_adapter(config)
    noise = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if "lora_magnitude" in name:
            tensor.data += torch.randn(tensor.shape, generator=noise) * 0.3
        elif "lora_" in name:
            tensor.data = torch.randn(tensor.shape, generator=noise) * 0.1
    return get_peft_model_state_dict(model), kit.metadata(model)


def unet_lora(base: Path, seed: int, *, dora: bool = False) -> tuple[State, dict[str, Any]]:
    """Return the tensors and the LoraConfig of an adapter of the base's UNet."""
    unet = StableDiffusionPipeline.from_pretrained(base).unet
    return trained(unet, TARGETS, seed, dora=dora)


def alphas(state: State) -> State:
    """Return an alpha for each module, as comfyui files have it."""
    downs = (name for name in state if name.endswith(".lora_A.weight"))
    return {f"{name.removesuffix('.lora_A.weight')}.alpha": torch.tensor(ALPHA) for name in downs}


def written(form: str, path: Path, state: State, config: dict[str, Any]) -> Path:
    """Write a UNet's LoRA in one of FORMS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {**state, **alphas(state)}
    under = {f"unet.{key}": value for key, value in config.items()}
    told = {"lora_adapter_metadata": json.dumps(under), "format": "pt"}
    bare = {"lora_adapter_metadata": json.dumps(config), "format": "pt"}
    match form:
        case "diffusers":
            save_file({f"unet.{name}": it for name, it in state.items()}, path, told)
        case "no metadata":
            save_file({f"unet.{name}": it for name, it in state.items()}, path)
        case "earlier diffusers":
            save_file({f"unet.{_earlier(name)}": it for name, it in state.items()}, path, told)
        case "attention processors":
            names = {name: f"unet.{_processors(name)}" for name in state if "attn" in name}
            save_file({names[name]: state[name] for name in names}, path, told)
        case "comfyui":
            save_file({f"diffusion_model.{name}": it for name, it in whole.items()}, path, bare)
        case "comfyui sdxl":
            save_file({_kohya(name): it for name, it in whole.items()}, path, bare)
        case "peft":
            save_file({f"base_model.model.{name}": it for name, it in whole.items()}, path)
    return path


FORMS: Final = (
    "diffusers",
    "no metadata",
    "earlier diffusers",
    "attention processors",
    "comfyui",
    "comfyui sdxl",
    "peft",
)


def _earlier(name: str) -> str:
    return name.replace("lora_A", "lora.down").replace("lora_B", "lora.up")


def _processors(name: str) -> str:
    for layer, theirs in (("to_q", "to_q"), ("to_v", "to_v"), ("to_out.0", "to_out")):
        name = name.replace(f".{layer}.lora_", f".processor.{theirs}_lora.")
    return name.replace("_lora.A", "_lora.down").replace("_lora.B", "_lora.up")


def _kohya(name: str) -> str:
    """As SimpleTuner's lora_format comfyui names SDXL's; it leaves a DoRA's magnitudes alone."""
    if "magnitude" in name:
        return f"unet.{name}"
    stem, leaf = (
        name.rsplit(".", 1)
        if name.endswith(".alpha")
        else (name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:]))
    )
    leaf = leaf.replace("lora_A", "lora_down").replace("lora_B", "lora_up")
    return f"lora_unet_{stem.replace('.', '_')}.{leaf}"


# --- LyCORIS -------------------------------------------------------------------------------------

ALGOS: Final[dict[str, dict[str, Any]]] = {
    "locon": {"algo": "locon"},
    "locon-tucker": {"algo": "locon", "use_tucker": True},
    "locon-dora": {"algo": "locon", "dora_wd": True},
    "locon-dora-inputs": {"algo": "locon", "dora_wd": True, "wd_on_output": False},
    "loha": {"algo": "loha"},
    "loha-tucker": {"algo": "loha", "use_tucker": True},
    "lokr": {"algo": "lokr", "factor": 4},
    "lokr-both": {"algo": "lokr", "factor": 8, "decompose_both": True},
    "lokr-tucker": {"algo": "lokr", "factor": 4, "use_tucker": True},
    "lokr-full": {"algo": "lokr", "factor": 4, "full_matrix": True},
    "lokr-dora": {"algo": "lokr", "factor": 4, "dora_wd": True},
    "full-norm": {"algo": "full", "train_norm": True},
    "oft": {"algo": "diag-oft"},
    "oft-rescaled": {"algo": "diag-oft", "constraint": 0.01, "rescaled": True},
    "boft": {"algo": "boft"},
    "glora": {"algo": "glora"},
    "ia3": {"algo": "ia3"},
    "lokr-bypass": {"algo": "lokr", "factor": 4, "bypass_mode": True},
}
"""As a lycoris_config.json has them."""


def network(unet: Any, algo: str, seed: int = 1) -> Any:
    """Return a LyCORIS network of a UNet, all of it drawn from the seed, not applied yet."""
    made = create_lycoris(unet, 1.0, RANK, ALPHA, warn_on_unmatched=False, **ALGOS[algo])
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in made.loras:
            for tensor in module.parameters():
                tensor.add_(torch.randn(tensor.shape, generator=noise) * 0.1)
    return made


def write_lycoris(base: Path, path: Path, algo: str, *, seed: int = 1) -> None:
    """Write a LyCORIS of the base's UNet, as SimpleTuner does."""
    unet = StableDiffusionPipeline.from_pretrained(base).unet
    made = network(unet, algo, seed)
    made.apply_to()
    state = {name: it.detach().clone().contiguous() for name, it in made.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, {"lycoris_config": json.dumps(ALGOS[algo])})


# --- what a layer does ---------------------------------------------------------------------------


@torch.no_grad()
def weight_of(model: Any, path: str) -> torch.Tensor:
    """Return the weight with which a layer acts, whatever is put around it.

    It is measured: the layer answers to one input at a time, and its bias is taken off.
    """
    layer = model.get_submodule(path)
    base = getattr(layer, "base_layer", layer)
    if isinstance(base, torch.nn.Linear):
        ones = torch.eye(base.in_features)
        return torch.Tensor(layer(ones) - layer(torch.zeros_like(ones))).T
    height, width = base.kernel_size
    ones = torch.eye(base.in_channels * height * width).reshape(-1, base.in_channels, height, width)
    found = layer(ones) - layer(torch.zeros_like(ones))
    middle = found[:, :, height // 2, width // 2]
    return torch.Tensor(middle.T.reshape(-1, base.in_channels, height, width))


# --- a world of all kinds ------------------------------------------------------------------------


def write_kinds(root: Path) -> dict[str, tuple[Path, TrainedWeights]]:
    """Write base/ and a checkpoint of every kind; return by kind its folder, and live or ema."""
    base = root / "base"
    write_base_pipeline(base)
    found: dict[str, tuple[Path, TrainedWeights]] = {}

    def add(kind: str, weights: TrainedWeights = "live", *, of: str = "") -> Path:
        found[kind] = (root / (of or kind).replace(" ", "-"), weights)
        return found[kind][0]

    write_base_pipeline(add("pipeline"), seed=1)
    shutil.copytree(root / "pipeline" / "unet", add("full") / "unet")
    write_base_pipeline(root / "third", seed=2)
    shutil.copytree(root / "third" / "unet", add("full ema", "ema", of="full") / "unet_ema")
    _write_variant(root / "third", add("pipeline variant"))
    _write_export(root / "third", add("export"))
    _write_with_encoder(base, root / "third", add("full with text encoder"))
    for number, form in enumerate(FORMS):
        written(form, add(f"lora {form}") / LORA, *unet_lora(base, number))
    written(
        "diffusers", add("lora ema", "ema", of="lora diffusers") / "ema" / LORA, *unet_lora(base, 9)
    )
    written("diffusers", add("dora") / LORA, *unet_lora(base, 10, dora=True))
    kit.write_lora(base, add("lora of the text encoder too"), seed=11, text=True)
    for number, algo in enumerate(ALGOS):
        write_lycoris(base, add(f"lycoris {algo}") / LORA, algo, seed=number)
    average = add("lycoris ema", "ema", of="lycoris lokr") / "ema" / "ema_model.safetensors"
    write_lycoris(base, average, "lokr", seed=30)
    return found


def _write_variant(whole: Path, folder: Path) -> None:
    StableDiffusionPipeline.from_pretrained(whole).save_pretrained(folder, variant="fp16")


def _write_export(whole: Path, folder: Path) -> None:
    """Write what SimpleTuner leaves in pipeline/: its own class, and no text encoder."""
    pipeline = StableDiffusionPipeline.from_pretrained(whole, text_encoder=None, tokenizer=None)
    pipeline.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["simpletuner.helpers.models.unet_flowmap", "FlowMapUNet2DConditionModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    config = json.loads((folder / "unet" / "config.json").read_text())
    config["_class_name"] = index["unet"][1]
    (folder / "unet" / "config.json").write_text(json.dumps(config))


def _write_with_encoder(base: Path, whole: Path, folder: Path) -> None:
    """Write a UNet and a text encoder, as train_dreambooth --train_text_encoder does."""
    shutil.copytree(whole / "unet", folder / "unet")
    shutil.copytree(base / "text_encoder", folder / "text_encoder")
    path = folder / "text_encoder" / "model.safetensors"
    state = load_file(path)
    save_file({name: it * 1.5 if it.dim() > 1 else it for name, it in state.items()}, path)


def request(
    folder: Path, weights: TrainedWeights, how: EvaluationProtocol, **more: Any
) -> Evaluate:
    """Return the request to evaluate what a look at a folder finds."""
    seen = look_once(folder, weights).verdict
    assert isinstance(seen, Whole), seen
    found = seen.weights
    return kit.request(
        folder, found.kind, how, component=found.component, files=found.files, **more
    )


def scores(evaluator: Evaluator, folder: Path, weights: TrainedWeights, base: Path) -> list[float]:
    """Return the scores of a checkpoint's images, in fp32 on the CPU."""
    found = kit.scores_of(evaluator, request(folder, weights, kit.protocol(base)))
    return [it.score for it in found]


def main(root: Path) -> None:
    """Score in a process of its own what is named on stdin, in that order; print the scores."""
    evaluator = Evaluator()
    told = json.load(sys.stdin)
    found = {
        kind: scores(evaluator, Path(folder), weights, root / "base")
        for kind, (folder, weights) in told.items()
    }
    print(json.dumps(found))  # noqa: T201 - it is what the other process reads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
