"""Which module of which component a name in an adapter's file means."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from torch.nn import Module

from clipwatch.evaluator.generation.adapters.foreign import Joint, foreign_names
from clipwatch.layouts.pipeline_parts import DENOISERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

PEFT: Final = "base_model.model."
_DENOISER: Final = ("model.diffusion_model.", "diffusion_model.")
_DENOISER_FLAT: Final = ("lycoris_", "lora_unet_", "lora_transformer_", "oft_unet_")
_TEXT: Final = {  # ComfyUI's, as OneTrainer writes them
    "text_encoders.clip_l.transformer.": ("text_encoder",),
    "text_encoders.clip_g.transformer.": ("text_encoder_2", "text_encoder"),
    "text_encoders.t5xxl.transformer.": ("text_encoder_3", "text_encoder_2", "text_encoder"),
}
_TEXT_FLAT: Final = {
    "lora_te_": ("text_encoder",),
    "lora_te1_": ("text_encoder",),
    "lora_te2_": ("text_encoder_2",),
    "lora_te3_": ("text_encoder_3", "text_encoder_2"),  # T5, which FLUX has in second place
}
_CLIP: Final = "text_model"  # in CLIP's module names up to transformers 5.22
_NAMED: Final = 3


class Place(NamedTuple):
    """A module: the pipeline's component, and the path in it."""

    component: str
    path: str


class Names:
    """The names of a pipeline's modules, as trainers write them.

    diffusers: "unet.down_blocks.0…"; ComfyUI: "diffusion_model.…", "text_encoders.clip_l.…"; PEFT:
    "base_model.model.…"; kohya, OneTrainer and LyCORIS: "lora_unet_…", "lora_te1_…", "lycoris_…"
    with underscores for dots. Behind each may stand the denoiser's other names (see `foreign`).

    Attributes:
        models: The pipeline's networks by component.
        denoiser: The component that denoises, "" if there is none.
    """

    def __init__(self, pipeline: Any) -> None:
        components = pipeline.components.items()
        self.models = {name: part for name, part in components if isinstance(part, Module)}
        self.denoiser = next((name for name in DENOISERS if name in self.models), "")
        self._paths = {
            name: {path for path, _ in model.named_modules() if path}
            for name, model in self.models.items()
        }
        self._flat = {name: _flattened(paths) for name, paths in self._paths.items()}
        kind = type(self.models.get(self.denoiser)).__name__
        self._foreign = foreign_names(kind, self._paths.get(self.denoiser, ()))
        self._foreign_flat = _flattened(self._foreign)

    def find(self, name: str) -> Place | None:
        """Return the module that a name means; None if there is none, or more than one."""
        if place := self._own(name):
            return place
        joint = self.join(name)
        alone = joint is not None and len(joint.paths) == 1 and not joint.swapped
        return Place(self.denoiser, joint.paths[0]) if joint and alone else None

    def join(self, name: str) -> Joint | None:
        """Return what another name of the denoiser's means; None if it is none."""
        name = name.removeprefix(PEFT)
        for prefix in _DENOISER_FLAT:
            if name.startswith(prefix):
                dotted = self._foreign_flat.get(name.removeprefix(prefix), "")
                return self._foreign.get(dotted)
        for prefix in (*_DENOISER, f"{self.denoiser}."):
            name = name.removeprefix(prefix)
        return self._foreign.get(name)

    def _own(self, name: str) -> Place | None:
        name = name.removeprefix(PEFT)
        component, _, path = name.partition(".")
        if component in self.models:
            return self._dotted(component, path.removeprefix(PEFT))
        for prefix in _DENOISER:
            if name.startswith(prefix):
                return self._dotted(self.denoiser, name.removeprefix(prefix))
        for prefix in _DENOISER_FLAT:
            if name.startswith(prefix):
                return self._underscored(self.denoiser, name.removeprefix(prefix))
        for prefix, components in _TEXT_FLAT.items():
            if name.startswith(prefix):
                return self._underscored(self._first(components), name.removeprefix(prefix))
        for prefix, components in _TEXT.items():
            if name.startswith(prefix):
                return self._dotted(self._first(components), name.removeprefix(prefix))
        return self._dotted(self.denoiser, name)

    def alone(self, place: Place) -> bool:
        """Whether no other module has the same name once its dots are underscores."""
        return bool(self._flat[place.component][flat(place.path)])

    def _first(self, components: Iterable[str]) -> str:
        return next((it for it in components if it in self.models), "")

    def _dotted(self, component: str, path: str) -> Place | None:
        known = self._paths.get(component, set())
        ways = (path, path.removeprefix(f"{_CLIP}."), f"{_CLIP}.{path}")
        return next((Place(component, way) for way in ways if way in known), None)

    def _underscored(self, component: str, name: str) -> Place | None:
        known = self._flat.get(component, {})
        ways = (name, name.removeprefix(f"{_CLIP}_"), f"{_CLIP}_{name}")
        return next((Place(component, path) for way in ways if (path := known.get(way))), None)


def flat(path: str) -> str:
    """Return a module's path as kohya and LyCORIS write it."""
    return path.replace(".", "_")


def some(names: Collection[str]) -> str:
    """Count modules and name the first few: "8 modules (a, b, c, ...)"."""
    listed = [ascii(name)[1:-1] for name in sorted(names)[:_NAMED]]
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} {'module' if len(names) == 1 else 'modules'} ({', '.join(listed)}{more})"


@contextmanager
def naming(component: str) -> Iterator[None]:
    """Begin what is told against an adapter with the component that it was for."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{component}: {error}") from error


def _flattened(paths: Iterable[str]) -> dict[str, str]:
    """Return the paths by their flat name, "" where two have the same."""
    found: dict[str, str] = {}
    for path in paths:
        found[flat(path)] = "" if flat(path) in found else path
    return found
