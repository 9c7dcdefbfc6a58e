"""Weights that go or change while they are read: never a score of a mixture."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import torch

import evaluator_kit as kit
from clipwatch.domain.events import ImageScore
from clipwatch.evaluator.evaluate import Evaluator
from clipwatch.evaluator.generation import adapters, opening, single_file, weights
from clipwatch.executors.messages import Failed, Finished, Loaded, Reply, Scored
from evaluator_child import Children

KINDS = pytest.mark.parametrize("kind", kit.FILES)

pytestmark = kit.QUIET


@pytest.fixture(scope="module")
def fresh(world: Path) -> dict[str, list[ImageScore]]:
    """The scores of the good checkpoints, each from an evaluator of its own."""
    how = kit.protocol(world / "base")
    kinds = {f"{more}{kind}": kind for kind in kit.FILES for more in ("", "other-")}
    return {
        name: kit.scores_of(Evaluator(), kit.request(world / name, kind, how))
        for name, kind in kinds.items()
    }


@pytest.fixture
def the_next_one_is_scored_right(
    world: Path, evaluator: Evaluator, fresh: dict[str, list[ImageScore]]
) -> Iterator[None]:
    """Whatever a test does, the next checkpoint is scored as by a fresh process.

    A LoRA tells most: its scores depend on the base's own weights and on every layer left behind.
    """
    yield
    request = kit.request(world / "lora", "lora", kit.protocol(world / "base"))
    assert kit.same(kit.scores_of(evaluator, request), fresh["lora"])


after = pytest.mark.usefixtures("the_next_one_is_scored_right")


@pytest.fixture
def checkpoint(world: Path, tmp_path: Path, kind: str) -> Path:
    """Return a copy of a good checkpoint to spoil."""
    return Path(shutil.copytree(world / kind, tmp_path / "checkpoint"))


def rewrite(path: Path, other: Path) -> None:
    """Write the other weights over these, in the same file."""
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def replaced(path: Path, other: Path) -> None:
    """Put the other weights in the place of these, as safetensors does."""
    shutil.copy(other, path.with_name("new"))
    path.with_name("new").replace(path)


def delete(path: Path, _: Path) -> None:
    """Delete the folder, as rotation does."""
    shutil.rmtree(path.parent if path.parent.name == "checkpoint" else path.parents[1])


def truncate(path: Path, _: Path) -> None:
    """Cut the file short, as a trainer does that begins to write it again."""
    os.truncate(path, 10_000)


Act = Callable[[], None]


class Interrupted:
    """A safetensors file while half of which is read something happens."""

    def __init__(self, file: Any, act: Act) -> None:
        self._file, self._act, self._read = file, act, 0

    def get_tensor(self, name: str) -> torch.Tensor:
        """Read one."""
        self._read += 1
        if self._read == len(self._file.keys()) // 2:
            self._act()
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def before(module: Any, name: str) -> Callable[[pytest.MonkeyPatch, Act], None]:
    """Return what lets something happen just before a function is called."""

    def patch(monkeypatch: pytest.MonkeyPatch, act: Act) -> None:
        original = getattr(module, name)

        def acting(*arguments: Any, **named: Any) -> Any:
            act()
            return original(*arguments, **named)

        monkeypatch.setattr(module, name, acting)

    return patch


def while_copied(monkeypatch: pytest.MonkeyPatch, act: Act) -> None:
    """Let something happen when half of the tensors are in the model."""
    original = weights._opened
    monkeypatch.setattr(weights, "_opened", lambda path: Interrupted(original(path), act))


@after
@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        ("full", before(single_file, "check_parts")),
        ("full", before(single_file, "replace_parts")),
        ("full", while_copied),
        ("lora", before(adapters, "read_tensors")),
        ("lora", while_copied),
        ("lora", before(adapters, "kind_of")),
        ("pipeline", before(opening, "check_classes")),
        ("pipeline", before(opening, "check_whole")),
    ],
)
@pytest.mark.parametrize(
    ("act", "expected"), [(rewrite, "changed"), (replaced, "changed"), (delete, "vanished")]
)
@pytest.mark.thorough(but=1)
def test_weights_that_go_while_they_are_read(
    world: Path,
    checkpoint: Path,
    evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    moment: Callable[[pytest.MonkeyPatch, Act], None],
    act: Callable[[Path, Path], None],
    expected: str,
) -> None:
    """No score of half a checkpoint; the failure says what happened to it."""
    request = kit.request(checkpoint, kind, kit.protocol(world / "base"))
    acted: list[object] = []

    def once() -> None:
        if not acted:
            acted.append(act)
            act(checkpoint / kit.FILES[kind], world / f"other-{kind}" / kit.FILES[kind])

    with monkeypatch.context() as patched:
        moment(patched, once)
        failed = kit.failure(evaluator, request)
    assert acted
    assert failed.kind == expected


@after
@KINDS
@pytest.mark.parametrize(
    ("act", "expected"),
    [(rewrite, "changed"), (replaced, "changed"), (truncate, "changed"), (delete, "")],
)
@pytest.mark.thorough(but=1)
def test_weights_that_go_while_images_are_made(
    world: Path,
    checkpoint: Path,
    evaluator: Evaluator,
    fresh: dict[str, list[ImageScore]],
    kind: str,
    act: Callable[[Path, Path], None],
    expected: str,
) -> None:
    """A checkpoint deleted after it was read keeps its score; one written again gets none."""
    messages: list[Reply] = []

    def send(message: Reply) -> None:
        messages.append(message)
        if isinstance(message, Loaded):
            act(checkpoint / kit.FILES[kind], world / f"other-{kind}" / kit.FILES[kind])

    evaluator.evaluate(kit.request(checkpoint, kind, kit.protocol(world / "base")), send)
    assert isinstance(messages[-1], Failed if expected else Finished)
    assert getattr(messages[-1], "kind", "") == expected
    scored = [image for it in messages if isinstance(it, Scored) for image in it.images]
    assert kit.same(scored, fresh[kind])  # what was read before is what was scored


@after
@KINDS
@pytest.mark.thorough
def test_a_trainer_that_writes_at_any_moment(
    world: Path,
    checkpoint: Path,
    evaluator: Evaluator,
    fresh: dict[str, list[ImageScore]],
    kind: str,
) -> None:
    """Eight moments from start to end: each time it is noticed that the weights changed."""
    path, held, calls = checkpoint / kit.FILES[kind], kind, 0

    def evaluated(moment: int, act: Act) -> Reply:
        """Evaluate, and act as the given number of functions is called; return the last reply."""
        nonlocal calls
        calls = 0

        def count(_: object, event: str, __: object) -> None:
            nonlocal calls
            calls += event == "call"
            if calls == moment and event == "call":
                act()

        request = kit.request(checkpoint, kind, kit.protocol(world / "base"))
        sys.setprofile(count)
        try:
            replies = kit.replies_of(evaluator, request)
        finally:
            sys.setprofile(None)
        scored = [image for it in replies if isinstance(it, Scored) for image in it.images]
        assert scored in (fresh[held], [])
        return replies[-1]

    for _ in range(2):  # what the first loads stays
        assert isinstance(evaluated(-1, lambda: None), Finished)
    for moment in [max(1, calls * eighth // 8) for eighth in range(8)]:
        other = f"other-{kind}" if held == kind else kind
        last = evaluated(moment, lambda other=other: rewrite(path, world / other / kit.FILES[kind]))  # type: ignore[misc]
        assert isinstance(last, Failed)
        assert last.kind == "changed"
        held = other


CUT_IN_THE_PROCESS = """
import os, sys
from clipwatch.evaluator import worker
from clipwatch.evaluator.generation import opening, weights
module, name, number = {place}
original, calls = getattr(module, name), []
def cutting(*arguments):
    found = original(*arguments)
    calls.append(name)
    if len(calls) == number:
        os.truncate({path!r}, 10_000)
    return found
setattr(module, name, cutting)
sys.exit(worker.main())
"""


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("full", "weights, '_opened', 2"),
        ("lora", "weights, '_opened', 1"),
        ("pipeline", "opening, 'check_whole', 1"),
    ],
)
@pytest.mark.thorough
def test_a_file_cut_short_while_it_is_mapped(
    world: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    place: str,
) -> None:
    """The kernel ends the process outright; the daemon says that the checkpoint changed."""
    program = CUT_IN_THE_PROCESS.format(place=place, path=str(checkpoint / kit.FILES[kind]))
    with Children(tmp_path, monkeypatch) as children:
        child = children.start(program, opening="")
        child.handle.evaluate(kit.request(checkpoint, kind, kit.protocol(world / "base")))
        failed = child.reply()
        assert isinstance(failed, Failed)
        assert failed.kind == "changed"
        assert "SIGBUS: a file was cut short" in failed.reason
        assert child.gone()
