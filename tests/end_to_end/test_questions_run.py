"""A run whose prompts bring questions: a whole one, with a tiny model that answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from real_world import clipwatch, guarded, points, scored_images, status
from report_kit import Parsed
from tiny_vlms import write_vlm

LINES: tuple[dict[str, Any], ...] = (
    {
        "prompt": "one red circle on white",
        "atom_count": 3,
        "vqa_list": [
            ["How many circles are in the image?", "one"],
            ["Is the circle red?", "Yes"],
            ["Is there a circle in the image?", "Yes"],
        ],
        "skills": ["count", "attribute", "object"],
    },
    {
        "prompt": "two blue squares on black",
        "atom_count": 3,
        "vqa_list": [
            ["How many squares are in the image?", "two"],
            ["Are the squares blue?", "Yes"],
        ],
        "skills": ["count", "attribute"],
    },
)


def configure(project: Path, **own: object) -> None:
    """Change the project's own settings."""
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"] |= own
    (project / "config.json").write_text(json.dumps(config))


@pytest.mark.thorough
def test_prompts_without_questions_end_a_start(project: Path) -> None:
    """With exit code 2 and a line that names the key and says what to do."""
    write_vlm(project / "model")
    configure(project, scorers={"questions": "questions:./model"})
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "asks the prompts' questions, and 4 of 4 have none" in ended.stderr
    assert "GenEval 2" in ended.stderr


@pytest.mark.thorough
def test_a_run_whose_prompts_are_asked_about(project: Path, base: Path) -> None:
    """Each answer is in the log, skills in trackers and status, questions in command and page."""
    write_vlm(project / "model")
    (project / "asked.jsonl").write_text("".join(f"{json.dumps(it)}\n" for it in LINES))
    own = {"prompts": "asked.jsonl", "scorers": {"questions": "questions:./model"}}
    configure(project, **own, report_to="tensorboard", baseline=True)
    for step in (100, 200):
        guarded(project / "output", base, step)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    images = scored_images(project)
    assert len(images) == 3 * 2 * 2
    assert {len(it.answers["questions"]) for it in images} == {2, 3}
    for it in images:
        answers = it.answers["questions"]
        assert it.scores["questions"] == pytest.approx(sum(answers) / len(answers))
    listed = status(project)
    assert [it["step"] for it in listed] == [0, 100, 200]
    curves = project / "output/logs/shapes/clipwatch"
    for skill in ("attribute", "count", "object"):
        means = [it["answered"]["questions"]["skills"][skill]["mean"] for it in listed]
        shown = points(curves, f"scorer_questions_skill/{skill}")
        assert [value for _, value in shown] == pytest.approx(means)
    whole = [it["answered"]["questions"]["geometric"]["mean"] for it in listed]
    shown = points(curves, "scorer_questions_answers/geometric")
    assert [value for _, value in shown] == pytest.approx(whole)
    told = clipwatch("ignored", "@200", "--json", "--state-dir", "state", cwd=project)
    assert told.returncode == 0, told.stderr
    asked = json.loads(told.stdout)["questions"]
    assert len(asked) == 5
    assert {it["question"] for it in asked} == {
        question for line in LINES for question, _ in line["vqa_list"]
    }
    ended = clipwatch("report", "-o", "page.html", "--state-dir", "state", cwd=project)
    assert ended.returncode == 0, ended.stderr
    page = Parsed((project / "page.html").read_text(encoding="utf-8"))
    second = page.json["data"]["curves"][1]
    values = {
        question: value
        for prompt, row in zip(
            page.json["data"]["curves"][0]["prompts"],
            second["checkpoints"][2]["answers"],
            strict=True,
        )
        for (question, _, _), value in zip(prompt["questions"], row, strict=True)
    }
    for it in asked:
        assert values[it["question"]] == pytest.approx(it["probability"], abs=1e-4)
