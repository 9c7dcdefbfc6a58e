"""The link to a Ray cluster, with another program in the place of its process."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from clipwatch.executors.ray import link
from loop_kit import until

REFUSING = """
import json, sys
for number, line in enumerate(sys.stdin, 1):
    seen = {"type": "Seen", "number": json.loads(line)["number"], "problem": f"asked {number}"}
    print(json.dumps(seen), flush=True)
"""


def test_a_cluster_that_refuses_slowly_is_not_asked_for_each_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop waits meanwhile: what it said holds for all runs for a while, for each device."""
    start, clock = subprocess.Popen, count()

    def popen(_: list[str], **given: Any) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", REFUSING], **given)

    monkeypatch.setattr("subprocess.Popen", popen)
    monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    made = link.Link("nowhere:1")
    try:
        assert str(made.slots("cpu")).startswith("asked 1")  # which took a second
        assert str(made.slots("cpu")).startswith("asked 1")
        assert str(made.slots("cuda")).startswith("asked 2")
        until(lambda: str(made.slots("cpu")).startswith("asked 3"))
    finally:
        made.close()
