"""What an adapter's file holds, told by the names of its tensors and its metadata.

Sources: PEFT 0.21 (get_peft_model_state_dict), diffusers 0.42 (save_lora_weights), SimpleTuner
4.10.1 (helpers/training/lora_format.py and save_hooks.py), LyCORIS 4.1.3 (weight_list of each
module), kohya's sd-scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from importlib.util import find_spec
from typing import Any, Final

from clipwatch.domain.kinds import AdapterKind
from clipwatch.layouts.files import Unsupported
from clipwatch.layouts.learned import learned_in

LYCORIS_MISSING: Final = (
    "a LyCORIS adapter needs the package lycoris-lora: pip install 'clipwatch[lycoris]'"
)

METADATA_KEY: Final = "lora_adapter_metadata"
"""Under it diffusers keeps the adapter's LoraConfig, as JSON."""

_LYCORIS_KEY: Final = "lycoris_config"

_LORA: Final = re.compile(
    r"(?P<module>.+?)\.(?:"
    r"(?P<down>lora_A(?:\.\w+)?\.weight|lora_down\.weight|lora(?:_linear_layer)?\.down\.weight)"
    r"|(?P<up>lora_B(?:\.\w+)?\.weight|lora_up\.weight|lora(?:_linear_layer)?\.up\.weight)"
    r"|(?P<bias>lora_B(?:\.\w+)?\.bias)"
    r"|(?P<magnitude>lora_magnitude_vector(?:\.\w+)?(?:\.weight)?)"
    r"|(?P<alpha>alpha|lora_alpha))"
)
_PROCESSOR: Final = re.compile(r"(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
_LYCORIS: Final = re.compile(
    r"(?P<module>.+?)\.(?P<leaf>lora_(?:up|down|mid|[AB])\.weight|alpha|dora_scale"
    r"|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t[12])|diff(?:_b)?|[wb]_norm"
    r"|oft_blocks|oft_R\.(?:weight|scaled_oft|terms)|rescale|[ab][12]\.weight|bm\.weight|on_input)"
)
_WHOLE: Final = (
    ("lora_up.weight", "lora_down.weight", "alpha"),
    ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"),
    ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "alpha"),
    ("oft_blocks", "alpha"),
    ("oft_R.weight",),
)
"""Without which LyCORIS rebuilds no module (make_module_from_state_dict of each)."""
_LEAVES: Final = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
"""Of a DoRA as ComfyUI reads it, under the names that kohya's has."""
_IA3: Final = re.compile(r"(?P<module>lycoris_\w+)\.(?P<leaf>weight)")
_PLAIN: Final = frozenset({"lora_up.weight", "lora_down.weight", "alpha"})  # LoRA has these too
_PREFIX: Final = "lycoris_"

_IDLE: Final = re.compile(
    r"(?:^|\.)(?:crepa_projector|urepa_projector|self_transcendence_projector|nextlat_predictor"
    r"|internal_guidance_head)\.|^(?:v_pred|ztsnr)$"
)
"""What SimpleTuner saves beside the weights and no picture is made with: heads of its additional
losses, and two empty marks for ComfyUI."""

_FURTHER: Final = (
    r".*(?:^|\.)(?:delta_(?:embedder|timestep_embedder|adaln_embedder|time_embedder|t_embedding)"
    r"|time_sign_embed)\."
)
"""Of AnyFlow and TwinFlow."""

_OTHERS: Final = (
    (r"controlnet", "a ControlNet's adapter, which needs conditioning images"),
    (r"bundle_emb\.", "learned tokens (bundle_emb) of a form that is not known"),
    (_FURTHER, "an adapter for a model with further embeddings, which only its trainer has"),
    (r".*\.(?:lambda_layer|[pq]_layer\.weight)$", "a T-LoRA, which is another at every timestep"),
    (r".*\.lora_A\.(?:\w+\.)?bias$", "a LoRA with biases of its first half"),
)
_OFT: Final = "oft_R."
_ONETRAINER: Final = "ot_"
_CHANGED_BASE: Final = ("pissa", "olora", "loftq", "corda", "lora_ga")
_LONGEST: Final = 80


def lora_part(name: str) -> tuple[str, str] | None:
    """Split a tensor's name in the module and "down", "up", "bias", "magnitude" or "alpha".

    None for names of no LoRA.
    """
    match = _LORA.fullmatch(_PROCESSOR.sub(_modern, name))
    return (match["module"], str(match.lastgroup)) if match else None


def lycoris_part(name: str) -> tuple[str, str] | None:
    """Split a tensor's name in the module and what LyCORIS calls the tensor.

    None for names that are none of LyCORIS's.
    """
    match = _LYCORIS.fullmatch(name) or _IA3.fullmatch(name)
    return (match["module"], _LEAVES.get(match["leaf"], match["leaf"])) if match else None


def lycoris_lacks(leaves: Collection[str]) -> list[str]:
    """Return what a LyCORIS module must hold, too, by what it holds; the names of `lycoris_part`.

    Nothing for those that need nothing else, and where no form can be told.
    """
    if any(leaf.startswith("lokr_") for leaf in leaves):
        wanted = ["alpha"]
        for side in ("lokr_w1", "lokr_w2"):
            halves = [f"{side}_a", f"{side}_b"]
            wanted += halves if any(half in leaves for half in halves) else [side]
    else:
        forms = (it for it in _WHOLE if any(leaf in leaves for leaf in it if leaf != "alpha"))
        wanted = list(next(forms, ()))
    return [leaf for leaf in wanted if leaf not in leaves]


def acting(names: Iterable[str]) -> list[str]:
    """Leave out the tensors that no picture is made with."""
    return [name for name in names if not _IDLE.search(name)]


def adapter_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the LoraConfig in a file's metadata, its keys as they stand there; {} if none is.

    diffusers puts the component before each key ("unet.lora_alpha"), SimpleTuner's ComfyUI form
    does not.

    Raises:
        Unsupported: It is no JSON object.
    """
    return _object_in(metadata, METADATA_KEY, "its alphas are unknown")


def lycoris_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the config of a LyCORIS network in a file's metadata; {} if none is.

    Raises:
        Unsupported: It is no JSON object.
    """
    return _object_in(metadata, _LYCORIS_KEY, "how it acts (bypass_mode) is unknown")


def _object_in(metadata: Mapping[str, str], key: str, so: str) -> dict[str, Any]:
    try:
        found = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        told = ascii(metadata[key][:_LONGEST])
        raise Unsupported(f"{key} in its metadata is no JSON object but {told}: {so}")
    return found


def kind_of(tensors: Collection[str], metadata: Mapping[str, str], file: str = "") -> AdapterKind:
    """Return what is in an adapter's file, learned tokens apart where there is more.

    Args:
        tensors: Their names.
        metadata: Of the file.
        file: Its name.

    Raises:
        Unsupported: It is no adapter that can be applied; the text says what it is.
    """
    learned = learned_in(tensors, metadata, file)
    names = [name for name in acting(tensors) if name not in learned]
    if learned and not names:
        return "embeddings"
    for pattern, what in _OTHERS:
        if any(re.match(pattern, name) for name in names):
            raise Unsupported(f"it holds {what}")
    turning = any(_OFT in name for name in names)
    if turning and not any(key.startswith(_ONETRAINER) for key in metadata):
        oft_terms(adapter_config(metadata))
    parts = {name: lycoris_part(name) for name in names}
    if _LYCORIS_KEY in metadata or any(map(_lycoris_alone, parts.items())):
        _all_known(parts)
        lycoris_config(metadata)
        if find_spec("lycoris") is None and not turning:
            raise Unsupported(LYCORIS_MISSING)
        return "lycoris"
    halves = {name: lora_part(name) for name in names}
    _all_known(halves)
    modules = {module for module, _ in filter(None, halves.values())}
    if len(modules) > 1 and not any(part[1] == "up" for part in halves.values() if part):
        raise Unsupported("it holds one half of each LoRA pair only, as SingLoRA does")
    for key, value in adapter_config(metadata).items():
        if key.endswith("init_lora_weights") and str(value).lower().startswith(_CHANGED_BASE):
            raise Unsupported(
                f"it was trained on a base model that {str(value)[:_LONGEST]!r} had changed"
                " (lora_init_type), and holds only the difference to that one"
            )
    return "lora"


def oft_terms(config: Mapping[str, Any]) -> int:
    """Return how many terms of Cayley's series an OFT of PEFT takes, 0 for all in another sign.

    Args:
        config: PEFT's, that beside its file.

    Raises:
        Unsupported: It is none of PEFT's, or turns in another way.
    """
    if config.get("peft_type") != "OFT":
        raise Unsupported(
            "it holds an OFT of a form of its own (oft_R): neither OneTrainer's nor PEFT's, whose"
            " adapter_config.json is not beside it"
        )
    if config.get("coft"):
        raise Unsupported("it holds a constrained OFT (coft), which is another at every picture")
    terms = config.get("num_cayley_neumann_terms", 5)
    return int(terms) if config.get("use_cayley_neumann", True) else 0


def _lycoris_alone(named: tuple[str, tuple[str, str] | None]) -> bool:
    name, part = named
    return name.startswith(_PREFIX) or (part is not None and part[1] not in _PLAIN)


def _all_known(parts: Mapping[str, tuple[str, str] | None]) -> None:
    strange = sorted(name for name, part in parts.items() if part is None)
    if strange:
        raise Unsupported(
            f"it holds {len(strange)} {'tensor' if len(strange) == 1 else 'tensors'} of no form"
            f" that is known, as {ascii(strange[0])[1:-1][:_LONGEST]}; LoRA, DoRA and LyCORIS are"
            " read"
        )


def _modern(match: re.Match[str]) -> str:
    """Name a layer as diffusers has done since it uses PEFT."""
    layer = "to_out.0" if match[1] == "out" else f"to_{match[1]}"
    return f".{layer}.lora.{match[2]}.weight"
