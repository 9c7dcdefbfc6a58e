"""diffusion-pipe: the training's .toml in the folder of a run. It samples nothing by itself.

Source: diffusion-pipe, train.py and examples/main_example.toml; the keys of the base are those of
models/*.py.
"""

from __future__ import annotations

import re

from clipwatch.settings.trainers import documents
from clipwatch.settings.trainers.architectures import family, usual_sampling
from clipwatch.settings.trainers.documents import Document
from clipwatch.settings.trainers.left import Left
from clipwatch.settings.trainers.place import Place, matching, names
from clipwatch.settings.values import Given

_RUN = re.compile(r"\d{8}_\d{2}-\d{2}-\d{2}", re.ASCII)
_SAVED = re.compile(r"(step|epoch)\d+", re.ASCII)
_TOML = r".*\.toml"
_BASES = ("diffusers_path", "checkpoint_path", "ckpt_path", "transformer_path")


def read(place: Place) -> Left:
    """Read the newest run's configuration, or the copy in a checkpoint."""
    paths = []
    for root in place.roots:
        runs = sorted(filter(_RUN.fullmatch, names(root)[0]))[-1:]
        for folder in (*(root / it for it in runs), root):
            paths += matching(folder, _TOML)
            saved = filter(_SAVED.fullmatch, names(folder)[0])
            paths += [it for name in [*saved][:1] for it in matching(folder / name, _TOML)]
    found, _ = documents.read_all(dict.fromkeys(paths))
    for config in found:
        if isinstance(config.at("model", "type"), str) and isinstance(config.at("output_dir"), str):
            known = family(config.at("model", "type"))
            return Left("diffusion_pipe", usual_sampling(known), _base(config), family=known)
    return Left()


def _base(config: Document) -> Given | None:
    told = (config.given("model", name) for name in _BASES)
    return next((it for it in told if it), None)
