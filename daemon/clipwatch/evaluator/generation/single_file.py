"""Whole models in one file, in their authors' form or diffusers', put into the base's networks.

Which network a tensor is for stands before its name. Denoisers and VAEs diffusers translates, as in
its `from_single_file`, with the base's config; whatever it leaves out is told.

Sources: diffusers 0.42 (loaders/single_file_model.py, single_file_utils.py), sd-scripts 0.10
(library/model_util.py, sdxl_model_util.py), OneTrainer 23df383 (modules/util/convert).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from torch.utils._pytree import tree_leaves

from clipwatch.evaluator.failures import failing_as, one_line
from clipwatch.evaluator.generation.weights import (
    check_parts,
    misfit,
    parts_of,
    read_tensors,
    replace_parts,
)
from clipwatch.evaluator.tensors import check_finite
from clipwatch.layouts.adapter_file import acting
from clipwatch.layouts.pipeline_parts import DENOISERS

State = dict[str, torch.Tensor]

Place = tuple[str, tuple[str, ...], str]
_PLACES: Final[tuple[Place, ...]] = (
    ("model.diffusion_model.", DENOISERS, "original"),
    ("first_stage_model.", ("vae",), "original"),
    ("vae.", ("vae",), "original"),
    ("cond_stage_model.transformer.", ("text_encoder",), "transformers"),
    ("cond_stage_model.model.", ("text_encoder",), "open_clip"),
    ("conditioner.embedders.0.transformer.", ("text_encoder",), "transformers"),
    ("conditioner.embedders.0.model.", ("text_encoder_2",), "open_clip"),  # SDXL's refiner
    ("conditioner.embedders.1.model.", ("text_encoder_2",), "open_clip"),
    ("text_encoders.clip_l.transformer.", ("text_encoder",), "transformers"),
    ("text_encoders.clip_g.transformer.", ("text_encoder_2",), "transformers"),
    ("text_encoders.t5xxl.transformer.", ("text_encoder_3", "text_encoder_2"), "transformers"),
)
"""What stands before a name, the components that it may mean, and the form of what follows."""
_NOWHERE: Final[Place] = ("", (), "")

_IDLE: Final = re.compile(
    r"betas|(?:sqrt_(?:one_minus_)?|log_one_minus_)?alphas_cumprod|alphas_cumprod_prev"
    r"|sqrt_recip(?:m1)?_alphas_cumprod|posterior_(?:variance|log_variance_clipped|mean_coef[12])"
    r"|denoiser\.sigmas|.*\.(?:position_ids|logit_scale)"
)
"""The tables of the training's noise, positions and a scale of CLIP's training: no weights."""

_OPEN_CLIP: Final = (
    ("token_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_final.", "final_layer_norm."),
    ("transformer.resblocks.", "encoder.layers."),
)
_OPEN_CLIP_LAYER: Final = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
)
_JOINED: Final = re.compile(r"(?P<layer>.+)\.attn\.in_proj_(?P<leaf>weight|bias)")
_LAYER: Final = re.compile(r"encoder\.layers\.(\d+)\.")
_CLIP: Final = "text_model."
_PROJECTION: Final = "text_projection"
_NAMED: Final = 3


Network = State | Sequence[Path]
"""The weights of a network: in memory, or in files of diffusers or transformers."""


def networks_in(
    pipeline: Any, folder: Path, paths: Sequence[Path], component: str
) -> dict[str, Network]:
    """Return by component what a full checkpoint holds, which fits the pipeline's networks.

    Args:
        pipeline: Holds the base's networks, with whatever weights.
        folder: The checkpoint's.
        paths: Its files.
        component: What was trained, "" for a whole model in one file.

    Raises:
        EvaluationError: It cannot be read, or not all of it has a place ("weights").
    """
    if component:
        parts = parts_of(folder, paths, component)
        check_parts(pipeline, folder, parts)
        return dict(parts)
    state, _ = read_tensors(paths[0])
    with failing_as("weights", f"{paths[0]} cannot be loaded"):
        return dict(parts_in(pipeline, state))


def put_in(pipeline: Any, folder: Path, networks: Mapping[str, Network]) -> None:
    """Give a pipeline's networks these weights, in their places.

    Raises:
        EvaluationError: They cannot be read, are quantised or not finite ("weights"); some may be
            in their places already.
    """
    files = {name: it for name, it in networks.items() if not isinstance(it, dict)}
    replace_parts(pipeline, folder, files)
    with failing_as("weights", f"{folder} cannot be loaded"):
        replace(pipeline, {name: it for name, it in networks.items() if isinstance(it, dict)})


def parts_in(pipeline: Any, tensors: Mapping[str, torch.Tensor]) -> dict[str, State]:
    """Return by component the tensors of a file as the pipeline's networks call them.

    What the file holds nothing of keeps the base's weights. Nothing is changed yet.

    Raises:
        ValueError: A tensor is for none of them, or a network would not get all of its own; the
            text says how many and which.
    """
    names = [name for name in acting(tensors) if not _IDLE.fullmatch(name)]
    sorted_: dict[tuple[str, str, str], State] = {}
    strange = []
    starts = tuple(start for start, *_ in _PLACES)
    bare = not any(name.startswith(starts) for name in names)  # the denoiser alone
    places = (("", DENOISERS, "original"),) if bare else _PLACES
    for name in names:
        start, ways, form = next((it for it in places if name.startswith(it[0])), _NOWHERE)
        component = next((it for it in ways if it in pipeline.components), "")
        if not component:
            strange.append(name)
            continue
        state = sorted_.setdefault((component, start, form), {})
        state[name.removeprefix(start)] = tensors[name]
    if strange:
        raise ValueError(
            f"{type(pipeline).__name__} has no place for {_some(strange)} of {len(names)} tensors"
        )
    found: dict[str, State] = {}
    for (component, start, form), state in sorted_.items():
        model = pipeline.components[component]
        if component in found or not isinstance(model, torch.nn.Module):
            raise ValueError(f"{component} is in it twice, or no network of the base model's")
        wanted = {name: tuple(it.shape) for name, it in model.state_dict().items()}
        translated = _FORMS[form](model, start, state)
        there = {name: tuple(it.shape) for name, it in translated.items()}
        if difference := misfit(wanted, there):
            kind = type(model).__name__
            raise ValueError(f"it does not fit the base model's {component} ({kind}): {difference}")
        found[component] = translated
    return found


@torch.no_grad()
def replace(pipeline: Any, parts: Mapping[str, State]) -> None:
    """Overwrite the weights of a pipeline's networks, cast to their dtypes.

    Raises:
        ValueError: Some are quantised, or not finite; others may be in their places already.
    """
    for component, state in parts.items():
        target = pipeline.components[component].state_dict()
        for name, it in state.items():
            if it.is_floating_point() != target[name].is_floating_point():
                raise ValueError(f"{component}: {name} is {it.dtype}: quantised ones are not read")
            target[name].copy_(it)
        check_finite(pipeline.components[component].named_parameters())


def _original(model: torch.nn.Module, start: str, state: State) -> State:
    """Translate a denoiser or a VAE, unless it has diffusers' names already."""
    if state.keys() == model.state_dict().keys():
        return state
    kind = type(model).__name__
    form = SINGLE_FILE_LOADABLE_CLASSES.get(kind)
    if form is None:
        raise ValueError(f"diffusers knows no other form of {kind} than its own")
    whole = {f"{start}{name}": it for name, it in state.items()}
    twins = {name: _Traced.of(name, it.shape) for name, it in whole.items()}
    config = dict(getattr(model, "config"))  # noqa: B009 - of diffusers' models alone
    try:
        came = form["checkpoint_mapping_fn"](checkpoint=twins, config=config)
        found: State = form["checkpoint_mapping_fn"](checkpoint=whole, config=config)
    except Exception as error:  # whatever its converters stumble over
        raise ValueError(f"diffusers cannot read it as {kind}: {one_line(error)}") from error
    seen = frozenset[str]().union(*(it.names for it in came.values()))
    if lost := [name for name in whole if name not in seen]:
        raise ValueError(f"diffusers leaves out {_some(lost)} of {len(whole)} tensors of {kind}")
    return found


class _Traced(torch.Tensor):
    """A tensor of no memory that knows from which tensors of the file it came.

    Attributes:
        names: Of those.
    """

    names: frozenset[str]

    @classmethod
    def of(cls, name: str, shape: torch.Size) -> _Traced:
        """Return a tensor of the file."""
        made = torch.empty(shape, device="meta").as_subclass(cls)
        made.names = frozenset({name})
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What is made of tensors comes from all of them."""
        made = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        given = [it for it in tree_leaves((args, kwargs)) if isinstance(it, cls)]
        for it in tree_leaves(made):
            if isinstance(it, cls):
                it.names = frozenset[str]().union(*(one.names for one in given))
        return made


def _transformers(model: torch.nn.Module, _: str, state: State) -> State:
    """Return what has transformers' names: of any version, a tied table once or twice."""
    wanted = model.state_dict()
    found = {_known(name, wanted): it for name, it in state.items()}
    for name in wanted.keys() - found.keys():
        twins = (it for it in found if it in wanted and wanted[it] is not wanted[name])
        same = next((it for it in twins if wanted[it].data_ptr() == wanted[name].data_ptr()), "")
        if same:
            found[name] = found[same]
    return found


def _open_clip(model: torch.nn.Module, _: str, state: State) -> State:
    """Translate OpenCLIP's text towers, which SD 2 and SDXL have."""
    wanted = model.state_dict()
    depth = 1 + max((int(it[1]) for name in wanted if (it := _LAYER.search(name))), default=0)
    projected = any(name.startswith(_PROJECTION) for name in wanted)
    found: State = {}
    for name, tensor in dict(_unjoined(state)).items():
        layer = _LAYER.search(name)
        if name == _PROJECTION:
            if projected:
                found[f"{name}.weight"] = tensor.T
        elif not layer or projected or int(layer[1]) != depth:  # SD 2 makes nothing of the last one
            found[_known(name, wanted)] = tensor
    return found


def _unjoined(state: State) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield OpenCLIP's tensors under transformers' names."""
    for name, tensor in state.items():
        its = name
        for theirs, ours in _OPEN_CLIP:
            its = ours + its.removeprefix(theirs) if its.startswith(theirs) else its
        for theirs, ours in _OPEN_CLIP_LAYER:
            its = its.replace(theirs, ours)
        if match := _JOINED.fullmatch(its):
            for half, part in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{match['layer']}.self_attn.{half}_proj.{match['leaf']}", part
        else:
            yield its, tensor


def _known(name: str, wanted: Mapping[str, object]) -> str:
    """Return a name of CLIP's as its model has it: with "text_model." or without."""
    ways = (name, name.removeprefix(_CLIP), f"{_CLIP}{name}")
    return next((way for way in ways if way in wanted), name)


_FORMS: Final[dict[str, Callable[[torch.nn.Module, str, State], State]]] = {
    "original": _original,
    "transformers": _transformers,
    "open_clip": _open_clip,
}


def _some(names: list[str]) -> str:
    """Count names and tell the first few."""
    listed = ", ".join(ascii(name)[1:-1] for name in sorted(names)[:_NAMED])
    return f"{len(names)} ({listed}{', ...' if len(names) > _NAMED else ''})"
