"""Values that follow from several keys: pure functions, each returns the value with its origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clipwatch.domain.protocol import Prompt
from clipwatch.layouts.claims import GENERIC
from clipwatch.settings.values import Given

_ANOTHER = 'name another for clipwatch alone: "clipwatch": {"report_to": "tensorboard"}'
_WITHOUT_ADAPTER = {
    **dict.fromkeys(("aim", "clearml", "dvclive"), _ANOTHER),
    "custom-tracker": f"write an adapter, see docs/trackers.md, or {_ANOTHER}",
    "simpletuner": f"`clipwatch report` writes a page of its own, or {_ANOTHER}",
}
"""What a trainer's report_to may name, in some version, and clipwatch has not → what to do."""

ALWAYS = ("csv", "jsonl")
"""Adapters that every run has, named or not: tables in the state directory."""

_VAE_AS_THE_REST = ("flux2", "ideogram")  # which load it in their own way
_AUTO_ON_CPU = "auto on a CPU"
_DTYPES = {"no": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "bf16"}
_RANDOM = "random for the trainer, and images that are compared need a fixed seed"

FIRST = "clip"
"""The scorer that decides, by the name under which its numbers are published."""

Values = Mapping[str, Given]


def check_evaluation(given: Values) -> None:
    """Refuse a run without CLIP scores, or with an attention that would spoil them.

    Raises:
        SettingsError: Names the keys to change.
    """
    wanted, mechanism = given["evaluation_type"], given["attention_mechanism"]
    if wanted.value == "none":
        fix = 'set "evaluation_type": "clip", in the object "clipwatch" for clipwatch alone'
        raise wanted.error("is 'none', so there is nothing to score", fix=fix)
    if mechanism.value.startswith("sageattention") and given["attention"].value != "native":
        raise mechanism.error(
            f"{mechanism.value!r} and evaluation_type 'clip' exclude each other: SageAttention "
            "changes attention for CLIP too",
            fix="remove one of the two, or set "
            '"clipwatch": {"attention": "native"} to score with ordinary attention while the '
            "training keeps SageAttention",
        )


def seed(given: Values) -> Given:
    """Return validation_seed, else seed, else 0; never the trainer's "random" or "by the clock".

    With `seeds: trainer` it is what the trainer's validation takes: it passes over a
    validation_seed of 0, and -1 is a number like any other there (training/validation.py,
    _get_generator), while seed 0 and -1 mean another one at every start
    (configuration/cmd_args.py).
    """
    own, general = given["validation_seed"], given["seed"]
    trainers = given["seeds"].value == "trainer"
    passed = trainers and own.value == 0 and general.value is not None
    if own.value is not None and not passed:
        return own if trainers or own.value >= 0 else own.but(0, "0 for -1")
    if general.value is None:
        return own.but(0)
    if general.value <= 0:
        return general.but(0, f"seed {general.value} is {_RANDOM}")
    return general.but(general.value, "seed")


def unknowable(given: Values, found: Given) -> tuple[str, ...]:
    """Tell where the trainer's own seed is asked for, and no file says which it is."""
    general = given["seed"]
    if given["seeds"].value != "trainer" or found.key != general.key or found.value:
        return ()
    return (
        general.told(
            "SimpleTuner starts its validation from another seed each time it is started; "
            "clipwatch takes 0: set validation_seed for the same pictures"
        ),
    )


def size(given: Values) -> Given:
    """Return the first (width, height), in pixels."""
    sizes = given["validation_resolution"]
    remark = f"first of {len(sizes.value)}" if len(sizes.value) > 1 else ""
    return sizes.but(sizes.value[0], remark)


def weights(given: Values) -> Given:
    """Return "ema" where it is asked for or the trainer validates nothing else, else "live"."""
    asked, validation = given["weights"], given["ema_validation"]
    if asked.value is not None:
        return asked
    if given["use_ema"].value and validation.value == "ema_only":
        return validation.but("ema", "ema_validation")
    return asked.but("live")


def dtype(given: Values, device: str) -> Given:
    """Return the dtype of the generation: as the training's, but float32 on a CPU."""
    asked, training, default = (
        given[key] for key in ("dtype", "mixed_precision", "base_model_default_dtype")
    )
    if asked.value != "auto":
        return asked
    if device == "cpu":
        return asked.but("fp32", _AUTO_ON_CPU)
    quantised = bool(given["base_precision"].value) and training.value != "bf16"
    if quantised and default.value == "bf16":  # SimpleTuner's configuration/cmd_args.py
        return asked.but("bf16", "auto, base_model_default_dtype bf16")
    return asked.but(_DTYPES[training.value], f"auto, mixed_precision {training.value}")


def vae_dtype(given: Values, dtype: Given, family: str, *, simpletuner: bool) -> Given:
    """Return the dtype of the VAE, "" for that of the generation.

    The trainer's default is bf16 whatever the rest has (models/common.py, load_vae); a dtype that
    is not "auto" is the VAE's, too, and on a CPU all of it is float32.
    """
    asked = given["vae_dtype"]
    default = asked.source == "default"
    value = "bf16" if asked.value == "default" else asked.value
    if asked.trainers or default:
        if _AUTO_ON_CPU in dtype.source or not simpletuner or family in _VAE_AS_THE_REST:
            return asked.but("", "as dtype")
        if default and given["dtype"].value != "auto":
            return asked.but("", "as dtype")
        if family == "sana":  # models/sana/model.py
            value, asked = "fp32", asked.but("", "sana has no other")
    return asked.but("" if value == dtype.value else value)


def trackers(
    given: Values, installed: Sequence[str], lacking: Callable[[str], str]
) -> tuple[Given, tuple[str, ...]]:
    """Return the adapters that report_to names, each once, and what is told of the others.

    Those of ALWAYS are none of them, as they need not be named. "all" are those whose packages are
    there, as accelerate means it. A tracker of the trainer alone is passed over where the trainer's
    own key names it.

    Args:
        given: With the key.
        installed: All adapters.
        lacking: Returns what installs the package that an adapter lacks, "" where it lacks none.

    Raises:
        SettingsError: There is no adapter of that name.
    """
    named = given["report_to"]
    others = [name for name in installed if name not in ALWAYS]
    missing = {name: fix for name in others if "all" in named.value and (fix := lacking(name))}
    chosen: list[str] = []
    skipped: list[str] = []
    for name in named.value:
        if name == "all":
            chosen += [it for it in others if it not in missing]
        elif name in others:
            chosen.append(name)
        elif name in _WITHOUT_ADAPTER and named.trainers:
            skipped.append(name)
        elif name in _WITHOUT_ADAPTER:
            raise named.error(f"clipwatch has no adapter for {name!r}", fix=_WITHOUT_ADAPTER[name])
        elif name not in ("none", *ALWAYS):
            known = ", ".join((*others, "all", "none"))
            raise named.error(f"unknown tracker {name!r}", fix=f"choose among {known}")
    remarks = [
        named.told(f"clipwatch has no adapter for {name!r}, and publishes to the others")
        if chosen
        else named.told(
            f"clipwatch has no adapter for {name!r}, and publishes nowhere: "
            f"{_WITHOUT_ADAPTER[name]}"
        )
        for name in skipped
    ]
    left = [f"{name} ({fix})" for name, fix in missing.items() if name not in chosen]
    if left:
        remarks.append(named.told(f"'all' is what is installed, without {', '.join(left)}"))
    return named.but(tuple(dict.fromkeys(chosen))), tuple(remarks)


def tracker_name(named: Given, blank: str) -> Given:
    """Return the trainer's name for a project or run; it has one of its own for a blank."""
    return named if named.value else named.but(blank, "blank")


def bound(given: Values, key: str, usual: float | None) -> Given:
    """Return a bound of the mean; the usual one is that of the first scorer's scale."""
    named = given[key]
    return named.but(usual, "the scorer's") if named.value is None and usual is not None else named


def check_worth(given: Values) -> None:
    """Refuse a difference that matters to a scorer that is none.

    Raises:
        SettingsError: Names those that there are.
    """
    named = given["advice.worth"]
    scorers = [FIRST, *(it.partition(".")[2] for it in given if it.startswith("scorers."))]
    for name in named.value if isinstance(named.value, dict) else ():
        if name not in scorers:
            raise named.error(f"there is no scorer {name!r}: known are {', '.join(scorers)}")


def check_layout(given: Values) -> None:
    """Refuse half of a layout of the user's own, or one that is not asked.

    Raises:
        SettingsError: Names the key.
    """
    asked = given["layout"].value == GENERIC
    for key in ("layout_files", "layout_step"):
        if asked and not given[key].value:
            raise given["layout"].error(
                f"{GENERIC} needs {key}", fix="see docs/trainers.md, Any other trainer"
            )
        if given[key].value and not asked:
            raise given[key].error(
                f"is for the layout {GENERIC!r} alone", fix=f"set layout to {GENERIC!r}"
            )


def first_strength(given: Values, trainers: float) -> float:
    """Return the strength whose curve is the run's own: the trainer's, if it is among several."""
    named = given["strengths"].value
    return float(trainers if trainers in named or not named else named[0])


def at_strengths(given: Values, prompts: Sequence[Prompt], trainers: float) -> tuple[str, ...]:
    """Return what is to be known of several strengths, a line each.

    Args:
        given: With the key.
        prompts: Those with a strength of their own keep it.
        trainers: The strength without that key.

    Raises:
        SettingsError: All prompts have one, so that nothing would differ.
    """
    named, own = given["strengths"], sum(it.strength is not None for it in prompts)
    several = len(named.value) > 1
    if several and own == len(prompts):
        raise named.error(
            "has no effect, as every prompt has an adapter_strength of its own",
            fix="leave it out, or take that from the prompts",
        )
    lines = []
    if several and own:
        which = "prompts with an adapter_strength of their own keep it at every strength"
        lines.append(named.told(f"{which}: {own} of {len(prompts)}"))
    if named.value and trainers not in (1.0, *named.value):
        lines.append(named.told(f"it stands in for the trainer's strength {trainers:g}"))
    return tuple(lines)


def by_scorer(worth: float | dict[str, float | None] | None) -> dict[str, float | None]:
    """Return scorer → the difference that matters, "" for the first; one number is the first's."""
    if not isinstance(worth, dict):
        return {} if worth is None else {"": worth}
    return {"" if name == FIRST else name: it for name, it in worth.items()}


def or_blank(value: str | None) -> str:
    """Return a text, "" for none."""
    return value or ""
