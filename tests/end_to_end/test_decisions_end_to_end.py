"""Base model, further scorers, intervals, comparisons and a short evaluation, with real parts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from clipwatch.demo import models
from clipwatch.demo.world import captions
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from real_world import clipwatch, guarded, points, scored_images, status


def change(project: Path, **own: object) -> None:
    """Change settings of ours in the project's config."""
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"] |= own
    (project / "config.json").write_text(json.dumps(config))


@pytest.mark.thorough
def test_the_numbers_that_decide_are_published(project: Path, base: Path) -> None:
    """The base model is step 0; every point has its interval and its differences, by each scorer.

    Eight prompts, two images each; the second scorer is the same CLIP, so its numbers are, too.
    """
    (project / "prompts.txt").write_text("\n".join(captions()[:8]))
    change(project, baseline=True, batch_size="auto", scorers={"second": str(models.CLIP)})
    for step in (100, 200):
        guarded(project / "output", base, step)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert [(it["step"], it["state"]) for it in status(project)] == [
        (0, "published"),
        (100, "published"),
        (200, "published"),
    ]
    images = scored_images(project)
    assert len(images) == 3 * 16
    assert Counter(len(image.look) for image in images) == {16: 48}
    assert all(image.scores == {"": image.score, "second": image.score} for image in images)
    (watched,) = read_state(log_file(project / "state")).values()
    scales = [
        float(it.environment[key])
        for it in watched.evaluations.values()
        for key in ("scorer_scale", "scorer_scale.second")
    ]
    assert scales == pytest.approx([30] * 6, rel=0.01)  # that of the demo's CLIP

    run = project / "output/logs/shapes/clipwatch"
    ends = ("clip_interval/low", "clip_interval/high")
    for tag in ("clip/mean", *ends, "clip_count/images", "clip_count/prompts"):
        assert [step for step, _ in points(run, tag)] == [0, 100, 200]
    means, low, high = (dict(points(run, tag)) for tag in ("clip/mean", *ends))
    assert all(low[step] < means[step] < high[step] for step in means)
    assert points(run, "scorer_second/mean") == points(run, "clip/mean")
    delta = dict(points(run, "clip_delta/base"))
    assert delta.keys() == {100, 200}
    assert delta[200] == pytest.approx(means[200] - means[0], abs=1e-6)

    told = clipwatch("compare", "@0", "@200", "--json", "--state-dir", "state", cwd=project)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["n_prompts"] == 8
    assert found["delta"] == pytest.approx(delta[200], abs=1e-6)
    best = clipwatch("best", "--json", "--state-dir", "state", cwd=project)
    assert best.returncode == 0, best.stderr
    assert json.loads(best.stdout)["n_checkpoints"] == 2

    again = clipwatch("start", "--once", cwd=project)
    assert again.returncode == 0, again.stderr
    assert len(scored_images(project)) == len(images)


@pytest.mark.thorough
def test_precision_saves_the_images_that_are_not_needed(project: Path, base: Path) -> None:
    """Prompts come spread over the categories, and stop when the mean is known well enough."""
    texts = captions()
    library = {
        f"{kind}-{number}": {
            "prompt": f"{texts[number % len(texts)]} {kind} {number}",
            "category": kind,
        }
        for kind in ("one", "two")
        for number in range(80)
    }
    (project / "prompts.json").write_text(json.dumps(library))
    change(project, prompts="prompts.json", precision=0.5, batch_size=16)
    guarded(project / "output", base, 100)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    (row,) = status(project)
    assert row["state"] == "published"
    used = Counter(image.prompt_id.partition("-")[0] for image in scored_images(project))
    assert 2 * 64 <= row["clip"]["n"] <= 2 * 64 + 3 * 16
    assert abs(used["one"] - used["two"]) <= 16
    assert row["clip"]["prompts"] >= 64


@pytest.mark.thorough
@pytest.mark.timeout(600)  # three processes that import torch, beside whatever else runs
def test_a_difference_that_is_known_ends_an_evaluation(project: Path, base: Path) -> None:
    """Base and first checkpoint are made wholly, the second ends early; all of it is told."""
    texts = captions()
    (project / "prompts.txt").write_text("\n".join(f"{it}, {n}" for n, it in enumerate(texts[:44])))
    config = json.loads((project / "config.json").read_text())
    config["--num_validation_images"] = "1"
    (project / "config.json").write_text(json.dumps(config))
    how = {"decide": "difference", "advice": {"worth": 0.9}, "baseline": True, "batch_size": 4}
    change(project, prompts="prompts.txt", report_to="tensorboard", **how)
    for step in (100, 200):  # the newest is evaluated first
        guarded(project / "output", base, step)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    rows = {it["step"]: it for it in status(project)}
    assert [rows[it]["clip"]["n"] for it in (0, 200)] == [44, 44]
    assert 32 <= rows[100]["clip"]["n"] <= 40
    assert rows[100]["decision"]["finding"] == "within"
    assert rows[100]["estimate"]["plain"][""] != rows[100]["clip"]["mean"]
    assert "within 0.9 of checkpoint-200 after 32 prompts" in ended.stdout + ended.stderr
    run = project / "output/logs/shapes/clipwatch"
    assert points(run, "clip_decision/verdict") == [(100, 0.0)]
    assert points(run, "clip_count/images") == [(0, 44), (100, rows[100]["clip"]["n"]), (200, 44)]
    assert [step for step, _ in points(run, "clip_count/effective")] == [100]
    best = clipwatch("best", "--state-dir", "state", cwd=project)
    assert "@100 within @200" in best.stdout
