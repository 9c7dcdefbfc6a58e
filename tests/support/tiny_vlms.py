"""Tiny models that answer questions about images, with random weights: one of each type."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SIDE: Final = 16
CORPUS: Final = (
    'Does this figure show "a red circle"? Please answer yes or no. Yes yes No no Yes yes No no',
    "user\nassistant\nWhat colour is it? a blue square, two green stars, text",
)
SPECIAL: Final = (
    "<pad>",
    "<bos>",
    "<eos>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<image>",
    "<video>",
    "<start_of_image>",
    "<image_soft_token>",
    "<end_of_image>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
)
TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING: Final = (
    TEMPLATE
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    + "{% else %}<think>\n{% endif %}"
)
"""As Qwen 3.5 has it: unless it is told not to, the answer does not stand first."""

_TEXT: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_VISION: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 4,
}
_MROPE: Final[dict[str, Any]] = {
    "rope_type": "default",
    "rope_theta": 10000.0,
    "mrope_section": [2, 1, 1],
}
_GRID: Final[dict[str, Any]] = {"depth": 2, "num_heads": 4, "patch_size": 4}
_PINS: Final = [[16, 16], [16, 32], [32, 16], [32, 32]]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level one that has "Yes", "yes" and others as a token each."""
    found = Tokenizer(BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=340, initial_alphabet=alphabet, special_tokens=[*SPECIAL])
    found.train_from_iterator([*CORPUS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=found,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<|im_end|>",
        extra_special_tokens=[*SPECIAL[3:]],
    )


def token(text: str) -> int:
    """Return the number of a token."""
    return int(tokenizer().convert_tokens_to_ids(text))


def _text(**more: Any) -> dict[str, Any]:
    return {**_TEXT, "vocab_size": len(tokenizer()), "pad_token_id": token("<pad>"), **more}


def _marks() -> dict[str, int]:
    return {
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


def _qwen3_vl() -> Any:
    rope = {**_MROPE, "mrope_interleaved": True}
    vision = {**_GRID, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
    vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    text = _text(head_dim=8, rope_parameters=rope)
    how = Qwen3VLConfig(text_config=text, vision_config=vision, **_marks())
    return Qwen3VLForConditionalGeneration(how)


def _qwen3_5() -> Any:
    rope = {**_MROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.25}
    vision = {**_GRID, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
    text = _text(
        head_dim=32,
        rope_parameters=rope,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    vision |= {"num_position_embeddings": 16}
    how = Qwen3_5Config(text_config=text, vision_config=vision, **_marks())
    return Qwen3_5ForConditionalGeneration(how)


def _qwen2_vl() -> Any:
    vision = {**_GRID, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2}
    text = _text(rope_parameters=_MROPE)
    how = Qwen2VLConfig(text_config=text, vision_config=vision, **_marks())
    return Qwen2VLForConditionalGeneration(how)


def _qwen2_5_vl() -> Any:
    vision = {**_GRID, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32}
    vision |= {"window_size": 16, "fullatt_block_indexes": [1]}
    text = _text(rope_parameters=_MROPE)
    how = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_marks())
    return Qwen2_5_VLForConditionalGeneration(how)


def _gemma3() -> Any:
    text = _text(
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    how = Gemma3Config(
        text_config=text,
        vision_config={**_VISION, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        image_token_index=token("<image_soft_token>"),
        boi_token_index=token("<start_of_image>"),
        eoi_token_index=token("<end_of_image>"),
    )
    return Gemma3ForConditionalGeneration(how)


def _internvl() -> Any:
    how = InternVLConfig(
        text_config={**_text(), "model_type": "qwen2"},
        vision_config=_VISION,
        image_token_id=token("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return InternVLForConditionalGeneration(how)


def _llava_onevision() -> Any:
    how = LlavaOnevisionConfig(
        text_config={**_text(), "model_type": "qwen2"},
        vision_config={**_VISION, "model_type": "siglip_vision_model"},
        image_token_id=token("<image>"),
        video_token_id=token("<video>"),
        image_grid_pinpoints=_PINS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return LlavaOnevisionForConditionalGeneration(how)


@dataclass(frozen=True)
class Family:
    """A type of model.

    Attributes:
        make: Returns one.
        pixels: Its image processor.
        before, image, after: What stands in a text for an image: `image` once for each feature.
        mark: What the chat template writes for it.
        tokens: What its tokenizer has names for.
        settings: Of its processor.
        template: Of a chat.
        types: What the model calls the types of tokens, "" if it asks for none.
    """

    make: Callable[[], Any]
    pixels: Any
    image: str
    before: str = ""
    after: str = ""
    mark: str = ""
    tokens: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    template: str = TEMPLATE
    types: str = ""


_SQUARE: Final[dict[str, Any]] = {"size": {"height": SIDE, "width": SIDE}}


def _qwen(make: Callable[[], Any], template: str = TEMPLATE) -> Family:
    pixels = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 32 * 32}
    )
    before, image, after = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
    mark = f"{before}{image}{after}"
    types = "mm_token_type_ids"
    return Family(make, pixels, image, before, after, mark, template=template, types=types)


FAMILIES: Final = {
    "gemma3": Family(
        _gemma3,
        Gemma3ImageProcessorPil(**_SQUARE),
        "<image_soft_token>",
        "\n\n<start_of_image>",
        "<end_of_image>\n\n",
        "<start_of_image>",
        {
            "boi_token": "<start_of_image>",
            "image_token": "<image_soft_token>",
            "eoi_token": "<end_of_image>",
        },
        {"image_seq_length": 4},
        types="token_type_ids",
    ),
    "internvl": Family(
        _internvl,
        GotOcr2ImageProcessorPil(**_SQUARE, crop_to_patches=True, max_patches=4),
        "<IMG_CONTEXT>",
        "<img>",
        "</img>",
        "<IMG_CONTEXT>",
        {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        {"image_seq_length": 4},
    ),
    "llava_onevision": Family(
        _llava_onevision,
        LlavaOnevisionImageProcessorPil(**_SQUARE, image_grid_pinpoints=_PINS),
        "<image>",
        mark="<image>",
        settings={"num_image_tokens": 16, "vision_feature_select_strategy": "full"},
    ),
    "qwen2_5_vl": _qwen(_qwen2_5_vl),
    "qwen2_vl": _qwen(_qwen2_vl),
    "qwen3_5": _qwen(_qwen3_5, THINKING),
    "qwen3_vl": _qwen(_qwen3_vl),
}


def write_vlm(folder: Path, kind: str = "qwen3_vl", seed: int = 0) -> Path:
    """Write a whole one, with weights large enough to tell images and questions apart."""
    family = FAMILIES[kind]
    noise = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = family.make()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)
    model.save_pretrained(folder)
    family.pixels.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    named = json.loads(config.read_text()) | family.tokens
    config.write_text(json.dumps(named | {"extra_special_tokens": family.tokens}))
    (folder / "chat_template.jinja").write_text(family.template.replace("IMAGE", family.mark))
    if family.settings:
        (folder / "processor_config.json").write_text(json.dumps(family.settings))
    return folder
