"""A score is the plain CLIP cosine: the processor's pixels, the whole text, float32."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging as transformers_logging

from clipwatch.demo.models import CLIP
from clipwatch.demo.world import captions, draw
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.scorers import dual_encoder
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder, features
from clipwatch.evaluator.scorers.preprocessing import (
    Levels,
    Preprocessing,
    centre,
    read_preprocessing,
    shortest_side,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = [(32, 32), (33, 51), (512, 512), (768, 512), (200, 301), (7, 5), (31, 640), (1024, 1024)]
LONG = "one red circle on a white background " * 3

transformers_logging.disable_progress_bar()
torch.set_num_threads(1)  # tests share the cores

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def scorer() -> DualEncoder:
    return DualEncoder(ScorerSpec("", str(CLIP)), "cpu")


@pytest.fixture(scope="module")
def processor() -> Any:
    return CLIPImageProcessorPil.from_pretrained(CLIP)


def picture(size: tuple[int, int], seed: int, mode: str = "RGB") -> Image.Image:
    """Return noise over a shape: edges everywhere, the hardest case for a resize."""
    rng = np.random.default_rng(seed)
    shape = Image.fromarray(draw(captions()[seed], rng)).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.blend(shape, Image.fromarray(noise), 0.3).convert(mode)


def stack(*images: Image.Image) -> torch.Tensor:
    """Return images of one size as (n, height, width, 3) uint8."""
    return torch.stack([torch.from_numpy(np.array(image.convert("RGB"))) for image in images])


# --- pixels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_the_processors(processor: Any, size: tuple[int, int]) -> None:
    """Preprocessed pixels equal those of CLIPImageProcessorPil but for float32's rounding."""
    config = json.loads((CLIP / "preprocessor_config.json").read_text())
    preprocess = read_preprocessing(config, "CLIP", 32)
    images = [picture(size, seed=seed) for seed in (3, 4)]
    expected = processor(images=images, return_tensors="pt")["pixel_values"]
    found = preprocess(stack(*images))["pixel_values"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    side=st.integers(1, 40),
    crop=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_any_geometry_is_the_processors(
    size: tuple[int, int], side: int, crop: tuple[int, int]
) -> None:
    """Any image, shortest side and crop, larger or smaller, give the processor's pixels."""
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"width": crop[0], "height": crop[1]}
    )
    image = picture(size, seed=1)
    expected = processor(images=image, return_tensors="pt")["pixel_values"]
    found = Preprocessing(side, crop)(stack(image))["pixel_values"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@given(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), st.integers(1, 400))
def test_shortest_side(size: tuple[int, int], side: int) -> None:
    """The shortest side becomes what was asked for, and a centre crop of it lies inside."""
    scaled = shortest_side(size, side)
    assert min(scaled) == side
    left, upper, right, lower = centre(scaled, (side, side))
    assert (left, upper) >= (0, 0)
    assert (right - left, lower - upper) == (side, side)
    assert right <= scaled[0]
    assert lower <= scaled[1]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, Preprocessing(336, (336, 336))),
        ({"size": 224, "crop_size": 224}, Preprocessing(224, (224, 224))),
        ({"size": {"shortest_edge": 8}}, Preprocessing(8, (336, 336))),
        (
            {"size": {"width": 9, "height": 8}, "crop_size": {"width": 7, "height": 6}},
            Preprocessing((9, 8), (7, 6)),
        ),
        (
            {"size": {"width": 9, "height": 8}, "do_center_crop": False, "crop_size": None},
            Preprocessing((9, 8)),
        ),
        (
            {"image_mean": [0, 0, 0], "resample": 2},
            Preprocessing(336, (336, 336), 2, Levels(mean=(0, 0, 0))),
        ),
        ({"do_rescale": False}, Preprocessing(336, (336, 336), levels=Levels(factor=1))),
        (
            {"feature_extractor_type": "CLIPFeatureExtractor", "do_normalize": False},
            Preprocessing(336, (336, 336), levels=Levels(mean=None)),
        ),
    ],
)
def test_read_preprocessing(config: dict[str, Any], expected: Preprocessing) -> None:
    """Old and new spellings are read; what is left out is the model's size and CLIP's defaults."""
    assert read_preprocessing(config, "CLIP", 336) == expected


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"do_resize": False}, "without do_resize"),
        ({"do_center_crop": False}, "size 224 without do_center_crop"),
        ({"size": {"shortest_edge": 3, "longest_edge": 9}}, "size .*longest_edge"),
        ({"resample": 6}, "resampling filter 6"),
        ({"image_processor_type": "BlipImageProcessor"}, "image processor BlipImageProcessor"),
    ],
)
def test_preprocessing_that_is_not_known(config: dict[str, Any], told: str) -> None:
    """A config that asks for something else is refused rather than scored in another way."""
    with pytest.raises(EvaluationError, match=f"{told}.* is not supported"):
        read_preprocessing(config, "CLIP", 224)


# --- scores --------------------------------------------------------------------------------------


def test_scores_are_plain_cosines(scorer: DualEncoder, processor: Any) -> None:
    """Scores agree with transformers' own forward pass, image by image."""
    model = CLIPModel.from_pretrained(CLIP, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(CLIP)
    images = [picture(size, seed) for seed, size in enumerate(SIZES)]
    prompts = list(captions()[: len(images)])
    expected = []
    for image, prompt in zip(images, prompts, strict=True):
        text = tokenizer([prompt], return_tensors="pt")
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            out = model(input_ids=text["input_ids"], pixel_values=pixels)
        scale = model.logit_scale.exp().item()
        expected.append(out.logits_per_image.item() / scale)
    found = [
        scorer.score(stack(image), [prompt])[0]
        for image, prompt in zip(images, prompts, strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-5)


def test_true_captions_score_higher(scorer: DualEncoder) -> None:
    """Pictures agree with their own captions and not with each other's."""
    rng = np.random.default_rng(0)
    chosen = captions()[::9]
    images = torch.stack([torch.from_numpy(draw(caption, rng)) for caption in chosen])
    own = scorer.score(images, chosen)
    turned = scorer.score(images, [*chosen[5:], *chosen[:5]])
    assert np.mean(own) > 0.85
    assert np.mean(turned) < 0.4
    assert all(-1.0001 <= score <= 1.0001 for score in [*own, *turned])


def test_scores_do_not_depend_on_company(scorer: DualEncoder) -> None:
    """An image and prompt score the same alone, in another order, and with a fresh scorer."""
    images = stack(*(picture((48, 40), seed) for seed in range(5)))
    prompts = [*captions()[:4], LONG]
    together = scorer.score(images, prompts)
    assert scorer.score(images.flip(0), prompts[::-1])[::-1] == pytest.approx(together, abs=1e-5)
    fresh = DualEncoder(ScorerSpec("", str(CLIP)), "cpu")
    alone = [
        fresh.score(image[None], [text])[0] for image, text in zip(images, prompts, strict=True)
    ]
    assert alone == pytest.approx(together, abs=1e-5)


def test_long_prompts_keep_their_end_token(scorer: DualEncoder) -> None:
    """Over-long prompts that differ at the start keep different scores, and are counted."""
    other = "three blue crosses on a black background " * 3
    image = picture((32, 32), seed=0)
    first, second = scorer.score(stack(image, image), [LONG, other])
    assert abs(first - second) > 0.01
    assert scorer.prepare([LONG, other, "one red circle", ""]) == 2


def test_text_at_the_limit_is_not_truncated(scorer: DualEncoder) -> None:
    """Fourteen words and two special tokens are all that sixteen places hold."""
    assert scorer.prepare(["red " * 14]) == 0
    assert scorer.prepare(["red " * 15]) == 1


def test_texts_of_other_runs_leave_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as they are many: a scorer stays loaded for all runs that take turns."""
    scorer = DualEncoder(ScorerSpec("", str(CLIP)), "cpu")
    image = stack(picture((32, 32), seed=2))
    scorer.prepare(["one red circle", "blue"])
    scores = [scorer.score(image, [it]) for it in ("one red circle", "blue")]
    scorer.prepare(["blue"])
    assert scorer._texts.keys() == {"one red circle", "blue"}
    monkeypatch.setattr(dual_encoder, "KEPT", 1)
    scorer.prepare(["blue"])
    assert scorer._texts.keys() == {"blue"}
    assert [scorer.score(image, [it]) for it in ("one red circle", "blue")] == scores


def test_words_beyond_the_limit_change_nothing(scorer: DualEncoder) -> None:
    """A cut text scores as the text that was cut to fit."""
    image = picture((32, 32), seed=2)
    exact, cut = scorer.score(stack(image, image), ["red " * 14, "red " * 14 + "blue cross"])
    assert exact == pytest.approx(cut, abs=1e-6)


def test_features_of_both_generations_of_transformers() -> None:
    """A tensor and an output object give the same features, of length 1, in float32."""

    class Output:
        pooler_output = torch.tensor([[3.0, 4.0]], dtype=torch.float16)

    torch.testing.assert_close(features(Output()), features(Output.pooler_output))
    assert features(Output()).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    assert features(Output()).dtype == torch.float32


# --- loading -------------------------------------------------------------------------------------


def test_other_models_are_refused(tmp_path: Path) -> None:
    """A model without towers of its own for images and texts is none that can score."""
    shutil.copytree(CLIP, tmp_path / "it")
    (tmp_path / "it" / "config.json").write_text('{"model_type": "clap"}')
    told = "like it but of the type 'clap'; the types that can score are align, altclip, "
    with pytest.raises(EvaluationError, match=told) as caught:
        DualEncoder(ScorerSpec("", str(tmp_path / "it")), "cpu")
    assert caught.value.kind == "model"


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    """A folder with pickled weights only is refused."""
    shutil.copytree(CLIP, tmp_path / "it")
    (tmp_path / "it" / "model.safetensors").rename(tmp_path / "it" / "pytorch_model.bin")
    with pytest.raises(EvaluationError, match="has no safetensors weights"):
        DualEncoder(ScorerSpec("", str(tmp_path / "it")), "cpu")


def test_whole_processor_config_is_read(tmp_path: Path) -> None:
    """The image processor is found where transformers 5 saves it, and defaults serve without."""
    shutil.copytree(CLIP, tmp_path / "it")
    old = tmp_path / "it" / "preprocessor_config.json"
    config = json.loads(old.read_text()) | {"image_mean": [0.0, 0.0, 0.0]}
    image = picture((32, 32), seed=4)
    (tmp_path / "it" / "processor_config.json").write_text(json.dumps({"image_processor": config}))
    plain = DualEncoder(ScorerSpec("", str(tmp_path / "it")), "cpu").score(stack(image), ["one"])
    old.unlink()
    nested = DualEncoder(ScorerSpec("", str(tmp_path / "it")), "cpu").score(stack(image), ["one"])
    (tmp_path / "it" / "processor_config.json").unlink()
    absent = DualEncoder(ScorerSpec("", str(tmp_path / "it")), "cpu").score(stack(image), ["one"])
    assert plain == pytest.approx(absent, abs=1e-6)
    assert plain != pytest.approx(nested, abs=1e-4)


# --- the Hub -------------------------------------------------------------------------------------

MAIN, CONVERTED, FORGED = "a" * 40, "b" * 40, "c" * 40


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as serves one CLIP whose safetensors lie in the bot's pull request."""

    asked: list[str]
    trees = {  # noqa: RUF012 - never changed
        MAIN: ["config.json", "tokenizer.json", "pytorch_model.bin"],
        CONVERTED: ["config.json", "tokenizer.json", "pytorch_model.bin", "model.safetensors"],
        FORGED: ["config.json", "model.safetensors"],
    }
    references = {"main": MAIN, "refs/pr/7": CONVERTED, "refs/pr/9": FORGED}  # noqa: RUF012

    def do_GET(self) -> None:
        """Answer as the Hub does."""
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.asked.append(path)
        if path == "/api/models/org/clip/discussions":
            offers = [self.offer(9, "somebody"), self.offer(7, "SFconvertbot")]
            self.answer({"discussions": offers, "start": 0, "count": 2})
        elif "/commits/" in path:
            commit = self.commit_of(path.split("/commits/")[1])
            commits = [{"id": it, "title": "", "message": "", "date": "2024-01-01T00:00:00.000Z",
                        "authors": []} for it in dict.fromkeys([commit, MAIN])]  # fmt: skip
            self.answer(commits)
        elif "/revision/" in path:
            commit = self.commit_of(path.split("/revision/")[1])
            files = [{"rfilename": name} for name in self.trees[commit]]
            self.answer({"id": "org/clip", "sha": commit, "siblings": files, "private": False,
                         "downloads": 0, "likes": 0, "tags": []})  # fmt: skip
        elif "/tree/" in path:
            commit = self.commit_of(path.split("/tree/")[1])
            self.answer([{"type": "file", "path": name, "size": 1, "oid": name}
                         for name in self.trees[commit]])  # fmt: skip
        else:
            _, _, _, _, commit, name = path.split("/")
            self.answer((CLIP / name).read_bytes(), commit=commit, name=name)

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def commit_of(self, reference: str) -> str:
        """Resolve a branch, a pull request or a commit."""
        return self.references.get(reference, reference)

    def offer(self, number: int, author: str) -> dict[str, Any]:
        """Return a pull request as the Hub lists it."""
        return {"num": number, "author": {"name": author}, "isPullRequest": True, "status": "open",
                "title": "Adding `safetensors` variant of this model",
                "createdAt": "2024-01-01T00:00:00.000Z",
                "repo": {"name": "org/clip", "type": "model"}}  # fmt: skip

    def answer(self, content: Any, *, commit: str = "", name: str = "") -> None:
        """Send JSON or a file."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        if name:
            self.send_header("ETag", f'"{name}-{len(body)}"')
            self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A Hub on a port of its own: its address, and the paths it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Hub,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.thorough
def test_weights_from_the_conversion_bot(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    """The bot's safetensors are found when main has a pickle only, and again without a network."""
    address, asked = hub
    code = (
        "from clipwatch.domain.protocol import ScorerSpec\n"
        "from clipwatch.evaluator.scorers.files import locate\n"
        "import sys\n"
        "folder, commit = locate(ScorerSpec('', 'org/clip', sys.argv[1]))\n"
        "print(commit, *sorted(path.name for path in folder.iterdir()))\n"
    )
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}

    def located(revision: str, **more: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, revision],
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split() or [done.stderr.splitlines()[-1]]

    expected = [CONVERTED, "config.json", "model.safetensors", "tokenizer.json"]
    assert located("") == expected
    assert not [path for path in asked if path.endswith(".bin")]
    assert located("refs/pr/7") == expected
    assert "set scorer_revision" in located("main")[0]
    asked.clear()
    assert located("", HF_HUB_OFFLINE="1") == expected
    assert not asked
