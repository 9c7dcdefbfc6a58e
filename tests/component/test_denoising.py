"""Losses of each family are those of diffusers' training scripts, worked out anew."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import pytest
import torch

import embedding_kit
import evaluator_kit as kit
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.generation import denoising

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = kit.QUIET

HOW = kit.protocol(Path("/base"), negative_prompt="bad, ugly", guidance=7.5, guidance_real=4.0)
TEXTS = ["red", "two blue squares on a black background"]
TIMES = (84, 584, 916)
NEAR = 1e-5

Made = tuple[torch.Tensor, torch.Tensor, int]
"""Latents, noise, and the time in thousandths."""


def squares(predicted: torch.Tensor, wanted: torch.Tensor) -> list[float]:
    each = ((predicted.double() - wanted.double()) ** 2).flatten(1).mean(1)
    return [float(it) for it in each]


def products(config: Any) -> torch.Tensor:
    """Return ᾱ by time, from the betas that a config names (Ho et al. 2020)."""
    ends, steps = (config.beta_start, config.beta_end), config.num_train_timesteps
    if config.beta_schedule == "scaled_linear":
        betas = torch.linspace(ends[0] ** 0.5, ends[1] ** 0.5, steps, dtype=torch.float64) ** 2
    else:
        betas = torch.linspace(*ends, steps, dtype=torch.float64)
    return torch.cumprod(1 - betas, 0)


def diffused(pipeline: Any, made: Made) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Return noisy latents and their time; signal and noise stand behind."""
    latents, noise, time = made
    share = products(pipeline.scheduler.config)[time]
    signal, spread = float(share**0.5), float((1 - share) ** 0.5)
    return signal * latents + spread * noise, torch.tensor([time] * 2), signal, spread


def flowed(made: Made) -> tuple[torch.Tensor, float]:
    latents, noise, time = made
    sigma = time / 1000
    return (1 - sigma) * latents + sigma * noise, sigma


def sd(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora.py; noise or velocity, as the sampler's config says."""
    noisy, step, signal, spread = diffused(pipeline, made)
    tokens = pipeline.tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    texts = pipeline.text_encoder(tokens.input_ids)[0]
    found = pipeline.unet(noisy, step, encoder_hidden_states=texts).sample
    velocity = pipeline.scheduler.config.prediction_type == "v_prediction"
    return squares(found, signal * made[1] - spread * made[0] if velocity else made[1])


def sdxl(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_sdxl.py, with images of the pictures' size, uncropped."""
    noisy, step, _, _ = diffused(pipeline, made)
    texts, _, pooled, _ = pipeline.encode_prompt([*TEXTS], do_classifier_free_guidance=False)
    side = made[0].shape[-1] * pipeline.vae_scale_factor
    sizes = torch.tensor([[side, side, 0, 0, side, side]] * 2).float()
    more = {"time_ids": sizes, "text_embeds": pooled}
    found = pipeline.unet(noisy, step, texts, added_cond_kwargs=more, return_dict=False)[0]
    return squares(found, made[1])


def pixart(pipeline: Any, made: Made) -> list[float]:
    """train_pixart_lora_hf.py: half of what is predicted is a variance."""
    noisy, step, _, _ = diffused(pipeline, made)
    texts, mask, _, _ = pipeline.encode_prompt([*TEXTS], do_classifier_free_guidance=False)
    found = pipeline.transformer(
        noisy,
        encoder_hidden_states=texts,
        encoder_attention_mask=mask,
        timestep=step,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample
    return squares(found.chunk(2, dim=1)[0], made[1])


def sd3(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_sd3.py; preconditioned it is weighted by σ²."""
    noisy, sigma = flowed(made)
    texts, _, pooled, _ = pipeline.encode_prompt(
        [*TEXTS], None, None, do_classifier_free_guidance=False
    )
    found = pipeline.transformer(
        hidden_states=noisy,
        timestep=torch.tensor([sigma * 1000] * 2),
        encoder_hidden_states=texts,
        pooled_projections=pooled,
        return_dict=False,
    )[0]
    plain = squares(found, made[1] - made[0])
    weighted = squares(found * -sigma + noisy, made[0])
    assert weighted == pytest.approx([it * sigma**2 for it in plain], rel=1e-4)
    return plain


def flux(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_flux.py, with --guidance_scale 1."""
    noisy, sigma = flowed(made)
    texts, pooled, ids = pipeline.encode_prompt([*TEXTS], None)
    count, channels, high, wide = noisy.shape
    packed = pipeline._pack_latents(noisy, count, channels, high, wide)
    guided = pipeline.transformer.config.guidance_embeds
    found = pipeline.transformer(
        hidden_states=packed,
        timestep=torch.tensor([sigma] * 2),
        guidance=torch.ones(2) if guided else None,
        pooled_projections=pooled,
        encoder_hidden_states=texts,
        txt_ids=ids,
        img_ids=pipeline._prepare_latent_image_ids(
            count, high // 2, wide // 2, "cpu", torch.float32
        ),
        return_dict=False,
    )[0]
    side = pipeline.vae_scale_factor
    unpacked = pipeline._unpack_latents(found, high * side, wide * side, side)
    return squares(unpacked, made[1] - made[0])


def sana(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_sana.py."""
    told = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"]
    noisy, sigma = flowed(made)
    texts, mask, _, _ = pipeline.encode_prompt(
        [*TEXTS], do_classifier_free_guidance=False, complex_human_instruction=told.default
    )
    found = pipeline.transformer(
        hidden_states=noisy,
        encoder_hidden_states=texts,
        encoder_attention_mask=mask,
        timestep=torch.tensor([sigma * 1000] * 2),
        return_dict=False,
    )[0]
    return squares(found, made[1] - made[0])


def lumina2(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_lumina2.py, which counts from noise to the image."""
    latents, noise, time = made
    clean = 1 - time / 1000
    texts, mask, _, _ = pipeline.encode_prompt([*TEXTS], do_classifier_free_guidance=False)
    found = pipeline.transformer(
        hidden_states=(1 - clean) * noise + clean * latents,
        encoder_hidden_states=texts,
        encoder_attention_mask=mask,
        timestep=torch.tensor([clean] * 2),
        return_dict=False,
    )[0]
    return squares(found, latents - noise)


def qwen(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_qwen_image.py."""
    noisy, sigma = flowed(made)
    texts, mask = pipeline.encode_prompt([*TEXTS])
    count, channels, high, wide = noisy.shape
    packed = pipeline._pack_latents(noisy, count, channels, high, wide)
    found = pipeline.transformer(
        hidden_states=packed,
        encoder_hidden_states=texts,
        encoder_hidden_states_mask=mask,
        timestep=torch.tensor([sigma] * 2),
        img_shapes=[[(1, high // 2, wide // 2)]] * count,
        return_dict=False,
    )[0]
    side = pipeline.vae_scale_factor
    unpacked = pipeline._unpack_latents(found, high * side, wide * side, side)[:, :, 0]
    return squares(unpacked, made[1] - made[0])


def z_image(pipeline: Any, made: Made) -> list[float]:
    """train_dreambooth_lora_z_image.py, whose denoiser counts from noise and predicts backwards."""
    noisy, sigma = flowed(made)
    texts, _ = pipeline.encode_prompt([*TEXTS], do_classifier_free_guidance=False)
    given = [*noisy.unsqueeze(2).unbind(0)]
    found = pipeline.transformer(given, torch.tensor([1 - sigma] * 2), texts)[0]
    return squares(-torch.stack([*found]).squeeze(2), made[1] - made[0])


SCRIPTS: dict[str, Callable[[Any, Made], list[float]]] = {
    "FluxPipeline": flux,
    "Lumina2Pipeline": lumina2,
    "PixArtSigmaPipeline": pixart,
    "QwenImagePipeline": qwen,
    "SanaPipeline": sana,
    "StableDiffusion3Pipeline": sd3,
    "StableDiffusionPipeline": sd,
    "StableDiffusionXLPipeline": sdxl,
    "ZImagePipeline": z_image,
}


def drawn(family: str) -> tuple[Any, torch.Tensor, list[torch.Tensor]]:
    """Return a family's pipeline, latents as its VAE makes them, and noise for each time."""
    pipeline = embedding_kit.stirred(family)
    width, height = denoising.size_of(pipeline, 64, 64)
    random = torch.Generator().manual_seed(1)
    pixels = torch.rand((2, 3, height, width), generator=random) * 2 - 1
    latents = denoising.encoded(pipeline.vae, pixels, "cpu")
    noise = [torch.randn(latents.shape, generator=random) for _ in TIMES]
    return pipeline, latents, noise


@torch.no_grad()
def expected(pipeline: Any, latents: torch.Tensor, noise: list[torch.Tensor]) -> list[list[float]]:
    script = SCRIPTS[type(pipeline).__name__]
    columns = [script(pipeline, (latents, *it)) for it in zip(noise, TIMES, strict=True)]
    return [[*row] for row in zip(*columns, strict=True)]


def test_every_family_with_a_loss_is_checked() -> None:
    """Whoever adds one adds the formula that it is held to."""
    assert SCRIPTS.keys() == denoising.FORMS.keys()


@pytest.mark.parametrize(
    ("family", "rules"),
    [
        *((it, "") for it in SCRIPTS),
        ("FluxPipeline", "simpletuner"),
        ("ZImagePipeline", "simpletuner"),
    ],
)
def test_a_loss_is_that_of_the_training_script(family: str, rules: Any) -> None:
    """The same latents, noise and times give the same loss, whatever guidance is asked for."""
    pipeline, latents, noise = drawn(family)
    wanted = expected(pipeline, latents, noise)
    found = denoising.losses(pipeline, replace(HOW, rules=rules), TEXTS, latents, noise, TIMES)
    assert len(found) == len(TEXTS)
    for own, its in zip(found, wanted, strict=True):
        assert own == pytest.approx(its, rel=NEAR, abs=NEAR)
    assert min(map(min, wanted)) > 100 * NEAR


def test_velocity_is_the_target_where_it_is_predicted() -> None:
    """Stable Diffusion 2's; of the same tensors it is another loss than that of noise."""
    pipeline, latents, noise = drawn("StableDiffusionPipeline")
    before = denoising.losses(pipeline, HOW, TEXTS, latents, noise, TIMES)
    pipeline.scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    wanted = expected(pipeline, latents, noise)
    found = denoising.losses(pipeline, HOW, TEXTS, latents, noise, TIMES)
    for own, its, noises in zip(found, wanted, before, strict=True):
        assert own == pytest.approx(its, rel=NEAR, abs=NEAR)
        assert own != pytest.approx(noises, rel=0.01)


@pytest.mark.parametrize("family", SCRIPTS)
def test_latents_are_those_that_decode_to_the_image(family: str) -> None:
    """Scaled and shifted as the pipeline undoes it: decoded by its own rule they are the VAE's."""
    pipeline = embedding_kit.stirred(family)
    config, vae = pipeline.vae.config, pipeline.vae
    width, height = denoising.size_of(pipeline, 64, 64)
    pixels = torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = denoising.encoded(vae, pixels, "cpu")
    with torch.no_grad():
        if family == "QwenImagePipeline":
            plain = vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0]
            mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1)
            undone = latents * torch.tensor(config.latents_std).view(1, -1, 1, 1) + mean
        else:
            made = vae.encode(pixels)
            plain = made.latent if family == "SanaPipeline" else made.latent_dist.mode()
            undone = latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
    assert torch.allclose(undone, plain, atol=1e-5)
    assert latents.shape[-1] % denoising.FORMS[family].grain == 0


def test_the_sampler_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the denoiser fails: the next picture is made as if nothing had been measured."""
    pipeline, latents, noise = drawn("StableDiffusionPipeline")
    before = pipeline.scheduler
    denoising.losses(pipeline, HOW, TEXTS, latents, noise, TIMES)
    assert pipeline.scheduler is before
    monkeypatch.setattr(pipeline.unet, "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        denoising.losses(pipeline, HOW, TEXTS, latents, noise, TIMES)
    assert pipeline.scheduler is before


def test_a_family_without_a_loss_is_told() -> None:
    """In one line that names those that have one."""
    pipeline = embedding_kit.stirred("ChromaPipeline")
    with pytest.raises(EvaluationError, match=r"ChromaPipeline has no held-out loss.*ZImage"):
        denoising.form_of(pipeline)


def test_what_is_predicted_must_be_known() -> None:
    """A sampler that predicts the picture itself is trained otherwise."""
    pipeline, latents, noise = drawn("StableDiffusionPipeline")
    pipeline.scheduler = diffusers.DDIMScheduler(prediction_type="sample")
    with pytest.raises(EvaluationError, match="prediction_type 'sample' has no held-out loss"):
        denoising.losses(pipeline, HOW, TEXTS, latents, noise, TIMES)


def test_weights_that_hold_nan_have_no_loss() -> None:
    """They are told, not published."""
    pipeline, latents, noise = drawn("StableDiffusionPipeline")
    pipeline.unet.conv_in.weight.data[:] = torch.nan
    with pytest.raises(EvaluationError, match="not finite"):
        denoising.losses(pipeline, HOW, TEXTS, latents, noise, TIMES)
