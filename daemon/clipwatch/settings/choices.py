"""Values that follow from several keys: pure functions, each returns the value with its origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clipwatch.settings import families
from clipwatch.settings.values import Given

_WITHOUT_ADAPTER = (
    *("aim", "clearml", "comet_ml", "custom-tracker", "dvclive", "mlflow"),
    *("simpletuner", "swanlab", "trackio"),
)
_ADVISED = ("clip-vit-large-patch14", "clip-vit-large-patch14-336")
_DTYPES = {"no": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "bf16"}
_RANDOM = "random for the trainer, and images that are compared need a fixed seed"

Values = Mapping[str, Given]


def check_evaluation(given: Values) -> None:
    """Refuse a run without CLIP scores, or with an attention that would spoil them.

    Raises:
        SettingsError: Names the keys to change.
    """
    wanted, mechanism = given["evaluation_type"], given["attention_mechanism"]
    if wanted.value == "none":
        advice = 'set "evaluation_type": "clip", in the object "clipwatch" for clipwatch alone'
        raise wanted.error(f"is 'none', so there is nothing to score: {advice}")
    if mechanism.value.startswith("sageattention") and given["attention"].value != "native":
        raise mechanism.error(
            f"{mechanism.value!r} and evaluation_type 'clip' exclude each other: SageAttention "
            "changes attention for CLIP too; remove one of the two, or set "
            '"clipwatch": {"attention": "native"} to score with ordinary attention while the '
            "training keeps SageAttention"
        )


def seed(given: Values) -> Given:
    """Return validation_seed, else seed, else 0; never the trainer's "random" or "by the clock"."""
    own, general = given["validation_seed"], given["seed"]
    if own.value is not None:
        return own.but(0, _RANDOM) if own.value < 0 else own
    if general.value is None:
        return own.but(0)
    if general.value <= 0:
        return general.but(0, f"seed {general.value} is {_RANDOM}")
    return general.but(general.value, "seed")


def size(given: Values) -> Given:
    """Return the first (width, height), in pixels."""
    sizes = given["validation_resolution"]
    remark = f"first of {len(sizes.value)}" if len(sizes.value) > 1 else ""
    return sizes.but(sizes.value[0], remark)


def scheduler(given: Values) -> Given:
    """Return the sampler by the trainer's name, "" for the pipeline's own."""
    named = given["validation_noise_scheduler"]
    if named.value is None:
        return families.scheduler(given["model_family"])
    return named.but("") if named.value == "pipeline" else named


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
    asked, training = given["dtype"], given["mixed_precision"]
    if asked.value != "auto":
        return asked
    if device == "cpu":
        return asked.but("fp32", "auto on a CPU")
    return asked.but(_DTYPES[training.value], f"auto, mixed_precision {training.value}")


def trackers(given: Values, installed: Sequence[str]) -> Given:
    """Return the adapters that report_to names, each once.

    Raises:
        SettingsError: There is no adapter of that name.
    """
    named = given["report_to"]
    chosen: list[str] = []
    for name in named.value:
        if name == "all":
            chosen += installed
        elif name in installed:
            chosen.append(name)
        elif name in _WITHOUT_ADAPTER:
            advice = 'name another for clipwatch alone: "clipwatch": {"report_to": "tensorboard"}'
            raise named.error(f"clipwatch has no adapter for {name!r}; {advice}")
        elif name != "none":
            known = ", ".join((*installed, "all", "none"))
            raise named.error(f"unknown tracker {name!r}: known are {known}")
    return named.but(tuple(dict.fromkeys(chosen)))


def tracker_name(named: Given, blank: str) -> Given:
    """Return the trainer's name for a project or run; it has one of its own for a blank."""
    return named if named.value else named.but(blank, "blank")


def bound(given: Values, key: str, usual: float) -> Given:
    """Return a bound of the mean; the usual ones hold for OpenAI's ViT-L/14 and for no other.

    From what those who train say of CLIP scores: 0.18 to 0.22 is probably a poor model, and from
    0.30 on differences of means say little.
    """
    scorer = str(given["pretrained_evaluation_model_name_or_path"].value)
    known = scorer.rstrip("/").rpartition("/")[2] in _ADVISED
    named = given[key]
    return named.but(usual, "ViT-L/14") if named.value is None and known else named
