"""`clipwatch score --shard` by real processes, and `clipwatch import` of what they kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clipwatch.cli import main
from clipwatch.domain.events import ImageScore
from clipwatch.executors import named
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.results.reading import scores_of
from clipwatch.statistics.scale import COSINE
from clipwatch.tasks import partfile, score
from fast_world import Training
from import_kit import files
from known import Known
from loop_kit import until
from places import python_path
from real_world import clipwatch, environment, guarded

PROMPTS = 60


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Return a training with one checkpoint; its images have files."""
    found = Training(tmp_path, {"DRAWN": "1"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"report_to": "tensorboard"}))
    (tmp_path / "prompts.txt").write_text("\n".join(f"prompt number {n}" for n in range(PROMPTS)))
    found.train()
    return found


def scoring(training: Training, shard: str, place: str = "parts") -> subprocess.Popen[str]:
    """Start `clipwatch score` with the fast evaluator."""
    words = ("score", "output/checkpoint-10", "--shard", shard, "--save", place)
    return subprocess.Popen(
        [sys.executable, "-m", "fast_score", *words],
        cwd=training.folder,
        env={
            **environment(),
            "PYTHONPATH": python_path(),
            "GENERATED": str(training.generated),
            "DRAWN": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(scored: subprocess.Popen[str]) -> str:
    """Return the last line that it printed; it must end well."""
    said, complaint = scored.communicate(timeout=120)
    assert scored.returncode == 0, complaint
    return said.splitlines()[-1]


def images(state: Path) -> tuple[ImageScore, ...]:
    """Return the images of a log's only result."""
    (run,) = read_state(log_file(state)).values()
    (evaluation,) = run.evaluations.values()
    assert evaluation.state == "scored"
    made = run.protocols[evaluation.protocol]
    return scores_of(log_file(state), run.name, evaluation.id, made)


@pytest.mark.thorough
def test_three_processes_score_what_one_does(training: Training) -> None:
    """Beside each other; one is killed and goes on where it was; a daemon finds nothing to do."""
    folder, state = training.folder, training.folder / "state"
    one, two = scoring(training, "1/3"), scoring(training, "2/3")
    file = folder / "parts/checkpoint-10"
    first = scoring(training, "3/3")
    until(lambda: any(b"ImagesScored" in it.read_bytes() for it in file.rglob("3-of-3.jsonl")))
    first.kill()
    first.communicate()
    (cut,) = file.rglob("3-of-3.jsonl")
    before = partfile.read(cut)
    assert before is not None
    assert "shard 3/3: 40 images, kept in " in ended(scoring(training, "3/3"))
    assert "shard 1/3: 40 images, kept in " in ended(one)
    assert "shard 2/3: 40 images, kept in " in ended(two)
    generated = len(training.images())
    assert generated <= 120 + 2 * 2  # the batches in hand at the kill
    assert ended(scoring(training, "3/3")).startswith("shard 3/3: 40 images")
    assert len(training.images()) == generated
    kept = files(folder / "parts")
    said = clipwatch("import", "parts", "--state-dir", "state", cwd=folder)
    assert said.stderr == ""
    assert "1 result imported, 120 scores of parts, 120 images" in said.stdout
    assert files(folder / "parts") == kept
    alone = Training(folder / "alone", {"DRAWN": "1"})
    for name in ("config.json", "prompts.txt"):
        (alone.folder / name).write_text((folder / name).read_text())
    alone.train()
    alone.finish()
    theirs = {(it.prompt_id, it.index): it.scores for it in images(alone.state)}
    assert {(it.prompt_id, it.index): it.scores for it in images(state)} == theirs
    generated = len(training.images())
    training.finish()  # publishes
    assert len(training.images()) == generated
    training.one_point_a_step()
    ours, daemons = training.results()[10][2], alone.results()[10][2]  # which judges less
    assert (ours.mean, ours.std, ours.n) == (daemons.mean, daemons.std, daemons.n)


@pytest.mark.thorough
def test_a_daemon_goes_on_with_what_lacks(training: Training) -> None:
    """It makes the images of the shards that nobody scored, and no other."""
    ended(scoring(training, "2/3"))
    made = {it.split(maxsplit=1)[1] for it in training.images()}
    assert len(made) == 40
    state = training.folder / "state"
    clipwatch("import", "parts", "--state-dir", state, cwd=training.folder)
    training.finish()
    assert len(images(state)) == 120
    rest = [it.split(maxsplit=1)[1] for it in training.images()[40:]]
    assert len(rest) == 80
    assert made.isdisjoint(rest)
    training.one_point_a_step()


@pytest.mark.thorough
def test_parts_come_beside_a_running_daemon(training: Training) -> None:
    """While it makes the same images, or has made them: each is there once, and the curve too."""
    for number in range(1, 3):
        ended(scoring(training, f"{number}/2"))
    daemon = training.start("live")
    try:
        until(lambda: training.written() > 0)
        for file in sorted((training.folder / "parts").rglob("*.jsonl")):
            said = clipwatch("import", file, "--state-dir", "state", cwd=training.folder)
            assert said.returncode == 0, said.stderr
        until(lambda: 10 in training.results() and training.results()[10][1] == "published")
    finally:
        os.kill(int(daemon.pid or 0), signal.SIGTERM)
        daemon.join(60)
    assert len(images(training.state)) == 120
    training.one_point_a_step()


@pytest.mark.timeout(600)  # torch is loaded twice
@pytest.mark.thorough
def test_a_shard_of_a_real_model_has_the_daemons_images(project: Path, base: Path) -> None:
    """Image by image the scores are those of one process, which makes no shards."""
    folder = guarded(project / "output", base, 100)
    asked = ("--shard", "2/2", "--save", "parts", "--json")
    said = clipwatch("score", folder, *asked, cwd=project)
    assert said.returncode == 0, said.stderr
    told: dict[str, Any] = json.loads(said.stdout)
    (file,) = (project / "parts").rglob("2-of-2.jsonl")
    assert told["part"] == str(file)
    assert clipwatch("start", "--once", "--report-to", "none", cwd=project).returncode == 0
    daemons = {(it.prompt_id, it.index): it for it in images(project / "state")}
    kept = partfile.read(file)
    assert kept is not None
    assert len(kept.scored) == len(told["images"]) == 4
    for one in kept.scored:
        other = daemons[one.prompt_id, one.index]
        assert one.score == pytest.approx(other.score, abs=COSINE.tie)
        assert (one.seed, one.image) == (other.seed, other.image)
        assert (file.parent / Path(str(one.image)).name).is_file()
    said = clipwatch("import", "parts", "--state-dir", "state", cwd=project)
    assert said.stdout.endswith(": nothing to import, 1 was here already\n")


def scored(folder: Path, *arguments: str) -> Result:
    """Call `clipwatch score` of a training's checkpoint in this process."""
    words = ["score", str(folder / "output/checkpoint-10"), "--config", str(folder / "config.json")]
    return CliRunner().invoke(main, [*words, *arguments])


@pytest.mark.parametrize("shard", ["3/2", "0/2", "x", "1/", "/2", "1/2/3", "-1/2", "²/3"])
def test_a_shard_is_a_part_of_a_whole(shard: str, training: Training) -> None:
    """What is none is a usage error in a line."""
    said = scored(training.folder, "--shard", shard, "--save", str(training.folder / "parts"))
    assert said.exit_code == 2
    assert f"'{shard}' is no shard: write 1/8 to 8/8 for eight of them" in said.stderr


def test_a_part_has_a_folder_of_its_own(training: Training) -> None:
    """Options that make no sense together are refused, and so is a state directory."""
    folder, state = training.folder, training.folder / "state"
    said = scored(folder, "--shard", "1/2")
    assert (said.exit_code, "needs --save" in said.stderr) == (2, True)
    said = scored(folder, "--save", str(folder / "parts"), "--images", str(folder / "images"))
    assert (said.exit_code, "--images cannot be had with --save" in said.stderr) == (2, True)
    state.mkdir()
    log_file(state).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "Identities", Known)
        said = scored(folder, "--save", str(state))
    assert (said.exit_code, "is a state directory" in said.stderr) == (2, True)


@pytest.mark.parametrize("within", [True, False])
def test_a_part_of_a_copy_is_of_the_address(
    within: bool,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether the configuration names it or not: the copy's folder is another one each time."""
    monkeypatch.setattr(score, "Identities", Known)
    monkeypatch.setattr(named, "load", None)
    folder, place = training.folder, f"file://{training.folder}/output"
    if within:
        monkeypatch.setenv("CLIPWATCH_OUTPUT_DIR", place)
    words = ["score", f"{place}/checkpoint-10", "--config", str(folder / "config.json")]
    asked = ("--shard", "99/99", "--save", str(folder / "parts"))
    said = CliRunner().invoke(main, [*words, *asked])
    assert said.exit_code == 0, said.output
    (file,) = (folder / "parts").rglob("99-of-99.jsonl")
    kept = partfile.read(file)
    assert kept is not None
    assert (kept.run.output_dir, kept.checkpoint.path) == (place, f"{place}/checkpoint-10")


def test_a_shard_without_a_prompt_loads_nothing(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More shards than prompts are fine: it says so, and is done at once."""
    monkeypatch.setattr(score, "Identities", Known)
    monkeypatch.setattr(named, "load", None)
    asked = ("--shard", "99/99", "--save", str(training.folder / "parts"))
    said = scored(training.folder, *asked)
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("shard 99/99: no prompt is left for it, kept in ")
    told = json.loads(scored(training.folder, *asked, "--json").stdout)
    assert (told["clip"], told["images"], told["shard"]) == (None, [], "99/99")
