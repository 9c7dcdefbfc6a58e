"""Write down what a SimpleTuner says of its own options and model families: facts, one a line.

    /path/to/trainer/venv/bin/python scripts/simpletuner_tables.py [--output FOLDER]

Run it with the Python of an environment that has the SimpleTuner in question; it reads the field
registry, the parser that is built of it, and asks each model class as the trainer does. The file
is named after the version. Then says which options have no answer in answers.toml yet.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TABLES = Path(__file__).parents[1] / "daemon/clipwatch/settings/simpletuner"
KINDS = {"_parse_bool_flag": "flag", "int": "whole", "float": "number", "str": "text"}
# arguments of a pipeline that its validation sends, if the pipeline takes them
SENT = ("guidance_scale_real", "true_cfg_scale", "no_cfg_until_timestep", "guidance_rescale",
        "skip_guidance_layers")  # fmt: skip
# what a family may set over the user's head, and pictures show
WATCHED = ("validation_guidance", "validation_guidance_real", "validation_num_inference_steps",
           "validation_noise_scheduler", "vae_dtype", "rescale_betas_zero_snr",
           "flow_schedule_shift")  # fmt: skip
# classes of video that make pictures: the trainer has no word for it
PICTURES = ("cosmos", "cosmos3")
FAR = 10**6  # tokens: more than any model takes
MANY = 2  # encoders called Qwen: the option for one is then ignored
LONGEST = 100  # characters of a default that is a name and no sentence


def options() -> dict[str, dict[str, Any]]:
    """Return option → what the registry and the parser say of it."""
    fields = import_module(
        "simpletuner.simpletuner_sdk.server.services.field_registry"
    ).field_registry._fields
    parser = import_module("simpletuner.helpers.configuration.cmd_args").get_argument_parser()
    actions = {name: it for it in parser._actions for name in it.option_strings}
    found: dict[str, dict[str, Any]] = {}
    for field in fields.values():
        action = actions.get(field.arg_name or "")
        name = field.name if action is None else action.dest
        aliases = {it.lstrip("-") for it in action.option_strings} if action else set()
        choices = [str(it["value"] if isinstance(it, dict) else it) for it in field.choices or ()]
        told: dict[str, Any] = {"type": _kind(action, field), "section": _section(field)}
        if action is not None and action.default is not None:
            told["default"] = _fact(action.default)
        if action is not None and action.choices and not field.dynamic_choices:
            told["choices"] = list(action.choices)
        elif name == "report_to":
            told["choices"] = choices
        if others := sorted((aliases | {field.name}) - {name}):
            told["aliases"] = others
        if field.model_specific:
            told["families"] = sorted(field.model_specific)
        found[name] = told
    handlers = import_module("simpletuner.helpers.configuration.cli_utils")._LEGACY_ARG_HANDLERS
    # ignore_final_epochs is translated by the parser itself
    for name in {*handlers, "ignore_final_epochs"}:
        aliases = {alias for it in found.values() for alias in it.get("aliases", ())}
        if name not in found and name not in aliases:
            found[name] = {"type": "legacy", "section": "legacy"}
    return found


def _fact(value: Any) -> Any:
    """Return a value, of their sentences the digest alone."""
    if isinstance(value, str) and len(value) > LONGEST:
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return value


def _kind(action: argparse.Action | None, field: Any) -> str:
    if action is None:
        return "interface" if field.arg_name else "dataset"
    if field.field_type.value == "text_json":
        return "json"
    return KINDS.get(getattr(action.type, "__name__", ""), "text")


def _section(field: Any) -> str:
    return f"{field.tab}/{field.section}"


def variables() -> dict[str, str]:
    """Return variable of a config.env → option."""
    table: dict[str, str] = import_module(
        "simpletuner.helpers.configuration.env_file"
    ).env_to_args_map
    return {name: option.lstrip("-") for name, option in table.items()}


def families(defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return family → what its class says, by the name that the parser takes."""
    registry = import_module("simpletuner.helpers.models.registry").ModelRegistry
    import_module("simpletuner.helpers.models.all")
    registry._load_metadata()
    classes: dict[str, Any] = {}
    for name, known in registry._metadata.items():
        classes[name] = getattr(import_module(known["module_path"]), known["class_name"])
    spellings: dict[Any, list[str]] = {kind: [name] for name, kind in classes.items()}
    for name, kind in registry._registry.items():
        if kind not in spellings:
            classes[name] = kind
        spellings.setdefault(kind, [])
        if name not in spellings[kind]:
            spellings[kind].append(name)
    return {
        spellings[kind][0]: _family(name, kind, spellings[kind], defaults)
        for name, kind in classes.items()
        if spellings[kind][0] == name
    }


def _family(
    name: str, kind: Any, spellings: list[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    default = getattr(kind, "DEFAULT_MODEL_FLAVOUR", None) or ""
    models = dict(getattr(kind, "HUGGINGFACE_PATHS", {}))
    modality = _modality(name, kind)
    told: dict[str, Any] = {
        "spellings": spellings,
        "class": kind.__name__,
        "modality": modality,
        "default": default,
    }
    if modality != "image":
        told["flavours"] = {flavour: {"model": model} for flavour, model in models.items()}
        return told
    told |= {
        "denoiser": kind.MODEL_TYPE.value,
        "denoiser_class": kind.MODEL_CLASS.__name__,
        "denoiser_subfolder": kind.MODEL_SUBFOLDER,
        "prediction": kind.PREDICTION_TYPE.value,
        "scheduler": getattr(kind, "DEFAULT_NOISE_SCHEDULER", None) or "",
        "special_scheduler": bool(kind.requires_special_scheduler_setup(None)),
        "dynamic_shift": bool(getattr(kind, "USES_DYNAMIC_SHIFT", False)),
        "negative_prompt": bool(kind.VALIDATION_USES_NEGATIVE_PROMPT),
    }
    flavours = {it: _flavour(kind, name, it, model, defaults) for it, model in models.items()}
    shared = flavours.get(default, {}).get("text_encoders", {})
    for flavour in flavours.values():
        if flavour["text_encoders"] == shared:
            del flavour["text_encoders"]
    return {**told, "text_encoders": shared, "flavours": flavours}


def _modality(name: str, kind: Any) -> str:
    bases = {base.__name__ for base in kind.__mro__}
    if "AudioModelFoundation" in bases:
        return "audio"
    return "video" if "VideoModelFoundation" in bases and name not in PICTURES else "image"


def _flavour(
    kind: Any, family: str, flavour: str, model: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    asked = _asked(kind, family, flavour, defaults)
    config = asked.config
    pipeline = _pipeline(asked)
    told: dict[str, Any] = {"model": model, "pipeline": pipeline.__name__ if pipeline else ""}
    if config.vae_path not in (None, model):
        told["vae"] = config.vae_path
        # since 4.9
        told |= _revision(getattr(asked, "_get_vae_load_kwargs", dict)())
    denoiser = kind.MODEL_TYPE.value
    if (other := config.pretrained(denoiser)) not in (None, model):
        told["denoiser"] = other
    if (subfolder := config.subfolder(denoiser)) not in (denoiser, None):
        told["denoiser_subfolder"] = subfolder
    told["text_encoders"] = dict(_encoders(asked))
    if _edits(asked):
        told["edits"] = True
    if asked.supports_assistant_lora(config):
        told["assistant_lora"] = _assistant(asked)
    known = inspect.signature(pipeline.__call__).parameters if pipeline else ()
    if takes := [name for name in SENT if name in known]:
        told["takes"] = takes
    if tokens := _tokens(kind, family, flavour, defaults):
        told["tokens"] = tokens
    if sets := {key: getattr(config, key) for key in WATCHED if _changed(config, key, defaults)}:
        told["sets"] = sets
    return told


def _revision(loaded: Mapping[str, Any]) -> dict[str, Any]:
    return {"vae_revision": loaded["revision"]} if loaded.get("revision") else {}


class _Config(SimpleNamespace):
    """Options by name; of one that no version knows the trainer's getattr default counts."""

    def pretrained(self, component: str) -> Any:
        return getattr(self, f"pretrained_{component}_model_name_or_path", None)

    def subfolder(self, component: str) -> Any:
        return getattr(self, f"pretrained_{component}_subfolder", None)


def _asked(
    kind: Any, family: str, flavour: str | None, defaults: Mapping[str, Any], **given: Any
) -> Any:
    """Return a model object as the trainer has it before anything is loaded."""
    # cmd_args: the VAE of SDXL is everybody's default, and dropped for other families
    vae = defaults["pretrained_vae_model_name_or_path"]
    vae = vae if family in ("sdxl", "pixart_sigma", "kolors") else None
    config = _Config(**{**defaults, "model_family": family, "model_flavour": flavour,
                        "model_type": "lora", "pretrained_vae_model_name_or_path": vae,
                        "vae_path": vae, "weight_dtype": None, "flux_fast_schedule": True,
                        **given})  # fmt: skip
    model = object.__new__(kind)
    model.config = config
    accelerator = SimpleNamespace(device="cpu", is_main_process=True, num_processes=1)
    # classes settle per flavour in __init__; a schedule would be loaded from the Hub
    kept, kind.setup_training_noise_schedule = kind.setup_training_noise_schedule, _nothing
    # flux writes into the dictionary of the class
    model.PIPELINE_CLASSES = dict(kind.PIPELINE_CLASSES)
    try:
        kind.__init__(model, config, accelerator)
        with suppress(Exception, SystemExit):  # some want a loaded model first, and got far enough
            model.check_user_config()
    except ValueError:  # a family without a default flavour
        model.config = config
    finally:
        kind.setup_training_noise_schedule = kept
    return model


def _nothing(*_: Any) -> None:
    return None


def _pipeline(asked: Any) -> Any:
    return {kind.name: it for kind, it in asked.PIPELINE_CLASSES.items()}.get("TEXT2IMG")


def _encoders(asked: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield component → class, where it lies, and the option that names another."""
    for name, known in (asked.TEXT_ENCODER_CONFIGURATION or {}).items():
        model = known.get("model")
        told = {"class": model.__name__ if model else known.get("name", "")}
        if path := known.get("path"):
            told["model"] = path
        told["subfolder"] = known.get("subfolder", "text_encoder") or ""
        if known.get("tokenizer"):
            told["tokenizer_subfolder"] = known.get("tokenizer_subfolder", "tokenizer") or ""
        if asked._is_gemma_component(model):
            told["option"] = "pretrained_gemma_model_name_or_path"
        elif (
            asked._is_qwen_text_encoder_config(known) or _is_klein(asked)
        ) and asked._qwen_text_encoder_config_count() < MANY:
            told["option"] = "qwen_text_encoder_model_name_or_path"
        yield name, told


def _is_klein(asked: Any) -> bool:
    """Tell whether flux2 loads Qwen where its class names Mistral."""
    return asked.config.model_family == "flux2" and bool(asked._is_klein_flavour())


def _edits(asked: Any) -> bool:
    """Tell whether validation needs a picture to start from.

    z_image asks for one always, and makes do without.
    """
    with suppress(AttributeError):
        if asked.requires_validation_edit_captions() or asked.requires_validation_i2v_samples():
            return True
    if asked.config.model_family == "deepfloyd":
        return str(asked.config.model_flavour).startswith("ii-")
    if asked.config.model_family == "z_image":
        return False
    return bool(asked.requires_conditioning_validation_inputs())


def _assistant(asked: Any) -> str:
    for source in ("_assistant_lora_path_for_flavour", None):
        if source is None:
            return str(getattr(asked, "ASSISTANT_LORA_PATH", "") or "")
        if hasattr(asked, source):
            return str(getattr(asked, source)() or "")
    return ""


def _tokens(kind: Any, family: str, flavour: str, defaults: Mapping[str, Any]) -> list[int]:
    """Return (default, least, most) of tokenizer_max_length, where the model reads it."""
    names = [name for name in vars(kind) if name != "check_user_config"]
    code = "".join(_source(getattr(kind, name)) for name in names)
    if "tokenizer_max_length" not in code:
        return []
    asked = [
        _asked(kind, family, flavour, defaults, tokenizer_max_length=given).config
        for given in (None, 1, FAR)
    ]
    found = [config.tokenizer_max_length for config in asked]
    return [] if None in found else [int(it) for it in found]


def _source(member: Any) -> str:
    with suppress(OSError, TypeError):
        return inspect.getsource(member)
    return ""


def _changed(config: Any, key: str, defaults: Mapping[str, Any]) -> bool:
    return getattr(config, key, None) != defaults.get(key)


def text(table: Mapping[str, Any]) -> str:
    """Return the table as JSON with an option, a variable and a flavour on each line."""
    lines = ["{", f' "simpletuner": {json.dumps(table["simpletuner"])},']
    for part in ("options", "variables"):
        lines += [f' "{part}": {{', *_rows(table[part], 2), " },"]
    lines.append(' "families": {')
    known = sorted(table["families"].items())
    for number, (name, family) in enumerate(known, start=1):
        plain = {key: value for key, value in family.items() if key != "flavours"}
        lines += [f"  {json.dumps(name)}: {{", *(f"{row}," for row in _members(plain, 3))]
        lines += ['   "flavours": {', *_rows(family["flavours"], 4), "   }"]
        lines.append("  }" if number == len(known) else "  },")
    return "\n".join((*lines, " }", "}", ""))


def _rows(members: Mapping[str, Any], indent: int) -> list[str]:
    rows = _members(dict(sorted(members.items())), indent)
    return [f"{row}," for row in rows[:-1]] + rows[-1:]


def _members(members: Mapping[str, Any], indent: int) -> list[str]:
    return [f"{' ' * indent}{json.dumps(it)}: {json.dumps(members[it])}" for it in members]


def main() -> None:
    """Write the table, and say what it has that nobody has decided on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=TABLES)
    output = parser.parse_args().output
    version = import_module("simpletuner").__version__
    configuration = import_module("simpletuner.helpers.configuration.cmd_args")
    known = options()
    table = {
        "simpletuner": version,
        "options": known,
        "variables": variables(),
        "families": families(configuration.get_default_config()),
    }
    file = output / f"{version}.json"
    file.write_text(text(table), encoding="utf-8")
    print(f"{file}: {len(known)} options, {len(table['families'])} families")
    answers = TABLES / "answers.toml"
    answered = tomllib.loads(answers.read_text(encoding="utf-8")) if answers.exists() else {}
    missing = sorted(set(known) - {key for group in answered.values() for key in group})
    if missing:
        sys.exit(f"without an answer in {answers.name}: {', '.join(missing)}")


if __name__ == "__main__":
    main()
