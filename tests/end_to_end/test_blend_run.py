"""`clipwatch blend` after a training, with real processes, models and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipwatch.demo import models
from clipwatch.domain.events import CheckpointCompleted
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.domain.sighting import Whole
from clipwatch.layouts import look_once
from clipwatch.tasks import partfile, parts
from real_world import MODEL, clipwatch, digests, guarded
from results_kit import Log, protocol

RUN = "shapes"


@pytest.mark.thorough
@pytest.mark.timeout(600)  # an evaluator starts
def test_a_blend_is_scored_as_a_checkpoint_is(tmp_path: Path, base: Path) -> None:
    """By the evaluator, under the run's protocol; training and log never hear of it."""
    clip = ScorerSpec("", str(models.CLIP))
    made = protocol(12, base_model=str(base), scorers=(clip,))
    output, state = tmp_path / "output", tmp_path / "state"
    state.mkdir()
    log = Log(state)
    log.start(RUN, made)
    for step in (100, 200):
        guarded(output, base, step)
        seen = look_once(output / f"checkpoint-{step}", "live")
        assert isinstance(seen.verdict, Whole)
        it, digest = seen.verdict.weights, seen.verdict.digest
        known = (step, seen.name, str(seen.path), it.kind, it.component, it.files, digest)
        log.add(RUN, seen.name, CheckpointCompleted(*known))
        scores = {it.id: [-0.9 + step / 1e4] for it in made.prompts}  # any picture has more
        log.score(RUN, step, scores, made, weights=digest)
    before, events = digests(output), (state / "clipwatch.db").read_bytes()

    asked = ("blend", "--state-dir", "state", "--images", "30", "--device", "cpu", "--json")
    ended = clipwatch(*asked, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["images"] <= 30
    assert "6 prompts to search on, 6 to test on; 30 images at most" in ended.stderr
    assert set(found["blend"]["shares"]) == {"checkpoint-100", "checkpoint-200"}
    assert digests(output) == before
    assert (state / "clipwatch.db").read_bytes() == events

    scored = [
        it
        for path in parts.found(state / "blends")
        for part in [partfile.read(path)]
        if part
        for it in part.scored
    ]
    assert len(scored) == found["images"]
    assert len({it.score for it in scored}) > len(scored) // 2  # pictures of their own
    assert found["tested"]["n_prompts"] == 6
    path = Path(found["tested"]["written"])
    assert path.match(f"blends/*/blend-*/{MODEL}")
    assert (path.parent / "config.json").is_file()

    again = clipwatch(*asked, cwd=tmp_path)
    assert json.loads(again.stdout) == found
    assert "importing torch" not in again.stderr
