"""Dual encoders of every type that can score: the cosines of transformers' own processor and model.

Each is a tiny one with random weights, made here with its config, tokenizer and image processor.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import (
    ChineseCLIPImageProcessorPil,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import (
    EfficientNetImageProcessorPil,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil
from transformers.utils import logging as transformers_logging

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.scorers import preprocessing
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.evaluator.scorers.preprocessing import patch_grid
from clipwatch.evaluator.scorers.resample import resize_by_matrices
from clipwatch.evaluator.store import Store
from clipwatch.models.dual_encoders import KINDS

SIDE, PLACES = 32, 12
WORDS = ["one", "two", "three", "red", "blue", "green", "circle", "square", "cross", "on", "a"]
TEXTS = ["one red circle", "Two BLUE squares on a green cross", "", "three " * 30 + "blue"]
SIZES = [(48, 40), (40, 90), (32, 32), (200, 51)]

transformers_logging.disable_progress_bar()
torch.set_num_threads(1)  # tests share the cores

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_LAYERS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_TEXT = _LAYERS | {"vocab_size": 40, "max_position_embeddings": PLACES}
_ENDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
_VISION = _LAYERS | {"image_size": SIDE, "patch_size": 8}
_BLOCKS: dict[str, Any] = {  # of an EfficientNet, one each
    "num_channels": 3,
    "image_size": SIDE,
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 32,
    "kernel_sizes": [3],
    "in_channels": [32],
    "out_channels": [32],
    "strides": [1],
    "num_block_repeats": [1],
    "expand_ratios": [1],
    "depthwise_padding": [],
}
SQUARE = {"height": SIDE, "width": SIDE}

CONFIGS: dict[str, dict[str, Any]] = {
    "align": {"text_config": _TEXT, "vision_config": _BLOCKS, "projection_dim": 32},
    "altclip": {
        "text_config": _TEXT | _ENDS | {"project_dim": 24},
        "vision_config": _VISION,
        "projection_dim": 24,
    },
    "chinese_clip": {"text_config": _TEXT, "vision_config": _VISION, "projection_dim": 24},
    "clip": {"text_config": _TEXT | _ENDS, "vision_config": _VISION, "projection_dim": 24},
    "metaclip_2": {"text_config": _TEXT | _ENDS, "vision_config": _VISION, "projection_dim": 24},
    "siglip": {"text_config": _TEXT | _ENDS, "vision_config": _VISION},
    "siglip2": {
        "text_config": _TEXT | _ENDS,
        "vision_config": _LAYERS | {"patch_size": 8, "num_patches": 16},
    },
}
PROCESSORS: dict[str, Any] = {
    "align": EfficientNetImageProcessorPil(
        size={"height": 40, "width": 40},
        crop_size=SQUARE,
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        resample=2,
    ),
    "altclip": CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE),
    "chinese_clip": ChineseCLIPImageProcessorPil(size=SQUARE, do_center_crop=False),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE),
    "metaclip_2": CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE),
    "siglip": SiglipImageProcessorPil(size=SQUARE),
    "siglip2": Siglip2ImageProcessorPil(patch_size=8, max_num_patches=20),
}
TYPES = sorted(CONFIGS)


def write_tokenizer(folder: Path, model_type: str) -> None:
    """Write one with the ends, padding and outputs of the model's own."""
    siglip = model_type.startswith("siglip")
    known = ["<s>", "<pad>", "</s>", "<unk>", *(ascii_lowercase + "\u2581" if siglip else WORDS)]
    words = {it: number for number, it in enumerate(known)}
    if siglip:  # by letters, and it knows no capitals
        made = Tokenizer(models.BPE(words, [], unk_token="<unk>", fuse_unk=True))
        made.normalizer = normalizers.Replace(" ", "\u2581")
    else:
        made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        made.normalizer = normalizers.Lowercase()
        made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>" if siglip else "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_input_names=["input_ids"] if siglip else [*KINDS[model_type].inputs],
    ).save_pretrained(folder)


@pytest.fixture(scope="module", params=TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model of one type, with weights large enough to tell images and texts apart."""
    model_type = request.param
    made: Path = tmp_path_factory.mktemp(model_type)
    noise = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **CONFIGS[model_type]))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)
    model.save_pretrained(made)
    write_tokenizer(made, model_type)
    PROCESSORS[model_type].save_pretrained(made)
    return made


def type_of(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


def picture(size: tuple[int, int], seed: int) -> torch.Tensor:
    """Return (1, height, width, 3) uint8: a coarse pattern and noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(size)
    noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return torch.from_numpy(np.array(Image.blend(coarse, noise, 0.3)))[None]


def cosines(folder: Path, images: list[torch.Tensor], texts: list[str]) -> list[list[float]]:
    """Return those of each image with each text by transformers' own means."""
    outputs = said(folder, images, texts)
    return [torch.cosine_similarity(it.image_embeds, it.text_embeds).tolist() for it in outputs]


@torch.inference_mode()
def said(folder: Path, images: list[torch.Tensor], texts: list[str]) -> list[Any]:
    """Return what transformers' model says of each image and all texts."""
    model_type = type_of(folder)
    model = AutoModel.from_pretrained(folder).eval()
    processor = type(PROCESSORS[model_type]).from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if model_type.startswith("siglip"):
        texts = [text.lower() for text in texts]
    tokens = tokenizer(
        texts, padding="max_length", truncation=True, max_length=PLACES_OF[model_type],
        return_tensors="pt",
    )  # fmt: skip
    found = []
    for image in images:
        pixels = processor(images=Image.fromarray(image[0].numpy()), return_tensors="pt")
        found.append(model(**tokens, **pixels))
    return found


PLACES_OF = dict.fromkeys(TYPES, PLACES) | {"altclip": PLACES - 2}


def test_all_types_are_tried() -> None:
    """No type is offered that is not tested here."""
    assert set(TYPES) == set(KINDS)


def test_cosines_are_those_of_transformers(folder: Path) -> None:
    """Whatever the shape of the image and the length of the text, within 1e-5."""
    images = [picture(size, seed) for seed, size in enumerate(SIZES)]
    scorer = DualEncoder(ScorerSpec("", str(folder)), "cpu")
    expected = cosines(folder, images, TEXTS)
    for image, row in zip(images, expected, strict=True):
        found = scorer.score(image.expand(len(TEXTS), -1, -1, -1), TEXTS)
        assert found == pytest.approx(row, abs=1e-5)
    assert np.std(expected, axis=0).mean() > 0.01  # images are told apart
    assert np.std(expected, axis=1).mean() > 0.01  # and texts


def test_the_scale_is_that_of_the_models_own_logits(folder: Path) -> None:
    """Its logits differ from text to text by the cosines' difference times the scale."""
    (output,) = said(folder, [picture(SIZES[0], 0)], TEXTS)
    logits = output.logits_per_image[0].double()
    found = torch.cosine_similarity(output.image_embeds, output.text_embeds).double()
    scale = float(DualEncoder(ScorerSpec("", str(folder)), "cpu").told)
    assert (logits - logits[0]).tolist() == pytest.approx(
        (scale * (found - found[0])).tolist(), abs=1e-3
    )


def test_scores_do_not_depend_on_company(folder: Path) -> None:
    """Many images at once score as each alone, the texts beside them being what they are."""
    images = torch.cat([picture((48, 40), seed) for seed in range(4)])
    together = DualEncoder(ScorerSpec("", str(folder)), "cpu").score(images, TEXTS)
    fresh = DualEncoder(ScorerSpec("", str(folder)), "cpu")
    alone = [fresh.score(image[None], [text])[0] for image, text in zip(images, TEXTS, strict=True)]
    assert alone == pytest.approx(together, abs=1e-5)


def test_the_form_of_the_resize_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU computes, done on the CPU, gives the same scores as Pillow."""
    images = torch.cat([picture((200, 130), seed) for seed in range(len(TEXTS))])
    scorer = DualEncoder(ScorerSpec("", str(folder)), "cpu")
    expected = scorer.score(images, TEXTS)
    used: list[int] = []

    def as_on_a_gpu(images: torch.Tensor, size: tuple[int, int], resample: int) -> torch.Tensor:
        used.append(len(images))
        return resize_by_matrices(images, size, resample)

    monkeypatch.setattr(preprocessing, "resize", as_on_a_gpu)
    assert scorer.score(images, TEXTS) == pytest.approx(expected, abs=1e-6)
    assert used == [len(TEXTS)]


def test_pixels_are_the_processors(folder: Path) -> None:
    """What the image tower is given equals the image processor's but for float32's rounding."""
    scorer, processor = DualEncoder(ScorerSpec("", str(folder)), "cpu"), PROCESSORS[type_of(folder)]
    for seed, size in enumerate(SIZES):
        image = picture(size, seed)
        expected = processor(images=Image.fromarray(image[0].numpy()), return_tensors="pt")
        found = scorer._preprocess(image)
        assert set(found) == set(expected)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-6)


def test_long_texts_are_counted(folder: Path) -> None:
    """Each model's own length counts, start and end included; what is beyond changes nothing."""
    model_type = type_of(folder)
    scorer = DualEncoder(ScorerSpec("", str(folder)), "cpu")
    siglip = model_type.startswith("siglip")
    fits = "A" * (PLACES - 1) if siglip else "a " * (PLACES_OF[model_type] - 2)
    cut = fits + "blue cross"
    assert [scorer.prepare([text]) for text in (fits, cut)] == [0, 1]
    image = picture((40, 40), 1).expand(2, -1, -1, -1)
    exact, beyond = scorer.score(image, [fits, cut])
    assert exact == pytest.approx(beyond, abs=1e-6)


def test_texts_are_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second scorer scores the same without the text tower."""
    images = torch.cat([picture((40, 40), seed) for seed in range(len(TEXTS))])
    expected = DualEncoder(ScorerSpec("", str(folder)), "cpu", Store(tmp_path), "d").score(
        images, TEXTS
    )
    again = DualEncoder(ScorerSpec("", str(folder)), "cpu", Store(tmp_path), "d")
    monkeypatch.delattr(type(again._model), "get_text_features")
    assert again.score(images, TEXTS) == pytest.approx(expected, abs=1e-6)


def test_missing_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """A tensor that transformers would draw at random makes no score."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(folder / "model.safetensors")
    gone = min(name for name in state if name.endswith("weight"))
    del state[gone]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationError, match=rf"lacks the weights \['{gone}'\]"):
        DualEncoder(ScorerSpec("", str(tmp_path)), "cpu")


def test_siglip_with_its_own_tokenizer(tmp_path: Path) -> None:
    """SigLIP's tokenizer of sentencepiece is used as it is: capitals and stops do not count."""
    sentencepiece = pytest.importorskip("sentencepiece")
    AutoModel.from_config(AutoConfig.for_model("siglip", **CONFIGS["siglip"])).save_pretrained(
        tmp_path
    )
    PROCESSORS["siglip"].save_pretrained(tmp_path)
    with (tmp_path / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["one red circle", "two blue squares"] * 50),
            model_writer=file,
            vocab_size=30,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "SiglipTokenizer",
                "pad_token": "</s>",
                "model_max_length": PLACES,
                "model_input_names": ["input_ids"],
            }
        )
    )
    scorer = DualEncoder(ScorerSpec("", str(tmp_path)), "cpu")
    image = picture((40, 40), 1).expand(3, -1, -1, -1)
    plain, loud, other = scorer.score(image, ["one red", "One, RED!", "two blue"])
    assert plain == pytest.approx(loud, abs=1e-6)
    assert plain != pytest.approx(other, abs=1e-4)
    assert scorer.prepare(["one red", "two blue squares " * 9]) == 1


@pytest.mark.parametrize("size", [(1, 1), (512, 512), (1024, 1024), (768, 1344), (3, 900)])
@pytest.mark.parametrize(("side", "most"), [(16, 256), (16, 1024), (14, 729), (8, 20)])
def test_patch_grid(size: tuple[int, int], side: int, most: int) -> None:
    """Images of any shape are cut into as many patches as transformers cuts them into."""
    processor = Siglip2ImageProcessorPil(patch_size=side, max_num_patches=most)
    found = processor(images=Image.new("RGB", size), return_tensors="np")["spatial_shapes"]
    columns, rows = patch_grid(size, side, most)
    assert [rows, columns] == found[0].tolist()
