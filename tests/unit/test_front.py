"""What no other one beats in two scores, and images that are too near to training images."""

from __future__ import annotations

from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pytest

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.judging.advice import BY_CHANCE, copied
from clipwatch.models.likeness import COPIED, told
from clipwatch.models.scorers import scale_of
from clipwatch.statistics.front import front
from clipwatch.statistics.nearness import chance
from clipwatch.statistics.scale import COSINE, Near
from report_kit import Parsed, hostile_protocol, hostile_run
from results_kit import Log, answer, call


def dominated(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether b is at least as high in both, and higher in one."""
    return b[0] >= a[0] and b[1] >= a[1] and a != b


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    """By comparing each with each; with few different values, so that many are equal."""
    rng = np.random.default_rng(seed)
    points = {n: (float(x), float(y)) for n, (x, y) in enumerate(rng.integers(0, 6, (12, 2)))}
    found = front(points)
    kept = {n for n, it in points.items() if not any(dominated(it, b) for b in points.values())}
    assert set(found) == kept
    assert len(found) == len(kept)
    assert [points[n][0] for n in found] == sorted(points[n][0] for n in kept)
    assert front({}) == []


@pytest.mark.parametrize("near", [Near(0.9, 0, 5, 1.0), Near(0.9, 3, 12, 1.0)], ids=str)
@pytest.mark.parametrize(("seen", "of"), [*product((0, 1, 3, 8), (8, 20))])
def test_chance_is_counted_out(seen: int, of: int, near: Near) -> None:
    """All ways to deal as many near ones among both, of which so many and more fall to images."""
    both = seen + near.usual
    ways = sum(
        comb(both, k) * comb(of + near.of - both, of - k)
        for k in range(seen, min(both, of) + 1)
        if of - k <= of + near.of - both
    )
    assert chance(seen, of, near) == pytest.approx(ways / comb(of + near.of, of))


def test_copies_are_told_by_how_many_there_are() -> None:
    """None where training images are as near to each other; it says how many, and from where on."""
    scores = {f"p{n}": [0.99 if n < 20 else 0.5, 0.99] for n in range(100)}
    found = copied(scores, Near(0.95, 1, 200, 0.975))
    assert found.startswith(
        "20 of 100 images come as near to a training image (0.9500 or more) as 1 of 200 training"
        " images come to another one, and 98% of copies do: "
    )
    assert copied(scores, Near(0.95, 40, 200, 1.0)) == ""  # these are as near to each other
    assert copied(scores, Near(0.995, 0, 200, 1.0)) == ""
    assert copied(scores, Near(0.95, 0, 0, 1.0)) == ""  # of one image alone nothing is known
    assert copied({}, Near(0.95, 0, 200, 1.0)) == ""
    few = Near(0.9, 0, 20, 1.0)
    ranks = ({f"p{k}": [float(k < n)] for k in range(100)} for n in range(101))
    least = next(n for n, table in enumerate(ranks) if copied(table, few))
    assert chance(least, 100, few) < BY_CHANCE <= chance(least - 1, 100, few)


def test_what_a_scorer_told_comes_back() -> None:
    """As a text in the log; what cannot be read tells nothing."""
    spec = ScorerSpec("copied", "model", kind="copied", options=(("images", "/there"),))
    near = Near(0.912345, 3, 200, 0.975)
    assert scale_of(spec, {"scorer_scale.copied": told(near)}).near == near
    assert scale_of(spec, {"scorer_scale.copied": f"{told(near)},{told(near)}"}).near == near
    for text in ("", "0.9", "a b c"):
        assert COPIED.scale(spec, text) == COSINE


# --- told and drawn ------------------------------------------------------------------------------

SCORERS = (
    ScorerSpec("", "clip"),
    ScorerSpec("dino", "model", kind="likeness", options=(("images", "/there"),)),
    ScorerSpec("light", "", kind="brightness"),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Return a log whose second scorer finds the checkpoints in the opposite order."""
    return hostile_run(tmp_path_factory.mktemp("state"), made=hostile_protocol(12, scorers=SCORERS))


def test_best_shows_the_front(log: Log) -> None:
    """The means of both, and whom no other one beats, in a table and as JSON."""
    found = answer(log.folder, "best", "--against", "dino")["against"]
    means = {it["step"]: (it["mean"], it["other"]) for it in found["means"]}
    expected = {a for a in means if not any(dominated(means[a], it) for it in means.values())}
    assert {it["step"] for it in found["front"]} == expected
    assert 0 < len(expected) < len(means) == 4
    said = call(log.folder, "best", "--against", "dino")
    assert said.exit_code == 0, said.output
    marked = [line.split()[0] for line in said.stdout.splitlines() if " front  " in line]
    assert marked == [str(it) for it in sorted(expected)]
    assert "No other checkpoint is higher by both means than @" in said.stdout
    lone = call(log.folder, "best", "--against", "nobody")
    assert (lone.exit_code, lone.stderr.count("\n")) == (1, 1)
    assert "further scorers: dino, light" in lone.stderr


def test_the_page_has_the_front_of_likeness_alone(log: Log, tmp_path: Path) -> None:
    """That of best, without the base; no other scorer has one."""
    said = call(log.folder, "report", "-o", str(tmp_path / "page.html"))
    assert said.exit_code == 0, said.output
    first, dino, light = Parsed((tmp_path / "page.html").read_text()).json["data"]["curves"]
    assert "front" not in first
    assert "front" not in light
    steps = [dino["checkpoints"][column]["step"] for column in dino["front"]]
    found = answer(log.folder, "best", "--against", "dino")["against"]["front"]
    assert sorted(steps) == [it["step"] for it in found]
    means = [dino["checkpoints"][column]["mean"] for column in dino["front"]]
    assert means == sorted(means)
