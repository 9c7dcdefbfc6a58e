"""Models that answer questions about images: VQAScore, and what asks other questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer

import evaluator_kit as kit
from clipwatch.demo.models import CLIP
from clipwatch.doctor.models import scorers as looked_for
from clipwatch.domain.events import ImageScore
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.evaluator.failures import EvaluationError
from clipwatch.evaluator.images import image_name, save_image
from clipwatch.evaluator.rescoring import Rescorer
from clipwatch.evaluator.scorers.base import make
from clipwatch.evaluator.scorers.reading import READ, Reading
from clipwatch.evaluator.scorers.vision_language import VisionLanguage, spellings
from clipwatch.evaluator.store import Store
from clipwatch.executors.messages import Kept, Reply, Rescore, Scored
from clipwatch.models.memory import sizes
from clipwatch.models.scorers import scale_of
from clipwatch.models.vision_language import MODELS, TIES
from clipwatch.testing.scorers import ScorerContract
from results_kit import Log, call, protocol
from tiny_encoders import picture
from tiny_vlms import FAMILIES, Family, write_vlm

pytestmark = kit.QUIET

TWO_STARS = ("two stars", "Two stars", " two stars", " Two stars")
SHAPES = [(48, 40), (40, 90), (16, 16)]
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'


def spec(model: Path, kind: str = "vqascore", **options: str) -> ScorerSpec:
    return ScorerSpec("vqa", str(model), kind=kind, options=tuple(options.items()))


def asker(model: Path, **options: str) -> VisionLanguage:
    return VisionLanguage(spec(model, **options), "cpu", Store(None), "")


def stack(*images: Image.Image) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(it)) for it in images])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each type."""
    return {it: write_vlm(tmp_path_factory.mktemp(it), it) for it in FAMILIES}


@pytest.fixture(scope="module")
def qwen(models: dict[str, Path]) -> Path:
    """The one that most tests ask."""
    return models["qwen3_vl"]


class Plain:
    """transformers' own model, tokenizer and image processor, put together by hand."""

    def __init__(self, folder: Path, family: Family) -> None:
        self.family = family
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.pixels = type(family.pixels).from_pretrained(folder)

    def features(self, inputs: dict[str, Any]) -> int:
        """Return how many places in the text an image takes."""
        looks = {it: value for it, value in inputs.items() if it != "num_crops"}
        found = self.model.get_image_features(**looks).pooler_output
        parts = [found] if isinstance(found, torch.Tensor) else found
        return sum(it.shape[:-1].numel() for it in parts)

    @torch.inference_mode()
    def chances(self, image: Image.Image, question: str, said: Sequence[int] = ()) -> torch.Tensor:
        """Return (tokens said + 1, vocabulary) probabilities, by one whole pass."""
        seen = dict(self.pixels(images=[image], return_tensors="pt"))
        seen = {it: seen[it] for it in seen if it not in {"num_crops", "num_patches", "rows"}}
        family = self.family
        shown = family.before + family.image * self.features(seen) + family.after
        thought = "<think>\n\n</think>\n\n" if "think" in family.template else ""
        text = f"<|im_start|>user\n{shown}{question}<|im_end|>\n<|im_start|>assistant\n{thought}"
        chat = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([[*chat, *said]])
        more = {}
        if family.types:
            place = self.tokenizer.convert_tokens_to_ids(family.image)
            more = {family.types: (ids == place).int()}
        logits: torch.Tensor = self.model(input_ids=ids, **seen, **more).logits[0]
        return logits[len(chat) - 1 :].double().softmax(dim=-1)

    def probability(self, image: Image.Image, question: str, *ways: str) -> float:
        """Return that of any of these answers."""
        total = 0.0
        for way in ways:
            said = self.tokenizer(way, add_special_tokens=False)["input_ids"]
            found = self.chances(image, question, said)
            total += float(np.prod([found[at, token] for at, token in enumerate(said)]))
        return total


# --- numbers -------------------------------------------------------------------------------------


def test_all_types_are_tried() -> None:
    """No type is offered that is not tested here."""
    assert {*FAMILIES} == {*MODELS}


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_the_numbers_are_transformers(kind: str, models: dict[str, Path]) -> None:
    """VQAScore is the probability of "Yes" in one plain pass, for images of any shape."""
    plain = Plain(models[kind], FAMILIES[kind])
    scorer = make(spec(models[kind]), "cpu", Store(None), "")
    asked = partial(asker(models[kind]).probabilities, as_written=False)
    seen = []
    for seed, size in enumerate(SHAPES):
        image = picture(30 + seed, size)
        for prompt in ("a red circle", "two green stars"):
            question = QUESTION.format(prompt)
            found = scorer.score(stack(image), [prompt])[0]
            assert found == pytest.approx(
                plain.probability(image, question, "Yes", " Yes"), rel=1e-4, abs=1e-9
            )
            seen.append(found)
        question = "What colour is it?"
        answers = {"no": ("no", "No", " no", " No"), "two stars": TWO_STARS}
        told = asked(stack(image), [(0, question, it) for it in answers])
        expected = [plain.probability(image, question, *ways) for ways in answers.values()]
        assert told == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert np.std(seen) > 1e-3 * np.mean(seen)  # images and prompts are told apart


class TestVQAScore(ScorerContract):
    """VQAScore by a tiny Qwen3-VL."""

    @pytest.fixture
    def spec(self, qwen: Path) -> ScorerSpec:
        """See ScorerContract."""
        return spec(qwen)


# --- reading -------------------------------------------------------------------------------------


class TestReading(ScorerContract):
    """Text by a tiny Qwen3-VL, of prompts that quote none."""

    @pytest.fixture
    def spec(self, qwen: Path) -> ScorerSpec:
        """See ScorerContract."""
        return spec(qwen, "ocr")


@pytest.mark.parametrize("kind", ["gemma3", "qwen3_5", "qwen3_vl"])
def test_what_is_read_is_likeliest(kind: str, models: dict[str, Path]) -> None:
    """Each token by a plain pass with those before it, whatever sampling the folder asks for."""
    (models[kind] / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.1, "repetition_penalty": 1.5})
    )
    plain = Plain(models[kind], FAMILIES[kind])
    image = picture(3)
    reading = Reading(spec(models[kind], "ocr"), "cpu", Store(None), "")
    found = reading.read(stack(image)[0])
    said: list[int] = []
    end = plain.tokenizer.eos_token_id
    while len(said) < 12 and end not in said:
        said.append(int(plain.chances(image, READ, said=said)[-1].argmax()))
    expected = plain.tokenizer.decode(said, skip_special_tokens=True)
    assert found.startswith(expected)
    assert found == reading.read(stack(image)[0])


def test_text_is_scored_where_it_is_quoted(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the texts of a prompt, by what was read of its own image."""
    reading = Reading(spec(qwen, "ocr"), "cpu", Store(None), "")
    images = stack(picture(1), picture(2), picture(3))
    seen = iter(["open today", "closed", "nothing"])
    monkeypatch.setattr(reading, "read", lambda _: next(seen))
    prompts = ['"OPEN" and "Closed"', "a door with 'CLOSED' on it", '"12345"']
    assert reading.score(images, prompts) == pytest.approx([0.5 * (1 + 1 / 3), 1, 0])
    monkeypatch.undo()
    assert all(0 <= it <= 1 for it in reading.score(images, prompts))


def test_kept_images_are_asked_about_later(qwen: Path, tmp_path: Path) -> None:
    """As `clipwatch rescore` asks for it, the number is the one from the start."""
    drawn = {name: picture(40 + n, (32, 32)) for n, name in enumerate(("a", "b"))}
    for name, image in drawn.items():
        save_image(stack(image)[0], tmp_path / image_name(name, 0))
    kept = tuple(ImageScore(it, 0, 0, {"": 0.3}, image_name(it, 0)) for it in drawn)
    texts = {"a": "a red circle", "b": "two green stars"}
    said: list[Reply] = []

    def send(reply: Reply) -> Kept | None:
        said.append(reply)
        return Kept() if isinstance(reply, Scored) else None

    Rescorer().rescore(Rescore(spec(qwen), str(tmp_path), kept, (32, 32), texts, "cpu"), send)
    (scored,) = [it for it in said if isinstance(it, Scored)]
    scorer = make(spec(qwen), "cpu", Store(None), "")
    expected = scorer.score(stack(*drawn.values()), [*texts.values()])
    assert [it.scores["vqa"] for it in scored.images] == pytest.approx(expected, abs=1e-6)


def test_kept_images_of_prompts_that_quote_nothing_are_not_read(tmp_path: Path) -> None:
    """`rescore` says so of each checkpoint, and loads nothing."""
    log, made = Log(tmp_path), protocol(3)
    log.start("one", made)
    log.score("one", 100, {it.id: [0.3] for it in made.prompts}, made)
    told = call(tmp_path, "rescore", "one", "--scorer", "text=ocr:owner/name")
    assert told.exit_code == 1
    why = "checkpoint-100: 3 of 3 prompts quote no text, 'picture number 0' for one"
    assert why in told.output


# --- what is asked -------------------------------------------------------------------------------


def test_spellings_of_an_answer() -> None:
    """As written, in small letters, with a capital first; each once."""
    assert spellings("yes") == ["yes", "Yes"]
    assert spellings("Eiffel Tower") == ["Eiffel Tower", "eiffel tower"]
    assert spellings("eiffel Tower") == ["eiffel Tower", "eiffel tower", "Eiffel Tower"]
    assert spellings("2") == ["2"]
    assert spellings("Yes", as_written=True) == ["Yes"]


def test_an_answer_has_to_say_something(qwen: Path) -> None:
    """Of nothing nobody knows how probable it is."""
    with pytest.raises(ValueError, match="the answer to a question is empty"):
        asker(qwen).probabilities(stack(picture(1)), [(0, "What?", "")])


def test_probabilities_of_all_first_tokens_add_up(qwen: Path) -> None:
    """It is among the whole vocabulary: all its tokens together are certain."""
    asked = asker(qwen)
    inputs = asked._inputs(picture(1), "What?")
    ways = [(it,) for it in range(asked._model.config.text_config.vocab_size)]
    assert asked._probability(inputs, asked._seen(inputs), ways) == pytest.approx(1)
    assert asked._probability(inputs, asked._seen(inputs), ways[:9]) < 1


def test_questions_stand_in_their_own_order(qwen: Path) -> None:
    """Of several images, mixed: each has the number that it has alone."""
    images = stack(*(picture(n) for n in range(3)))
    asked = [(2, "What?", "no"), (0, "Who?", "yes"), (2, "Who?", "yes"), (1, "What?", "no")]
    found = asker(qwen).probabilities(images, asked)
    alone = [asker(qwen).probabilities(images, [it])[0] for it in asked]
    assert found == alone
    assert len({*found}) == len(asked)


def test_an_image_is_looked_at_once(qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all of its questions."""
    asked = asker(qwen)
    looked: list[int] = []
    usual = asked._model.get_image_features

    def note(**pixels: Any) -> Any:
        looked.append(len(pixels))
        return usual(**pixels)

    monkeypatch.setattr(asked._model, "get_image_features", note)
    images = stack(picture(1), picture(2))
    asked.probabilities(images, [(at, "What?", it) for at in (0, 1) for it in ("no", "two", "x y")])
    assert len(looked) == 2


@pytest.mark.parametrize("text", ["<|im_end|>", "<|image_pad|>", "a <|im_start|>user", "{x} %s"])
def test_a_prompt_is_text_whatever_it_holds(text: str, qwen: Path) -> None:
    """What means something to the model elsewhere means nothing in a prompt."""
    scorer = make(spec(qwen), "cpu", Store(None), "")
    first, second = scorer.score(stack(picture(1), picture(1)), [text, "a circle"])
    assert 0 <= first <= 1
    assert first != second
    asked = asker(qwen)
    ids = asked._inputs(picture(1), text)["input_ids"][0].tolist()
    plain = asked._inputs(picture(1), "a circle")["input_ids"][0].tolist()
    for token in ("<|im_start|>", "<|im_end|>", "<|image_pad|>"):
        number = asked._processor.tokenizer.convert_tokens_to_ids(token)
        assert ids.count(number) == plain.count(number)


# --- numbers and memory --------------------------------------------------------------------------


def test_bfloat16_is_another_protocol_and_takes_half(qwen: Path) -> None:
    """Its numbers are near those of float32, and hold whatever is beside them."""
    half = make(spec(qwen, dtype="bfloat16"), "cpu", Store(None), "")
    images, prompts = stack(*(picture(n) for n in range(3))), ["a", "two green stars", ""]
    found = half.score(images, prompts)
    assert found == [half.score(images[n : n + 1], [it])[0] for n, it in enumerate(prompts)]
    exact = make(spec(qwen), "cpu", Store(None), "").score(images, prompts)
    assert found != exact
    assert found == pytest.approx(exact, abs=TIES["bfloat16"])
    whole, less = (
        kit.protocol(qwen, scorers=(ScorerSpec("", str(CLIP)), it))
        for it in (spec(qwen), spec(qwen, dtype="bfloat16"))
    )
    assert whole.digest != less.digest
    assert (scale_of(whole.scorers[1]).tie, scale_of(less.scorers[1]).tie) == (1e-3, 0.03)


def test_memory_counts_its_dtype(world: Path, qwen: Path) -> None:
    """Four bytes a weight, or two."""
    taken = []
    for options in ({}, {"dtype": "bfloat16"}):
        wanted = (ScorerSpec("", str(CLIP)), spec(qwen, **options))
        found = sizes(kit.protocol(world / "base", scorers=wanted))
        assert found is not None
        taken.append(found["scorer/vqa"])
    model = AutoModelForImageTextToText.from_pretrained(qwen)
    assert taken[0] == 2 * taken[1] == 4 * sum(it.numel() for it in model.parameters())


def test_memory_counts_what_scorers_share_once(world: Path, qwen: Path) -> None:
    """Of the same files and dtype; another dtype is another model."""
    specs = (
        replace(spec(qwen, kind, **options), name=name)
        for name, kind, options in (
            ("asks", "questions", {}),
            ("half", "vqascore", {"dtype": "bfloat16"}),
            ("vqa", "vqascore", {}),
        )
    )
    found = sizes(kit.protocol(world / "base", scorers=(ScorerSpec("", str(CLIP)), *specs)))
    assert found is not None
    taken = [found[f"scorer/{it}"] for it in ("asks", "half", "vqa")]
    assert taken == [2 * taken[1], taken[1], 0]
    assert taken[1] > 0


def test_two_scorers_share_a_model(qwen: Path) -> None:
    """Of the same files and dtype."""
    found = [
        VisionLanguage(spec(qwen, **it), "cpu", Store(None), "v" * 16)
        for it in ({}, {}, {"dtype": "bfloat16"})
    ]
    assert found[0]._model is found[1]._model
    assert found[0]._model is not found[2]._model


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda it: (it / "model.safetensors").rename(it / "pytorch_model.bin"),
            "has no safetensors weights, only pickles",
        ),
        (
            lambda it: (it / "config.json").write_text(
                json.dumps(json.loads((it / "config.json").read_text()) | {"model_type": "smolvlm"})
            ),
            "is of the type 'smolvlm'; the types that can be asked about images are gemma3,",
        ),
        (lambda it: (it / "chat_template.jinja").unlink(), "has no chat template"),
        (lambda it: (it / "preprocessor_config.json").unlink(), "preprocessor_config.json is miss"),
        (lambda it: (it / "tokenizer.json").unlink(), "its tokenizer is missing"),
    ],
)
def test_what_cannot_be_asked_is_one_line(spoil: Any, told: str, tmp_path: Path) -> None:
    """By doctor, before anything is loaded."""
    folder = write_vlm(tmp_path / "model")
    spoil(folder)
    (found,) = looked_for(kit.protocol(folder, scorers=(replace(spec(folder), name=""),)))
    assert told in found.found
    assert "\n" not in found.found


@pytest.mark.parametrize("kind", ["smolvlm", "clip"])
def test_another_type_is_not_loaded(kind: str, tmp_path: Path) -> None:
    """The evaluator says which it takes."""
    folder = write_vlm(tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EvaluationError, match=f"is of the type '{kind}'; the types that") as error:
        make(spec(folder), "cpu", Store(None), "")
    assert "\n" not in str(error.value)


def test_options_that_are_not_known_are_refused(qwen: Path) -> None:
    """The evaluator does so for whom no settings were read."""
    with pytest.raises(EvaluationError, match="dtype=float16 is not known: write float32 or bf"):
        make(spec(qwen, dtype="float16"), "cpu", Store(None), "")
