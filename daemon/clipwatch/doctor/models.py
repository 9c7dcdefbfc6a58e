"""The base model and the scorer: whole in a folder or in the Hub's cache, or to be had."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

from clipwatch.doctor import hub
from clipwatch.doctor.findings import Finding, fail, ok, size, told
from clipwatch.evaluator.dual_encoders import refusal
from clipwatch.evaluator.hub import hub_address, unreachable
from clipwatch.layouts import contents
from clipwatch.layouts.contents import Unsupported
from clipwatch.layouts.files import NotReadable, NotWhole, read_json, shards
from clipwatch.layouts.header import read_header
from clipwatch.protocol import EvaluationProtocol, NamedScorer

FETCH = "run `clipwatch fetch` where there is a network"

_TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_UNUSED = "safety_checker"

Files = Callable[[Path], list[Path]]


class Unfit(Exception):  # noqa: N818 - says what is so
    """No model of the kind that is wanted; the text says in what."""


def base(protocol: EvaluationProtocol) -> Finding:
    """Look for the base model."""
    revision = protocol.base_revision

    def files(folder: Path) -> list[Path]:
        return base_files(folder, protocol.base_variant)

    places = _places(protocol.base_model, (revision or "main",))
    return _judge("base model", protocol.base_model, places, files, "model_index.json", revision)


def scorers(protocol: EvaluationProtocol) -> list[Finding]:
    """Look for the scorer, and for further ones."""
    return [
        _judge(
            "scorer",
            scorer.model,
            _places(scorer.model, _scorer_revisions(scorer)),
            scorer_files,
            "config.json",
            scorer.revision,
        )
        for scorer in protocol.all_scorers
    ]


def elements(protocol: EvaluationProtocol) -> tuple[int, int] | None:
    """Count the weights of the base model and of all scorers; None where one is not here."""
    try:
        pipeline = [
            base_files(folder, protocol.base_variant)
            for folder in _places(protocol.base_model, (protocol.base_revision or "main",))[:1]
        ]
        scoring = [_weights(scorer) for scorer in protocol.all_scorers]
        if not pipeline or not all(scoring):
            return None
        return sum(map(_elements, pipeline[0])), sum(map(_elements, chain(*scoring)))
    except (OSError, NotWhole, NotReadable, Unsupported, Unfit):
        return None


def base_files(folder: Path, variant: str) -> list[Path]:
    """Return the weight files of a diffusers pipeline, all of them whole.

    Raises:
        Unfit, NotWhole, NotReadable, Unsupported: It is none, or not all of it is there.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise Unfit("has no model_index.json, so it is no diffusers pipeline")
    found = [folder / file.path for file in contents.find(folder, "live").files]
    weights = [file for file in found if file.suffix == ".safetensors"]
    weights = [file for file in weights if file.parent.name != _UNUSED]
    for part, named in read_json(index).items():
        if not isinstance(named, list) or not any(named) or part == _UNUSED:
            continue
        if not (folder / part).is_dir():
            raise NotWhole(f"{part}/ is missing")
        # schedulers, tokenizers and the like have configs of other names
        if (folder / part / "config.json").is_file() and not _below(weights, folder / part):
            raise NotWhole(f"{part}/ has no safetensors weights")
    if variant and not any(f".{variant}." in file.name for file in weights):
        raise Unfit(f"has no weights of the variant {variant!r}")
    for file in weights:
        read_header(file)
    return weights


def scorer_files(folder: Path) -> list[Path]:
    """Return the weight files of a CLIP model or one like it, all of them whole.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise Unfit("has no config.json, so it is no model of transformers")
    if reason := refusal(read_json(config).get("model_type")):
        raise Unfit(reason)
    weights = shards(folder, "model")
    if weights is None:
        pickles = any(folder.glob("*.bin"))
        raise Unfit(f"has no safetensors weights{', only pickles' if pickles else ''}")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise NotWhole("its tokenizer is missing")
    for file in weights:
        read_header(file)
    return weights


def _weights(scorer: NamedScorer) -> list[Path]:
    """Return the weight files of a scorer that is here, else none."""
    places = _places(scorer.model, _scorer_revisions(scorer))
    return next((found for folder in places if (found := shards(folder, "model"))), [])


def _scorer_revisions(scorer: NamedScorer) -> tuple[str, ...]:
    if scorer.revision or Path(scorer.model).is_absolute():
        return (scorer.revision,)
    return ("main", *hub.conversions(scorer.model))


def _places(name: str, revisions: tuple[str, ...]) -> list[Path]:
    """Return the folders in which a model may lie; a local one only if it is named."""
    return [Path(name)] if Path(name).is_absolute() else hub.cached(name, revisions)


def _judge(
    check: str, name: str, places: Sequence[Path], files: Files, head: str, revision: str
) -> Finding:
    reason = ""
    for folder in places:
        try:
            total = sum(file.stat().st_size for file in files(folder))
        except NotReadable as error:
            return told(check, "fail", str(error), "run clipwatch as their owner")
        except (Unfit, NotWhole, Unsupported, ValueError) as error:
            reason = reason or f"{folder}: {error}"
        else:
            where = "local" if name == str(folder) else f"in the cache, {folder}"
            return ok(check, f"{name} ({where}, weights of {size(total)})")
    if Path(name).is_absolute():
        advice = f"name a whole {'diffusers' if head != 'config.json' else 'CLIP'} model"
        return fail(check, reason or f"{name} is gone", advice)
    missing = unreachable(name, head, revision)
    if missing is None:
        begun = f" ({reason})" if reason else ""
        found = f"{name} is not whole here{begun}, and can be fetched from {hub_address()}"
        return ok(check, found)
    if reason:
        return fail(check, reason, FETCH)
    return fail(check, f"{name}: {missing.what}", missing.advice)


def _below(files: Sequence[Path], folder: Path) -> bool:
    return any(file.is_relative_to(folder) for file in files)


def _elements(file: Path) -> int:
    """Count the numbers in a safetensors file whose header is known to be good."""
    with file.open("rb") as data:
        header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
    header.pop("__metadata__", None)
    return sum(math.prod(tensor["shape"]) for tensor in header.values())
