"""The contract of scorers, on ours."""

from __future__ import annotations

import pytest

from clipwatch.demo import models
from clipwatch.domain.protocol import ScorerSpec
from clipwatch.testing.scorers import ScorerContract


class TestDualEncoder(ScorerContract):
    """A real CLIP, though a small one."""

    @pytest.fixture
    def spec(self) -> ScorerSpec:
        """See ScorerContract."""
        return ScorerSpec("", str(models.CLIP))
