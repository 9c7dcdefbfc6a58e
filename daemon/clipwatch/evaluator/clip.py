"""Cosines of images with prompts: explicit preprocessing, CLIP in float32, the end token kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image

from clipwatch.evaluator.embeddings_store import Store, identity_of, made_by, tensors_of
from clipwatch.evaluator.failures import EvaluationError, failing_as
from clipwatch.evaluator.foreign import check_shards
from clipwatch.evaluator.hub import from_hub
from clipwatch.evaluator.weights import check_finite, own_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FILES: Final = ("*.json", "*.txt", "model.safetensors", "model-*.safetensors")
_BATCH: Final = 64
_STEPS: Final = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pixels are prepared: resize, crop from the centre, scale to 0..1, normalise.

    Attributes:
        resize: The shortest side in pixels, or (width, height) regardless of the shape.
        crop: (width, height) in pixels.
        resample: A PIL resampling filter; 3 is bicubic.
        mean, std: Of each channel, after scaling to 0..1.
    """

    resize: int | Size
    crop: Size
    resample: int = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def __call__(self, image: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return (3, height, width) float32, as CLIPImageProcessorPil gives it for 8-bit images."""
        size = (
            shortest_side(image.size, self.resize) if isinstance(self.resize, int) else self.resize
        )
        small = image.convert("RGB").resize(size, Image.Resampling(self.resample))
        pixels = np.asarray(small.crop(centre(size, self.crop)), dtype=np.float64) / 255
        mean, std = np.array(self.mean, dtype=np.float32), np.array(self.std, dtype=np.float32)
        scaled = (pixels.astype(np.float32) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def shortest_side(size: Size, side: int) -> Size:
    """Return `size` scaled so that its shortest side is `side`; the longer one is rounded down."""
    width, height = size
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def centre(size: Size, crop: Size) -> tuple[int, int, int, int]:
    """Return the box (left, upper, right, lower) of a centre crop; beyond the image it is black."""
    left, upper = ((length - wanted) // 2 for length, wanted in zip(size, crop, strict=True))
    return left, upper, left + crop[0], upper + crop[1]


def read_preprocessing(config: Mapping[str, Any], side: int) -> Preprocessing:
    """Read a CLIP image processor's config; `side` is the model's own, for what it leaves out.

    Raises:
        EvaluationError: It leaves out a step, so the scores would be others than asked for.
    """
    off = [step for step in _STEPS if config.get(step, True) is False]
    if off:
        raise EvaluationError("model", f"preprocessing without {', '.join(off)} is not supported")
    crop = _size(config.get("crop_size", side))
    return Preprocessing(
        resize=_size(config.get("size", side)),
        crop=(crop, crop) if isinstance(crop, int) else crop,
        resample=config.get("resample", Image.Resampling.BICUBIC),
        mean=tuple(config.get("image_mean", _MEAN)),
        std=tuple(config.get("image_std", _STD)),
    )


def _size(value: Any) -> int | Size:
    """Read 224, {"shortest_edge": 224} or {"width": 224, "height": 224}."""
    if not isinstance(value, dict):
        return int(value)
    if value.get("shortest_edge"):
        return int(value["shortest_edge"])
    return int(value["width"]), int(value["height"])


class Scorer:
    """A CLIP model on one device, always in float32.

    Args:
        name: Folder or Hub id.
        revision: For the Hub; "" for the default.
        device: A torch device.
        store: Where the features of texts are kept; None keeps them in memory alone.

    Raises:
        EvaluationError: It cannot be loaded or is no CLIP model ("model").
    """

    def __init__(self, name: str, revision: str, device: str, store: Store | None = None) -> None:
        from transformers import AutoTokenizer, CLIPModel

        self.identity = (name, revision, device)
        what = f"scorer {name!r} cannot be loaded"
        with failing_as("model", what):
            with from_hub(what):
                folder, self.commit = locate(name, revision)
            files = [path for pattern in _FILES for path in folder.glob(pattern)]
            before = identity_of(files)
            config = _read_json(folder / "config.json")
            if config.get("model_type") != "clip":
                raise EvaluationError(
                    "model",
                    f"scorer {name!r} is not a CLIP model but {config.get('model_type')!r};"
                    " choose one such as openai/clip-vit-large-patch14-336",
                )
            check_shards(folder)
            model, loading = CLIPModel.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
            if missing := sorted(loading["missing_keys"]):
                raise EvaluationError("model", f"scorer {name!r} lacks the weights {missing[:3]}")
            # said outright, or some versions of transformers ask at the terminal
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self._preprocess = read_preprocessing(
                _read_processor(folder), model.config.vision_config.image_size
            )
            self._model = model.eval().to(device)
            check_finite(model.named_parameters())
            own_memory(chain(model.parameters(), model.buffers()))
            # of files that changed meanwhile nobody knows what was read
            known = before == identity_of(files)
        self._store = store if known and store else Store(None)
        self._made_by = {**made_by(device), "scorer": self.commit or before}
        self._device = device
        self._length = int(model.config.text_config.max_position_embeddings)
        self._texts: dict[str, torch.Tensor] = {}

    def truncated(self, prompts: Iterable[str]) -> int:
        """Count the prompts that are longer than the model reads, start and end token included."""
        return sum(
            len(self._tokenizer(prompt, verbose=False).input_ids) > self._length
            for prompt in prompts
        )

    @torch.inference_mode()
    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Return the cosine, -1..1, of each image with the prompt of the same place.

        The text of a prompt that is too long is cut, its end token kept: there the model reads the
        whole text's features from, and without it all long prompts would be the same.
        """
        pixels = torch.from_numpy(np.stack([self._preprocess(image) for image in images]))
        found = torch.cat(
            [
                features(self._model.get_image_features(pixel_values=part.to(self._device)))
                for part in torch.split(pixels, _BATCH)
            ]
        )
        cosines = (found * self._text_features(prompts)).sum(dim=-1)
        return [float(cosine) for cosine in cosines]

    def _text_features(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return (prompts, dim) float32 of length 1; each text is encoded once."""
        for text in prompts:
            if text not in self._texts:
                self._texts[text] = self._text_feature(text).to(self._device)
        return torch.stack([self._texts[text] for text in prompts])

    def _text_feature(self, text: str) -> torch.Tensor:
        """Return (dim,); the text is encoded by itself, so nothing depends on its neighbours."""
        key = json.dumps([self._made_by, text], sort_keys=True)
        if kept := self._store.read(key):
            return tensors_of(kept[0])[0]
        tokens = self._tokenizer(
            [text],  # not padded: nothing looks at what stands behind the end token
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        ).to(self._device)
        found = features(
            self._model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
        )[0].cpu()
        self._store.write(key, [found])
        return found


def features(output: Any) -> torch.Tensor:
    """Return (batch, dim) float32 of length 1 from what transformers 4 (a tensor) or 5 returns."""
    found = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(found.float(), dim=-1)


# --- files ---------------------------------------------------------------------------------------


def locate(name: str, revision: str) -> tuple[Path, str]:
    """Return the scorer's folder and, when it comes from the Hub, its commit; no pickle is fetched.

    Some models, the default one among them, have safetensors weights only in a pull request of the
    Hub's conversion bot. It is used when no revision is asked for.

    Raises:
        EvaluationError: There are no safetensors weights ("model").
    """
    from huggingface_hub import snapshot_download

    folder = Path(name)
    if folder.is_absolute() and not folder.is_dir():
        raise EvaluationError("model", f"scorer {name!r}: no such folder")
    if folder.is_dir():
        if any(folder.glob("*.safetensors")):
            return folder, ""
        raise EvaluationError("model", f"scorer {name!r} has no safetensors weights")
    for reference in [revision] if revision else ["main", *_conversions(name)]:
        found = Path(snapshot_download(name, revision=reference, allow_patterns=list(_FILES)))
        if any(found.glob("*.safetensors")):
            return found, found.name
    raise EvaluationError(
        "model",
        f"scorer {name!r} has no safetensors weights at {revision or 'main'}; set scorer_revision"
        " to a revision that has them, or choose another scorer",
    )


def _conversions(name: str) -> list[str]:
    """Return the references under which the Hub's bot offers main's weights as safetensors."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    hub = HfApi()
    try:
        head = hub.list_repo_commits(name)[0].commit_id
        offers = [
            f"refs/pr/{offer.num}"
            for offer in hub.get_repo_discussions(
                name, author="SFconvertbot", discussion_type="pull_request"
            )
            if offer.author == "SFconvertbot" and offer.status == "open"
        ]
        # made from what main holds now, not from older weights
        return [
            offer
            for offer in offers
            if any(it.commit_id == head for it in hub.list_repo_commits(name, revision=offer))
        ]
    except Exception:  # noqa: BLE001 - the client lets its HTTP library's errors through
        # no connection: what was fetched earlier lies in the cache
        cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        return [f"refs/pr/{path.name}" for path in (cache / "refs" / "refs" / "pr").glob("*")]


def _read_processor(folder: Path) -> dict[str, Any]:
    """Return the image processor's config, {} when the folder has none."""
    if (folder / "preprocessor_config.json").is_file():
        return _read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():  # as transformers 5 saves a whole processor
        nested: dict[str, Any] = _read_json(folder / "processor_config.json").get(
            "image_processor", {}
        )
        return nested
    return {}


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
