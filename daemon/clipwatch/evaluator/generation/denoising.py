"""A denoiser's own training loss on given latents, noise and times: forward passes alone.

The pipeline is called as for a picture, with a sampler that hands out noisy latents and keeps what
was predicted. So text, sizes, packing, signs and times are those of the family's own pipeline, and
what is left to know of a family is how its latents are made and what its denoiser predicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation.calling import called
from clipwatch.evaluator.generation.calls import parameters
from clipwatch.evaluator.generation.opening import dtypes_of
from clipwatch.evaluator.generation.schedulers import is_flow

if TYPE_CHECKING:
    from clipwatch.domain.protocol import EvaluationProtocol


@dataclass(frozen=True, slots=True)
class Form:
    """How a family's pipeline takes latents.

    Attributes:
        grain: The sides of latents are multiples of it.
        packed: A square of pixels becomes one token before the denoiser.
        full: In float32, whatever the denoiser's dtype.
        unguided: The scale at which its pipeline does not guide.
    """

    grain: int = 1
    packed: bool = False
    full: bool = False
    unguided: float = 1.0


FORMS: Final[Mapping[str, Form]] = {
    "FluxPipeline": Form(grain=2, packed=True),
    "Lumina2Pipeline": Form(grain=2),
    "PixArtSigmaPipeline": Form(grain=2),
    "QwenImagePipeline": Form(grain=2, packed=True),
    "SanaPipeline": Form(full=True),
    "StableDiffusion3Pipeline": Form(grain=2),
    "StableDiffusionPipeline": Form(),
    "StableDiffusionXLPipeline": Form(),
    "ZImagePipeline": Form(grain=2, full=True, unguided=0.0),
}
"""Families whose loss is known to be that of diffusers' training scripts (tests hold them)."""


def form_of(pipeline: Any) -> Form:
    """Return how a pipeline takes latents.

    Raises:
        EvaluationError: Nobody knows its loss ("model").
    """
    name = type(pipeline).__name__
    if name in FORMS:
        return FORMS[name]
    families = ", ".join(it.removesuffix("Pipeline") for it in FORMS)
    raise EvaluationError("model", f"{name} has no held-out loss here; these have: {families}")


def size_of(pipeline: Any, width: int, height: int) -> tuple[int, int]:
    """Return the width and height nearest below that the pipeline's latents can have, in pixels."""
    side = pipeline.vae_scale_factor * form_of(pipeline).grain
    return max(width // side, 1) * side, max(height // side, 1) * side


@torch.no_grad()
def encoded(vae: Any, pixels: torch.Tensor, device: str) -> torch.Tensor:
    """Return the latents of pictures, as the denoiser has them.

    Of the VAE's distribution the most likely ones: a training draws from it, and its spread is a
    thousandth of the latents'.

    Args:
        vae: Of the pipeline.
        pixels: (n, 3, height, width) float32 in -1..1.
        device: Where the VAE computes.

    Returns:
        (n, channels, height, width) float32 in host memory.

    Raises:
        EvaluationError: They are not finite ("scores").
    """
    config = vae.config
    frames = type(vae).__name__ == "AutoencoderKLQwenImage"  # of films, of which a picture is one
    with _whole(vae):
        given = pixels.to(device, vae.dtype)
        found = vae.encode(given.unsqueeze(2) if frames else given)
    latents = found.latent if hasattr(found, "latent") else found.latent_dist.mode()
    latents = (latents.squeeze(2) if frames else latents).float().cpu()
    shift, scale = config.get("shift_factor") or 0.0, config.get("scaling_factor", 1.0)
    if config.get("latents_mean") and config.get("latents_std"):
        mean, std = (torch.tensor(config[it]).view(1, -1, 1, 1) for it in _MEAN_AND_STD)
        latents = (latents - mean) / std
    if not latents.isfinite().all():
        reason = "the VAE encodes images to what is not finite (try vae_dtype fp32)"
        raise EvaluationError("scores", reason)
    made: torch.Tensor = (latents - shift) * scale
    return made


_MEAN_AND_STD: Final = ("latents_mean", "latents_std")

_ALONE: Final[Mapping[str, Any]] = {"true_cfg_scale": 1.0, "use_resolution_binning": False}
"""What keeps a pipeline from guidance of its own, and from other sizes."""


def noised(
    scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, thousandths: int
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return noisy latents, what the denoiser is trained to predict of them, and the time.

    Args:
        scheduler: The pipeline's, which tells how it was trained.
        latents: Float32.
        noise: In their shape.
        thousandths: Of the way to noise.

    Raises:
        EvaluationError: Nobody knows what is predicted ("model").
    """
    config = scheduler.config
    steps = config.get("num_train_timesteps", 1000)
    if is_flow(type(scheduler).__name__, config):
        share = thousandths / 1000
        return (1 - share) * latents + share * noise, noise - latents, share * steps
    from diffusers import DDPMScheduler

    trained: Any = DDPMScheduler.from_config(config)
    step = torch.tensor([thousandths * steps // 1000])
    noisy = trained.add_noise(latents, noise, step)
    match config.get("prediction_type", "epsilon"):
        case "epsilon":
            return noisy, noise, float(step)
        case "v_prediction":
            return noisy, trained.get_velocity(latents, noise, step), float(step)
        case kind:
            reason = f"prediction_type {kind!r} has no held-out loss here"
            raise EvaluationError("model", reason)


@torch.no_grad()
def losses(
    pipeline: Any,
    protocol: EvaluationProtocol,
    captions: Sequence[str],
    latents: torch.Tensor,
    noise: Sequence[torch.Tensor],
    times: Sequence[int],
) -> list[list[float]]:
    """Return for each picture the mean squared error of the prediction at each time.

    Args:
        pipeline: With the weights that are asked about.
        protocol: How texts are read; guidance and the like play no part.
        captions: One for each picture.
        latents: See `encoded`.
        noise: For each time, in the shape of `latents`.
        times: In thousandths of the way to noise.

    Raises:
        EvaluationError: Nobody knows the family's loss ("model"), or one is not finite ("scores").
    """
    form, device = form_of(pipeline), pipeline._execution_device  # noqa: SLF001 - as its own call
    made = [noised(pipeline.scheduler, latents, *it) for it in zip(noise, times, strict=True)]
    dtype = torch.float32 if form.full else dtypes_of(protocol)[0]
    noisy = [_packed(pipeline, it[0]).to(device, dtype) for it in made]
    flow = is_flow(type(pipeline.scheduler).__name__, pipeline.scheduler.config)
    kind = torch.float32 if flow else torch.int64
    sampler = _Sampler(pipeline.scheduler, torch.tensor([it[2] for it in made], dtype=kind), noisy)
    side = pipeline.vae_scale_factor
    width, height = latents.shape[-1] * side, latents.shape[-2] * side
    plain = _plain(protocol, form, len(times), width, height)
    known = parameters(type(pipeline))
    alone = {name: value for name, value in _ALONE.items() if name in known}
    with _sampled_by(pipeline, sampler):
        called(pipeline, plain, list(captions), latents=noisy[0], output_type="latent", **alone)
    if len(sampler.predicted) != len(times):
        name = type(pipeline).__name__
        raise EvaluationError("model", f"{name} made {len(sampler.predicted)} predictions")
    columns = [
        (found.float().cpu() - _packed(pipeline, wanted)).square().flatten(1).mean(1)
        for found, (_, wanted, _) in zip(sampler.predicted, made, strict=True)
    ]
    rows = torch.stack(columns, 1)
    if not rows.isfinite().all():
        raise EvaluationError("scores", "the losses are not finite: the weights hold NaN or worse")
    return [[float(it) for it in row] for row in rows]


class _Sampler:
    """Stands in for a pipeline's sampler: hands out what is prepared, keeps what is predicted.

    Attributes:
        predicted: What the denoiser made of each of the noisy latents.
    """

    order = 1
    init_noise_sigma = 1.0

    def __init__(
        self, scheduler: Any, timesteps: torch.Tensor, noisy: Sequence[torch.Tensor]
    ) -> None:
        self.config = scheduler.config
        self.timesteps = timesteps
        self.predicted: list[torch.Tensor] = []
        self._noisy = noisy

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,  # noqa: ARG002 - pipelines look for these names
        device: Any = None,
        sigmas: Any = None,  # noqa: ARG002
        mu: Any = None,  # noqa: ARG002
    ) -> None:
        self.timesteps = self.timesteps.to(device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin with the first; there is no other way."""

    def scale_model_input(self, sample: torch.Tensor, _: Any = None) -> torch.Tensor:
        return sample

    def step(self, model_output: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
        self.predicted.append(model_output)
        return (self._noisy[min(len(self.predicted), len(self._noisy) - 1)],)


def _packed(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Return latents as the pipeline takes them."""
    if not form_of(pipeline).packed:
        return latents
    found: torch.Tensor = pipeline._pack_latents(latents, *latents.shape)  # noqa: SLF001
    return found


def _plain(
    protocol: EvaluationProtocol, form: Form, steps: int, width: int, height: int
) -> EvaluationProtocol:
    """Return the same without all that makes more of a prediction than it is."""
    return replace(
        protocol,
        inference_steps=steps,
        width=width,
        height=height,
        negative_prompt="",
        guidance=form.unguided,
        guidance_real=1.0,
        guidance_rescale=0.0,
        no_cfg_until=0,
        skip_layers=None,
    )


@contextmanager
def _sampled_by(pipeline: Any, sampler: _Sampler) -> Iterator[None]:
    # not by setattr, which would write its class into the pipeline's config
    attributes = vars(pipeline)
    before = attributes["scheduler"]
    attributes["scheduler"] = sampler
    try:
        yield
    finally:
        attributes["scheduler"] = before


@contextmanager
def _whole(vae: Any) -> Iterator[None]:
    """Have a VAE encode pictures as a whole, in float32 where half of it overflows."""
    before = {it: getattr(vae, it) for it in ("use_tiling", "use_slicing") if hasattr(vae, it)}
    upcast = vae.dtype == torch.float16 and vae.config.get("force_upcast")
    for name in before:
        setattr(vae, name, False)
    if upcast:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(torch.float16)
        for name, value in before.items():
            setattr(vae, name, value)
