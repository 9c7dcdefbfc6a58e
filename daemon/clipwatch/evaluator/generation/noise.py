"""From which noise an image starts: of its own seed, or as the trainer's validation draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipwatch.domain.protocol import EvaluationProtocol, Prompt

Task = tuple["Prompt", int, int]
"""An image to be generated: its prompt, its index and its seed."""


class Noise:
    """Gives each image of an evaluation its generator, on the CPU, so that no device decides.

    With the trainer's seeds all images of a prompt draw from one generator, one after the other:
    it has one for `num_images_per_prompt` images, and fills them in a row.

    Args:
        protocol: Says whose seeds they are.
    """

    def __init__(self, protocol: EvaluationProtocol) -> None:
        self._shared = protocol.seeds == "trainer"
        self._begun: torch.Tensor | None = None  # where a prompt's generator stands

    def of(self, batch: Sequence[Task]) -> list[torch.Generator]:
        """Return a generator for each image, as often as a batch is tried."""
        found: list[torch.Generator] = []
        for place, (prompt, index, seed) in enumerate(batch):
            if self._shared and place and batch[place - 1][0].id == prompt.id:
                found.append(found[-1])
                continue
            generator = torch.Generator("cpu").manual_seed(seed)
            if self._shared and index and self._begun is not None:
                generator.set_state(self._begun)
            found.append(generator)
        return found

    def made(self, generators: Sequence[torch.Generator]) -> None:
        """Take note that a batch was made, whose last prompt may go on in the next one."""
        self._begun = generators[-1].get_state()


def tasks_of(protocol: EvaluationProtocol, done: set[tuple[str, int]]) -> list[Task]:
    """Return what is to be generated, in order; all images of a prompt stand together.

    With the trainer's seeds a prompt that is not done is made from its first image on.
    """
    tasks = list(protocol.images())
    missing = [task for task in tasks if (task[0].id, task[1]) not in done]
    if protocol.seeds != "trainer":
        return missing
    prompts = {prompt.id for prompt, _, _ in missing}
    return [task for task in tasks if task[0].id in prompts]


def full_size(size: int, protocol: EvaluationProtocol) -> int:
    """Return how many images a full batch has, `size` at most.

    With the trainer's seeds a prompt's images share a batch if they can: only then are they what
    the trainer makes where a sampler draws noise at every step.
    """
    each = protocol.images_per_prompt
    return size - size % each if protocol.seeds == "trainer" and size >= each else size
