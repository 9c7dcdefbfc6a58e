"""A tracker that is named later gets all that was scored before, by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fake_wandb import KEY, FakeWandb
from fast_world import Training


@pytest.mark.thorough
def test_a_tracker_that_is_added_gets_the_whole_history(tmp_path: Path) -> None:
    """Once, in one line, with the images that are still kept; back and forth doubles nothing."""
    with FakeWandb() as server:
        training = Training(
            tmp_path,
            {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "DRAWN": "1"},
            own={"report_to": "tensorboard", "keep_images": 2},
        )
        for _ in range(6):
            training.train()
        training.finish()
        kept = sorted(it.name for it in (training.state / "images").glob("*/*"))
        assert len(kept) < 6
        assert not server.runs
        for trackers in ("tensorboard,wandb", "tensorboard", "wandb,tensorboard"):
            config = json.loads((tmp_path / "config.json").read_text())
            config["clipwatch"]["report_to"] = trackers
            (tmp_path / "config.json").write_text(json.dumps(config))
            (tmp_path / "said").write_text("")
            training.finish()
            said = (tmp_path / "said").read_text().splitlines()
            told = [it for it in said if "wandb: " in it and "publishing" not in it]
            rows = server.run.rows
            assert sorted(row["clipwatch/step"] for row in rows) == [*range(10, 70, 10)]
            if trackers == "tensorboard,wandb":
                (line,) = told
                assert f"and 4 more published to {server.url}/" in line
            else:
                assert told == []
        shown = {row["clipwatch/checkpoint"] for row in rows if "clipwatch/samples" in row}
        assert sorted(shown) == kept
    training.one_point_a_step()
