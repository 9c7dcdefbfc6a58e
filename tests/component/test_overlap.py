"""The next batch is generated while the last one is saved and kept; the order of the rest stays."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from msgspec import structs
from safetensors.torch import load_file, save_file

import evaluator_kit as kit
from clipwatch.demo.models import CLIP
from clipwatch.domain.protocol import Prompt, ScorerSpec
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.images import save_image
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.executors.messages import Failed, Finished, Kept, Loaded, Reply, Scored, Working
from clipwatch.prompts import stratified
from evaluator_child import Children

pytestmark = kit.QUIET

STEPS = 2
SCORE = "scorers.dual_encoder.DualEncoder.score"


class Steps:
    """Counts the denoiser's steps, and lets a test wait for one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        self.threads: set[threading.Thread] = set()
        self._changed = threading.Condition()
        forward = UNet2DConditionModel.forward

        def counted(model: Any, *arguments: Any, **named: Any) -> Any:
            found = forward(model, *arguments, **named)
            with self._changed:
                self.done += 1
                self.threads.add(threading.current_thread())
                self._changed.notify_all()
            return found

        monkeypatch.setattr(UNet2DConditionModel, "forward", counted)

    def until(self, count: int, seconds: float = 30.0) -> bool:
        """Wait until so many were made; whether they were."""
        with self._changed:
            return self._changed.wait_for(lambda: self.done >= count, seconds)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Return a count of the denoiser's steps."""
    return Steps(monkeypatch)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever happens in an evaluation, its second thread ends with it."""
    yield
    assert not [it for it in threading.enumerate() if it.name.startswith("scoring")]


def asked(world: Path, **changes: Any) -> Any:
    """Ask for four images, one at a time."""
    how = kit.protocol(world / "base", inference_steps=STEPS)
    return kit.request(world / "full", "full", how, batch_size=1, **changes)


def test_the_next_batch_is_made_before_the_last_is_kept(
    world: Path, evaluator: Evaluator, steps: Steps
) -> None:
    """One batch ahead and no further, in the calling thread; each is reported by another."""
    made_when_sent: list[int] = []
    threads = set()

    def send(message: Reply) -> Kept | None:
        if not isinstance(message, Scored):
            return None
        threads.add(threading.current_thread())
        number = len(made_when_sent) + 1
        ahead = min(number + 1, 4) * STEPS
        assert steps.until(ahead), "it waits for us, and we for it"
        assert not steps.until(ahead + 1, 0.3), "it goes on without us"
        made_when_sent.append(steps.done)
        return Kept()

    evaluator.evaluate(asked(world), send)
    assert made_when_sent == [2 * STEPS, 3 * STEPS, 4 * STEPS, 4 * STEPS]
    assert steps.threads == {threading.current_thread()}
    assert len(threads) == 1
    assert not threads & steps.threads


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("when", [1, 2, 4])
def test_enough(world: Path, evaluator: Evaluator, steps: Steps, when: int) -> None:
    """After so many batches no further one is reported, and none is generated to its end."""
    whole = kit.scores_of(Evaluator(), asked(world))
    begun = steps.done
    found: list[Reply] = []

    def send(message: Reply) -> Kept | None:
        found.append(message)
        scored = sum(isinstance(it, Scored) for it in found)
        return Kept(scored >= when) if isinstance(message, Scored) else None

    evaluator.evaluate(asked(world), send)
    images = [image for it in found if isinstance(it, Scored) for image in it.images]
    assert kit.same(images, whole[:when])
    assert isinstance(found[-1], Finished)
    assert steps.done - begun <= min(when + 1, 4) * STEPS
    assert kit.same(kit.scores_of(evaluator, asked(world)), whole)  # what was dropped left nothing


@pytest.mark.thorough
def test_a_batch_that_is_not_needed_is_dropped_at_once(
    world: Path, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of its steps, of which there would be many."""
    steps = Steps(monkeypatch)
    request = asked(world)
    request = kit.request(
        world / "full", "full", replace(request.protocol, inference_steps=200), batch_size=2
    )

    def send(message: Reply) -> Kept | None:
        if not isinstance(message, Scored):
            return None
        steps.until(201)  # the next one is in the making
        return Kept(enough=True)

    evaluator.evaluate(request, send)
    assert 201 <= steps.done < 400


def nan(*_: Any) -> list[float]:
    return [float("nan")]


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("place", "act", "kind", "word"),
    [
        (
            SCORE,
            nan,
            "scores",
            "check the weights of the scorer",
        ),
        ("scoring.save_image", full, "disk", "cannot save images in"),
    ],
)
def test_what_goes_wrong_beside_the_generation_is_told(
    world: Path,
    tmp_path: Path,
    evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    act: Callable[..., Any],
    kind: str,
    word: str,
) -> None:
    """Of the second batch: the first is reported, then the failure, and nothing more."""
    original: Any = {
        SCORE: DualEncoder.score,
        "scoring.save_image": save_image,
    }[place]
    calls = 0

    def second(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return (act if calls > 1 else original)(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(f"clipwatch.evaluator.{place}", second)
        replies = kit.replies_of(evaluator, asked(world, images=tmp_path))
    assert [type(it) for it in replies] == [Loaded, Scored, Failed]
    failed = replies[-1]
    assert isinstance(failed, Failed)
    assert (failed.kind, word in failed.reason) == (kind, True), failed
    assert len(kit.scores_of(evaluator, asked(world))) == 4


def test_nobody_listens_to_scores(world: Path, evaluator: Evaluator) -> None:
    """A pipe that broke under the second thread ends the evaluation as it does under the first."""

    def send(message: Reply) -> Kept | None:
        if isinstance(message, Scored):
            raise BrokenPipeError
        assert isinstance(message, Loaded | Working)
        return None

    with pytest.raises(BrokenPipeError):
        evaluator.evaluate(asked(world), send)


TALKATIVE = """
import threading
from clipwatch.evaluator import worker
from clipwatch.executors import messages
class Talkative:
    def evaluate(self, request, send):
        over = threading.Event()
        def talk():
            while not over.is_set():
                send(messages.Working())
        talker = threading.Thread(target=talk)
        talker.start()
        found = [send(messages.Scored(())).enough for _ in range(200)]
        over.set()
        talker.join()
        send(messages.Finished(sum(found), 0.0))
worker._evaluator = Talkative
worker.main()
"""


def test_two_threads_speak_over_one_pipe(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs of life without end tear no report, and `enough` comes to who reported."""
    with Children(tmp_path, monkeypatch) as children:
        child = children.start(TALKATIVE, opening="")
        child.handle.evaluate(asked(world))
        for number in range(200):
            assert child.reply() == Scored(())
            child.handle.kept(enough=number % 4 == 0)
        assert child.reply() == Finished(50, 0.0)


# --- what is asked for ---------------------------------------------------------------------------


def test_further_scorers(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scores the same pixels, generated once, as it does alone; and stays in memory."""
    shutil.copytree(CLIP, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    noise = torch.Generator().manual_seed(3)
    shape = weights["visual_projection.weight"].shape
    weights["visual_projection.weight"] = torch.randn(shape, generator=noise)
    save_file(weights, tmp_path / "other" / "model.safetensors")
    named = (ScorerSpec("same", str(CLIP)), ScorerSpec("other", str(tmp_path / "other")))
    how = kit.protocol(world / "base")
    plain = kit.scores_of(Evaluator(), kit.request(world / "full", "full", how))
    alone = kit.scores_of(
        Evaluator(),
        kit.request(
            world / "full", "full", replace(how, scorers=(ScorerSpec("", str(tmp_path / "other")),))
        ),
    )
    evaluator, steps = Evaluator(), Steps(monkeypatch)
    request = kit.request(world / "full", "full", replace(how, scorers=(*how.scorers, *named)))
    found = kit.scores_of(evaluator, request)

    first, second = (
        pytest.approx([it.score for it in its], abs=kit.AGAIN) for its in (plain, alone)
    )
    assert [it.score for it in found] == first
    assert [it.scores["same"] for it in found] == first
    assert [it.scores["other"] for it in found] == second
    assert not kit.same(alone, plain, kit.NEAR)
    assert {name for it in found for name in it.scores} == {"", "same", "other"}
    assert steps.done == how.inference_steps
    kept = {key: id(it.model) for key, it in evaluator.models.held.items()}
    assert len(kept) == 3  # with the pipeline
    assert kit.same(kit.scores_of(evaluator, request), found)
    assert {key: id(it.model) for key, it in evaluator.models.held.items()} == kept


@pytest.mark.thorough
def test_a_further_scorer_that_gives_no_number(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, and there is no score without it."""
    both = (ScorerSpec("", str(CLIP)), ScorerSpec("second", str(CLIP)))
    how = kit.protocol(world / "base", scorers=both)
    calls = 0
    original = DualEncoder.score

    def infinite(*arguments: Any) -> list[float]:
        nonlocal calls
        calls += 1
        return [float("inf")] * 4 if calls == 2 else original(*arguments)

    monkeypatch.setattr(DualEncoder, "score", infinite)
    failed = kit.failure(Evaluator(), kit.request(world / "full", "full", how))
    assert (failed.kind, "scorer 'second'" in failed.reason) == ("scores", True)


@pytest.mark.thorough
def test_the_base_model_alone(world: Path, tmp_path: Path, evaluator: Evaluator) -> None:
    """There is no checkpoint, and nothing of the one before is left."""
    how = kit.protocol(world / "base")
    whole = kit.scores_of(Evaluator(), kit.request(world / "base", "pipeline", how))
    request = kit.request(tmp_path / "nowhere", "base", how)
    assert request.files == ()
    for kind in ("lora", "full", "pipeline", "lora"):
        kit.scores_of(evaluator, kit.request(world / kind, kind, how))
        assert kit.same(kit.scores_of(evaluator, request), whole)


def test_the_order_of_the_images(world: Path, evaluator: Evaluator) -> None:
    """Stratified when asked to, all images of a prompt together; the numbers are the same."""
    prompts = tuple(Prompt(f"p{n}", f"{n} red circles", "ab"[n > 3]) for n in range(6))
    how = kit.protocol(world / "base", prompts=prompts)
    plain = kit.request(world / "full", "full", how, batch_size=2, done=(("p3", 0),))
    found = [
        kit.scores_of(evaluator, it) for it in (plain, structs.replace(plain, stratified=True))
    ]
    order = [prompt.id for prompt in stratified(prompts)]
    assert order != [prompt.id for prompt in prompts]
    expected = [(id_, index) for id_ in order for index in (0, 1) if (id_, index) != ("p3", 0)]
    assert [(it.prompt_id, it.index) for it in found[1]] == expected
    turned = sorted(found[1], key=lambda it: (it.prompt_id, it.index))
    assert kit.same(turned, found[0], kit.NEAR)
    assert all(len(it.look) == 16 for it in found[0])
