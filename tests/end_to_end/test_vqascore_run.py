"""`vqascore` in the settings: what is refused, and a whole run."""

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


@pytest.mark.thorough
def test_a_run_is_scored_by_asking(project: Path, base: Path) -> None:
    """Its numbers stand beside CLIP's in log, tracker and tables; `rescore` finds the same."""
    write_vlm(project / "qwen")
    config = json.loads((project / "config.json").read_text())
    scorers = {"vqa": "vqascore:./qwen"}
    config["clipwatch"] |= {"scorers": scorers, "report_to": "tensorboard"}
    (project / "config.json").write_text(json.dumps(config))
    for step in (100, 200):
        guarded(project / "output", base, step)
    ended = clipwatch("start", "--once", cwd=project)
    assert ended.returncode == 0, ended.stderr
    found = [it.scores["vqa"] for it in scored_images(project)]
    assert all(0 <= it <= 1 for it in found)
    assert len({*found}) > 1
    (run,) = read_state(log_file(project / "state")).values()
    (made,) = run.protocols.values()
    assert "scorer/vqa" in {it.part for it in made.inputs}
    curves = project / "output/logs/shapes/clipwatch"
    assert [step for step, _ in points(curves, "scorer_vqa/mean")] == [100, 200]
    told = clipwatch("best", "--scorer", "vqa", "--state-dir", "state", cwd=project)
    assert told.returncode == 0, told.stderr
    again = clipwatch(
        "rescore", run.id, "--scorer", "later=vqascore:./qwen", "--state-dir", "state", cwd=project
    )
    assert again.returncode == 0, again.stderr
