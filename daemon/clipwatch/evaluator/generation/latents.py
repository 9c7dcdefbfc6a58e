"""Whether a pipeline's VAE decodes what its denoiser makes, told by their configs."""

from __future__ import annotations

from typing import Any, Final

_PACKED: Final = {
    "PixArtTransformer2DModel": 1,
    "SD3Transformer2DModel": 1,
    "AuraFlowTransformer2DModel": 1,
    "SanaTransformer2DModel": 1,
    "Lumina2Transformer2DModel": 1,
    "CogView4Transformer2DModel": 1,
    "HiDreamImageTransformer2DModel": 1,
    "ZImageTransformer2DModel": 1,
    "FluxTransformer2DModel": 4,
    "Flux2Transformer2DModel": 4,
    "ChromaTransformer2DModel": 4,
    "QwenImageTransformer2DModel": 4,
}
"""How many channels of a transformer hold one of the latents: 4 where its pipeline packs 2 x 2
pixels into one. From `num_channels_latents` of the pipelines in diffusers 0.42."""


def channels(pipeline: Any) -> tuple[str, int, int] | None:
    """Return the denoiser's component, its channels of latents, and the VAE's.

    None where a pipeline has no such parts, or its family's rule is not known.
    """
    config: Any = getattr(getattr(pipeline, "vae", None), "config", {})
    decoded = config.get("latent_channels") or config.get("z_dim")
    unet: Any = getattr(pipeline, "unet", None)
    transformer: Any = getattr(pipeline, "transformer", None)
    made: int | None = None
    if type(unet).__name__ == "UNet2DConditionModel":
        # what goes in may hold a mask and an image beside the latents
        name, made = "unet", unet.config.get("out_channels")
    elif packed := _PACKED.get(type(transformer).__name__):
        name, made = "transformer", (transformer.config.get("in_channels") or 0) // packed
    return (name, made, decoded) if made and decoded else None
