"""`clipwatch start` with the fast evaluator: everything else is the real thing."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from clipwatch.cli.start import obey_signals
from clipwatch.domain.events import ImagesScored
from clipwatch.domain.names import run_name
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.local import LocalExecutor
from clipwatch.journal import Journal, log_file
from clipwatch.judging.ask import Judgement, Question
from clipwatch.loop.console import Console
from clipwatch.loop.run import Parts
from clipwatch.loop.supervisor import Supervisor
from clipwatch.results.tables import score_table
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings, load
from clipwatch.statistics import summarize
from world import Known


def plain_judge(question: Question) -> Judgement:
    """Summarise without scipy, whose import would take longer than all else."""
    with Journal(Path(question.log), read_only=True) as journal:
        stream = f"evaluation/{question.run}/{question.evaluation}"
        events = [it.event for it in journal.read(stream=stream)]
    images = [it for event in events if isinstance(event, ImagesScored) for it in event.images]
    return Judgement(summarize([score for row in score_table(images).values() for score in row]))


def fast(settings: Settings) -> LocalExecutor:
    """Run the fast evaluator."""
    return LocalExecutor(settings, partial(EvaluatorProcess, module="fast_worker"))


def main(folder: Path, mode: str) -> int:
    """Evaluate and publish what lies in `folder`/output; `mode` is "once" or "live"."""
    settings = load(folder / "config.json", flags={}, environ=os.environ, cwd=folder)
    with (
        exclusive(settings.paths.state_dir, run_name(settings.paths.output_dir)),
        Journal(log_file(settings.paths.state_dir)) as journal,
    ):
        supervisor = Supervisor(once=mode == "once")
        parts = Parts(make_executor=fast, judge=plain_judge, identities=Known())
        supervisor.watch(settings, journal, Console(), parts=parts)
        obey_signals(supervisor)
        return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
