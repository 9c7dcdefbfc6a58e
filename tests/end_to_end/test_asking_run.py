"""`vqascore` and `ocr` in the settings: what is refused, and a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipwatch.domain.protocol import ScorerSpec
from clipwatch.journal import log_file
from clipwatch.journal.projection import read_state
from clipwatch.kit.errors import SettingsError
from real_world import clipwatch, guarded, points, scored_images
from tiny_vlms import write_vlm
from world import settings


def asked(folder: Path, written: str) -> ScorerSpec:
    """Return the scorer that the settings name so."""
    (found,) = settings(folder, scorers=json.dumps({"vqa": written})).protocol.scorers[1:]
    return found


def test_it_is_named_in_the_settings(tmp_path: Path) -> None:
    """With a revision and a dtype, which are part of the protocol."""
    found = asked(tmp_path, "vqascore:Qwen/Qwen3-VL-2B-Instruct@abc?dtype=bfloat16")
    dtype = (("dtype", "bfloat16"),)
    assert found == ScorerSpec("vqa", "Qwen/Qwen3-VL-2B-Instruct", "abc", "vqascore", dtype)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("dtype=float16", "dtype=float16 is not known: write float32 or bfloat16"),
        ("dytpe=bfloat16", "the option 'dytpe' of vqascore is not known: it has dtype"),
    ],
)
def test_what_is_refused(option: str, told: str, tmp_path: Path) -> None:
    """Each in a line, before anything is started."""
    with pytest.raises(SettingsError) as error:
        asked(tmp_path, f"vqascore:owner/name?{option}")
    assert str(error.value) == f"--scorers: {told}"


def test_text_is_looked_for_where_it_is_quoted(tmp_path: Path) -> None:
    """A prompt that quotes none has no number, so a set with one is refused in a line."""
    with pytest.raises(SettingsError) as error:
        asked(tmp_path, "ocr:owner/name")
    told = str(error.value)
    assert told.startswith("--scorers: ocr cannot score these prompts: ")
    assert "prompts quote no text, '" in told
    assert told.endswith(" for one: name prompts that all do, or leave this scorer out")
    (tmp_path / "signs.txt").write_text("a sign that says \"OPEN\"\na cake with 'Hello' on it\n")
    own = json.dumps({"text": "ocr:owner/name?dtype=bfloat16"})
    found = settings(tmp_path, scorers=own, prompts="signs.txt").protocol.scorers[1]
    assert found == ScorerSpec("text", "owner/name", "", "ocr", (("dtype", "bfloat16"),))


@pytest.mark.thorough
@pytest.mark.timeout(600)  # on whatever machine
def test_a_run_is_scored_by_asking(project: Path, base: Path) -> None:
    """The numbers stand beside CLIP's in log and tracker."""
    write_vlm(project / "qwen")
    signs = ('a sign that says "OPEN"', "a cake with 'two stars' on it", 'a "red" circle')
    (project / "prompts.txt").write_text("\n".join(signs))
    config = json.loads((project / "config.json").read_text())
    scorers = {"vqa": "vqascore:./qwen", "text": "ocr:./qwen"}
    config["clipwatch"] |= {"scorers": scorers, "report_to": "tensorboard"}
    (project / "config.json").write_text(json.dumps(config))
    guarded(project / "output", base, 100)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    images = scored_images(project)
    for name in scorers:
        assert all(0 <= it.scores[name] <= 1 for it in images)
    assert len({it.scores["vqa"] for it in images}) == len(images) == 2 * len(signs)
    (run,) = read_state(log_file(project / "state")).values()
    (made,) = run.protocols.values()
    assert {"scorer/vqa", "scorer/text"} <= {it.part for it in made.inputs}
    curves = project / "output/logs/shapes/clipwatch"
    means = {name: points(curves, f"scorer_{name}/mean") for name in scorers}
    for name, ((step, mean),) in means.items():
        assert step == 100
        assert mean == pytest.approx(sum(it.scores[name] for it in images) / len(images), abs=1e-6)
