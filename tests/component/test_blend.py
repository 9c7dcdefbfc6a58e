"""`clipwatch blend`: what it claims, what it costs, and what it leaves; evaluated without models.

The checkpoints here are points, and an image's score falls with the distance from a place that none
of them is at. So their average is better, by how much is known, and real files are averaged.
"""

from __future__ import annotations

import errno
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clipwatch.domain.events import (
    CheckpointCompleted,
    ImageScore,
    ProtocolDefined,
    RunStarted,
    WeightFile,
)
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.protocol import EvaluationProtocol, Prompt
from clipwatch.domain.sighting import Whole
from clipwatch.executors import named
from clipwatch.executors.base import Slot
from clipwatch.executors.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from clipwatch.layouts import look_once
from clipwatch.tasks import partfile, parts
from results_kit import Log, answer, call, protocol

RUN = "lora-1"
MODEL = "unet/diffusion_pytorch_model.safetensors"
DOWN, UP = "unet.a.lora_A.weight", "unet.a.lora_B.weight"
GONE = WeightFile("gone.safetensors", 1, 1, 1)
MADE = protocol(prompts=48)
BATCH = 7

Rule = Callable[[np.ndarray[Any, Any]], float]


def near_zero(weights: np.ndarray[Any, Any]) -> float:
    """Return the true score of weights: the nearer to 0 the higher."""
    return 0.3 - 0.1 * float(np.square(weights).mean())


def flat(_: np.ndarray[Any, Any]) -> float:
    """Return the true score where nothing makes a difference."""
    return 0.3


def score(rule: Rule, weights: np.ndarray[Any, Any], prompt: Prompt, index: int) -> float:
    """Return an image's score: the truth, what the prompt is worth, and noise of these weights."""
    noise = random.Random(f"{weights.tolist()} {prompt.id} {index}").gauss(0, 0.01)
    return rule(weights) + random.Random(prompt.id).gauss(0, 0.05) + noise


def whole(state: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Return the weights of a file, those of a LoRA multiplied out."""
    return state["w"] if "w" in state else (state[UP] @ state[DOWN])[0]


class Quick:
    """An executor with one slot, and its evaluator: it reads a file and scores by a rule.

    Attributes:
        made: Every image that was ever made, with the weights.
        left: After so many more images it fails; None for never.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.made: list[tuple[str, str, int]] = []
        self.left: int | None = None
        self._kept = threading.Semaphore(0)

    alive, silent_seconds = True, 0.0

    def slots(self) -> tuple[Slot, ...]:
        """Return the one."""
        return (Slot("cpu", "cpu"),)

    def start(self, _: Slot, receive: Callable[[Reply], None]) -> Quick:
        """Start."""
        self._receive = receive
        return self

    def evaluate(self, request: Evaluate) -> None:
        """Answer from a thread, as a process would."""
        threading.Thread(target=self._work, args=(request,)).start()

    def kept(self, *, enough: bool = False) -> None:
        """Let it go on."""
        assert not enough
        self._kept.release()

    def kill(self) -> None:
        """Nothing runs on."""

    def _work(self, request: Evaluate) -> None:
        weights = whole(load_file(Path(request.path) / request.files[0].path))
        done = set(request.done)
        tasks = [it for it in request.protocol.images() if (it[0].id, it[1]) not in done]
        self._receive(Loaded({"device": "none"}))
        for place in range(0, len(tasks), BATCH):
            batch = tasks[place : place + BATCH]
            if self.left is not None and (left := self.left - len(batch)) < 0:
                self._receive(Failed("killed", "it was killed"))
                return
            self.left = None if self.left is None else left
            self.made += [(str(weights.tolist()), it.id, index) for it, index, _ in batch]
            images = (
                ImageScore(it.id, index, seed, {"": score(self.rule, weights, it, index)})
                for it, index, seed in batch
            )
            self._receive(Scored(tuple(images)))
            self._kept.acquire()
        self._receive(Finished(0, 1.0))


class World:
    """A log with a training whose checkpoints lie in a folder, all scored."""

    def __init__(self, folder: Path, quick: Quick, made: EvaluationProtocol) -> None:
        self.quick, self.made, self.state = quick, made, folder / "state"
        self.output = folder / "output"
        self.state.mkdir()
        self.log = Log(self.state)
        self.log.start(RUN, made)

    def save(
        self, step: int, weights: np.ndarray[Any, Any], *, scored: bool = True, lora: bool = False
    ) -> Path:
        """Save a checkpoint, and have it scored."""
        folder = self.output / f"checkpoint-{step}"
        weights = weights.astype(np.float32)
        (folder if lora else folder / "unet").mkdir(parents=True)
        if lora:
            halves = {DOWN: weights[None], UP: np.ones((1, 1), np.float32)}
            save_file(halves, folder / "pytorch_lora_weights.safetensors")
        else:
            save_file({"w": weights}, folder / MODEL)
        (folder / ".guard").touch()
        found = look_once(folder, "live")
        assert isinstance(found.verdict, Whole)
        it = found.verdict.weights
        told = (step, folder.name, str(folder), it.kind, it.component, it.files)
        self.log.add(RUN, folder.name, CheckpointCompleted(*told, found.verdict.digest))
        if scored:
            table: dict[str, list[float]] = {}
            for prompt, index, _ in self.made.images():
                row = table.setdefault(prompt.id, [])
                row.append(score(self.quick.rule, weights, prompt, index))
            self.log.score(RUN, step, table, self.made, weights=found.verdict.digest)
        return folder


def training(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    rule: Rule,
    made: EvaluationProtocol = MADE,
    seed: int = 0,
    checkpoints: int = 6,
) -> World:
    """Return a world of checkpoints that lie around 0."""
    quick = Quick(rule)
    monkeypatch.setattr(named, "load", lambda _: quick)
    monkeypatch.setattr("clipwatch.kit.processes.give_way", lambda: None)
    world = World(folder, quick, made)
    generator = np.random.default_rng(seed)
    for step in range(1, checkpoints + 1):
        world.save(100 * step, generator.normal(size=32))
    return world


def blended(world: World, *words: str) -> dict[str, Any]:
    """Return what the command says."""
    said = call(world.state, "blend", *words, "--json")
    assert said.exit_code == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def rows(world: World) -> list[partfile.Part]:
    """Return what is kept of the blends that were scored."""
    place = world.state / "blends" / RUN / "scores"
    return [it for it in map(partfile.read, parts.found(place)) if it]


def test_a_blend_that_is_better_is_found_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Surely, on prompts that were not searched on; its file is the average that it says."""
    world = training(tmp_path, monkeypatch, near_zero)
    before = files(world.output)
    found = blended(world)
    tested = found["tested"]
    assert tested["better"]
    assert (tested["n_prompts"], tested["looks"]) == (24, 1)
    assert tested["ci"][0] > 0.02
    assert tested["delta"] == pytest.approx(tested["blend"] - tested["best"])
    assert tested["best"] == pytest.approx(0.2, abs=0.05)

    path = Path(tested["written"])
    assert path.is_relative_to(world.state)
    shares = found["blend"]["shares"]
    saved = {name: load_file(world.output / name / MODEL)["w"] for name in shares}
    wanted = sum(share * saved[name] for name, share in shares.items())
    np.testing.assert_allclose(load_file(path)["w"], wanted, atol=1e-6)
    told = json.loads(header(path)["clipwatch_blend"])
    assert (told["run"], told["shares"], told["looks"]) == (RUN, shares, 1)
    assert told["ci"] == tested["ci"]
    assert files(world.output) == before
    left = {it.name for it in (world.state / "blends" / RUN).iterdir()}
    assert left == {"scores", path.parent.parent.name}

    said = call(world.state, "blend")
    assert f"on 24 held-out prompts, best ({found['best']['checkpoint']}) " in said.stdout
    assert ": better by 0.0" in said.stdout
    assert f"{found['images']} images\nwritten to {path}\n" in said.stdout


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies in a folder."""
    found = (it for it in folder.rglob("*") if it.is_file())
    return {str(it): (it.stat().st_mtime_ns, it.read_bytes()) for it in found}


def header(path: Path) -> dict[str, str]:
    """Return the metadata of a file."""
    from clipwatch.layouts.header import read_header

    return read_header(path).metadata


@pytest.mark.parametrize("images", [1, 2])
def test_no_image_is_made_twice_nor_more_than_allowed(
    images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was killed in between, and where it is called once more."""
    world = training(tmp_path, monkeypatch, near_zero, protocol(48, images_per_prompt=images))
    bound = 200 * images
    asked = ("blend", "--images", str(bound))
    for left in (30, 45, 61):
        world.quick.left = left
        said = call(world.state, *asked)
        assert said.exit_code == 1
        assert "it was killed" in said.stderr
        assert not (world.state / "blends" / RUN / "trial").exists()
    cut = parts.found(world.state / "blends" / RUN / "scores")[0]
    cut.write_bytes(cut.read_bytes()[:-20])  # half a line, as a kill leaves it
    world.quick.left = None
    known = len(world.quick.made)
    found = blended(world, *asked[1:])
    made = world.quick.made
    assert len(set(made)) == found["images"] <= bound
    assert len(made) - len(set(made)) <= BATCH  # of the line that was cut
    assert len(made) > known
    again = blended(world, *asked[1:])
    assert world.quick.made == made
    assert again == found


def test_the_search_never_sees_what_it_is_tested_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one blend has images of those prompts, and all of them."""
    world = training(tmp_path, monkeypatch, near_zero)
    blended(world)
    seen = [{it.prompt_id for it in part.scored} for part in rows(world)]
    searched = set.union(*sorted(seen, key=len)[:-1])
    tested = set.union(*seen) - searched
    assert len(tested) == 24
    assert sum(bool(it & tested) for it in seen) == 1


def test_nothing_is_claimed_where_nothing_makes_a_difference(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 12 trainings none is said to have a better blend: the search's luck has no part in it."""
    better = []
    for seed in range(12):
        folder = tmp_path_factory.mktemp("flat")
        world = training(folder, monkeypatch, flat, seed=seed)
        found = blended(world, "--images", "150")
        if found["tested"] is None:
            assert found["searched"]["blend"] <= found["searched"]["best"]
            assert not list((world.state / "blends" / RUN).glob("blend-*"))
        better.append(bool(found["tested"] and found["tested"]["better"]))
        said = call(world.state, "blend", "--images", "150").stdout
        assert ("keep checkpoint-" in said) != better[-1]
    assert not any(better)


def test_a_second_blend_on_the_same_prompts_has_to_show_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When another one is found there, both are counted: p counts four times."""
    world = training(tmp_path, monkeypatch, near_zero)
    first = blended(world)
    assert first["tested"]["looks"] == 1
    (world.output / next(iter(first["blend"]["shares"])) / MODEL).unlink()
    second = blended(world)
    assert second["tested"]["looks"] == 2
    assert second["tested"]["better"] == (4 * second["tested"]["p"] <= 0.05)
    said = call(world.state, "blend").stdout
    assert "2 blends of this run were tested on these prompts, so p counts 4 times: 0.0" in said
    written = [Path(it["tested"]["written"]) for it in (first, second)]
    assert all(it.exists() for it in written)


def test_what_is_gone_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what was written again, or not scored; the best may be gone itself."""
    world = training(tmp_path, monkeypatch, near_zero)
    best = answer(world.state, "best")["best"]["checkpoint"]
    (world.output / best / MODEL).unlink()
    world.save(700, np.zeros(32), scored=False)  # which can be averaged all the same
    found = blended(world)
    assert found["best"]["checkpoint"] == best
    assert best not in found["blend"]["shares"]
    assert found["tested"]["better"]


@pytest.mark.parametrize(
    ("made", "checkpoints", "words", "said"),
    [
        (protocol(10), 3, (), "was scored on 10 prompts, and 12 are needed"),
        (MADE, 1, (), "1 of the checkpoints of lora-1 can be averaged, and two are needed"),
        (MADE, 3, ("--images", "29"), "29 images are too few: 30 at least: 24 of them for the"),
        (MADE, 0, (), "lora-1 has no scores yet"),
    ],
    ids=["prompts", "checkpoints", "images", "nothing"],
)
def test_too_little_is_told_before_anything_is_made(
    made: EvaluationProtocol,
    checkpoints: int,
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line, and with what is needed."""
    world = training(tmp_path, monkeypatch, flat, made, checkpoints=checkpoints)
    ended = call(world.state, "blend", *words)
    assert ended.exit_code == 1
    assert said in ended.stderr
    assert ended.stdout == ""
    assert world.quick.made == []


@pytest.mark.parametrize(
    ("output", "kind", "said"),
    [
        ("/out", "lycoris", "of LyCORIS there are no averages"),
        ("hf://me/my-lora", "lora", "what was copied from hf://me/my-lora is deleted when it is"),
        ("/out", "lora", "keep more of them (checkpoints_total_limit)"),
    ],
    ids=["kind", "address", "rotated"],
)
def test_why_nothing_can_be_averaged_is_told(
    output: str, kind: CheckpointKind, said: str, tmp_path: Path
) -> None:
    """More checkpoints would not help where they are of another kind, or lie elsewhere."""
    log = Log(tmp_path)
    log.add(RUN, RUN, RunStarted(output, MADE.digest, (), {}, "1"))
    log.add(RUN, f"{RUN}/protocol", ProtocolDefined(MADE.digest, MADE))
    for step in (1, 2):
        name = f"checkpoint-{step}"
        log.add(RUN, name, CheckpointCompleted(step, name, "/c", kind, "", (GONE,), "w" * 8))
        log.score(RUN, step, {it.id: [0.3] for it in MADE.prompts}, MADE)
    ended = call(tmp_path, "blend")
    assert ended.exit_code == 1
    assert "0 of the checkpoints of lora-1 can be averaged, and two are needed" in ended.stderr
    assert said in ended.stderr
    assert ("checkpoints_total_limit" in ended.stderr) == ("checkpoints" in said)


def test_a_blend_is_told_with_the_strength_at_which_it_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the best, where the run has several: at another one it is another picture."""
    world = training(tmp_path, monkeypatch, near_zero, checkpoints=0)
    world.log.start_at(RUN, 1.0, 0.5, made=MADE)
    world.made, generator = MADE.at(0.5), np.random.default_rng(0)
    for step in range(1, 7):
        world.save(100 * step, generator.normal(size=32), lora=True)
    found = blended(world, "--images", "150")
    assert found["best"]["strength"] == 0.5
    assert (
        json.loads(header(Path(found["tested"]["written"]))["clipwatch_blend"])["strength"] == 0.5
    )
    said = call(world.state, "blend", "--images", "150").stdout
    assert ") at strength 0.5: 0." in said
    assert f"best ({found['best']['checkpoint']} at strength 0.5)" in said


def test_a_full_disk_is_told_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line; nothing half done is left."""
    world = training(tmp_path, monkeypatch, near_zero, checkpoints=3)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("clipwatch.tasks.blending.write_private", full)
    monkeypatch.setattr("clipwatch.tasks.tensorfile.write_private", full)
    ended = call(world.state, "blend")
    assert ended.exit_code == 1
    assert f"{world.state / 'blends'} cannot be written: No space left on device" in ended.stderr
    assert not (world.state / "blends" / RUN / "trial").exists()


def test_a_wrong_call_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its option, and with exit code 2."""
    world = training(tmp_path, monkeypatch, flat, checkpoints=2)
    for words in (("--images", "0"), ("--device", "tpu")):
        ended = call(world.state, "blend", *words)
        assert ended.exit_code == 2
        assert words[0] in ended.stderr


def test_two_calls_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second says who is at it; a daemon may watch the run beside it."""
    from clipwatch.service.lock import exclusive

    world = training(tmp_path, monkeypatch, flat, checkpoints=3)
    with exclusive(world.state, RUN, doing="blended"):
        ended = call(world.state, "blend")
    assert ended.exit_code == 1
    assert "lora-1 is already blended by clipwatch" in ended.stderr
    with exclusive(world.state, RUN):
        assert call(world.state, "blend", "--images", "60").exit_code == 0
