"""From safetensors files into resident models: everything or nothing, and no file kept open."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open

from clipwatch.evaluator.failures import EvaluationError, cause, failing_as, one_line
from clipwatch.evaluator.generation.embeddings import is_text_part
from clipwatch.evaluator.tensors import check_finite
from clipwatch.layouts.adapter_file import acting
from clipwatch.layouts.files import is_same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from clipwatch.domain.events import WeightFile

_SUFFIX: Final = ".safetensors"
_NAMED: Final = 3
_FIRST: Final = "conv_in.weight"
_GUIDED: Final = "time_embedding.cond_proj.weight"

Shape = tuple[int, ...]


def verify(folder: Path, files: Iterable[WeightFile]) -> None:
    """Make sure that the files are still those that were found.

    Raises:
        EvaluationError: One is gone ("vanished") or another than it was ("changed").
    """
    for file in files:
        try:
            found = (folder / file.path).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise EvaluationError("vanished", f"{folder / file.path} is gone") from error
        if not is_same(file, found):
            raise EvaluationError("changed", f"{folder / file.path} was written again")


def tensor_files(folder: Path, files: Iterable[WeightFile]) -> list[Path]:
    """Return the safetensors files among a checkpoint's files; nothing else is ever opened.

    Raises:
        EvaluationError: There is none ("weights").
    """
    found = [folder / file.path for file in files if file.path.endswith(_SUFFIX)]
    if not found:
        raise EvaluationError("weights", f"{folder} has no safetensors weights")
    return found


def shapes(paths: Iterable[Path]) -> dict[str, Shape]:
    """Read from the headers which tensors the files hold together.

    Raises:
        EvaluationError: A file is not safetensors, or a tensor stands in two of them ("weights").
    """
    found: dict[str, Shape] = {}
    for path in paths:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                if name in found:
                    raise EvaluationError("weights", f"{path}: {name} stands in another file too")
                found[name] = tuple(file.get_slice(name).get_shape())
    return found


def misfit(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    """Say in what the tensors found differ from those wanted; "" when they are the same."""
    both = wanted.keys() & found.keys()
    parts = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "misshapen": [
            f"{name} {list(found[name])} for {list(wanted[name])}"
            for name in sorted(both)
            if wanted[name] != found[name]
        ],
    }
    return "; ".join(
        f"{len(names)} {what} ({', '.join(ascii(name)[1:-1] for name in names[:_NAMED])}"
        f"{', ...' if len(names) > _NAMED else ''})"
        for what, names in parts.items()
        if names
    )


def check_fit(model: torch.nn.Module, paths: Sequence[Path]) -> None:
    """Make sure that the files hold exactly the model's tensors, from their headers alone.

    What acts on no picture may stand beside them.

    Raises:
        EvaluationError: They do not ("weights").
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = shapes(paths)
    found = {name: found[name] for name in acting(found)}
    if difference := misfit(wanted, found):
        raise EvaluationError(
            "weights",
            f"{paths[0].parent} does not fit the base model's {type(model).__name__}: {difference}"
            f"{_hint(wanted, found)}",
        )


def _hint(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    """Say what a misfit means where it is plain."""
    alike = [name for name in wanted.keys() & found.keys() if wanted[name] == found[name]]
    if 2 * len(alike) < len(wanted):
        return f"; {len(alike)} of the base model's {len(wanted)} tensors are in it"
    odd = {name for name in wanted.keys() & found.keys() if wanted[name] != found[name]}
    if odd == {_FIRST} and found[_FIRST][1] > wanted[_FIRST][1]:
        return "; it takes an image beside the prompt, as models that edit or inpaint do"
    if _GUIDED in found.keys() - wanted.keys():
        return "; it was distilled to take its guidance as an input (LCM)"
    return ""


def check_whole(models: Iterable[torch.nn.Module]) -> None:
    """Make sure that every tensor was in some file.

    Raises:
        ValueError: One was not.
    """
    for model in models:
        tensors = chain(model.named_parameters(), model.named_buffers())
        if missing := [name for name, tensor in tensors if tensor.is_meta]:
            raise ValueError(
                f"{type(model).__name__} lacks {len(missing)} weights, as {missing[0]}"
            )


@torch.no_grad()
def copy_into(model: torch.nn.Module, paths: Sequence[Path]) -> None:
    """Overwrite the model's tensors with those of the files, cast to the model's dtype.

    Raises:
        EvaluationError: A file cannot be read, or holds integers for floats ("weights").
    """
    target = model.state_dict()
    for path in paths:
        with _opened(path) as file:
            for name in acting(file.keys()):
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() != target[name].is_floating_point():
                    raise EvaluationError(
                        "weights",
                        f"{path}: {name} is {tensor.dtype}, quantised weights are not read",
                    )
                target[name].copy_(tensor)


def parts_of(folder: Path, paths: Iterable[Path], component: str) -> dict[str, list[Path]]:
    """Return the files of a full checkpoint by the component that they are for.

    Text encoders lie in folders of their names; all else is of the trained `component`.
    """
    found: dict[str, list[Path]] = {}
    for path in paths:
        name = path.relative_to(folder).parts[0]
        found.setdefault(name if is_text_part(name) else component, []).append(path)
    return found


def check_parts(pipeline: Any, folder: Path, parts: Mapping[str, Sequence[Path]]) -> None:
    """Make sure that a pipeline has the components of a full checkpoint, and they fit.

    Raises:
        EvaluationError: It has not, or they do not ("weights").
    """
    for component, paths in parts.items():
        model = pipeline.components.get(component)
        if not isinstance(model, torch.nn.Module):
            raise EvaluationError(
                "weights",
                f"{folder} trains {component!r}, which the base model's {type(pipeline).__name__}"
                " has not",
            )
        if not is_text_part(component):
            check_fit(model, paths)


def replace_parts(pipeline: Any, folder: Path, parts: Mapping[str, Sequence[Path]]) -> None:
    """Give a pipeline the weights of a full checkpoint, in their places.

    Raises:
        EvaluationError: They cannot be read, are quantised, not finite, or not all there
            ("weights"); some may be in their places already.
    """
    for component, paths in parts.items():
        model = pipeline.components[component]
        if is_text_part(component):
            with failing_as("weights", f"{paths[0].parent} cannot be loaded"):
                _encoder_into(model, paths)
        else:
            copy_into(model, paths)
        with failing_as("weights", str(folder)):
            check_finite(model.named_parameters())


def _encoder_into(model: Any, paths: Sequence[Path]) -> None:
    """Have transformers read its own files, as it names tensors otherwise than it saves them.

    Raises:
        ValueError: They do not hold the model's tensors.
    """
    state = {name: it for path in paths for name, it in read_tensors(path)[0].items()}
    loaded, told = type(model).from_pretrained(
        None, config=model.config, state_dict=state, dtype=model.dtype, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, told[what])):
            raise ValueError(f"{len(names)} {what.replace('_', ' ')}, as {names[0]}")
    model.load_state_dict(loaded.state_dict())


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return all tensors of a file, in memory of their own, and its metadata.

    Raises:
        EvaluationError: It cannot be read ("weights").
    """
    with _opened(path) as file:
        names = file.keys()
        return {name: file.get_tensor(name).clone() for name in names}, file.metadata() or {}


def check_eval(models: Iterable[torch.nn.Module]) -> None:
    """Make sure that no module is in training mode, in which dropout would make noise.

    Raises:
        EvaluationError: One is ("internal").
    """
    for model in models:
        if training := [name for name, module in model.named_modules() if module.training]:
            raise EvaluationError(
                "internal",
                f"{len(training)} modules of {type(model).__name__} are in training mode, as"
                f" {training[0] or 'itself'}",
            )


def models_of(pipeline: Any) -> list[torch.nn.Module]:
    """Return the pipeline's neural networks."""
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def _opened(path: Path) -> Any:
    """Open a safetensors file.

    Raises:
        EvaluationError: It is not one, or not ours to read ("weights"); or as `cause` says.
    """
    try:
        return safe_open(path, framework="pt", device="cpu")
    except PermissionError as error:
        raise EvaluationError(
            "weights", f"{path} may not be read", fix="run clipwatch as the user that trains"
        ) from error
    except FileNotFoundError as error:
        raise EvaluationError("vanished", f"{path} is gone") from error
    except Exception as error:
        if machine := cause(error):
            raise EvaluationError(machine, f"{path}: {one_line(error)}") from error
        raise EvaluationError("weights", f"{path} is not a whole safetensors file") from error
