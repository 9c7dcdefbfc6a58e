"""Where sd-scripts' options stand: a --config_file, kohya_ss's copy of it, or FluxGym's script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from clipwatch.settings.trainers import documents
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.place import Place, matching

GUI = r".+_\d{8}-\d{6}\.json"
"""kohya_ss's own copy of what stood in its form."""

_CONFIG, _SCRIPT = r".*\.toml", r"train\.(sh|bat)"
_KNOWN = frozenset(
    ("network_module", "network_dim", "output_name", "output_dir", "sample_prompts",
     "train_data_dir", "dataset_config", "max_train_steps", "max_train_epochs", "sample_sampler",
     "save_every_n_steps", "save_every_n_epochs", "save_model_as", "mixed_precision", "LoRA_type")
)  # fmt: skip
_CERTAIN = 2  # of these, beside a base, make a file one of sd-scripts'
_BASES = ("pretrained_model_name_or_path", "dit")
_OTHERS = "micro_batch_size_per_gpu"  # diffusion-pipe has some of the same names


def options(place: Place, name: str) -> Document | None:
    """Return the options of the training, None where they lie nowhere.

    Args:
        place: Where to look; a configuration above it counts if it names this output directory.
        name: --output_name as the weights tell it, "" for an unknown one; its configuration comes
            before the others.
    """
    found = [it for root in place.roots for it in _in(root)]
    found += [
        it
        for root in place.roots
        for it in _in(root.parent)
        if PurePosixPath(str(it.at("output_dir")).replace("\\", "/")).name == root.name
    ]
    mine = [it for it in found if name and it.at("output_name") == name]
    return next(iter(mine or found), None)


def _in(folder: Path) -> Iterator[Document]:
    for pattern in (_CONFIG, _SCRIPT, GUI):
        for found in documents.read_all(matching(folder, pattern))[0]:
            document = documents.flat(found)
            if _is_its(document.values):
                yield document


def _is_its(values: dict[str, object]) -> bool:
    based = any(isinstance(values.get(it), str) for it in _BASES)
    return based and _OTHERS not in values and len(values.keys() & _KNOWN) >= _CERTAIN
