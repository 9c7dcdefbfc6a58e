"""`clipwatch start` with the fast evaluator: everything else is the real thing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from clipwatch.cli.watching import obey_signals
from clipwatch.domain.events import Event
from clipwatch.executors.child import EvaluatorProcess
from clipwatch.executors.local import LocalExecutor
from clipwatch.journal import Journal, log_file
from clipwatch.journal.projection import read_state
from clipwatch.judging.base import Judgement, Question
from clipwatch.loop.console import Console
from clipwatch.loop.recognising import recognise
from clipwatch.loop.run import Parts
from clipwatch.loop.supervisor import Supervisor
from clipwatch.results.reading import scores_of
from clipwatch.service.lock import exclusive
from clipwatch.settings import Settings, load
from clipwatch.statistics import summarize
from known import Known


class Telling(Journal):
    """Notes in $TOLD how many events there are, after each append that returned."""

    def append(
        self,
        run: str,
        stream: str,
        expected: int,
        events: Sequence[Event],
        times: Sequence[datetime] = (),
    ) -> int:
        """Add events, and tell of it."""
        version = super().append(run, stream, expected, events, times)
        told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(told, b"%d\n" % self._db.execute("SELECT max(seq) FROM events").fetchone())
        os.close(told)
        return version


class PlainJudge:
    """Summarises without scipy, whose import would take longer than all else."""

    def judge(self, question: Question) -> Judgement:
        """Say no more than the mean."""
        run = read_state(Path(question.log))[question.run]
        protocol = run.protocols[run.evaluations[question.evaluation].protocol]
        images = scores_of(Path(question.log), run.name, question.evaluation, protocol)
        return Judgement({"": summarize([image.scores[""] for image in images])})

    def close(self) -> None:
        """Hold nothing."""


def fast(settings: Settings) -> LocalExecutor:
    """Run the fast evaluator."""
    return LocalExecutor(settings, partial(EvaluatorProcess, module="fast_worker"))


def main(folder: Path, mode: str, environ: Mapping[str, str], said: Path) -> None:
    """Be a daemon from here on, in a process that was forked for it.

    Args:
        folder: What lies in its `output` is evaluated and published.
        mode: "once" or "live".
        environ: All of the environment.
        said: Takes what is printed, behind what is there.
    """
    os.environ.clear()
    os.environ.update(environ)
    with said.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    settings = load(folder / "config.json", flags={}, environ=os.environ, cwd=folder)
    log = log_file(settings.paths.state_dir)
    name = recognise(log, settings.paths.named, settings.watching.layout).name
    with exclusive(settings.paths.state_dir, name), Telling(log) as journal:
        supervisor = Supervisor(once=mode == "once")
        parts = Parts(make_executor=fast, judge=PlainJudge(), identities=Known())
        supervisor.watch(settings, journal, Console(), name=name, parts=parts, alone=True)
        obey_signals(supervisor)
        code = supervisor.run()
    sys.exit(code)  # not amid the log, for which that would be no normal end
