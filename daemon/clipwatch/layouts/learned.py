"""Embeddings of learned tokens: by which word a prompt names them, told by tensors and file name.

Sources: diffusers (examples/textual_inversion and advanced_diffusion_training: save_progress,
save_embeddings), sd-scripts 0.10 (train_textual_inversion.py, gen_img.py: the file's name is the
word), ai-toolkit (BaseSDTrainProcess.save: beside a LoRA's tensors its word is in no file),
OneTrainer 23df383 (modules/modelSaver: bundle_emb, emp_params), A1111's bundles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Final, NamedTuple

from clipwatch.layouts.files import Unsupported

BESIDE: Final = "_emb.safetensors"
"""How a file ends in which the advanced scripts of diffusers keep the tokens of a LoRA."""


class Learned(NamedTuple):
    """What a tensor is.

    Attributes:
        word: By which a prompt names it; with `each` of its first row, with the row's number as {}.
        encoder: "clip_l", "clip_g", "t5", or "" for a model with one text encoder, "2" for the
            second of two.
        each: Whether each row has a word of its own.
        whole: Whether only a whole word means it, as the word was no trainer's token.
    """

    word: str
    encoder: str
    each: bool = False
    whole: bool = False


_ENCODERS: Final = {
    **{name: name for name in ("clip_l", "clip_g", "t5")},
    "text_encoders_0": "clip_l",  # of earlier advanced scripts
    "text_encoders_1": "clip_g",
    **dict.fromkeys(("emb_params", "emp_params", "string_to_param.*"), ""),
}
_OUT: Final = "_out"
"""Behind the name of OneTrainer's embeddings of an encoder's output."""
_PARAMS: Final = re.compile(rf"(?P<encoder>{'|'.join(map(re.escape, _ENCODERS))})(?:{_OUT})?")
_BUNDLED: Final = re.compile(rf"bundle_emb\.(?P<word>.+)\.{_PARAMS.pattern}")
_DIFFUSERS: Final = re.compile(r"learned_embeds(?P<encoder>_2)?(?:-steps-\d{1,18})?", re.ASCII)
_SERIES: Final = re.compile(
    r"(?P<word>.+?)(?:-step\d{8,18}|-0\d{5}|_\d{9}|-save-\d+-\d+-\d+)?", re.ASCII
)
_TIMED: Final = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", re.ASCII)
"""What OneTrainer calls its saves by itself."""
_NAMELESS: Final = frozenset({
    *("at", "epoch", "last", "embedding", "model", "lora"),
    *("adapter_model", "pytorch_lora_weights"),
})  # fmt: skip
"""Names of files that every training has."""


def learned_in(
    tensors: Collection[str], metadata: Mapping[str, str], file: str
) -> dict[str, Learned]:
    """Return those of a file's tensors that are embeddings of learned tokens.

    Raises:
        Unsupported: They are such, and cannot be used; the text names them.
    """
    stem = PurePath(file).stem
    if match := _DIFFUSERS.fullmatch(stem):
        encoder = "2" if match["encoder"] else ""
        return {name: Learned(name, encoder) for name in tensors}
    found: dict[str, Learned] = {}
    alone = all(map(_PARAMS.fullmatch, tensors))  # else the file is called by what else is in it
    for name in tensors:
        if match := _BUNDLED.fullmatch(name) or _PARAMS.fullmatch(name):
            if name.endswith(_OUT):
                raise Unsupported(
                    f"it holds an embedding of a text encoder's output ({ascii(name)[1:-1]}), which"
                    " only its trainer has"
                )
            bundled = match.groupdict().get("word")
            encoder = _ENCODERS[match["encoder"]]
            called = file if alone else ""
            found[name] = (
                Learned(bundled, encoder) if bundled else _named(encoder, metadata, called)
            )
        elif name.startswith("<") and len(tensors) == 1:
            found[name] = Learned(name, "")
    return found


def _named(encoder: str, metadata: Mapping[str, str], file: str) -> Learned:
    """Return whose word the file's name is, or its metadata has.

    Raises:
        Unsupported: Neither tells one.
    """
    if file.endswith(BESIDE):
        return Learned("<s{}>", encoder, each=True)
    if word := _placeholder(metadata):
        return Learned(word, encoder)
    match = _SERIES.fullmatch(PurePath(file).stem)
    word = match["word"] if match else ""
    if not word or word in _NAMELESS or _TIMED.search(word):
        raise Unsupported(
            "it holds embeddings of learned tokens (textual inversion), and nothing tells by which"
            " word a prompt names them: call the file by that word (WORD.safetensors,"
            " WORD-step00000500.safetensors)"
        )
    return Learned(word, encoder, whole=True)


def _placeholder(metadata: Mapping[str, str]) -> str:
    """Return the word in OneTrainer's config, which is in a file where that was asked for."""
    try:
        told = json.loads(metadata.get("ot_config", "{}"))["embedding"]["placeholder"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return told if isinstance(told, str) else ""
