"""Where sd-scripts' options stand: a --config_file, kohya_ss's copy of it, or FluxGym's script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from clipwatch.settings.trainers import documents
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.place import Place, matching

_NAMES = (r".*\.toml", r"train\.(sh|bat)", r".+_\d{8}-\d{6}\.json")
"""The last is kohya_ss's own copy of what stood in its form."""

_KNOWN = frozenset(
    ("network_module", "network_dim", "output_name", "output_dir", "sample_prompts",
     "train_data_dir", "dataset_config", "max_train_steps", "max_train_epochs", "sample_sampler",
     "save_every_n_steps", "save_every_n_epochs", "save_model_as", "mixed_precision", "LoRA_type")
)  # fmt: skip
_CERTAIN = 2  # of these, beside a base, make a file one of sd-scripts'
_BASES = ("pretrained_model_name_or_path", "dit")
_OTHERS = "micro_batch_size_per_gpu"  # diffusion-pipe has some of the same names


def options(place: Place, name: str) -> tuple[Document | None, list[str]]:
    """Return the options of the training, None where they lie nowhere, and what cannot be read.

    Args:
        place: Where to look; a configuration above it counts if it names this output directory.
        name: --output_name as the weights tell it, "" for an unknown one; its configuration comes
            before the others.
    """
    found, remarks = _in(place.roots)
    for document in _in(tuple(dict.fromkeys(it.parent for it in place.roots)))[0]:
        named = PurePosixPath(str(document.at("output_dir")).replace("\\", "/")).name
        if named in {root.name for root in place.roots if root.parent == document.file.parent}:
            found.append(document)
    mine = [it for it in found if name and it.at("output_name") == name]
    return next(iter(mine or found), None), remarks


def _in(folders: Sequence[Path]) -> tuple[list[Document], list[str]]:
    paths = [it for folder in folders for name in _NAMES for it in matching(folder, name)]
    read, remarks = documents.read_all(paths)
    return [it for it in map(documents.flat, read) if _is_its(it.values)], remarks


def _is_its(values: dict[str, object]) -> bool:
    based = any(isinstance(values.get(it), str) for it in _BASES)
    return based and _OTHERS not in values and len(values.keys() & _KNOWN) >= _CERTAIN
