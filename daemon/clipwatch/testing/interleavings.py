"""What a tracker shows after any course of events, as a test to inherit from."""

from __future__ import annotations

import pkgutil
import random
import shutil
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from clipwatch.delivery.outbox import Publishing
from clipwatch.delivery.trackers import Target, Tracker
from clipwatch.results.series import Result, Series
from clipwatch.testing.killed import publish_killed
from clipwatch.testing.made_up import MadeUpLog, Said
from clipwatch.testing.series import make_target
from clipwatch.testing.witness import Point, Witness


class TrackerInterleavings:
    """Whatever happens to a tracker, in the end it shows exactly what the log says.

    A course of events is drawn by a seed: results that are scored in any order, again for a step,
    or by further scorers later, publications of all and of some, repeated ones, those of a process
    that is killed amid it, restarts, another destination and the way back, images that retention
    removes, backups of the log and of our own room at the tracker, and what is restored from them.
    What a failure was preceded by is told with it.

    A subclass has `adapter`, the methods `read` and `numbers`, and the pytest fixture `seed`, whose
    params say which courses are taken.

    Attributes:
        adapter: "package.module:Class", as in the entry point; "" for what no other process has.
        appends: What the tracker has stays there for good: of a step that was scored again it shows
            both results, the later one behind. Else it shows one result a step.
        events: In a course.
        elsewhere: For how many seconds other processes of the adapter are at a publication.
    """

    adapter = ""
    appends = False
    events = 16
    elsewhere = 0.0

    def read(self, series: Series, where: str, project: str) -> Iterable[Point]:
        """Return all points of a series at a place, in the order in which they are shown.

        By the tracker's own reader, not by the adapter; nothing where nothing is.

        Args:
            series: Whose.
            where: As Tracker.where told it.
            project: Of the target.
        """
        raise NotImplementedError

    def numbers(self, series: Series, result: Result) -> Mapping[str, float]:
        """Return what the tracker shows of a result, by names as `read` has them.

        The mean is among it, as no two results have the same.
        """
        raise NotImplementedError

    def target(self, folder: Path, project: str) -> Target:
        """Return a target below a folder; another project is another destination."""
        return make_target(folder, project=project)

    def make(self, target: Target) -> Tracker:
        """Return a new tracker, as after a restart."""
        tracker: Tracker = pkgutil.resolve_name(self.adapter)(target)
        return tracker

    def test_any_course_ends_with_what_the_log_says(self, seed: int, tmp_path: Path) -> None:
        """Each result once, by the tracker's own reading, after one quiet publication."""
        course = _Course(self, tmp_path, random.Random(seed))  # noqa: S311 - no secrets
        try:
            for _ in range(self.events):
                course.go_on()
            course.end()
        except Exception as error:
            error.add_note("\n".join((f"seed {seed}:", *course.told)))
            raise


class _Course:
    """A log, a tracker, and what happens to both; `told` says what did."""

    def __init__(self, contract: TrackerInterleavings, folder: Path, chance: random.Random) -> None:
        self._contract, self._folder, self._chance = contract, folder, chance
        self._log = MadeUpLog(folder, chance)
        parts = contract.read, contract.numbers
        self._witness = Witness(self._log.complete, *parts, appends=contract.appends)
        self._project = "project"
        self._tracker: Tracker | None = None
        self._backups: list[tuple[Said, Path]] = []
        self._calls = 40  # of a publication, as far as is known
        self.told: list[str] = []
        self._score()

    def go_on(self) -> None:
        """Have one thing happen."""
        kinds: dict[Callable[[], None], int] = {
            self._score: 5,
            self._score_later: 2,
            self._bring_back: 1,
            self._publish: 4,
            self._publish_again: 2,
            self._kill: 4 if self._contract.adapter else 0,
            self._restart: 1,
            self._move: 1,
            self._remove_images: 1,
            self._back_up: 2,
            self._restore: 2,
        }
        (event,) = self._chance.choices([*kinds], [*kinds.values()])
        event()

    def end(self) -> None:
        """Publish without a disturbance: all that the log says is shown, at once and for good."""
        self._restart()
        for name in self._log.said.results:
            self._bring(self._log.series(name), None)
        self._restart()
        for name, results in self._log.said.results.items():
            self._look(self._log.series(name), range(len(results)))

    def _score(self) -> None:
        for _ in range(self._chance.randint(1, 3)):
            self._changed(self._log.score())

    def _score_later(self) -> None:
        self._changed(self._log.score_later())

    def _bring_back(self) -> None:
        self._changed(self._log.bring_back())

    def _changed(self, what: tuple[str, str] | None) -> None:
        """Take notice that the log says something else."""
        if what:
            self.told.append(" ".join(what))
            for name, results in self._log.said.results.items():
                self._witness.hear(name, results)
                steps = {it.step for it in results if it.evaluation == what[0]}
                self._witness.forget(name, (it for it in results if it.step in steps))

    def _remove_images(self) -> None:
        """Remove those of an evaluation, as retention does."""
        shutil.rmtree(gone := self._chance.choice(sorted((self._folder / "images").iterdir())))
        self.told.append(f"the images of {gone.name} are removed")

    def _publish(self) -> None:
        """Bring what is missing, or a part of it."""
        series = self._log.any()
        some = self._chance.choice([None, self._some(series)])
        what = "all" if some is None else some
        self.told.append(f"of {series.name} is published what lacks of {what}")
        self._bring(series, some)

    def _bring(self, series: Series, some: Container[int] | None) -> None:
        publishing = Publishing(self._connected(), some)
        there = {*publishing.bring(series, self._witness.there(series.name))}
        assert not publishing.lost, f"no longer there: {publishing.lost}"
        self._seen(series, [it for it in series.results if it.evaluation in there])

    def _publish_again(self) -> None:
        """Publish what may be there already."""
        series = self._log.any()
        some = self._some(series)
        self.told.append(f"of {series.name} are published {some}, there or not")
        self._connected().publish(series, some)
        self._look(series, some)

    def _kill(self) -> None:
        """Have another process publish, which is killed."""
        series = self._log.any()
        some = self._some(series)
        calls = self._chance.randrange(self._calls)
        seconds = max(0.0, self._chance.uniform(-1, 1) * self._contract.elsewhere)
        asked = (self._contract.adapter, self._target, series, some, calls, seconds)
        ended = publish_killed(*asked)
        how = f"is killed {seconds:.3f} s after call {calls}" if ended is None else "ends"
        self.told.append(f"who publishes {some} of {series.name} {how}")
        self._calls = self._calls + calls if ended is None else ended + 1
        self._tracker = None
        self._look(series, () if ended is None else some)

    def _look(self, series: Series, published: Iterable[int]) -> None:
        """Have these be there, as the adapter says, and the tracker show what is there."""
        shown = self._connected().published(series)
        assert shown.issuperset(published), f"of {[*published]} there is {sorted(shown)}"
        self._seen(series, [series.results[seq] for seq in sorted(shown)])

    def _seen(self, series: Series, shown: list[Result]) -> None:
        where = self._connected().where(series)
        self._log.place(series.name, where)
        self._witness.look(series.name, shown, where, self._project)

    def _restart(self) -> None:
        self._tracker = None
        self.told.append("a restart")

    def _move(self) -> None:
        """Change the destination, or change it back."""
        self._project = "another" if self._project == "project" else "project"
        self._elsewhere(f"the destination is {self._project}")

    def _back_up(self) -> None:
        """Copy the log and our room as they are."""
        copy = self._folder / "backups" / str(len(self._backups))
        if self._target.state_dir.exists():
            shutil.copytree(self._target.state_dir, copy, symlinks=True)
        self._backups.append((self._log.said, copy))
        self.told.append(f"backup {copy.name}")

    def _restore(self) -> None:
        """Put back the log, our room, or both; the tracker knows nothing of it."""
        if not self._backups:
            return
        said, copy = self._chance.choice(self._backups)
        what = self._chance.choice([("log",), ("room",), ("log", "room")])
        if "log" in what:
            self._log.said = said
        if "room" in what:
            room = self._target.state_dir
            shutil.rmtree(room, ignore_errors=True)
            if copy.exists():
                shutil.copytree(copy, room, symlinks=True)
        self._elsewhere(f"of backup {copy.name} is restored: {' and '.join(what)}")

    def _elsewhere(self, what: str) -> None:
        """Nothing has to be there, as the tracker or what we know of it is another one."""
        self._tracker = None
        self._witness.forget_all()
        self.told.append(what)

    @property
    def _target(self) -> Target:
        places = dict(self._log.said.places)
        made = self._contract.target(self._folder, self._project)
        return replace(made, where=["", *places.values()][-1], places=places)

    def _connected(self) -> Tracker:
        if self._tracker is None:
            self._tracker = self._contract.make(self._target)
        return self._tracker

    def _some(self, series: Series) -> list[int]:
        """Return some results, and what lacks of the same steps from before them."""
        results, there = series.results, self._witness.there(series.name)
        count = self._chance.choice([1, 1, 2, len(results)])
        some = self._chance.sample(results, min(count, len(results)))
        last = {it.step: it.seq for it in sorted(some, key=lambda it: it.seq)}
        lacking = [it for it in results if it.evaluation not in there]
        before = [it for it in lacking if it.seq < last.get(it.step, 0)]
        return sorted({it.seq for it in (*some, *before)})
