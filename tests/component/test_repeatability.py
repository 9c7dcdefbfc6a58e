"""The same weights give the same number: twice, after any other, in any order, in any process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import adapter_kit
import evaluator_kit as kit
from clipwatch.domain.kinds import TrainedWeights
from clipwatch.evaluator.evaluate import Evaluator
from examples import examples

pytestmark = [*kit.QUIET, pytest.mark.timeout(600)]

EXACT = 1e-6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def kinds(root: Path) -> dict[str, tuple[Path, TrainedWeights]]:
    return adapter_kit.write_kinds(root)


@pytest.fixture(scope="module")
def elsewhere(root: Path, kinds: dict[str, tuple[Path, TrainedWeights]]) -> dict[str, list[float]]:
    """The scores of all kinds as another process has them."""
    told = json.dumps({kind: (str(folder), weights) for kind, (folder, weights) in kinds.items()})
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", Path(adapter_kit.__file__), root],
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, list[float]] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator()


ALIKE = {"full": {"pipeline"}, "full ema": {"export", "pipeline variant"}}
"""Kinds under which the very same UNet is kept."""


@pytest.mark.thorough
def test_every_kind_is_scored_for_itself(
    root: Path, evaluator: Evaluator, elsewhere: dict[str, list[float]]
) -> None:
    """The same UNet has the same scores in whatever form, and all else others than the base."""
    how = kit.protocol(root / "base")
    base = kit.scores_of(evaluator, kit.request(root, "base", how, files=()))
    told = {**elsewhere, "base": [it.score for it in base]}
    for kind, others in ALIKE.items():
        for other in others:
            assert told.pop(other) == pytest.approx(told[kind], abs=EXACT)
    assert len({tuple(found) for found in told.values()}) == len(told)


@pytest.mark.thorough
def test_the_same_backwards_in_another_process(
    root: Path,
    kinds: dict[str, tuple[Path, TrainedWeights]],
    evaluator: Evaluator,
    elsewhere: dict[str, list[float]],
) -> None:
    """Here all are evaluated in the opposite order, each of them twice."""
    for kind, (folder, weights) in reversed(kinds.items()):
        for _ in range(2):
            found = adapter_kit.scores(evaluator, folder, weights, root / "base")
            assert found == pytest.approx(elsewhere[kind], abs=EXACT), kind


@examples(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.thorough
def test_nothing_of_what_came_before_is_in_a_score(
    root: Path,
    kinds: dict[str, tuple[Path, TrainedWeights]],
    evaluator: Evaluator,
    elsewhere: dict[str, list[float]],
    data: st.DataObject,
) -> None:
    """Any kinds after each other, in one process: each has the score it has elsewhere."""
    for kind in data.draw(st.lists(st.sampled_from(sorted(kinds)), min_size=2, max_size=4)):
        found = adapter_kit.scores(evaluator, *kinds[kind], root / "base")
        assert found == pytest.approx(elsewhere[kind], abs=EXACT), kind
