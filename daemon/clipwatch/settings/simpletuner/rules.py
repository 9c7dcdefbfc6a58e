"""The trainer's own rules for the pictures of its validation: what a family makes of its keys.

Read in SimpleTuner 4.8.0 and 4.10.1, which agree in all that stands here; files are named below
helpers/. A key that is set for clipwatch alone is taken as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.protocol import SkipLayers
from clipwatch.settings.asked import Sampling
from clipwatch.settings.settings import Settings
from clipwatch.settings.simpletuner.families import Model
from clipwatch.settings.values import Given, Size

Values = Mapping[str, Given]

STOCK = {
    **{name: name for name in ("ddim", "ddpm", "euler", "euler-a", "unipc", "dpm++")},
    "flow_matching": "euler",
    "flow_match_euler": "euler",
}
"""The trainer's samplers that diffusers has, by the names that its validation_noise_scheduler
takes (training/validation.py, SCHEDULER_NAME_MAP)."""

_SCHEDULER = "validation_noise_scheduler"
_SHIFT = "flow_schedule_shift"
_STEPS = "validation_num_inference_steps"
_LAYERS = "validation_guidance_skip_layers"
_STAGE = ("num_inference_steps", "guidance")
_REAL = frozenset(("guidance_scale_real", "true_cfg_scale"))
_SHIFTED = ("euler", "unipc")
_UNFIT = ("ddim", "ddpm", "euler-a", "lcm")
_KLEIN = ("klein-4b", "klein-9b")
_BOORU = ("libreflux", "fluxbooru")
_UNTIL = ("flux", "flux2", "zlab_i1")
_LORA = "lora"
_LYCORIS = "lycoris"
_TYPES = {_LORA: "standard", _LYCORIS: _LYCORIS}
_STRENGTHS = {
    _LORA: "validation_adapter_strength",
    _LYCORIS: "validation_lycoris_strength",
}
"""By kind of adapter: what lora_type calls it, and its strength."""


@dataclass(slots=True)
class Followed:
    """Values as the trainer's rules make them, and what is to be told."""

    values: dict[str, Given] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def follow(given: Values, model: Model) -> Followed:
    """Return what the keys of a family come to.

    Raises:
        SettingsError: Two of them do not go together.
    """
    found = Followed()
    _sampler(given, model, found)
    _prediction(given, model, found)
    _guidance(given, model, found)
    if model.name == "deepfloyd":
        _first_stage(given, found)
    _skipped(given, model, found)
    _strength(given, found)
    _alpha(given, found)
    _text(given, model, found)
    return found


def _sampler(given: Values, model: Model, found: Followed) -> None:
    """The sampler, and the shift of one for flow matching (training/validation.py)."""
    named, shift = given["validation_noise_scheduler"], given["flow_schedule_shift"]
    family = model.family
    known = family.known if family else {}
    flow = _is_flow(given, model)
    if known.get("special_scheduler") and (named.trainers or named.value is None):
        if named.value is not None:
            found.remarks.append(
                named.told(
                    f"SimpleTuner keeps the sampler of {model.name}'s pipeline, so clipwatch does"
                )
            )
        found.values[_SCHEDULER] = named.but("", f"as {model.name} has it")
    elif named.value is None:
        usual = known.get("scheduler", "")
        if usual and usual not in STOCK:
            found.remarks.append(
                f"{given['model_family'].source}: SimpleTuner's sampler for {model.name}, {usual}, "
                "is not in diffusers: clipwatch uses the pipeline's own"
            )
        source = f"default for {given['model_family'].value}" if usual else "default"
        found.values[_SCHEDULER] = Given(STOCK.get(usual, ""), source, _SCHEDULER, named.file)
    elif named.value == "pipeline":
        found.values[_SCHEDULER] = named.but("")
    elif flow and named.value in _UNFIT:
        raise named.error(
            f"{named.value!r} does not suit a flow-matching model",
            fix="choose euler, unipc or dpm++",
        )
    else:
        found.values[_SCHEDULER] = named
    # models/common.py gives pipelines the sampler of the training, which has the shift
    other = known.get("special_scheduler") or known.get("scheduler") or named.value is not None
    trained = model.flow and not other
    shifted = trained or (flow and found.values[_SCHEDULER].value in _SHIFTED)
    _shift(shift, given["flow_schedule_auto_shift"], known, found, shifted=shifted)


def _shift(
    shift: Given, auto: Given, known: Mapping[str, object], found: Followed, *, shifted: bool
) -> None:
    value: float | None = shift.value
    sampler = found.values[_SCHEDULER].value
    if not shifted:
        found.values[_SHIFT] = shift.but(None, "of no sampler here")
    elif known.get("dynamic_shift") and sampler == "euler":
        found.values[_SHIFT] = shift.but(None, "the sampler's own, by the size of the picture")
    elif auto.value or not value:
        # default_settings/safety_check.py makes it 0, which divides 0 by 0 in every sampler
        cause = auto if auto.value else shift
        found.remarks.append(
            cause.told(
                "leaves SimpleTuner's validation a shift of 0, with which no sampler makes a "
                "picture: clipwatch uses the sampler's own"
            )
        )
        found.values[_SHIFT] = shift.but(None, cause.key)
    else:
        found.values[_SHIFT] = shift


def _prediction(given: Values, model: Model, found: Followed) -> None:
    """What is predicted, over which noise (models/common.py, training/validation.py)."""
    predicted, zero = given["prediction_type"], given["rescale_betas_zero_snr"]
    spacing = given["inference_scheduler_timestep_spacing"]
    replaced = bool(found.values[_SCHEDULER].value)
    if model.flow and predicted.trainers:
        if predicted.value == "flow_map":
            found.remarks.append(
                predicted.told("a flow map takes two times, and diffusers' pipelines give it one")
            )
        elif predicted.value and predicted.value != "flow_matching":
            found.remarks.append(
                predicted.told(f"{model.name} predicts a flow, and keeps to it: it is not followed")
            )
        predicted = predicted.but("", f"{model.name} predicts a flow")
    found.values["prediction_type"] = predicted
    if model.name == "sd2x" and not zero.value and _default(zero):
        zero = zero.but(True, "sd2x sets it")  # models/sd1x/model.py
    if not replaced or _is_flow(given, model):
        if zero.value and zero.trainers:
            flow = "a flow's sampler has no such schedule"
            why = flow if _is_flow(given, model) else "the pipeline's own sampler is taken as it is"
            found.remarks.append(zero.told(f"is not followed: {why}"))
        zero = zero.but(False, "of no sampler here") if zero.value else zero
    found.values["rescale_betas_zero_snr"] = zero
    if not replaced and not _default(spacing):
        spacing = spacing.but("trailing", "of no sampler here")
    found.values["inference_scheduler_timestep_spacing"] = spacing


def _guidance(given: Values, model: Model, found: Followed) -> None:
    """Guidance, and the steps that go with it (models/flux/model.py, models/flux2/model.py)."""
    plain, real = given["validation_guidance"], given["validation_guidance_real"]
    until, steps = given["validation_no_cfg_until_timestep"], given[_STEPS]
    flavour = model.flavour.name if model.flavour else ""
    takes = model.usual.known.get("takes", ()) if model.usual else ()
    if model.name == "flux2" and flavour in _KLEIN and real.value == 1.0:
        real = plain.but(plain.value, f"validation_guidance, for {flavour}")
        plain = plain.but(1.0, f"none, for {flavour}")
    elif model.name == "flux" and flavour in _BOORU:
        least = 28
        if real.value <= 1.0 and (real.trainers or _default(real)):
            real = real.but(6.0, f"{flavour} needs it")
        if steps.value < least and steps.trainers:
            steps = steps.but(least, f"{flavour} needs it")
    elif model.family and real.value > 1.0 and real.trainers and not _REAL.intersection(takes):
        real = real.but(1.0, f"{model.name}'s pipeline has none")
    # without true guidance there is nothing to begin later
    late = model.name in _UNTIL and "no_cfg_until_timestep" in takes and real.value > 1.0
    if not late and (until.trainers or _default(until)):
        until = until.but(0, "")
    found.values |= {
        "validation_guidance": plain,
        "validation_guidance_real": real,
        "validation_no_cfg_until_timestep": until,
        _STEPS: steps,
    }


def _first_stage(given: Values, found: Followed) -> None:
    """The pictures that the further stages enlarge (models/deepfloyd/model.py)."""
    mode, sizes = given["deepfloyd_validation_pipeline_mode"], given["validation_resolution"]
    if mode.value == "trained-stage" or not (sizes.trainers or _default(sizes)):
        return
    smallest, times, step, most = 64, 4, 8, 30
    first = [
        Size(*(max(smallest, side // times) // step * step for side in size))
        for size in sizes.value
    ]
    found.values["validation_resolution"] = sizes.but(tuple(first), "of stage I, a quarter")
    steps, guidance = (given[f"deepfloyd_validation_stage1_{it}"] for it in _STAGE)
    usual = found.values[_STEPS]
    least = usual if usual.value <= most else usual.but(most, "of stage I")
    found.values[_STEPS] = least if steps.value is None else steps
    if guidance.value is not None:
        found.values["validation_guidance"] = guidance


def _skipped(given: Values, model: Model, found: Followed) -> None:
    """Skip-layer guidance, and guidance_rescale, which is sent with it alone."""
    layers, rescale = given[_LAYERS], given["validation_guidance_rescale"]
    takes = model.usual.known.get("takes", ()) if model.usual else ()
    if isinstance(layers.value, int):  # a list in JSON becomes its last member: no list at all
        found.remarks.append(
            layers.told(
                "SimpleTuner takes the last of a list alone, and then skips no layer: write it as "
                'a text, "[7, 8]"'
            )
        )
        layers = layers.but((), "no list")
    elif layers.value and layers.trainers and model.name and model.name != "sd3":
        raise layers.error(f"SimpleTuner does not start with it for {model.name}", fix="remove it")
    start, stop = given[f"{_LAYERS}_start"], given[f"{_LAYERS}_stop"]
    if layers.value and stop.value <= start.value:
        end = f"{stop.value:g} is not after {start.key}, {start.value:g}"
        found.remarks.append(stop.told(f"{end}: no step lies between, and no layer is skipped"))
    found.values[_LAYERS] = layers
    sent = bool(layers.value) and "guidance_rescale" in takes
    if rescale.value and rescale.trainers and not sent:
        rescale = rescale.but(0.0, "SimpleTuner does not send it here")
    found.values["validation_guidance_rescale"] = rescale


def skip_layers(sampling: Sampling) -> SkipLayers | None:
    """Return skip-layer guidance of the protocol, None for none."""
    if not sampling.skip_layers:
        return None
    its = (sampling.skip_scale, sampling.skip_start, sampling.skip_stop)
    return SkipLayers(sampling.skip_layers, *its)


def _strength(given: Values, found: Followed) -> None:
    """Of a LoRA or LyCORIS network (training/validation.py, configuration/cmd_args.py)."""
    lora, lycoris = given["validation_adapter_strength"], given["validation_lycoris_strength"]
    if lora.value == 0 and lora.trainers:
        raise lora.error(
            "must not be 0, as SimpleTuner does not start with it",
            fix='write "clipwatch": {"validation_adapter_strength": 0} for clipwatch alone',
        )
    if lycoris.value == 0 and lycoris.trainers:
        lycoris = lycoris.but(1.0, "SimpleTuner takes 1 for 0")  # `or 1.0`
    found.values |= {"validation_adapter_strength": lora, "validation_lycoris_strength": lycoris}


def strength(given: Values) -> float:
    """Return by how much an adapter counts; 1.0 for what is none."""
    if given["model_type"].value not in ("", _LORA):
        return 1.0
    return float(given[_STRENGTHS[_kind(given["lora_type"].value)]].value)


def _kind(lora_type: object) -> str:
    return _LYCORIS if lora_type == _LYCORIS else _LORA


def mistaken(settings: Settings, kind: CheckpointKind) -> str:
    """Say that an adapter acts at a strength that is meant for the other kind; else "".

    Args:
        settings: Their lora_type decided which strength is the protocol's.
        kind: As the checkpoint itself is; all but "lora" and "lycoris" have no strength.
    """
    training, sampling = settings.training, settings.sampling
    taken = _kind(training.lora_type)
    if sampling.strengths:  # they hold for both
        return ""
    if kind not in _STRENGTHS or kind == taken or training.model_type not in ("", _LORA):
        return ""
    acting = {_LORA: sampling.adapter_strength, _LYCORIS: sampling.lycoris_strength}
    if acting[taken] == acting[kind]:
        return ""
    return (
        f"it is {'a LyCORIS network' if kind == _LYCORIS else 'a LoRA'}, and lora_type is"
        f" {_TYPES[taken]!r} ({settings.source('lora_type')}): it acts at {_STRENGTHS[taken]}"
        f" {acting[taken]:g}, not at {_STRENGTHS[kind]} {acting[kind]:g}; set lora_type to"
        f" {_TYPES[kind]!r}"
    )


def _alpha(given: Values, found: Followed) -> None:
    """Of a LoRA whose file tells none; where it is the rank, nothing needs to be said."""
    alpha = given["lora_alpha"]
    if alpha.value is not None and alpha.value == given["lora_rank"].value:
        alpha = alpha.but(None, "lora_rank")
    found.values["lora_alpha"] = alpha


def _text(given: Values, model: Model, found: Followed) -> None:
    """How many tokens of a prompt are read, where it is not the family's usual number."""
    length = given["tokenizer_max_length"]
    bounds = model.usual.known.get("tokens") if model.usual else None
    if bounds is None:
        kept = length.value if not length.trainers or model.family is None else None
        found.values["tokenizer_max_length"] = length.but(kept)
        return
    default, least, most = bounds
    value = default if not length.value else min(max(length.value, least), most)
    usual = _usual_length(model)
    remark = f"SimpleTuner's bounds for {model.name}" if length.value not in (None, value) else ""
    found.values["tokenizer_max_length"] = length.but(None if value == usual else value, remark)


def _usual_length(model: Model) -> int | None:
    family = model.family
    usual = family.flavour(family.default) if family else None
    bounds = usual.known.get("tokens") if usual else None
    return bounds[0] if bounds else None


def _is_flow(given: Values, model: Model) -> bool:
    """Whether the model predicts a flow: families of noise may be trained to (models/sdxl)."""
    return model.flow or given["prediction_type"].value.startswith("flow")


def _default(given: Given) -> bool:
    return given.line is None and given.source.startswith("default")
