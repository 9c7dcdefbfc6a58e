"""Kept images are scored by further scorers: what becomes of the log, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

import evaluator_kit as kit
from clipwatch.demo import models
from clipwatch.domain.delivered import owed
from clipwatch.domain.events import (
    EvaluationCompleted,
    EvaluationStarted,
    ImageScore,
    ImagesDeleted,
    ImagesScored,
)
from clipwatch.domain.further import EvaluationRescored, ImagesRescored, ScorerAdded
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.state import Checkpoint, Run, evaluation_id
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.images import pixels_digest, save_image
from clipwatch.evaluator.rescoring import Rescorer
from clipwatch.evaluator.scorers.dual_encoder import DualEncoder
from clipwatch.executors.messages import Evaluate, Failed, Kept, Reply, Rescore, Scored
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from clipwatch.results.reading import images_of, read_images
from clipwatch.results.tables import score_table
from clipwatch.service.lock import exclusive
from clipwatch.statistics.intervals import describe
from clipwatch.tasks import rescore as task
from clipwatch.testing.memory import MemoryTracker
from real_world import until
from results_kit import Log, answer, call, protocol
from world import World, checkpoint

pytestmark = kit.QUIET

MADE = protocol(2, images_per_prompt=2)
STEPS = (100, 200, 300)


class Here:
    """The evaluator in this process; `died` makes it fall silent, as one that hangs."""

    died: ClassVar[bool] = False
    asked: ClassVar[list[Rescore]] = []

    def __init__(self, receive: Callable[[Reply], None]) -> None:
        self._receive = receive
        self._kept = threading.Semaphore(0)
        self._ended = False

    @property
    def silent_seconds(self) -> float:
        """Long enough for any limit, if it hangs."""
        return 1e9 if self.died else 0.0

    def evaluate(self, request: Rescore) -> None:
        """Answer from a thread, as the real one does."""
        self.asked.append(request)
        if not self.died:
            threading.Thread(target=self._work, args=(request,)).start()

    def kept(self) -> None:
        """Let it go on."""
        self._kept.release()

    def kill(self) -> None:
        """End what it is at."""
        self._ended = True
        self._kept.release()

    def _work(self, request: Rescore) -> None:
        with suppress(BrokenPipeError):
            RESCORER.rescore(request, self._send)

    def _send(self, reply: Reply) -> Kept | None:
        self._receive(reply)
        if not isinstance(reply, Scored):
            return None
        self._kept.acquire()
        if self._ended:
            raise BrokenPipeError
        return Kept()


RESCORER = Rescorer()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Return a log with a run of three checkpoints, whose images are kept."""
    monkeypatch.setattr(task, "EvaluatorProcess", Here)
    monkeypatch.setattr("clipwatch.kit.processes.give_way", lambda: None)
    Here.died, Here.asked = False, []
    found = Log(tmp_path)
    found.start("lora-1", MADE)
    for step in STEPS:
        scores = {it.id: [0.2 + step / 1000, 0.3] for it in MADE.prompts}
        found.score("lora-1", step, scores, MADE, draw=drawing(tmp_path))
    return found


def drawing(folder: Path) -> Callable[[str, str, int], str]:
    """Return what makes an image of noise for each name."""

    def draw(evaluation: str, prompt: str, index: int) -> str:
        name = f"{evaluation}/{prompt}-{index}.{'webp' if index else 'png'}"
        save_image(pixels(name), images_of(folder, "lora-1") / name)
        return name

    return draw


def pixels(name: str) -> torch.Tensor:
    """Return the pixels of an image."""
    rng = np.random.default_rng(list(name.encode()))
    return torch.from_numpy(rng.integers(0, 256, (32, 32, 3), np.uint8))


def again(log: Log, name: str = "again", *more: str) -> Result:
    """Have the run scored once more by CLIP, under a name."""
    return call(log.folder, "rescore", "lora", "--scorer", f"{name}={models.CLIP}", *more)


def run_of(log: Log) -> Run:
    """Return the run."""
    return read_state(log_file(log.folder))["lora-1"]


def events(log: Log) -> list[Any]:
    """Return what rescoring wrote down."""
    kinds = (ScorerAdded, ImagesRescored, EvaluationRescored)
    with Journal(log_file(log.folder), read_only=True) as journal:
        return [it.event for it in journal.read() if isinstance(it.event, kinds)]


def test_all_that_is_kept_is_scored_once(log: Log) -> None:
    """Each number is the scorer's own for these pixels; a second call does nothing at all."""
    said = again(log)
    assert said.exit_code == 0, said.output
    assert said.stdout == "again: 3 of 3 checkpoints have scores\n"
    run, encoder = run_of(log), DualEncoder(ScorerSpec("", str(models.CLIP)), "cpu")
    texts = {it.id: it.text for it in MADE.prompts}
    with Journal(log_file(log.folder), read_only=True) as journal:
        for evaluation in run.evaluations.values():
            table: dict[str, list[float]] = {}
            for image in read_images(journal, run.name, evaluation.id):
                found = pixels(str(image.image))[None]
                (expected,) = encoder.score(found, [texts[image.prompt_id]])
                assert image.scores["again"] == pytest.approx(expected, abs=1e-6)
                table.setdefault(image.prompt_id, []).append(image.scores["again"])
            assert evaluation.completed
            assert evaluation.completed.scores["again"] == describe(table)
    written = len(events(log))
    said = again(log)
    assert (said.exit_code, len(events(log))) == (0, written)
    assert said.stdout == "again: 3 of 3 checkpoints have scores, as before\n"
    assert len(Here.asked) == 3


@pytest.mark.thorough
def test_numbers_are_those_of_a_scorer_from_the_start(
    world: Path, evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real images of a real evaluation, in either format: to 1e-6, image by image."""
    monkeypatch.setattr(task, "EvaluatorProcess", Here)
    monkeypatch.setattr("clipwatch.kit.processes.give_way", lambda: None)
    clip = str(models.CLIP)
    how = kit.protocol(world / "base", scorers=(ScorerSpec("", clip), ScorerSpec("there", clip)))
    log, run = Log(tmp_path), "lora-1"
    log.start(run, how)
    for step, form in ((1, "png"), (2, "webp")):
        found = Checkpoint(step, f"checkpoint-{step}", "/c", "whole", digest=str(step) * 16)
        id_ = evaluation_id(found, how.digest)
        request = kit.request(
            *(world / "lora", "lora", how),
            images=images_of(tmp_path, run) / id_,
            image_format=form,
            batch_size=3,
        )
        images = kit.scores_of(evaluator, request)
        kept = tuple(replace(it, image=f"{id_}/{it.image}") for it in images)
        means = {name: describe(score_table(images, name)) for name in ("", "there")}
        log.add(
            run,
            evaluation_stream(run, id_),
            EvaluationStarted(id_, found.name, step, found.digest, how.digest, {}),
            ImagesScored(id_, kept),
            EvaluationCompleted(id_, means),
        )
    assert again(log, "later").exit_code == 0
    with Journal(log_file(tmp_path), read_only=True) as journal:
        for known in run_of(log).evaluations.values():
            assert known.completed
            there, later = (known.completed.scores[name] for name in ("there", "later"))
            assert asdict(later) == pytest.approx(asdict(there), abs=1e-6)
            for image in read_images(journal, run, known.id):
                assert image.pixels
                assert image.scores["later"] == pytest.approx(image.scores["there"], abs=1e-6)


def test_a_daemon_publishes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It notices by itself, and is not in the way."""
    monkeypatch.setattr(task, "EvaluatorProcess", Here)
    monkeypatch.setattr("clipwatch.kit.processes.give_way", lambda: None)
    daemon = World(tmp_path, validation_resolution="32x32")

    def script(request: Evaluate) -> list[Reply] | None:
        for prompt, index, _ in request.protocol.images():
            name = Path(str(request.images_dir), f"{prompt.id}-{index}.png")
            save_image(pixels(name.name), name)
        return None

    daemon.script = script
    for step in (1, 2):
        checkpoint(daemon.output, step, step)
    assert daemon.once() == 0
    state = daemon.settings.paths.state_dir
    with daemon.live():
        said = call(state, "rescore", "output", "--scorer", f"late={models.CLIP}")
        assert said.exit_code == 0, said.output
        memory = daemon.trackers["memory"]
        assert isinstance(memory, MemoryTracker)
        until(lambda: len(memory.later) == 2)
        until(lambda: owed(daemon.run, "tracker", "memory") == {})
    shown = {it: found.mean for (_, it, _), found in memory.later.items()}
    assert shown == {
        it.id: it.completed.scores["late"].mean
        for it in daemon.run.evaluations.values()
        if it.completed
    }


def test_best_compare_and_report_show_it(log: Log) -> None:
    """As any further scorer, and by its scale."""
    again(log)
    means = {
        it.step: it.completed.scores["again"].mean
        for it in run_of(log).evaluations.values()
        if it.completed
    }
    found = answer(log.folder, "best", "--scorer", "again")
    assert found["best"]["mean"] == pytest.approx(max(means.values()))
    pair = answer(log.folder, "compare", "100", "300", "--scorer", "again")
    assert pair["delta"] == pytest.approx(means[300] - means[100])
    page = log.folder / "page.html"
    assert call(log.folder, "report", "-o", str(page)).exit_code == 0
    data = page.read_text().split('id="data">')[1].split("</script>")[0]
    curves = json.loads(data)["curves"]
    assert [(it["scorer"], it.get("like")) for it in curves] == [("", None), ("again", 0)]
    shown = [it["mean"] for it in curves[1]["checkpoints"]]
    assert shown == pytest.approx([means[step] for step in STEPS])


def test_images_that_are_gone_or_changed_make_no_mean(log: Log) -> None:
    """Told and counted: one is deleted by the rule, one by hand, one painted over."""
    first, second, _ = run_of(log).evaluations
    with Journal(log_file(log.folder)) as journal:
        stream = evaluation_stream("lora-1", first)
        gone = ImagesDeleted(first, "keep_images is 2")
        journal.append("lora-1", stream, journal.version(stream), [gone])
    images = images_of(log.folder, "lora-1")
    Image.new("RGB", (16, 32)).save(images / second / "p0001-0.png")
    said = again(log)
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        "again: 1 of 3 checkpoints have scores",
        "again: checkpoint-100: 4 of 4 images are not kept any more",
        "again: checkpoint-200: 1 of 4 images cannot be read, or are not those that were scored",
    ]
    assert [it.evaluation.partition("/")[0] for it in events(log)[1:]] == [
        *("checkpoint-200", "checkpoint-300", "checkpoint-300"),
    ]
    found = call(log.folder, "best", "--scorer", "again").stdout
    assert "2 more checkpoints without such scores cannot be ranked." in found
    assert call(log.folder, "compare", "100", "300", "--scorer", "again").exit_code == 1
    page = log.folder / "page.html"
    assert call(log.folder, "report", "-o", str(page)).exit_code == 0
    data = page.read_text().split('id="data">')[1].split("</script>")[0]
    curve = json.loads(data)["curves"][1]
    assert [(it["step"], it["at"]) for it in curve["checkpoints"]] == [(300, 2)]
    (images / second / "p0000-1.webp").unlink()
    assert "1 of 4 images are not" not in again(log).stdout  # what it scored, it has
    none = call(log.folder, "rescore", "lora", "--scorer", f"other={models.CLIP}")
    assert "checkpoint-200: 1 of 4 images are not kept any more" in none.stdout


def test_the_very_pixels_are_asked_for() -> None:
    """Where their digest is known another picture of the same size is told from the one scored."""
    image = pixels("a")
    assert pixels_digest(image) == pixels_digest(pixels("a")) != pixels_digest(pixels("b"))


def test_a_changed_picture_of_the_same_size(tmp_path: Path) -> None:
    """It is passed over by its digest; without one it is taken."""
    save_image(pixels("b"), tmp_path / "a.png")
    told: list[Reply] = []
    one = ImageScore("p", 0, 1, {"": 0.1}, "a.png", "", pixels_digest(pixels("a")))
    spec = ScorerSpec("again", str(models.CLIP))
    asked = Rescore(spec, str(tmp_path), (one,), (32, 32), {"p": "a red circle"}, "cpu")
    RESCORER.rescore(asked, told.append)
    assert not [it for it in told if isinstance(it, Scored | Failed)]
    bare = replace(one, pixels="")
    RESCORER.rescore(
        Rescore(spec, str(tmp_path), (bare,), (32, 32), {"p": "a red circle"}, "cpu"),
        told.append,
    )
    assert [len(it.images) for it in told if isinstance(it, Scored)] == [1]


def test_a_call_that_was_ended_is_gone_on_with(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the log is not scored again, though no evaluation was whole."""
    monkeypatch.setattr("clipwatch.evaluator.rescoring.BATCH", 1)
    record = task._Work._record

    def dying(self: Any, evaluation: str, event: Any) -> None:
        record(self, evaluation, event)
        if len(events(log)) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(task._Work, "_record", dying)
    said = again(log)
    assert said.exit_code == 1
    assert "stopped: call it again to go on" in said.output
    monkeypatch.setattr(task._Work, "_record", record)
    assert again(log).exit_code == 0
    scored = [
        (it.evaluation, score.prompt_id, score.index)
        for it in events(log)
        if isinstance(it, ImagesRescored)
        for score in it.scores
    ]
    assert len(scored) == len(set(scored)) == 12


def test_what_is_refused(log: Log, tmp_path: Path) -> None:
    """In one line each, with what to do; nothing is written down."""
    other = tmp_path / "other"
    other.mkdir()
    refused = {
        "nothing": ("names no scorer", 2),
        "a b=x": ("names no scorer", 2),
        "x=./nowhere": ("there is no", 2),
    }
    for text, (why, code) in refused.items():
        said = call(log.folder, "rescore", "lora", "--scorer", text)
        assert (said.exit_code, why in said.output) == (code, True), said.output
    assert call(log.folder, "rescore", "other", "--scorer", f"a={models.CLIP}").exit_code == 1
    assert events(log) == []
    assert again(log).exit_code == 0
    said = call(log.folder, "rescore", "lora", "--scorer", f"again={other}")
    assert said.exit_code == 2
    assert "give this one another name" in said.output
    with exclusive(log.folder, "lora-1", doing="rescored"):
        said = again(log, "more")
    assert said.exit_code == 1
    assert "lora-1 is already rescored by clipwatch with pid" in said.output
    with exclusive(log.folder, "lora-1"):  # as a daemon holds it
        assert again(log, "more").exit_code == 0


def test_an_evaluator_that_hangs_is_ended(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """By stall_seconds, with what to do."""
    Here.died = True
    monkeypatch.setattr(task, "TICK_SECONDS", 0.01)
    said = again(log, "again", "--stall-seconds", "1")
    assert said.exit_code == 1
    assert "no sign of life for 1 s and was ended: call it again to go on" in said.output
