"""The resident diffusers pipeline: loaded once, each checkpoint's weights swapped in."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.failures import (
    EvaluationError,
    failing_as,
    misshapen,
    one_line,
)
from clipwatch.evaluator.generation import adapters, decoding, offload
from clipwatch.evaluator.generation.attention import use_attention
from clipwatch.evaluator.generation.calling import pictures, skipping
from clipwatch.evaluator.generation.calls import skipped, text_length
from clipwatch.evaluator.generation.embeddings import PromptEncoder, is_text_part, text_encoders
from clipwatch.evaluator.generation.opening import DENOISERS, dtypes_of, open_base, open_folder
from clipwatch.evaluator.generation.quantise import quantise
from clipwatch.evaluator.generation.schedulers import sampler
from clipwatch.evaluator.generation.single_file import networks_in, put_in
from clipwatch.evaluator.generation.weights import (
    check_eval,
    models_of,
    tensor_files,
    verify,
)
from clipwatch.evaluator.store import Store, made_by
from clipwatch.layouts.contents import LCM
from clipwatch.layouts.files import variant_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clipwatch.domain.protocol import EvaluationProtocol, Input, Part
    from clipwatch.executors.messages import Evaluate

ADAPTERS: Final = frozenset({"lora", "lycoris", "embeddings"})
_CHANNELS: Final = 3
_LOADED: Final = (
    *("base_model", "base_revision", "base_variant", "parts"),
    *("dtype", "vae_dtype", "base_precision", "offload"),
)
"""The fields of a protocol that decide over what is loaded."""


class Generator:
    """A base pipeline on one device, holding the weights of one checkpoint at a time.

    Args:
        protocol: Names the base model and the dtype.
        inputs: The identity of all that is loaded.
        device: A torch device.
        store: Where encoded prompts are kept.
    """

    def __init__(
        self,
        protocol: EvaluationProtocol,
        inputs: Sequence[Input],
        device: str,
        store: Store,
    ) -> None:
        dtypes_of(protocol)
        self._protocol = protocol
        self._inputs = _of_pipeline(inputs)
        self._device = device
        self._working: Callable[[], None] = lambda: None
        self._store = store
        self._pipeline: Any = None
        self._encoder: Any = None  # the pipeline's PromptEncoder
        self._scheduler: Any = None
        self._holds = ""  # "base", "pipeline", names of components, or "" for unknown
        self._adapter: adapters.Joined | None = None  # on top of that
        self._applied: object = None  # which
        self._out = False  # whether parts wait in host memory
        self.commit = ""

    @property
    def decoding(self) -> str:
        """How the VAE decodes a batch now: "whole", "sliced" (one by one) or "tiled"."""
        return decoding.way(self._pipeline)

    def load(self, request: Evaluate, working: Callable[[], None]) -> None:
        """Hold the request's checkpoint (or the base alone), sampler and attention from here on.

        Args:
            request: Names them.
            working: Called again and again while the models compute, until the next `load`.

        Raises:
            EvaluationError: The checkpoint went away or changed meanwhile, its weights do not fit,
                or the base model cannot be loaded.
        """
        folder = Path(request.path)
        self._working = working
        verify(folder, request.files)
        self._bring_in()
        try:
            self._load_weights(request, folder)
        except Exception:
            verify(folder, request.files)  # what vanished is no fault of the weights
            raise
        verify(folder, request.files)
        self._pipeline.scheduler = sampler(request.protocol, self._scheduler)
        use_attention(self._pipeline, request.attention)
        check_eval(models_of(self._pipeline))
        trained = [*self._holds.split("+"), *(self._adapter.components if self._adapter else ())]
        own = request.kind == "pipeline" or any(map(is_text_part, trained))
        self._encoder.begin([it.text for it in request.protocol.prompts], self._store, own=own)
        self._put_out()

    def generate(
        self,
        prompts: Sequence[str],
        noise: Sequence[torch.Generator],
        protocol: EvaluationProtocol,
        strength: float = 1.0,
    ) -> torch.Tensor:
        """Return an RGB image for each prompt, started from noise of its own.

        Args:
            prompts: Their texts.
            noise: A generator each; those that share one draw from it in turn.
            protocol: How to sample.
            strength: Of an adapter, if the checkpoint is one.

        Returns:
            (prompts, height, width, 3) uint8 on the pipeline's device.

        Raises:
            EvaluationError: The pipeline refuses the settings ("model"), its parts do not fit
                each other ("misfit"), pixels are not finite ("scores"), or memory is short
                ("memory").
        """
        with self.ready(protocol, strength) as pipeline:
            pixels = pictures(pipeline, protocol, prompts, list(noise))
        if pixels is None or pixels.shape[:2] != (len(prompts), _CHANNELS):
            name = type(pipeline).__name__
            raise EvaluationError("model", f"{name} makes no images from text alone")
        return to_bytes(pixels)

    @contextmanager
    def ready(self, protocol: EvaluationProtocol, strength: float) -> Iterator[Any]:
        """Lend the pipeline, an adapter at a strength; raises as `generate`, for what is inside."""
        if self._adapter is not None:
            self._adapter.set_strength(strength)
        kind, encoders = type(self._pipeline), text_encoders(self._pipeline).values()
        aside = self._encoder.away(text_length(kind, protocol))
        parts = () if self._holds == "pipeline" else protocol.parts
        skip = skipping(encoders, skipped(kind, protocol))
        with _told_apart(kind.__name__, protocol, parts), aside, skip:
            yield self._pipeline

    def read(self, texts: Sequence[str]) -> None:
        """Have other texts asked for from here on; see `PromptEncoder.turn_to`."""
        self._encoder.turn_to(texts)

    def relieve(self, images: int) -> bool:
        """Decode so many images in less memory from here on; False if there is no way left."""
        return decoding.relieve(self._pipeline, images)

    def _load_weights(self, request: Evaluate, folder: Path) -> None:
        if request.kind == "base":
            self._restore(but="")
            return
        paths = tensor_files(folder, request.files)
        _check_fits(request, folder, self._protocol.base_precision)
        if request.kind == "pipeline":
            self._drop()
            with failing_as("weights", f"{folder} cannot be loaded as a pipeline"):
                variant = max(variant_of(path.name) for path in paths)
                self._take(open_folder(folder, self._protocol, variant, {}, paths))
            self._holds = "pipeline"
        elif request.kind in ADAPTERS:
            if self._adapter is None or self._applied != _told(request):  # else only its strength
                self._restore(but="")
                self._applied, alpha = _told(request), request.protocol.lora_alpha
                files = (folder / it.path for it in request.files)
                self._adapter = adapters.apply(self._pipeline, *files, alpha=alpha)
            _check_named(request, self._adapter.words)
        else:
            self._restore(but="" if self._holds == "pipeline" else self._holds)
            parts = networks_in(self._pipeline, folder, paths, request.component)
            components = "+".join(sorted(parts))
            self._restore(but=components)
            self._holds = ""
            put_in(self._pipeline, folder, parts)
            self._holds = components

    def _restore(self, *, but: str) -> None:
        """Have the base pipeline with its own weights, those of the components `but` apart."""
        if self._adapter is not None:
            adapter, holds = self._adapter, self._holds
            self._adapter, self._holds = None, ""
            adapter.remove()
            self._holds = holds
        if self._holds == "base" or (but and self._holds == but):
            return
        self._drop()
        pipeline, self.commit = open_base(self._protocol)
        _quantise(pipeline, self._protocol.base_precision, self._device)
        self._take(pipeline)
        self._holds = "base"

    def _take(self, pipeline: Any) -> None:
        """Have a pipeline on the device, watched, and its prompts encoded once."""
        if self._protocol.offload == "none":
            pipeline.to(self._device)
        _watch(pipeline, lambda: self._working())  # noqa: PLW0108 - it changes with each `load`
        self._pipeline, self._scheduler = pipeline, pipeline.scheduler
        maker = _maker(pipeline, self._device, self._protocol.dtype, self._inputs)
        resident = self._protocol.offload == "none"
        self._encoder = PromptEncoder(pipeline, self._device, maker, resident=resident)

    def _put_out(self) -> None:
        """Have all parts but those that compute wait in host memory, if they are to.

        The text encoders are the PromptEncoder's, where it has them.
        """
        if self._protocol.offload == "none" or self._out:
            return
        with self._encoder.away():
            offload.put_out(self._pipeline, self._protocol.offload, self._device)
        self._out = True

    def _bring_in(self) -> None:
        """Have all parts as they were loaded, so that weights can be changed."""
        if self._out and self._protocol.offload == "model":
            with self._encoder.away():
                offload.bring_in(self._pipeline)
            self._out = False
        elif self._out:  # diffusers has no way to end it that it promises
            self._drop()

    def _drop(self) -> None:
        """Free the pipeline's memory before another takes its place."""
        self._holds, self.commit, self._adapter, self._out = "", "", None, False
        self._pipeline = self._scheduler = self._encoder = None
        free_memory()


def _told(request: Evaluate) -> tuple[object, ...]:
    """Return which adapter is asked for, whatever its strength."""
    return (request.kind, request.path, request.files, request.protocol.lora_alpha)


def _quantise(pipeline: Any, precision: str, device: str) -> None:
    for name in DENOISERS if precision else ():
        if (model := pipeline.components.get(name)) is not None:
            quantise(model, precision, device)


def _check_fits(request: Evaluate, folder: Path, base_precision: str) -> None:
    """Make sure that whole weights meet a base that is whole, and an LCM LoRA a sampler.

    Its training may be found too late to be followed; then it is not sampled as its base is.

    Raises:
        EvaluationError: They do not ("weights").
    """
    if request.kind not in ADAPTERS and base_precision:
        raise EvaluationError(
            "weights",
            f"{folder} holds whole weights, and base_precision quantises the base that a LoRA"
            " is trained on",
            fix='set "base_precision": "none"',
        )
    if not request.protocol.scheduler and request.files[0].path.startswith(f"{LCM}/"):
        raise EvaluationError(
            "weights",
            f"{folder} holds an LCM LoRA ({LCM}/), which needs LCM's sampler, and the base"
            " model's own is meant",
            fix='set "validation_noise_scheduler": "lcm", or start again where nothing is set,'
            " now that it is known",
        )


def _check_named(request: Evaluate, words: Sequence[str]) -> None:
    """Make sure that learned tokens alone are asked for, as images are the base model's else.

    Raises:
        EvaluationError: No prompt names one ("weights").
    """
    protocol = request.protocol
    texts = [protocol.negative_prompt, *(prompt.text for prompt in protocol.prompts)]
    if request.kind == "embeddings" and not any(word in text for word in words for text in texts):
        named = ", ".join(map(repr, words))
        raise EvaluationError(
            "weights",
            f"none of the prompts names what was learned: {named}",
            fix="write it into prompts, as they were written in training",
        )


def _watch(pipeline: Any, working: Callable[[], None]) -> None:
    """Have it told whenever a part has computed."""
    for model in models_of(pipeline):
        # the parts, too: a VAE decodes without being called itself
        for part in chain([model], model.children()):
            part.register_forward_hook(lambda *_: working())


@contextmanager
def _told_apart(name: str, protocol: EvaluationProtocol, parts: Sequence[Part]) -> Iterator[None]:
    """Say of what goes wrong in a pipeline whether it is a setting, or parts that do not fit."""
    try:
        yield
    except ValueError as error:
        raise EvaluationError("model", f"{name} refuses to generate: {error}") from error
    except (RuntimeError, IndexError) as error:
        if not misshapen(error):
            raise
        raise EvaluationError("misfit", _misfit(name, protocol, parts, error)) from error


def _misfit(
    name: str, protocol: EvaluationProtocol, parts: Sequence[Part], error: Exception
) -> str:
    others = "".join(f", {it.name} from {it.model!r}" for it in parts)
    return (
        f"{name} cannot generate, as parts of it do not fit each other (base_model"
        f" {protocol.base_model!r}{others}): {one_line(error)}"
    )


def _maker(
    pipeline: Any, device: str, dtype: str, inputs: Sequence[Input]
) -> dict[str, Any] | None:
    """Return what decides over encoded prompts; None if the encoders' files are not known."""
    texts = [it for it in inputs if is_text_part(it.part.removeprefix("base/"))]
    files = [[it.part, it.digest] for it in texts]
    known = {"pipeline": type(pipeline).__name__, "dtype": dtype, "files": files}
    return made_by(device) | known if texts else None


def to_bytes(pixels: torch.Tensor) -> torch.Tensor:
    """Turn (n, 3, height, width) in 0..1 into (n, height, width, 3) uint8, as diffusers rounds.

    Raises:
        EvaluationError: A pixel is not finite ("scores").
    """
    pixels = pixels.float()
    if not pixels.isfinite().all():
        raise EvaluationError(
            "scores",
            "the images are not finite: the weights hold NaN or infinity, or fp16 overflows"
            " (try dtype bf16)",
        )
    return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def free_memory() -> None:
    """Hand memory that nothing refers to any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _of_pipeline(inputs: Sequence[Input]) -> tuple[Input, ...]:
    """Leave out the scorers', which are loaded for themselves."""
    return tuple(it for it in inputs if not it.part.startswith("scorer"))


def made_of(protocol: EvaluationProtocol, inputs: Sequence[Input]) -> tuple[object, ...]:
    """Return what decides over a generator: equal ones do the same with a checkpoint."""
    return _of_pipeline(inputs), *(getattr(protocol, name) for name in _LOADED)
