"""Strengths of a LoRA as a user meets them: real pipelines, kill -9, TensorBoard, and the best."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

from adapter_kit import unet_lora, written
from clipwatch.domain.protocol import EvaluationProtocol
from clipwatch.domain.state import BASE_NAME
from real_world import clipwatch, daemon, guarded, points, scored_images, status, until
from results_kit import Log, answer, call, protocol
from score_tables import noisy

THREE = (1.0, 0.6, 0.8)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A run at three strengths: 200 at 0.6 is the best, and all at 0.8 are worse by far."""
    log = Log(tmp_path / "state")
    log.start_at("r", *THREE)
    offsets = {1.0: (0.0, 0.02), 0.6: (0.001, 0.06), 0.8: (-0.2, -0.1)}
    tables = iter(noisy(60, [it for both in offsets.values() for it in both]).values())
    log.score("r", 0, next(iter(noisy(60, [-0.05], seed=9).values())), at(1.0), name=BASE_NAME)
    for strength in offsets:
        for step in (100, 200):
            log.score("r", step, next(tables), at(strength))
    return log


def at(strength: float) -> EvaluationProtocol:
    return protocol().at(strength)


def test_the_best_is_named_with_its_strength(log: Log) -> None:
    """All strengths are looked at, in their order, or the one that is asked for."""
    found = answer(log.folder, "best")
    best, all_ = found["best"], found["n_checkpoints"]
    assert (best["step"], best["strength"], all_) == (200, 0.6, 6)
    said = call(log.folder, "best").stdout
    head, *lines = said.splitlines()
    assert head.split()[:3] == ["step", "strength", "mean"]
    rows = [line.split()[:2] for line in lines[:6]]
    assert rows == [[step, it] for step in ("100", "200") for it in ("0.6", "0.8", "1")]
    assert "@200:0.6 has the highest mean of 6 results on 60 prompts that all have" in said
    found = answer(log.folder, "best", "--strength", "0.8")
    assert (found["best"]["strength"], found["n_checkpoints"]) == (0.8, 2)
    wrong = call(log.folder, "best", "--strength", "0.7")
    assert wrong.exit_code == 1
    assert wrong.stderr == (
        "Error: r is not scored at strength 0.7 by its present settings; it is at 0.6, 0.8, 1\n"
    )


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ("100", "200", ("r@100:1", "r@200:1")),
        ("200:0.8", "200:1", ("r@200:0.8", "r@200:1")),
        ("100:0.8", "200", ("r@100:0.8", "r@200:0.8")),
        ("0", "200:0.6", ("r@0", "r@200:0.6")),
        ("@100:.6", "@best", ("r@100:0.6", "r@200:0.6")),
        ("r@best:0.8", "r@200:6e-1", ("r@200:0.8", "r@200:0.6")),
    ],
)
def test_two_strengths_are_compared(log: Log, a: str, b: str, names: tuple[str, str]) -> None:
    """Prompt by prompt, as both were made from the same noise; the base serves each strength."""
    found = answer(log.folder, "compare", a, b)
    assert (found["a"], found["b"], found["n_prompts"]) == (*names, 60)
    assert found["picked_of"] == {"@best": 6, "r@200:6e-1": 2}.get(b)
    ended = call(log.folder, "compare", a, b)
    assert ended.exit_code == 0
    assert all(name.removeprefix("r") in ended.stdout for name in names)
    assert "settings or model files changed" not in ended.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("200:0.7", "Error: r@200:0.7 has no scores; those of r are at strength 0.6, 0.8, 1"),
        ("best:0.7", "r is not scored at strength 0.7 by its present settings; it is at 0.6, 0"),
        ("200:-", "'-' is no strength: write a number, as in 500:0.8"),
        ("200:", "'@200:' names no checkpoint"),
    ],
)
def test_a_strength_that_is_none_is_told(log: Log, name: str, text: str) -> None:
    """In one line, with those that there are."""
    ended = call(log.folder, "compare", "100", f"@{name}")
    assert ended.exit_code != 0
    assert text in ended.stderr


def test_strengths_are_mixed_only_where_both_are_named(log: Log) -> None:
    """Who names none does not mean another; those of earlier settings are found by name."""
    log.score("r", 300, next(iter(noisy(60, [0]).values())), at(0.6))
    ended = call(log.folder, "compare", "300", "200:0.8")
    assert ended.exit_code == 1
    assert "were not scored alike" in ended.stderr
    assert "adapter_strength 0.6 and 0.8" in ended.stderr
    assert answer(log.folder, "compare", "300:0.6", "200:0.8")["n_prompts"] == 60
    log.change("r", at(1.0))  # the others are no longer scored
    said = call(log.folder, "compare", "200:0.6", "200:1").stdout
    assert "\n@200:1 is worse than @200:0.6 by" in said
    assert "settings or model files changed" not in said
    log.change("r", protocol(seed=5))
    said = call(log.folder, "compare", "300:0.6", "200:0.8").stdout
    assert "before the settings or model files changed (seed 1 and 5)" in said
    found = answer(log.folder, "compare", "300:0.6", "200:0.8")
    assert (found["a"], found["b"]) == ("r@300:0.6", "r@200:0.8")


@pytest.mark.timeout(400)
@pytest.mark.thorough
def test_three_strengths_of_real_loras_survive_a_kill(project: Path, base: Path) -> None:
    """Each image once, three curves, and a full model and the base that are scored once."""
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"] |= {"strengths": [0.6, 0.8, 1.0], "baseline": True}
    (project / "config.json").write_text(json.dumps(config | {"--report_to": "tensorboard"}))
    output = project / "output"
    for step in (100, 200):
        folder = output / f"checkpoint-{step}"
        written("diffusers", folder / "pytorch_lora_weights.safetensors", *unet_lora(base, step))
        (folder / "training_state.json").write_text("{}")
        (folder / ".guard").write_text("complete\n")
    guarded(output, base, 300)

    with daemon(project) as process:  # 8 images each: the base, the full model, 200 at 1, ...
        until(lambda: len(scored_images(project)) >= 27)
        process.kill()
    before = len(scored_images(project))
    assert before < 8 * 8
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    assert "3 checkpoints at 3 strengths: 7 published" in ended.stderr
    images = scored_images(project)
    assert len(images) == 8 * 8
    assert set(Counter((it.prompt_id, it.index) for it in images).values()) == {8}

    rows = status(project)
    told = [(row["step"], row["strength"], row["state"]) for row in rows]
    assert told == [
        (0, None, "published"),
        *((step, it, "published") for step in (100, 200) for it in (0.6, 0.8, 1.0)),
        (300, None, "published"),
    ]
    means = {(row["step"], row["strength"]): row["clip"]["mean"] for row in rows}
    assert len({round(mean, 6) for mean in means.values()}) == 8  # a strength makes other pictures
    run = output / "logs/shapes"
    for strength in (0.6, 0.8):
        curve = dict(points(run / f"clipwatch-strength-{strength}", "clip/mean"))
        assert curve == pytest.approx({it: means[it, strength] for it in (100, 200)}, abs=1e-6)
    curve = dict(points(run / "clipwatch-strength-1", "clip/mean"))
    assert curve == pytest.approx(
        {0: means[0, None], 300: means[300, None], **{it: means[it, 1.0] for it in (100, 200)}},
        abs=1e-6,
    )
    assert sorted(it.name for it in run.glob("clipwatch*")) == [
        *("clipwatch-strength-0.6", "clipwatch-strength-0.8", "clipwatch-strength-1")
    ]

    said = clipwatch("status", "--state-dir", "state", cwd=project).stdout
    assert f"tensorboard, strength 0.6: {run / 'clipwatch-strength-0.6'}" in said
    best = json.loads(clipwatch("best", "--json", "--state-dir", "state", cwd=project).stdout)
    trained = {key: mean for key, mean in means.items() if key[0]}
    highest = max(trained, key=trained.__getitem__)
    assert (best["best"]["step"], best["best"].get("strength")) == highest
    assert best["best"]["mean"] == pytest.approx(fmean([trained[highest]]), abs=1e-6)

    ended = clipwatch("score", output / "checkpoint-100", "--json", cwd=project)
    assert json.loads(ended.stdout)["clip"]["mean"] == pytest.approx(means[100, 1.0], abs=1e-6)
    assert "Note: it is scored at strength 1; clipwatch start scores each" in ended.stderr
