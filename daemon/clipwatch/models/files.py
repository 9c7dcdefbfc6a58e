"""Which files make a model: those that are loaded, and no others that lie beside them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from clipwatch.layouts.files import NotWhole, read_json, shards
from clipwatch.layouts.pipeline_parts import MODEL

INDEX = "model_index.json"

UNUSED = frozenset({"safety_checker"})
"""Parts that no evaluation loads: it blackens images."""

TOKENIZERS = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_TEXTS = (".json", ".txt", ".model", ".jinja")  # configs, vocabularies, chat templates
_INDEX_OF_SHARDS = ".index"
_SAFETENSORS = ".safetensors"


class Unfit(Exception):  # noqa: N818 - says what is so
    """No model of the kind that is wanted; the text says in what."""


def pipeline_files(
    folder: Path, variant: str, without: Collection[str] = ()
) -> dict[str, list[Path]]:
    """Return by part the files of a diffusers pipeline, all of them there.

    Args:
        folder: Holds model_index.json.
        variant: Of the weights, "" for the usual ones.
        without: Parts that come from elsewhere.

    Raises:
        Unfit, NotWhole, NotReadable: It is none, or not all of it is there.
    """
    index = folder / INDEX
    if not index.is_file():
        raise Unfit(f"has no {INDEX}, so it is no diffusers pipeline")
    named = read_json(index)
    if not isinstance(named, dict):
        raise Unfit(f"has a {INDEX} that is no pipeline's index")
    found = {"": [index]}
    for part, classes in sorted(named.items()):
        match classes:  # other lists are settings, such as Krea 2's layers
            case [str(), str()] if part not in UNUSED.union(without):
                if not (folder / part).is_dir():
                    raise NotWhole(f"{part}/ is missing")
                found[part] = part_files(folder / part, variant)
    weights = [file for files in found.values() for file in files if file.suffix == _SAFETENSORS]
    if variant and not without and not any(f".{variant}." in file.name for file in weights):
        raise Unfit(f"has no weights of the variant {variant!r}")
    return found


def part_files(folder: Path, variant: str) -> list[Path]:
    """Return the files of one part: a model, a tokenizer, a scheduler.

    Raises:
        NotWhole, NotReadable: A model's weights are not all there, or there is nothing.
    """
    texts = texts_of(folder)
    ways = ((stem, its) for its in dict.fromkeys((variant, "")) for stem in (MODEL, "model"))
    weights = next((it for stem, its in ways if (it := shards(folder, stem, its))), [])
    # schedulers, tokenizers and the like have configs of other names
    if (folder / "config.json").is_file() and not weights:
        pickles = any(folder.glob("*.bin"))
        only = ", only pickles, which are never opened" if pickles else ""
        raise NotWhole(f"{folder.name}/ has no safetensors weights{only}")
    if not texts and not weights:
        raise NotWhole(f"{folder.name}/ is empty")
    return [*texts, *weights]


def texts_of(folder: Path) -> list[Path]:
    """Return the configs, vocabularies and the like in a model's folder, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _TEXTS and _INDEX_OF_SHARDS not in path.suffixes and path.is_file()
    )


def weights_of(files: list[Path]) -> list[Path]:
    """Return those among a model's files that hold its weights."""
    return [file for file in files if file.suffix == _SAFETENSORS]
