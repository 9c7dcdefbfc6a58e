"""What families need when their pipelines are called, and what SimpleTuner does with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Order = Literal["apart", "negative first", "positive first"]
"""How a pipeline asks its denoiser for the two predictions of a step: in two calls, the positive
one first, or in one call for both as a batch."""

Star = Literal["", "projection", "norms", "cosine"]
"""How CFG-Zero* scales a negative prediction to the positive one, "" for not at all: so that its
distance is the least, by the ratio of their norms, or by the cosine between them."""

ORDERS: Final[dict[str, Order]] = {
    "AuraFlowPipeline": "negative first",
    "ErnieImagePipeline": "negative first",
    "Flux2KleinPipeline": "apart",
    "FluxPipeline": "apart",
    "Krea2Pipeline": "apart",
    "StableDiffusion3Pipeline": "negative first",
    "ZImagePipeline": "positive first",
}

AS_ASKED: Final[dict[str, dict[str, Any]]] = {
    "ErnieImagePipeline": {"use_pe": False},
    "Ideogram4Pipeline": {"guidance_schedule": None},
    "LongCatImagePipeline": {"enable_prompt_rewrite": False},
}
"""What keeps a pipeline from a prompt that a language model rewrote, or guidance of its own."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What SimpleTuner's validation does with a family, and diffusers' pipeline not by itself.

    Attributes:
        text_length: Tokens that prompts are padded or cut to; None for the pipeline's default.
        star: Its pipeline's default guidance is CFG-Zero*.
        still: First steps in which that predicts nothing.
        excess: The diffusers class adds scale * (positive - negative) to the positive prediction,
            so that its scale is what exceeds 1.
        threshold: Guidance up to here is none.
        to_zero: Its sigmas go down to zero, diffusers' to 1 / steps.
        arguments: Further ones of the pipeline.
        denoiser: Others of its denoiser.
        wording: Attribute of the pipeline → what in its text it has otherwise, and how.
        attributes: Attribute of the pipeline → its value.
        cross_norm: Its denoiser normalises a picture's states before attention to the text.
        exact: Its denoiser has time and guidance in fp32, which diffusers' rounds to its weights'.
        differs: What cannot be had with diffusers' pipeline, for a person.
    """

    text_length: int | None = None
    star: Star = ""
    still: int = 0
    excess: bool = False
    threshold: float = 0.0
    to_zero: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    denoiser: Mapping[str, Any] = field(default_factory=dict)
    wording: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    attributes: Mapping[str, int] = field(default_factory=dict)
    cross_norm: bool = False
    exact: bool = False
    differs: str = ""


SIMPLETUNER: Final[dict[str, Rule]] = {
    "AuraFlowPipeline": Rule(120, "cosine", 1, threshold=1.0),
    "Cosmos2TextToImagePipeline": Rule(excess=True, differs="it has a sampler of its own"),
    "ErnieImagePipeline": Rule(star="norms", still=1, threshold=1.0),
    "FluxPipeline": Rule(exact=True),
    "Flux2Pipeline": Rule(wording={"system_message": ("\n", " ")}),
    "IFPipeline": Rule(arguments={"clean_caption": False}),
    "Ideogram4Pipeline": Rule(
        differs="it guides with the negative prompt, unless it loads the unconditional transformer"
    ),
    "Kandinsky5T2IPipeline": Rule(
        256,
        denoiser={"scale_factor": (1, 2, 2)},
        wording={"prompt_template": ("prompt engineer", "promt engineer")},
        attributes={"prompt_template_encode_start_idx": 41},
    ),
    "KolorsPipeline": Rule(77),
    "Krea2Pipeline": Rule(star="projection", still=2, excess=True),
    "QwenImagePipeline": Rule(1024),
    "SanaPipeline": Rule(cross_norm=True),
    "StableDiffusion3Pipeline": Rule(154, "projection", 1, threshold=1.0),
    "ZImageOmniPipeline": Rule(
        threshold=1.0, to_zero=True, differs="its transformer places text and image otherwise"
    ),
    "ZImagePipeline": Rule(star="projection", still=1, excess=True, threshold=1.0, to_zero=True),
}
"""Read in SimpleTuner 4.8.0 and 4.10.1, which agree: `use_cfg_zero_star`, `zero_steps` and the
guidance's formula in helpers/models/*/pipeline*.py, denoisers in transformer.py, lengths in
`check_user_config` of model.py."""
