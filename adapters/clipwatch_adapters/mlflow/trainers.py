"""Which run of an experiment is the trainer's: a decision, without MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipwatch_adapters.mlflow.job import Job


class Seen(NamedTuple):
    """A run that is none of our companions.

    Attributes:
        id: MLflow's.
        name: The run's, which MLflow makes up where nobody says one.
        series: Whose numbers it holds, "" for none.
        output_dir: Of the trainer's settings, which accelerate's scripts log; "" if it is not told.
        metrics: The names of its numbers.
    """

    id: str
    name: str
    series: str
    output_dir: str
    metrics: frozenset[str]

    def free(self, mean: str) -> bool:
        """Tell whether a series may begin in it: neither another one's nor the trainer's is."""
        return not self.series and mean not in self.metrics


def trainers(asked: Seen | None, runs: Sequence[Seen], job: Job) -> Seen | None:
    """Return the trainer's run, None where that cannot be told for sure.

    It is the one that is asked for; else the one that bears a series of this training; else the
    only one with this output directory; else the only one with this name that tells no directory.

    Args:
        asked: What run_id names.
        runs: Of the experiment.
        job: Of the series.
    """
    if asked:
        return asked
    training = job.id.rpartition("-")[0] + "-"
    whose = [it for it in runs if it.series.startswith(training)]
    others = [it for it in runs if not it.series]
    here = [it for it in others if it.output_dir and _whole(it.output_dir, job) in job.dirs]
    named = [it for it in others if not it.output_dir and it.name == job.run_name]
    found = next((group for group in (whose, here, named) if group), [])
    return found[0] if len(found) == 1 else None


def _whole(output_dir: str, job: Job) -> str:
    return str(Path(job.working_dir, output_dir))
