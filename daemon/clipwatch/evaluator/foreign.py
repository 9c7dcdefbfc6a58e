"""What comes with a model folder and is never touched: code of its own, and pickles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_LIBRARIES: Final = frozenset({"diffusers", "transformers"})


def check_classes(index: Mapping[str, Any]) -> None:
    """Make sure that a pipeline is made of diffusers' and transformers' own classes alone.

    Args:
        index: The content of its model_index.json.

    Raises:
        ValueError: It names something else: a module that would be imported, or code to run; or a
            pipeline within the pipeline, which diffusers would load in any format.
    """
    for part, named in index.items():
        match named:
            case [str(library), str()] if not _known(library):
                raise ValueError(
                    f"model_index.json has {list(named)} as {part}, which is neither diffusers' nor"
                    " transformers': code that comes with a model is never run"
                )
            case [str(library), str(name)] if _is_pipeline(library, name):
                raise ValueError(
                    f"model_index.json has {list(named)} as {part}, a whole pipeline, and none is"
                    " read within another: its weights might be pickles"
                )


def check_shards(folder: Path) -> None:
    """Make sure that the folder's weights are not split into files of another format.

    Raises:
        ValueError: One of its indices names a file that is not safetensors.
    """
    for path in within(folder, "*.index.json"):
        for name in set(json.loads(path.read_bytes()).get("weight_map", {}).values()):
            if not str(name).endswith(".safetensors"):
                raise ValueError(f"{path} names {name}: only safetensors weights are read")


def within(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield files of a model's folder, of its parts, which may be links, and below these."""
    yield from folder.glob(pattern)
    for part in folder.iterdir():
        if part.is_dir():
            yield from part.rglob(pattern)


def _known(library: str) -> bool:
    from diffusers import pipelines

    # diffusers names a few classes by the module of the pipeline that they were made for
    pipeline = not library.startswith("_") and hasattr(pipelines, library)
    return library in _LIBRARIES or pipeline


def _is_pipeline(library: str, name: str) -> bool:
    import diffusers

    for home in (diffusers, getattr(diffusers.pipelines, library, None)):
        kind = getattr(home, name, None)
        if isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline):
            return True
    return False
