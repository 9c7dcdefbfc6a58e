"""What makes a number: everything that two scores must share before they may be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal

import msgspec

from clipwatch.domain.kinds import Dtype, Offload, Rules, Seeds, Spacing, TrainedWeights
from clipwatch.domain.questions import Question

SCORING_VERSION = 1
"""Raised whenever the code would give another number for the same images and prompts."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt; `id` is unique within a protocol and names it in files and trackers.

    `strength` is that of a LoRA or LyCORIS for this prompt alone, None for the protocol's.
    `questions` stand here where a scorer asks them: no number of others depends on them.
    """

    id: str
    text: str
    category: str = ""
    strength: float | None = None
    questions: tuple[Question, ...] = ()


DUAL_ENCODER = "dual_encoder"
"""The kind of scorers that comes with clipwatch: CLIP and the like."""


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """What gives images their numbers.

    Attributes:
        name: Under which its numbers are kept; "" for the scorer that decides.
        model: Absolute folder or Hub id; of a kind without files any text, "" for none.
        revision: For the Hub; "" for the default.
        kind: An entry point of the group "clipwatch.scorers" (see models.kinds).
        options: Of that kind: names and values, sorted.
    """

    name: str
    model: str
    revision: str = ""
    kind: str = DUAL_ENCODER
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Tell it as a person writes it."""
        kind = "" if self.kind == DUAL_ENCODER else self.kind
        told = ":".join(filter(None, (kind, self.model)))
        return f"{told}@{self.revision}" if self.revision and self.kind != DUAL_ENCODER else told


@dataclass(frozen=True, slots=True)
class Part:
    """A component of the pipeline that is not the base model's own.

    Attributes:
        name: The component: "unet", "transformer", "vae", "text_encoder", "text_encoder_2", ...
        model: Absolute folder or Hub id.
        subfolder: In it, "" for none.
        revision, variant: For the Hub; "" for the default.
    """

    name: str
    model: str
    subfolder: str = ""
    revision: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class SkipLayers:
    """Skip-layer guidance (Stable Diffusion 3): which layers, how strong, in which part of the way.

    `start` and `stop` are shares of the denoising steps, 0..1.
    """

    layers: tuple[int, ...]
    scale: float = 2.8
    start: float = 0.01
    stop: float = 0.2


@dataclass(frozen=True, slots=True)
class Input:
    """Files that make the numbers: `digest` identifies the content of all that `part` loads."""

    part: str
    digest: str


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How a checkpoint is sampled and scored.

    Attributes:
        prompts: In the order of the sources.
        images_per_prompt: At least 1; all of them count.
        seed: The configured seed; 0 is a seed like any other.
        negative_prompt: "" for none.
        inference_steps: Denoising steps.
        guidance: Classifier-free guidance scale.
        width, height: Pixels.
        scheduler: Sampler by SimpleTuner's name (ddim, euler, unipc, ...); "" keeps the pipeline's.
        base_model: Absolute folder or Hub id of the diffusers pipeline the checkpoint belongs to.
        base_revision, base_variant: For the Hub; "" for the default.
        weights: Which of the checkpoint's.
        dtype: Of the generation. Scores are always float32.
        scorers: At least one, all of which score every image; the first decides.
        scoring_version: See SCORING_VERSION.
        inputs: The identity of all files that are loaded, sorted by part; () while it is unknown.
        parts: Components that are not the base model's own, sorted by name.
        vae_dtype: Of the VAE, as `dtype`; "" for the same.
        base_precision: How the base's denoiser is quantised, by SimpleTuner's name for it; "" for
            not at all.
        offload: What waits in host memory until it computes.
        adapter_strength: By which a LoRA or LyCORIS is multiplied; a prompt may have its own.
        lora_alpha: Of a LoRA whose file tells none; None for its rank.
        prediction_type: What the denoiser predicts ("epsilon", "v_prediction", ...); "" for what
            the sampler's config says.
        zero_snr: Whether the schedule of a sampler that is named is rescaled to a terminal
            signal-to-noise ratio of zero; None for what the pipeline's own says.
        timestep_spacing: Of a sampler that is named: "leading", "linspace", "trailing"; "" for
            trailing.
        flow_shift: Of a flow-matching sampler; None for its config's, as is a dynamic one.
        guidance_real: True classifier-free guidance of distilled models; 1.0 for none.
        no_cfg_until: Steps before it sets in.
        guidance_rescale: Against overexposure, 0..1; 0.0 for none.
        skip_layers: None for no skip-layer guidance.
        seeds: "per-prompt", or "trainer": the configured seed for every prompt, whose images draw
            their noise from it one after the other.
        rules: By whose a pipeline is called where the settings above leave it open: "simpletuner",
            or "" for diffusers' own defaults.
        text_length: Tokens to which prompts are padded or cut; None for the family's.
        instruction: Sana's, which stands before each prompt; "" for the pipeline's own.
        clip_skip: From which of CLIP's layers SD 1 and SD 2 read prompts; 1 for the last.
    """

    prompts: tuple[Prompt, ...]
    images_per_prompt: int
    seed: int
    negative_prompt: str
    inference_steps: int
    guidance: float
    width: int
    height: int
    scheduler: str
    base_model: str
    base_revision: str
    base_variant: str
    weights: TrainedWeights
    dtype: Dtype
    scorers: tuple[ScorerSpec, ...]
    scoring_version: int = SCORING_VERSION
    # what came after version 0.1.0's first logs has a default under which their digests stay
    inputs: tuple[Input, ...] = ()
    parts: tuple[Part, ...] = ()
    vae_dtype: Literal[Dtype, ""] = ""
    base_precision: str = ""
    offload: Offload = "none"
    adapter_strength: float = 1.0
    lora_alpha: float | None = None
    prediction_type: str = ""
    zero_snr: bool | None = None
    timestep_spacing: Literal[Spacing, ""] = ""
    flow_shift: float | None = None
    guidance_real: float = 1.0
    no_cfg_until: int = 0
    guidance_rescale: float = 0.0
    skip_layers: SkipLayers | None = None
    seeds: Seeds = "per-prompt"
    rules: Rules = ""
    text_length: int | None = None
    instruction: str = ""
    clip_skip: int = 1

    @property
    def digest(self) -> str:
        """Sixteen hex digits; equal digests mean comparable numbers."""
        known = self.written()
        for name, default in _ADDED.items():
            if known[name] == default:
                del known[name]
        for prompt in known["prompts"]:
            if prompt["strength"] is None:
                del prompt["strength"]
        return hashlib.sha256(msgspec.json.encode(known)).hexdigest()[:16]

    def at(self, strength: float) -> EvaluationProtocol:
        """Return the same with an adapter at another strength."""
        return replace(self, adapter_strength=strength)

    @property
    def decides(self) -> ScorerSpec:
        """The scorer by whose numbers checkpoints are compared unless another is asked for."""
        return self.scorers[0]

    def written(self) -> dict[str, Any]:
        """Return what the log holds of it, and its digest is made of: the form of the first logs.

        There the scorer that decides has keys of its own; so old digests stay, and every version
        of clipwatch reads every log.
        """
        found: dict[str, Any] = {}
        for name, value in msgspec.to_builtins(self).items():
            if name != "scorers":
                found[name] = [_asked(it) for it in value] if name == "prompts" else value
                if name == "scoring_version":  # the place of further ones
                    found["scorers"] = [_written(scorer) for scorer in self.scorers[1:]]
                continue
            known = _written(self.decides)
            del known["name"]
            found["scorer"], found["scorer_revision"] = known.pop("model"), known.pop("revision")
            found |= {f"scorer_{key}": its for key, its in known.items()}
        return found

    def images(self) -> Iterator[tuple[Prompt, int, int]]:
        """Yield (prompt, image index, seed) for every image, in a fixed order."""
        for prompt in self.prompts:
            for index in range(self.images_per_prompt):
                trainers = self.seeds == "trainer"
                seed = self.seed if trainers else image_seed(self.seed, prompt.id, index)
                yield prompt, index, seed


def upgraded(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a protocol that was `written`, by whichever version."""
    first = {"name": "", "model": written["scorer"], "revision": written["scorer_revision"]}
    for name in ("kind", "options"):
        if (key := f"scorer_{name}") in written:
            first[name] = written[key]
    return {**written, "scorers": [first, *written.get("scorers", ())]}


def _asked(prompt: dict[str, Any]) -> dict[str, Any]:
    """Leave out questions where there are none, as the first logs knew none."""
    return {name: it for name, it in prompt.items() if name != "questions" or it}


def _written(scorer: ScorerSpec) -> dict[str, Any]:
    """Leave out what is usual and the first logs did not know."""
    known: dict[str, Any] = msgspec.to_builtins(scorer)
    if scorer.kind == DUAL_ENCODER:
        del known["kind"]
    if not scorer.options:
        del known["options"]
    return known


_ADDED: dict[str, Any] = {"scorers": []} | {
    it.name: msgspec.to_builtins(it.default)
    for it in fields(EvaluationProtocol)
    if it.default is not MISSING and it.name != "scoring_version"
}
"""The fields that the first logs did not have, with what they stand for there."""


def image_seed(seed: int, prompt_id: str, index: int) -> int:
    """Return the seed of one image, in 0 .. 2**63-1.

    It depends on nothing but its arguments, so every checkpoint, batch size, order and number of
    devices starts an image from the same noise.
    """
    text = f"{seed}\0{prompt_id}\0{index}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 1
