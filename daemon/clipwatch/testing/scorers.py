"""What every scorer must do, as tests to inherit from."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from clipwatch.domain.protocol import Prompt, ScorerSpec
from clipwatch.domain.questions import Question
from clipwatch.models.kinds import told_key
from clipwatch.models.scorers import scale_of
from clipwatch.statistics.scale import Scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from clipwatch.evaluator.scorers.base import Scorer

PROMPTS: Final = ("a red circle", "a blue square", "a red circle", "one", "")
"""Some alike, and one of no words."""

_NO_TORCH: Final = (
    "import sys; from clipwatch.models.scorers import kind_of; kind_of(sys.argv[1]);"
    " sys.exit('torch' in sys.modules)"
)


class ScorerContract:
    """The contract of clipwatch.evaluator.scorers.base.Scorer and of its kind.

    A subclass has the pytest fixture `spec`, the ScorerSpec of one whose files, if it has any, are
    in a local folder.
    """

    def made(self, spec: ScorerSpec) -> Scorer:
        """Return a new scorer, on the CPU."""
        from clipwatch.evaluator.scorers.base import make
        from clipwatch.evaluator.store import Store

        return make(spec, "cpu", Store(None), "")

    def pictures(self) -> torch.Tensor:
        """Return a picture of noise for each prompt: (n, 40, 56, 3) uint8."""
        import torch

        luck = torch.Generator().manual_seed(0)
        size = (len(PROMPTS), 40, 56, 3)
        return torch.randint(0, 256, size, dtype=torch.uint8, generator=luck)

    def scores(
        self, scorer: Scorer, images: torch.Tensor, texts: Sequence[str] = PROMPTS
    ) -> list[float]:
        """Return the score of each picture with its prompt, of which a question may be asked."""
        from clipwatch.evaluator.scorers.base import measured

        asked = [Prompt(it, it, questions=(Question(f"Is there {it}?", "Yes"),)) for it in texts]
        return [score for score, _ in measured("", scorer, images, asked)]

    def scale(self, spec: ScorerSpec, scorer: Scorer) -> Scale:
        """Return the scale of its numbers."""
        return scale_of(spec, {told_key(spec.name): scorer.told})

    def test_its_kind_is_known_without_torch(self, spec: ScorerSpec) -> None:
        """The daemon asks for files and scale, and never imports torch."""
        call = [sys.executable, "-c", _NO_TORCH, spec.kind]
        assert subprocess.run(call, check=False).returncode == 0

    def test_every_image_has_a_number_on_its_scale(self, spec: ScorerSpec) -> None:
        """As many as images, finite, from the lowest to the highest that the scale tells."""
        scorer = self.made(spec)
        assert 0 <= scorer.prepare(PROMPTS) <= len(PROMPTS)
        found = self.scores(scorer, self.pictures())
        scale = self.scale(spec, scorer)
        assert len(found) == len(PROMPTS)
        assert all(math.isfinite(score) and scale.low <= score <= scale.high for score in found)

    def test_a_number_depends_on_nothing_beside_it(self, spec: ScorerSpec) -> None:
        """One by one and in another order an image has the score that it has among others."""
        scorer, images = self.made(spec), self.pictures()
        scorer.prepare(PROMPTS)
        together = self.scores(scorer, images)
        tie = self.scale(spec, scorer).tie
        backwards = self.scores(scorer, images.flip(0), PROMPTS[::-1])[::-1]
        alone = [
            self.scores(scorer, images[at : at + 1], [text])[0] for at, text in enumerate(PROMPTS)
        ]
        for other in (backwards, alone):
            assert all(abs(a - b) <= tie for a, b in zip(together, other, strict=True))

    def test_another_one_gives_the_same_numbers(self, spec: ScorerSpec) -> None:
        """After a restart nothing is another, whatever it was asked before."""
        first, second, images = self.made(spec), self.made(spec), self.pictures()
        first.prepare(PROMPTS)
        self.scores(first, images)
        second.prepare(PROMPTS[::-1])
        assert self.scores(first, images) == self.scores(second, images)
        assert (first.commit, first.told) == (second.commit, second.told)

    def test_the_pictures_stay_as_they_are(self, spec: ScorerSpec) -> None:
        """They are saved afterwards, and other scorers see them."""
        scorer, images = self.made(spec), self.pictures()
        before = images.clone()
        scorer.prepare(PROMPTS)
        self.scores(scorer, images)
        assert bool((images == before).all())

    def test_its_scale_can_be_used(self, spec: ScorerSpec) -> None:
        """What is alike is less than what matters, which is less than the whole range."""
        scale = self.scale(spec, self.made(spec))
        assert scale.low < scale.high
        assert 0 <= scale.tie < scale.high - scale.low
        assert scale.worth is None or scale.tie < scale.worth < scale.high - scale.low
        assert scale.digits >= 0
