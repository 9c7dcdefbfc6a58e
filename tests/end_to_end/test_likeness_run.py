"""`references` and `training_images`: what they ask for, what is refused, and a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clipwatch.domain.events import AdviceGiven
from clipwatch.domain.names import evaluation_stream
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.state import Checkpoint, evaluation_id
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.judging.base import Question
from clipwatch.judging.log_judge import judge
from clipwatch.kit.errors import SettingsError
from clipwatch.settings.scorers import named
from real_world import clipwatch, guarded, points, scored_images
from results_kit import Log, protocol
from score_tables import noisy
from tiny_encoders import write_encoder, write_pictures
from world import settings


def scorers(folder: Path, **changes: object) -> dict[str, ScorerSpec]:
    """Return the scorers of settings, by name."""
    return {it.name: it for it in settings(folder, **changes).protocol.scorers}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two of them."""
    write_pictures(tmp_path / "a sofa", 2)
    return tmp_path / "a sofa"


def test_a_folder_stands_for_scorers(tmp_path: Path, pictures: Path) -> None:
    """Of references CLIP's and DINO's likeness, of training images the nearest; by whole paths."""
    images = (("images", str(pictures)),)
    model = str(write_encoder(tmp_path / "dino"))
    found = scorers(tmp_path, references="a sofa", training_images="a sofa", likeness_model=model)
    first = found.pop("")
    assert [*found] == ["clip_i", "copied", "dino"]
    assert found["clip_i"] == ScorerSpec("clip_i", first.model, "", "likeness", images)
    assert found["dino"] == ScorerSpec("dino", model, "", "likeness", images)
    assert found["copied"] == ScorerSpec("copied", model, "", "copied", images)
    found = scorers(tmp_path, references="a sofa", scorer_revision="abc")
    assert found["clip_i"].revision == "abc"
    assert (found["dino"].model, found["dino"].revision) == ("facebook/dinov2-base", "")
    assert [*scorers(tmp_path)] == [""]


def test_the_file_says_where_a_folder_is(tmp_path: Path, pictures: Path) -> None:
    """One of several folders below is as good; a scorer of a name of its own, too."""
    write_pictures(pictures / "below", 1, first=5)
    own = {"second": f"likeness:owner/name@rev?images={pictures}/below"}
    found = scorers(tmp_path, scorers=json.dumps(own))["second"]
    assert (found.model, found.revision) == ("owner/name", "rev")
    assert found.options == (("images", str(pictures / "below")),)
    asked = named("second=likeness:owner/name?images=a sofa", tmp_path)
    assert asked.options == (("images", str(pictures)),)


def test_the_model_that_decides_may_lie_anywhere(tmp_path: Path, pictures: Path) -> None:
    """Also in a folder whose name has what else begins a revision."""
    model = tmp_path / "me@work" / "clip"
    model.mkdir(parents=True)
    images = (("images", str(pictures)),)
    asked = {"references": "a sofa", "pretrained_evaluation_model_name_or_path": str(model)}
    for changes, revision in (({}, ""), ({"scorer_revision": "abc"}, "abc")):
        found = scorers(tmp_path, **asked, **changes)["clip_i"]
        assert found == ScorerSpec("clip_i", str(model), revision, "likeness", images)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"references": "gone"}, "--references: there is no '{folder}/gone'"),
        ({"references": "prompts.txt"}, "--references: there is no folder '{folder}/prompts.txt'"),
        ({"training_images": "empty"}, "--training-images: '{folder}/empty' has no images (.png,"),
        (
            {"references": "a sofa", "scorers": '{"dino": "owner/name"}'},
            "--scorers: 'dino' is what --references is scored by",
        ),
        ({"scorers": '{"near": "copied:owner/name"}'}, "--scorers: names no folder of images"),
    ],
)
@pytest.mark.usefixtures("pictures")
def test_what_is_refused(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    """Each in a line, before anything is started."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError) as error:
        settings(tmp_path, **changes)
    assert str(error.value).startswith(told.format(folder=tmp_path))
    assert "\n" not in str(error.value)


def test_a_wrong_folder_ends_a_start(folder: Path) -> None:
    """With exit code 2 and one line that names file and key."""
    config = json.loads((folder / "config.json").read_text())
    config["clipwatch"]["references"] = "gone"
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    ended = clipwatch("start", "--once", cwd=folder)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "config.json" in ended.stderr
    assert f"references: there is no '{folder}/gone'" in ended.stderr


NEAR = {"scorer_scale.copied": "0.950000 1 200 0.95"}


@pytest.mark.parametrize(
    ("told", "score", "expected"),
    [
        (NEAR, lambda n: 0.99 if n < 15 else 0.5, ["copied"]),
        (NEAR, lambda n: 0.99 if n < 1 else 0.5, []),
        ({"scorer_scale.copied": "0.950000 150 200 0.95"}, lambda n: 0.99 if n < 15 else 0.5, []),
        ({}, lambda _: 1.0, []),
    ],
)
def test_copies_are_advised_about(
    tmp_path: Path, told: dict[str, str], score: Callable[[int], float], expected: list[str]
) -> None:
    """By what the evaluator told of the training images; once."""
    spec = ScorerSpec("copied", "model", kind="copied", options=(("images", "/there"),))
    made = protocol(60, scorers=(ScorerSpec("", "clip"), spec))
    log = Log(tmp_path)
    log.start("one", made)
    near = {it.id: [score(n)] for n, it in enumerate(made.prompts)}
    given: list[AdviceGiven] = []
    for step, table in zip((100, 200), noisy(60, [0.0, 0.0]).values(), strict=True):
        log.score("one", step, table, made, others={"copied": near}, environment=told)
        found = Checkpoint(step, f"checkpoint-{step}", "/c", "whole", digest="w" * 8)
        id_ = evaluation_id(found, made.digest)
        asked = Question(str(log_file(tmp_path)), "one", id_, None, None, 3, {}, 1000)
        new = judge(asked).advice
        if new:
            log.add("one", evaluation_stream("one", id_), *new)
        given += new
    assert [it.kind for it in given] == expected
    assert all(it.scorer == "copied" and it.step == 100 for it in given)
    assert all(it.text.startswith("by copied, 15 of 60 images come as near") for it in given)


@pytest.mark.thorough
def test_a_run_with_a_subject(project: Path, base: Path) -> None:
    """Likeness and nearness stand in log, trackers and tables; the front is told."""
    write_pictures(project / "subject", 3)
    write_pictures(project / "trained", 8)
    write_encoder(project / "dino")
    config = json.loads((project / "config.json").read_text())
    config["clipwatch"] |= {
        "references": "subject",
        "training_images": "trained",
        "likeness_model": "./dino",
        "report_to": "tensorboard",
    }
    (project / "config.json").write_text(json.dumps(config))
    for step in (100, 200):
        guarded(project / "output", base, step)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    images = scored_images(project)
    assert {*images[0].scores} == {"", "clip_i", "copied", "dino"}
    (run,) = read_state(log_file(project / "state")).values()
    (made,) = run.protocols.values()
    assert {"scorer/dino/images", "scorer/copied/images"} <= {it.part for it in made.inputs}
    for evaluation in run.evaluations.values():
        bound, usual, of, _ = evaluation.environment["scorer_scale.copied"].split()
        assert -1 <= float(bound) <= 1
        assert 0 <= int(usual) <= int(of) == 8
    curves = project / "output/logs/shapes/clipwatch"
    assert [step for step, _ in points(curves, "scorer_dino/mean")] == [100, 200]
    assert [step for step, _ in points(curves, "scorer_copied/max")] == [100, 200]
    told = clipwatch("best", "--against", "dino", "--state-dir", "state", cwd=project)
    assert told.returncode == 0, told.stderr
    assert "No other checkpoint is higher by both means than @" in told.stdout
