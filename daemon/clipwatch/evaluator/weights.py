"""From safetensors files into resident models: everything or nothing, and no file kept open."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open

from clipwatch.evaluator.failures import EvaluationError, failing_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from clipwatch.events import WeightFile

ADAPTER: Final = "clipwatch"
_SUFFIX: Final = ".safetensors"
_NAMED: Final = 3
_FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16)

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
        if (found.st_size, found.st_mtime_ns, found.st_ino) != (
            file.size,
            file.mtime_ns,
            file.inode,
        ):
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
        f"{len(names)} {what} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for what, names in parts.items()
        if names
    )


def check_fit(model: torch.nn.Module, paths: Sequence[Path]) -> None:
    """Make sure that the files hold exactly the model's tensors, from their headers alone.

    Raises:
        EvaluationError: They do not ("weights").
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if difference := misfit(wanted, shapes(paths)):
        raise EvaluationError(
            "weights",
            f"{paths[0].parent} does not fit the base model's {type(model).__name__}: {difference};"
            " check that base_model is the one that is trained",
        )


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


def check_evaluating(models: Iterable[torch.nn.Module]) -> None:
    """Make sure that nothing is in training mode, in which dropout makes every score another.

    Raises:
        EvaluationError: Something is ("internal").
    """
    for model in models:
        for name, part in model.named_modules():
            if part.training:
                where = f"{type(model).__name__}.{name}".rstrip(".")
                raise EvaluationError("internal", f"{where} was left in training mode")


def check_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Make sure that no weight is NaN or infinite: not each of them would be seen in the pixels.

    Raises:
        ValueError: One is.
    """
    for name, tensor in tensors:
        # extremes, as `isfinite` would take as much memory again as a large tensor itself
        if tensor.dtype in _FLOATS and tensor.numel():
            extremes = torch.stack(torch.aminmax(tensor.detach()))
            if not extremes.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinity in {tensor.dtype}")


@torch.no_grad()
def copy_into(model: torch.nn.Module, paths: Sequence[Path]) -> None:
    """Overwrite the model's tensors with those of the files, cast to the model's dtype.

    Raises:
        EvaluationError: A file cannot be read, or holds integers for floats ("weights").
    """
    target = model.state_dict()
    for path in paths:
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() != target[name].is_floating_point():
                    raise EvaluationError(
                        "weights",
                        f"{path}: {name} is {tensor.dtype}, quantised weights are not read",
                    )
                target[name].copy_(tensor)


def own_memory(tensors: Iterable[torch.Tensor]) -> None:
    """Detach tensors in host memory from the files that libraries mapped them from.

    Whoever truncates a mapped file kills the process, and on network file systems a mapped file
    stops the trainer from deleting its folder.
    """
    for tensor in tensors:
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


# --- LoRA ----------------------------------------------------------------------------------------


def apply_lora(pipeline: Any, path: Path) -> None:
    """Inject a LoRA, all of it.

    Raises:
        EvaluationError: It cannot be applied, or only in part ("weights").
    """
    if not hasattr(pipeline, "load_lora_weights"):
        raise EvaluationError("weights", f"{type(pipeline).__name__} takes no LoRA")
    names = _weight_names(shapes([path]))
    place = {"weight_name": path.name, "use_safetensors": True, "local_files_only": True}
    with failing_as("weights", f"{path} cannot be applied as a LoRA"):
        wanted = len(names)
        if not all(name.partition(".")[0] in pipeline.components for name in names):
            # another trainer's spelling: diffusers may split or join tensors as it translates
            translated = pipeline.lora_state_dict(str(path.parent), **place)
            state = translated[0] if isinstance(translated, tuple) else translated
            wanted = len(_weight_names(state)) + sum("dora_scale" in name for name in names)
        pipeline.load_lora_weights(str(path.parent), adapter_name=ADAPTER, **place)
    applied = sum(not tensor.is_meta for _, tensor in adapter_tensors(pipeline))
    if applied != wanted:
        raise EvaluationError(
            "weights",
            f"{path}: {applied} of {wanted} LoRA tensors fit the base model, the rest would be left"
            " out; check base_model and the file's key names",
        )


def remove_lora(pipeline: Any) -> bool:
    """Take the LoRA out; whether nothing of it is left."""
    pipeline.unload_lora_weights()
    return not any(True for _ in adapter_tensors(pipeline))


def adapter_tensors(pipeline: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the LoRA's tensors with their names."""
    for model in models_of(pipeline):
        for name, tensor in model.named_parameters():
            if ADAPTER in name.split("."):
                yield name, tensor


def adapted(pipeline: Any) -> list[str]:
    """Name the pipeline's components that a LoRA is in."""
    return [
        name
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        and any(ADAPTER in it.split(".") for it, _ in part.named_parameters())
    ]


def models_of(pipeline: Any) -> list[torch.nn.Module]:
    """Return the pipeline's neural networks."""
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def _weight_names(names: Iterable[str]) -> list[str]:
    """Leave out the alphas: scale factors, not weights."""
    return [name for name in names if not name.endswith(".alpha")]


def _opened(path: Path) -> Any:
    """Open a safetensors file.

    Raises:
        EvaluationError: It is not one, or not ours to read ("weights").
    """
    try:
        return safe_open(path, framework="pt", device="cpu")
    except PermissionError as error:
        raise EvaluationError(
            "weights", f"{path} may not be read; run clipwatch as the user that trains"
        ) from error
    except FileNotFoundError as error:
        raise EvaluationError("vanished", f"{path} is gone") from error
    except Exception as error:
        raise EvaluationError("weights", f"{path} is not a whole safetensors file") from error
