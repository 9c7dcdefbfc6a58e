"""Images held against the images of a folder: how like a subject's, how near to trained ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import AutoModel, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import evaluator_kit as kit
from clipwatch.demo.models import CLIP
from clipwatch.doctor.models import scorers as looked_for
from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.images import image_name, save_image
from clipwatch.evaluator.rescoring import Rescorer
from clipwatch.evaluator.scorers import likeness
from clipwatch.evaluator.scorers.base import make
from clipwatch.evaluator.scorers.copies import SIDE as SIDE_OF_COPIES
from clipwatch.evaluator.scorers.copies import (
    WAYS,
    copies_of,
    nearest_others,
    nearness,
    spread,
)
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.evaluator.scorers.encoder import pixels_of, read_picture
from clipwatch.evaluator.scorers.preprocessing import read_preprocessing
from clipwatch.evaluator.store import Store
from clipwatch.executors.messages import Failed, Kept, Reply, Rescore, Scored
from clipwatch.judging.advice import BY_CHANCE
from clipwatch.models import pictures
from clipwatch.models.files import Unfit
from clipwatch.models.identity import Identities, ModelError
from clipwatch.models.likeness import ENCODERS
from clipwatch.models.scorers import scale_of
from clipwatch.statistics.nearness import chance
from clipwatch.statistics.scale import Near
from clipwatch.testing.scorers import ScorerContract
from tiny_encoders import MODELS, PROCESSORS, SIDE, picture, write_encoder, write_pictures

pytestmark = kit.QUIET

SHAPES = [(48, 40), (40, 90), (32, 32), (200, 51)]


def spec(model: Path, images: Path, kind: str = "likeness", name: str = "dino") -> ScorerSpec:
    return ScorerSpec(name, str(model), kind=kind, options=(("images", str(images)),))


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2."""
    return write_encoder(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a subject, as people have them: formats, sizes, turned, see-through, below."""
    folder = tmp_path_factory.mktemp("subject")
    (folder / "more" / ".cache").mkdir(parents=True)
    picture(1, SHAPES[0]).save(folder / "a.png")
    picture(2, SHAPES[1]).save(folder / "B.JPG", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6  # it is to be turned by a quarter
    picture(3, SHAPES[3]).save(folder / "more" / "c.jpeg", exif=turned)
    veiled = picture(4, SHAPES[2])
    veiled.putalpha(100)
    veiled.save(folder / "more" / "d.webp", lossless=True)
    picture(5).save(folder / ".hidden.png")
    picture(6).save(folder / "more" / ".cache" / "e.png")
    (folder / "a.txt").write_text("a caption")
    return folder


def theirs(subject: Path) -> list[Image.Image]:
    """Return what is to be read of them, in their order."""
    names = ("B.JPG", "a.png", "more/c.jpeg", "more/d.webp")
    return [ImageOps.exif_transpose(Image.open(subject / it)).convert("RGB") for it in names]


def stack(*images: Image.Image) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(it)) for it in images])


@torch.inference_mode()
def plain_features(folder: Path, kind: str, images: list[Image.Image]) -> torch.Tensor:
    """Return what transformers' own model and processor make of them, of length 1."""
    model = AutoModel.from_pretrained(folder).eval()
    processor = type(PROCESSORS[kind]).from_pretrained(folder)
    found = [
        model(**processor(images=it, return_tensors="pt")).last_hidden_state[0, 0] for it in images
    ]
    return torch.nn.functional.normalize(torch.stack(found), dim=-1)


# --- numbers -------------------------------------------------------------------------------------


def test_all_types_are_tried() -> None:
    """No type is offered that is not tested here."""
    assert set(MODELS) == set(ENCODERS)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_likeness_is_the_mean_cosine_of_transformers(
    kind: str, subject: Path, tmp_path: Path
) -> None:
    """To every image of the folder, whatever its shape and format; the highest of them is nearest.

    Both within 1e-5 of transformers' own pixels and class token.
    """
    folder = write_encoder(tmp_path, kind)
    known = plain_features(folder, kind, theirs(subject))
    kinds = ("likeness", "copied")
    scorers = {it: make(spec(folder, subject, it), "cpu", Store(None), "") for it in kinds}
    seen = []
    for seed, size in enumerate(SHAPES):
        image = picture(20 + seed, size)
        cosines = plain_features(folder, kind, [image]) @ known.T
        found = {it: scorer.score(stack(image), [""])[0] for it, scorer in scorers.items()}
        assert found["likeness"] == pytest.approx(cosines.mean().item(), abs=1e-5)
        assert found["copied"] == pytest.approx(cosines.max().item(), abs=1e-5)
        seen.append(found["likeness"])
    assert np.std(seen) > 0.01  # images are told apart


def test_clips_image_tower_sees_likeness(subject: Path) -> None:
    """CLIP-I: the projected features of transformers' CLIP, within 1e-5."""
    model = CLIPModel.from_pretrained(CLIP, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(CLIP)

    def plain(images: list[Image.Image]) -> torch.Tensor:
        pixels = [processor(images=it, return_tensors="pt")["pixel_values"] for it in images]
        with torch.inference_mode():
            found = model.visual_projection(model.vision_model(torch.cat(pixels)).pooler_output)
        return torch.nn.functional.normalize(found, dim=-1)

    image = picture(9)
    expected = (plain([image]) @ plain(theirs(subject)).T).mean().item()
    scorer = make(spec(CLIP, subject, name="clip_i"), "cpu", Store(None), "")
    assert scorer.score(stack(image), ["a prompt"]) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("size", [*SHAPES, (7, 5), (512, 384)])
@pytest.mark.parametrize("kind", ["dinov2", "vit"])
def test_pixels_are_the_processors(kind: str, size: tuple[int, int]) -> None:
    """Those of transformers for PIL but for float32's rounding; also by its defaults."""
    made = PROCESSORS[kind]
    for processor in (made, type(made)()):
        config = json.loads(processor.to_json_string())
        found = read_preprocessing(config, ENCODERS[kind], SIDE)(stack(picture(3, size)))
        expected = processor(images=picture(3, size), return_tensors="pt")
        torch.testing.assert_close(
            found["pixel_values"], expected["pixel_values"], rtol=1e-6, atol=1e-6
        )


def test_old_spelling_of_a_vit() -> None:
    """One number means both sides, as for DINO's first models on the Hub."""
    config = {"feature_extractor_type": "ViTFeatureExtractor", "size": 24, "resample": 3}
    found = read_preprocessing(config, "ViT", SIDE)(stack(picture(3, (60, 30))))
    assert found["pixel_values"].shape == (1, 3, 24, 24)


class TestLikeness(ScorerContract):
    """Likeness by a tiny DINOv2."""

    @pytest.fixture
    def spec(self, dino: Path, subject: Path) -> ScorerSpec:
        """See ScorerContract."""
        return spec(dino, subject)


class TestCopied(ScorerContract):
    """Nearness by a tiny CLIP."""

    @pytest.fixture
    def spec(self, subject: Path) -> ScorerSpec:
        """See ScorerContract."""
        return spec(CLIP, subject, "copied")


def test_a_model_that_two_scorers_read_is_in_memory_once(subject: Path) -> None:
    """CLIP and CLIP-I share it, and it goes with the last of them; others have their own."""
    first = DualEncoder(ScorerSpec("", str(CLIP)), "cpu", Store(None), "c" * 16)
    second = likeness.Likeness(spec(CLIP, subject), "cpu", Store(None), "c" * 16 + "i" * 16)
    assert second._encoder._model is first._model
    other = DualEncoder(ScorerSpec("", str(CLIP)), "cpu", Store(None), "d" * 16)
    assert other._model is not first._model


# --- the folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["likeness", "copied"])
def test_features_of_the_folder_are_kept(
    kind: str, dino: Path, subject: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another evaluator reads no image of it, and gives the same numbers; other images are read."""
    asked, images = spec(dino, subject, kind), stack(picture(7), picture(8))
    first = make(asked, "cpu", Store(tmp_path), "m" * 16 + "i" * 16)
    read: list[Path] = []

    def note(path: Path) -> Image.Image:
        read.append(path)
        return read_picture(path)

    monkeypatch.setattr(likeness, "read_picture", note)
    again = make(asked, "cpu", Store(tmp_path), "m" * 16 + "i" * 16)
    assert again.score(images, ["", ""]) == first.score(images, ["", ""])
    assert (again.told, read) == (first.told, [])
    make(asked, "cpu", Store(tmp_path), "m" * 16 + "j" * 16)
    assert read


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda it: it.write_bytes(b"no image"),
            "cannot be read as an image: its format is not known",
        ),
        (lambda it: it.write_bytes(it.read_bytes()[:100]), "cannot be read as an image"),
        (lambda it: (it.unlink(), it.mkdir()), "has no images"),
    ],
)
def test_what_cannot_be_read_is_one_line(spoil: Any, told: str, dino: Path, tmp_path: Path) -> None:
    """Which names the file, or the folder."""
    (path,) = write_pictures(tmp_path / "pictures", 1)
    spoil(path)
    with pytest.raises(EvaluationError, match=told) as error:
        make(spec(dino, tmp_path / "pictures"), "cpu", Store(None), "")
    assert str(tmp_path / "pictures") in error.value.problem
    assert "\n" not in str(error.value)
    assert error.value.kind == "model"


def test_the_images_are_part_of_the_identity(dino: Path, tmp_path: Path) -> None:
    """One that is changed, added or taken away makes another number; a caption does not."""
    folder = tmp_path / "pictures"
    paths = write_pictures(folder, 3)
    how = kit.protocol(tmp_path, scorers=(ScorerSpec("", str(CLIP)), spec(dino, folder)))
    asked, known = how.scorers[1], Identities()
    seen = {known.of_scorer(asked)}
    (folder / "a.txt").write_text("a caption")
    assert known.of_scorer(asked) in seen
    changes: list[Callable[[], object]] = [
        lambda: picture(30).save(paths[0]),
        lambda: picture(31).save(folder / "new.png"),
        paths[1].unlink,
    ]
    for change in changes:
        change()
        found = known.of_scorer(asked)
        assert found not in seen
        seen.add(found)
    assert {it[:16] for it in seen} == {known.of_scorer(replace(asked, kind="copied"))[:16]}
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=f"scorer 'dino': there is no folder '{folder}'"):
        known.of_scorer(asked)
    with pytest.raises(ModelError, match=f"scorer 'likeness:{dino}': there is no folder"):
        known.of_scorer(replace(asked, name=""))


def test_too_many_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is looked at before every evaluation."""
    write_pictures(tmp_path, 3)
    monkeypatch.setattr(pictures, "MOST", 2)
    with pytest.raises(Unfit, match="has more than 2 images: name a part of it"):
        pictures.images_in(tmp_path)


def test_doctor_looks_for_the_images(dino: Path, tmp_path: Path) -> None:
    """It counts them, and says where there are none."""
    write_pictures(tmp_path / "there", 3)
    first = spec(dino, tmp_path / "there", name="")
    further = spec(dino, tmp_path / "there"), spec(dino, tmp_path / "gone", "copied", "copied")
    scorers = (first, *further)
    found = looked_for(kit.protocol(tmp_path, scorers=scorers))
    told = {it.found for it in found if it.check == "images"}
    assert told == {
        f"clip: 3 in {tmp_path / 'there'}",
        f"dino: 3 in {tmp_path / 'there'}",
        f"copied: there is no folder '{tmp_path / 'gone'}'",
    }


# --- copies --------------------------------------------------------------------------------------


def test_nearest_others_are_found_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By comparing each with each; one alone has no other."""
    monkeypatch.setattr("clipwatch.evaluator.scorers.copies._ROWS", 4)
    luck = torch.Generator().manual_seed(0)
    known = torch.nn.functional.normalize(torch.randn(11, 5, generator=luck), dim=-1)
    expected = [max(float(known[a] @ known[b]) for b in range(11) if b != a) for a in range(11)]
    assert nearest_others(known).tolist() == pytest.approx(expected, abs=1e-6)
    assert len(nearest_others(known[:1])) == 0
    assert spread(3) == [0, 1, 2]
    assert len(spread(250)) == len(set(spread(250))) == 100
    assert max(spread(250)) < 250


def test_the_bound_leaves_few_copies_below() -> None:
    """One in twenty, unless more than one in twenty of others would reach it, which are counted."""
    copies = [n / 100 for n in range(101)]
    assert nearness(copies, torch.tensor([0.0, 0.01, 0.02])) == Near(0.05, 0, 3, 0.95)
    assert nearness(copies, torch.tensor([0.0, 0.5, 0.4])) == Near(0.500001, 0, 3, 0.495)
    many = nearness(copies, torch.arange(40) / 40)  # two of them are one in twenty
    assert many == Near(0.925001, 2, 40, 0.079)
    assert nearness(copies, torch.zeros(0)) == Near(0.05, 0, 0, 0.95)
    assert {it.size for it in copies_of(picture(1, (1500, 300)))} == {(SIDE_OF_COPIES, 205)}


def test_the_very_same_picture_is_always_seen() -> None:
    """Also where many of the folder stand in it twice; those are told as usual."""
    found = nearness([0.99] * 10, torch.tensor([1.0] * 40 + [0.5] * 60))
    assert found.bound <= 1
    assert (found.usual, found.of) == (40, 100)


def test_copies_are_near_and_others_are_not(dino: Path, tmp_path: Path) -> None:
    """Most copies lie above the bound; fresh images not more often than those trained on."""
    paths = write_pictures(tmp_path / "trained", 40)
    asked = spec(dino, tmp_path / "trained", "copied", "copied")
    scorer = make(asked, "cpu", Store(None), "")
    near = scale_of(asked, {"scorer_scale.copied": scorer.told}).near
    assert near is not None
    assert near.of == 40
    read = [read_picture(it) for it in paths]
    copies = [pixels_of(way(it)) for way in WAYS.values() for it in read]
    found = np.array(scorer.score(torch.stack(copies), [""] * len(copies)))
    assert (found >= near.bound).mean() >= near.reached - 0.01 > 0.5
    assert scorer.score(stack(read[0]), [""]) == pytest.approx([1.0], abs=1e-5)
    fresh = np.array(scorer.score(stack(*(picture(500 + n) for n in range(40))), [""] * 40))
    assert chance(int((fresh >= near.bound).sum()), len(fresh), near) >= BY_CHANCE
    assert chance(int((found >= near.bound).sum()), len(found), near) < BY_CHANCE


# --- whole evaluations ---------------------------------------------------------------------------


@pytest.mark.thorough
def test_an_evaluation_scores_likeness_beside_clip(
    world: Path, evaluator: Evaluator, dino: Path, subject: Path
) -> None:
    """Its numbers are the scorer's own; images that are gone where it runs are said in one line."""
    folder = world / "subject"
    shutil.copytree(subject, folder)
    wanted = (ScorerSpec("", str(CLIP)), spec(dino, folder), spec(dino, folder, "copied", "copied"))
    how = kit.protocol(world / "base", scorers=wanted)
    how = replace(how, inputs=Identities().inputs(how))
    assert {"scorer/dino", "scorer/dino/images"} <= {it.part for it in how.inputs}
    request = kit.request(world / "lora", "lora", how, images=world / "kept")
    images = kit.scores_of(evaluator, request)
    scorer = make(wanted[1], "cpu", Store(None), "")
    for image in images:
        pixels = stack(Image.open(world / "kept" / str(image.image)))
        assert [image.scores["dino"]] == pytest.approx(scorer.score(pixels, [""]), abs=1e-5)
        assert image.scores["copied"] >= image.scores["dino"] - 1e-6
    shutil.rmtree(folder)
    expected = Failed("model", f"scorer 'dino': there is no folder '{folder}'")
    assert kit.failure(evaluator, request) == expected


def test_kept_images_are_scored_once_more(dino: Path, subject: Path, tmp_path: Path) -> None:
    """As `clipwatch rescore` asks for it: no prompt is read, and no pipeline loaded."""
    drawn = {name: picture(40 + n, (32, 32)) for n, name in enumerate(("a", "b"))}
    for name, image in drawn.items():
        save_image(pixels_of(image), tmp_path / image_name(name, 0))
    kept = tuple(ImageScore(it, 0, 0, {"": 0.3}, image_name(it, 0)) for it in drawn)
    asked = spec(dino, subject)
    request = Rescore(asked, str(tmp_path), kept, (32, 32), dict.fromkeys(drawn, "text"), "cpu")
    said: list[Reply] = []

    def send(reply: Reply) -> Kept | None:
        said.append(reply)
        return Kept() if isinstance(reply, Scored) else None

    Rescorer().rescore(request, send)
    (scored,) = [it for it in said if isinstance(it, Scored)]
    expected = make(asked, "cpu", Store(None), "").score(stack(*drawn.values()), ["", ""])
    assert [it.scores["dino"] for it in scored.images] == pytest.approx(expected, abs=1e-6)
