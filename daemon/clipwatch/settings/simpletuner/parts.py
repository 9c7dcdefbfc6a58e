"""Which components of the pipeline the trainer takes from elsewhere than the base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from clipwatch.domain.protocol import Part
from clipwatch.settings.places import Places, mode
from clipwatch.settings.simpletuner.families import Model
from clipwatch.settings.simpletuner.rules import Followed
from clipwatch.settings.values import Given

Values = Mapping[str, Given]

VAE = "pretrained_vae_model_name_or_path"
DENOISERS = ("unet", "transformer")
ENCODERS = ("pretrained_gemma_model_name_or_path", "qwen_text_encoder_model_name_or_path")

SDXL_VAE = "madebyollin/sdxl-vae-fp16-fix"
"""The option's default (its field registry), for every family at first."""

_SDXL = ("sdxl", "pixart_sigma", "kolors")
_NO_VAE = ("deepfloyd",)
_TOP = ("", "none", "null")


def elsewhere(given: Values, model: Model, places: Places, found: Followed) -> tuple[Part, ...]:
    """Return the components that are not the base model's own, sorted by name.

    `found` gets the keys that name them, with what they mean, and what is to be told.

    Raises:
        SettingsError: One of them reads as a path to nothing.
    """
    base = given["pretrained_model_name_or_path"].value
    parts = [*_denoiser(given, model, places, found), *_vae(given, model, places, found)]
    parts += _encoders(given, model, places, found)
    kept = [part for part in parts if (part.model, part.subfolder) != (base, part.name)]
    return tuple(sorted(kept, key=lambda part: part.name))


def _denoiser(given: Values, model: Model, places: Places, found: Followed) -> Iterator[Part]:
    """Yield the unet or transformer (models/common.py, load_model)."""
    for name in DENOISERS:
        key, subfolder = f"pretrained_{name}_model_name_or_path", f"pretrained_{name}_subfolder"
        entry, inside = given[key], given[subfolder]
        if model.family and model.family.known.get("denoiser") not in (name, None):
            if entry.value:
                found.remarks.append(entry.told(f"{model.name} has no {name}: it is not read"))
            found.values |= {key: entry.but(None), subfolder: inside.but(None)}
            continue
        usual = model.flavour.known.get("denoiser") if model.flavour else None
        if not entry.value and usual:
            entry = Given(usual, f"default for {model.flavour.name}", key)  # type: ignore[union-attr]
        if not entry.value:
            found.values |= {key: entry.but(None), subfolder: inside.but(None)}
            continue
        entry = entry.but(places.model(entry))
        inside = inside.but("" if inside.value.lower() in _TOP else inside.value)
        found.values |= {key: entry, subfolder: inside}
        yield _part(given, name, entry, inside.value)


def _vae(given: Values, model: Model, places: Places, found: Followed) -> Iterator[Part]:
    """Yield the VAE (configuration/cmd_args.py, vae_path; load_vae in models/common.py)."""
    entry = given[VAE]
    named = given["model_family"].value.lower()
    revision = ""
    if entry.value and entry.trainers and "sdxl" in entry.value and named and named not in _SDXL:
        found.remarks.append(
            entry.told(
                "SimpleTuner leaves out a VAE with sdxl in its name for "
                f"{given['model_family'].shown}, and so does clipwatch"
            )
        )
        entry = entry.but("")
    if entry.value and entry.trainers and model.name in _NO_VAE:
        entry = entry.but("", f"{model.name} has none")
    # the empty text is the base model's own; nothing at all is the family's
    if entry.value is None and given["model_family"].trainers:
        known = model.flavour.known if model.flavour else {}
        usual = known.get("vae") or (SDXL_VAE if named in _SDXL else "")
        revision = known.get("vae_revision", "")
        if usual:
            entry = Given(usual, f"default for {given['model_family'].value}", VAE)
    if not entry.value:
        found.values[VAE] = entry.but(None)
        return
    default = entry.line is None and entry.source.startswith("default")
    entry = entry if default else entry.but(places.model(entry))
    found.values[VAE] = entry
    part = _part(given, "vae", entry, _vae_folder(entry))
    yield replace(part, revision=revision, variant="") if default else part


def _vae_folder(entry: Given) -> str:
    """Return where the VAE lies in its model: the trainer tries "vae", and then the top.

    Of a model on the Hub its name must tell: a repository of nothing but a VAE says so.
    """
    if Path(entry.value).is_absolute():
        return "vae" if mode(Path(entry.value, "vae"), entry) else ""
    return "" if "vae" in entry.value.rpartition("/")[2].lower() else "vae"


def _encoders(given: Values, model: Model, places: Places, found: Followed) -> Iterator[Part]:
    """Yield text encoders and their tokenizers (models/common.py, _resolve_text_encoder_path)."""
    usual = model.usual
    family = model.family.known.get("text_encoders", {}) if model.family else {}
    known = usual.known.get("text_encoders", family) if usual else family
    options = {encoder.get("option") for encoder in known.values()}
    for key in ENCODERS:
        entry = given[key]
        if entry.value and model.family and key not in options:
            found.remarks.append(
                entry.told(f"SimpleTuner has no such text encoder in {model.name}: it is not read")
            )
        taken = entry.value and key in options
        found.values[key] = entry.but(places.model(entry) if taken else None)
    for name, encoder in known.items():
        other = found.values.get(encoder.get("option", ""))
        if other is not None and other.value:
            top = "qwen" in other.key  # _resolve_text_encoder_subfolder
            model_name = other
        elif "model" in encoder:
            top, model_name = False, Given(encoder["model"], "", name)
        else:
            continue
        yield _part(given, name, model_name, "" if top else encoder["subfolder"])
        if "tokenizer_subfolder" in encoder:
            tokenizer = name.replace("text_encoder", "tokenizer")
            inside = "" if top else encoder["tokenizer_subfolder"]
            yield _part(given, tokenizer, model_name, inside)


def _part(given: Values, name: str, entry: Given, subfolder: str) -> Part:
    """Return a part; the base model's revision and variant hold for all (models/common.py)."""
    if Path(entry.value).is_absolute():
        return Part(name, entry.value, subfolder, "", given["variant"].value)
    return Part(name, entry.value, subfolder, given["revision"].value, given["variant"].value)
