"""The loop that performs what `state` decides: one thread owns it, all else sends it messages."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue

from clipwatch import __version__, trackers
from clipwatch import events as e
from clipwatch import state as s
from clipwatch.console import Console
from clipwatch.errors import SettingsError
from clipwatch.evaluator.messages import Evaluate, Failed, Finished, Loaded, Reply, Scored
from clipwatch.evaluator.process import EvaluatorHandle, EvaluatorProcess
from clipwatch.journal import Journal
from clipwatch.layouts import Scanner
from clipwatch.layouts.files import NotReadable
from clipwatch.ledger import Ledger
from clipwatch.narration import narrate
from clipwatch.publish import Outbox, Outcome, evaluation_stream, images_of, scores_of
from clipwatch.settings import Settings
from clipwatch.statistics import summarize
from clipwatch.view import summary
from clipwatch.watch import Watcher

PENDING_SECONDS = 1.0
"""Pause between looks while a checkpoint is being written."""

STOP_SECONDS = 20.0
"""How long a tracker may take to finish when we are asked to stop."""


class Look:
    """Message: something may have changed in the output directory."""


class Stop:
    """Message: end as soon as nothing is lost by it."""


Message = Look | Stop | Outcome | Reply


class Supervisor:
    """Watches one run; `run` returns when it is told to stop, or with `once` when all is done.

    Args:
        settings: Of the run.
        journal: Open for writing; the caller holds the run's lock.
        console: To which it says what happens.
        once: End when everything that is there is evaluated and published.
        clock: The time, in UTC.
        make_tracker: Makes an adapter.
        make_evaluator: Starts an evaluator that gives its replies to the function it is passed.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        console: Console,
        *,
        once: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        make_tracker: Callable[[str, trackers.Target], trackers.Tracker] | None = None,
        make_evaluator: Callable[[Callable[[Reply], None]], EvaluatorHandle] = EvaluatorProcess,
    ) -> None:
        self.settings = settings
        self.name = run_name(settings.output_dir)
        self._ledger = Ledger(journal)
        self._log = journal.path
        self._console = console
        self._once = once
        self._clock = clock
        self._make_evaluator = make_evaluator
        self._inbox: SimpleQueue[Message] = SimpleQueue()
        self._child: EvaluatorHandle | None = None
        self._current: s.Checkpoint | None = None
        self._stop_at: datetime | None = None
        self._looked = False
        self._images = images_of(settings.state_dir, self.name)
        self._scanner = Scanner(
            settings.output_dir,
            weights=settings.protocol.weights,
            settle_seconds=settings.settle_seconds,
            known=s.wholes(self._run) if self.name in self._ledger.state else {},
        )
        self._watcher = Watcher(settings.output_dir, settings.watch, self._hint)
        make = make_tracker or (lambda name, target: trackers.load(name)(target))
        self._outbox = Outbox(settings, journal.path, make, self._inbox.put)
        self._hints: dict[str, str] = {}

    def stop(self) -> None:
        """Ask `run` to end; may be called from a signal handler or another thread."""
        self._inbox.put(Stop())

    def _hint(self) -> None:
        self._inbox.put(Look())

    @property
    def _run(self) -> s.Run:
        return self._ledger.state[self.name]

    def run(self) -> int:
        """Work until told to stop. Return 0, or with `once` 1 if something failed.

        Raises:
            SettingsError: With `once`, when there is no output directory to look at.
            JournalError: The log cannot be read or written; nothing else was lost.
        """
        try:
            self._begin()
            self._look()
            while True:
                self._evaluate_next()
                self._outbox.offer(self._run, self._clock())
                if self._done():
                    return self._exit_code()
                for message in self._receive():
                    self._take(message)
        finally:
            self._watcher.close()
            if self._child is not None:
                self._child.kill()
            self._console.close()

    # The log ------------------------------------------------------------------------------------

    def _record(self, stream: str, *new: e.Event) -> None:
        """Write events down, then say them."""
        self._ledger.record(self.name, stream, *new)
        for line in (line for event in new for line in narrate(event, once=self._once)):
            self._console.say(line)

    def _record_run(self, *new: e.Event) -> None:
        self._record(f"run/{self.name}", *new)

    def _begin(self) -> None:
        settings, protocol = self.settings, self.settings.protocol
        told = (protocol.digest, settings.trackers, settings.as_text(), __version__)
        if self.name not in self._ledger.state:
            self._record_run(e.RunStarted(str(settings.output_dir), *told))
        elif (self._run.protocol, self._run.tracker_names, self._run.settings) != told[:3]:
            self._record_run(e.SettingsChanged(*told))
        if protocol.digest not in self._run.protocols:
            self._record_run(e.ProtocolDefined(protocol.digest, protocol))
        for evaluation in s.reopenable(self._run, self._clock()):
            stream = evaluation_stream(self.name, evaluation.id)
            self._record(stream, e.EvaluationReopened(evaluation.id, self._clock()))
        for name, hint in self._outbox.hints(self._run).items():
            self._tell(name, hint)

    # Looking ------------------------------------------------------------------------------------

    def _look(self) -> None:
        problem, sightings = "", None
        try:
            sightings = self._scanner.scan()
        except FileNotFoundError:
            problem = f"{self.settings.output_dir} does not exist yet"
            if self._once:
                raise SettingsError(
                    f"{self.settings.output_dir} does not exist", key="output_dir"
                ) from None
        except NotReadable as error:
            problem = str(error)
        if problem != self._run.problem:
            self._record_run(e.OutputDirChecked(problem))
        if sightings == [] and not self._looked and not self._once:
            self._console.say(
                "no checkpoint there yet: folders named checkpoint-N are looked for, and pipelines "
                "with a number in their name"
            )
        self._looked = True
        if sightings is not None:
            self._record_run(*s.observe(self._run, sightings))
        self._watcher.rearm(self._pending_paths())

    def _pending_paths(self) -> list[Path]:
        partial = (c for c in self._run.checkpoints.values() if c.state == "partial")
        return [Path(checkpoint.path) for checkpoint in partial]

    # Evaluating ---------------------------------------------------------------------------------

    def _evaluate_next(self) -> None:
        if self._current is not None or self._stop_at is not None:
            return
        checkpoint = s.next_checkpoint(self._run, self._clock())
        if checkpoint is None:
            return
        if self._child is not None and not self._child.alive:
            self._child.kill()  # which closes what is left of it
            self._child = None
        self._child = self._child or self._make_evaluator(self._inbox.put)
        evaluation = s.evaluation_of(self._run, checkpoint)
        id_ = s.evaluation_id(checkpoint, self._run.protocol)
        settings = self.settings
        self._current = checkpoint
        self._child.evaluate(
            Evaluate(
                path=checkpoint.path,
                kind=checkpoint.kind,
                component=checkpoint.component,
                files=checkpoint.files,
                protocol=settings.protocol,
                done=tuple(sorted(evaluation.done)) if evaluation else (),
                images_dir=str(self._images / id_),
                device=settings.device,
                batch_size=s.batch_size(evaluation, settings.batch_size),
                attention=settings.attention,
            )
        )
        self._console.say(f"{checkpoint.name}: loading")

    def _evaluated(self, checkpoint: s.Checkpoint, reply: Reply) -> None:
        """Write down what the evaluator says of the checkpoint it has in hand."""
        id_ = s.evaluation_id(checkpoint, self._run.protocol)
        stream = evaluation_stream(self.name, id_)
        match reply:
            case Loaded(environment):
                known = (id_, checkpoint.name, checkpoint.step, checkpoint.digest)
                self._record(stream, e.EvaluationStarted(*known, self._run.protocol, environment))
            case Scored(images):
                kept = [
                    e.ImageScore(i.prompt_id, i.index, i.seed, i.score, _below(id_, i.image))
                    for i in images
                ]
                self._record(stream, e.ImagesScored(id_, tuple(kept)))
                self._progress(checkpoint, id_)
            case Finished(truncated, seconds):
                self._finished(checkpoint, id_, truncated, seconds)
            case Failed(kind, reason):
                self._failed(checkpoint, id_, kind, reason)

    def _progress(self, checkpoint: s.Checkpoint, id_: str) -> None:
        protocol = self.settings.protocol
        total = len(protocol.prompts) * protocol.images_per_prompt
        self._console.progress(checkpoint.name, len(self._run.evaluations[id_].done), total)

    def _finished(self, checkpoint: s.Checkpoint, id_: str, truncated: int, seconds: float) -> None:
        protocol = self.settings.protocol
        scores = scores_of(self._log, self.name, id_, protocol)
        if len(scores) != len(protocol.prompts) * protocol.images_per_prompt:
            self._failed(checkpoint, id_, "internal", f"only {len(scores)} images were scored")
            return
        self._current = None
        clip = summarize([image.score for image in scores])
        stream = evaluation_stream(self.name, id_)
        self._record(stream, e.EvaluationCompleted(id_, clip, truncated, seconds))
        self._prune()

    def _failed(self, checkpoint: s.Checkpoint, id_: str, kind: str, reason: str) -> None:
        self._current = None
        if kind == "internal" and self._child is not None:
            self._child.kill()  # nobody knows what it holds now
        stream = evaluation_stream(self.name, id_)
        if id_ not in self._run.evaluations:  # it failed before it was loaded
            known = (id_, checkpoint.name, checkpoint.step, checkpoint.digest)
            self._record(stream, e.EvaluationStarted(*known, self._run.protocol, {}))
        evaluation = self._run.evaluations[id_]
        attempt = evaluation.attempt + 1
        again = s.retry_at(
            kind,
            attempt,
            self._clock(),
            attempts=self.settings.max_attempts,
            batch_size=s.batch_size(evaluation, self.settings.batch_size),
        )
        self._record(stream, e.EvaluationFailed(id_, kind, reason, attempt, again))
        if kind == "vanished" and self._run.checkpoints[checkpoint.name].state == "whole":
            self._record_run(s.vanished(checkpoint))

    def _prune(self) -> None:
        """Delete the images of all but the newest evaluations; their scores stay in the log."""
        keep = self.settings.keep_images
        if keep < 0:
            return
        scored = self._run.scored.get(self._run.protocol, ())
        lacking = self._outbox.lacking(self._run)
        wanted = {id_ for name in lacking for id_ in s.unpublished(self._run, name)}
        for id_ in scored[: max(0, len(scored) - keep)]:
            if id_ not in wanted:
                shutil.rmtree(self._images / id_, ignore_errors=True)

    # Publishing ---------------------------------------------------------------------------------

    def _tell(self, name: str, hint: str) -> None:
        """Say once how a person sees what a tracker got."""
        if hint and self._hints.get(name) != hint:
            self._hints[name] = hint
            self._console.say(f"{name}: {hint}")

    def _published(self, outcome: Outcome) -> None:
        name = outcome.tracker
        self._outbox.took(outcome)
        stream = f"tracker/{self.name}/{name}"
        known = self._run.trackers.get(name, s.TrackerState())
        if not outcome.problem:
            new = tuple(id_ for id_ in outcome.shown if id_ not in known.published)
            if new:
                self._record(stream, e.Published(name, new, outcome.where))
                self._tell(name, outcome.hint)
                self._prune()
            return
        attempt = known.attempt + 1
        again = None if outcome.refused else self._clock() + s.pause(attempt)
        self._record(stream, e.PublishFailed(name, outcome.problem, attempt, again))

    # The loop -----------------------------------------------------------------------------------

    def _receive(self) -> list[Message]:
        """Wait for messages until something is due; a wait that ends empty is a reason to look."""
        try:
            messages = [self._inbox.get(timeout=self._pause())]
        except Empty:
            return [Look()]
        while not self._inbox.empty():
            messages.append(self._inbox.get())
        hints = [message for message in messages if isinstance(message, Look)]
        others = [message for message in messages if not isinstance(message, Look)]
        return others + hints[:1]

    def _take(self, message: Message) -> None:
        match message:
            case Look():
                self._look()
            case Stop():
                self._console.say("stopping")
                patience = STOP_SECONDS if self._stop_at is None else 0.0  # asked twice: at once
                self._stop_at = self._clock() + timedelta(seconds=patience)
            case Outcome():
                self._published(message)
            case _ if self._current is not None:
                self._evaluated(self._current, message)

    def _pause(self) -> float:
        seconds = self.settings.rescan_seconds
        return min(seconds, PENDING_SECONDS) if self._pending_paths() else seconds

    def _done(self) -> bool:
        if self._stop_at is not None:
            return not self._outbox.busy or self._clock() >= self._stop_at
        if not self._once or self._current is not None or self._outbox.busy:
            return False
        return s.next_checkpoint(self._run, self._clock()) is None and not self._scanner.settling

    def _exit_code(self) -> int:
        if not self._once or self._stop_at is not None:
            return 0
        whole = [c for c in self._run.checkpoints.values() if c.state == "whole"]
        evaluations = [s.evaluation_of(self._run, checkpoint) for checkpoint in whole]
        failed = [it.checkpoint for it in evaluations if it is not None and it.state == "failed"]
        self._console.say(summary(self._run))
        lacking = self._outbox.lacking(self._run)
        if failed:
            self._console.say(f"no score for {', '.join(failed)}: clipwatch status says why")
        if lacking:
            self._console.say(f"not everything is published to {', '.join(lacking)}")
        return int(bool(failed or lacking))


def run_name(output_dir: Path) -> str:
    """Name the run of an output directory: readable, and unique by its path."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", output_dir.name).strip("-") or "run"
    return f"{slug}-{hashlib.sha256(str(output_dir).encode()).hexdigest()[:6]}"


def _below(evaluation: str, image: str | None) -> str | None:
    return None if image is None else f"{evaluation}/{image}"
