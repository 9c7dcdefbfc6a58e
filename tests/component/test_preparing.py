"""Which protocol a run has: told by the models' files, before each evaluation."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clipwatch.domain.curves import with_protocol
from clipwatch.domain.events import (
    CheckpointCompleted,
    EvaluationStarted,
    Event,
    ProtocolContinued,
    ProtocolDefined,
    RunStarted,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.kinds import CheckpointKind
from clipwatch.domain.protocol import EvaluationProtocol, Input
from clipwatch.domain.state import Run
from clipwatch.executors.messages import Evaluate, Reply
from clipwatch.kit.errors import ClipwatchError
from clipwatch.models.identity import ModelError
from evaluator_kit import protocol
from known import Known
from loop_kit import states, until
from places_kit import Places, step_of, world_of
from world import World, checkpoint

ONE, OTHER = Input("base/vae", "1" * 16), Input("base/vae", "2" * 16)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Broken(Known):
    """Knows models that cannot be used until `mended` is set."""

    def __init__(self, *, remote: bool = False) -> None:
        super().__init__()
        self.mended = threading.Event()
        self.looks = 0
        self._remote = remote

    def inputs(self, asked: EvaluationProtocol) -> tuple[Input, ...]:
        """Refuse."""
        self.looks += 1
        if not self.mended.is_set():
            raise ModelError("base model 'b' vae/ is missing", remote=self._remote)
        return super().inputs(asked)


def test_other_files_make_another_curve(tmp_path: Path) -> None:
    """Files replaced under a running daemon are noticed before the next evaluation."""
    world = World(tmp_path)
    world.identities.found = (ONE,)
    with world.live():
        checkpoint(world.output, 5)
        until(lambda: states(world) == {5: "published"})
        first = world.run.protocol
        world.identities.found = (OTHER,)
        checkpoint(world.output, 10, 0.7)
        until(lambda: states(world).get(10) == "published")
        until(lambda: states(world) == {5: "published", 10: "published"})
        second = world.run.protocol
    assert [it.protocol.inputs for it in world.requests] == [(ONE,), (OTHER,), (OTHER,)]
    assert first != second
    assert "base/vae: other files than before make another curve" in world.said
    assert {it.protocol for it in world.run.evaluations.values()} == {first, second}
    # put back, they make the first curve again, and nothing is done twice
    world.identities.found = (ONE,)
    assert world.once() == 0
    assert world.run.protocol == first
    assert len(world.requests) == 4


def test_other_files_are_noticed_while_another_slot_is_at_work(tmp_path: Path) -> None:
    """Nothing begins under a name that its files do not have any more, however long that works."""
    places, held = Places("one", "two"), threading.Event()
    world = world_of(tmp_path, places, 1, 2)
    world.identities.found = (ONE,)

    def script(_: str, request: Evaluate) -> Iterable[Reply] | None:
        if step_of(request) == 1 and request.protocol.inputs == (ONE,):
            held.wait(60)
        return None

    places.script = script
    with world.live():
        until(lambda: states(world).get(2) == "published")
        world.identities.found = (OTHER,)
        checkpoint(world.output, 3, 3)
        until(lambda: any(step_of(request) == 3 for _, request in places.asked))
        held.set()
    later = [it.protocol.inputs for _, it in places.asked if step_of(it) == 3]
    assert set(later) == {(OTHER,)}


def test_nothing_is_scored_without_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is told once, stands in the state, and evaluations go on when it is over."""
    monkeypatch.setattr("clipwatch.loop.preparing.AGAIN_SECONDS", 0.05)
    world = World(tmp_path)
    world.identities = broken = Broken()
    with world.live():
        checkpoint(world.output, 5)
        until(lambda: broken.looks > 3)
        assert world.run.lacking == "base model 'b' vae/ is missing"
        assert world.run.protocol == ""
        assert not world.requests
        broken.mended.set()
        until(lambda: states(world) == {5: "published"})
    assert world.run.lacking == ""
    told = [line for line in world.said if "scored: base model" in line]
    assert told == ["nothing can be scored: base model 'b' vae/ is missing"]


def test_once_ends_without_the_models(tmp_path: Path) -> None:
    """With 1 and the reason, as nobody waits for the next look."""
    world = World(tmp_path)
    world.identities = Broken()
    checkpoint(world.output, 5)
    assert world.once() == 1
    assert "no score for checkpoint-5: clipwatch status says why" in world.said
    world.identities = Known()
    assert world.once() == 0
    assert states(world) == {5: "published"}


def test_once_ends_with_1_without_the_models_over_older_scores(tmp_path: Path) -> None:
    """What is published hides nothing: the exit code and the last line tell of the models."""
    world = World(tmp_path)
    checkpoint(world.output, 5)
    assert world.once() == 0
    world.identities = Broken()
    assert world.once() == 1
    assert states(world) == {5: "published"}
    assert "nothing can be scored: clipwatch status says why" in world.said


def test_what_lacks_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of the Hub are brought here first; what cannot be had is told with the reason."""
    asked: list[str] = []
    world = World(tmp_path)
    world.identities = broken = Broken(remote=True)

    def refuse(it: EvaluationProtocol, *_: object) -> None:
        asked.append(it.base_model)
        raise ClipwatchError("base model 'b': the Hub does not answer")

    def bring(it: EvaluationProtocol, *_: object) -> None:
        asked.append(it.base_model)
        broken.mended.set()

    checkpoint(world.output, 5)
    monkeypatch.setattr("clipwatch.loop.preparing.fetch_models", refuse)
    assert world.once() == 1
    assert "nothing can be scored: base model 'b': the Hub does not answer" in world.said
    monkeypatch.setattr("clipwatch.loop.preparing.fetch_models", bring)
    assert world.once() == 0
    assert asked == [world.settings.protocol.base_model] * 2
    assert "base model 'b' vae/ is missing: fetching it" in world.said


# Logs of a clipwatch that did not know the files' identity ---------------------------------------


def old_run(kind: CheckpointKind = "full", **environment: str) -> Run:
    """Return a run as version 0.1.0 wrote it, with one result."""
    how = protocol(Path("/base"))
    whole = CheckpointCompleted(5, "checkpoint-5", "/out/checkpoint-5", kind, "unet", (), "d")
    began = EvaluationStarted("id", "checkpoint-5", 5, "d", how.digest, environment)
    told: list[Event] = [
        RunStarted("/out", how.digest, (), {}, "0.1.0"),
        ProtocolDefined(how.digest, how),
        whole,
        began,
    ]
    return evolve({}, [("r", event, NOW) for event in told])["r"]


def test_an_old_curve_goes_on() -> None:
    """If nothing that it knew differs, once; then its files are known as well."""
    run, how = old_run(), protocol(Path("/base"), inputs=(ONE,))
    digest, (event,) = with_protocol(run, how, {})
    assert isinstance(event, ProtocolContinued)
    assert digest == run.protocol == event.digest
    run = evolve({"r": run}, [("r", event, NOW)])["r"]
    assert with_protocol(run, how, {}) == (digest, [])
    assert run.protocols[digest] == how
    other = protocol(Path("/base"), inputs=(OTHER,))
    assert with_protocol(run, other, {}) == (
        other.digest,
        [ProtocolDefined(other.digest, other)],
    )


@pytest.mark.parametrize(
    ("run", "changes"),
    [
        (old_run("lora"), {}),
        (old_run(base_commit="a"), {}),
        (old_run(), {"prediction_type": "v_prediction"}),
        (old_run(), {"seed": 1}),
    ],
    ids=["lora", "commit", "followed now", "setting"],
)
def test_an_old_curve_ends(run: Run, changes: dict[str, object]) -> None:
    """If something that it knew differs, or it scored LoRAs, which it did with dropout on."""
    how = protocol(Path("/base"), inputs=(ONE,), **changes)
    digest, (event,) = with_protocol(run, how, {"base_commit": "b"})
    assert digest == how.digest != run.protocol
    assert isinstance(event, ProtocolDefined)


def test_what_attempts_told_is_kept() -> None:
    """An evaluation that was gone on with elsewhere tells of both places, and of its end."""
    told = [
        EvaluationStarted("id", "c", 5, "d", "p", {"device": "cuda (A10)", "torch": "2.13"}),
        EvaluationStarted("id", "c", 5, "d", "p", {"device": "cpu (x86)", "torch": "2.13"}),
        EvaluationStarted("id", "c", 5, "d", "p", {"device": "cuda (A10)", "torch": "2.13"}),
    ]
    run = evolve({"r": old_run()}, [("r", event, NOW) for event in told])["r"]
    assert run.evaluations["id"].environment == {
        "device": "cuda (A10), then cpu (x86)",
        "torch": "2.13",
    }
