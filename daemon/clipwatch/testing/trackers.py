"""What every tracker adapter must do, as tests to inherit from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from clipwatch.delivery.trackers import Clearing, Surveying, Tracker
from clipwatch.kit.errors import TrackerRefused
from clipwatch.testing.series import START, make_protocol, make_series, with_everything

Connect = Callable[[], Tracker]


class TrackerContract:
    """The contract of clipwatch.delivery.trackers.Tracker.

    A subclass has the pytest fixture `connect`: a function that returns a tracker for one and the
    same target at each call, as the daemon does after a restart.
    """

    def test_nothing_is_published_at_first(self, connect: Connect, tmp_path: Path) -> None:
        """A series that was never published holds nothing, and looking changes nothing."""
        series = make_series(tmp_path, [100])
        before = sorted(tmp_path.rglob("*"))
        tracker = connect()
        assert tracker.published(series) == frozenset()
        assert tracker.where(series)
        assert sorted(tmp_path.rglob("*")) == before

    def test_what_is_published_is_read_back(self, connect: Connect, tmp_path: Path) -> None:
        """All missing results are there after one call."""
        series = make_series(tmp_path, [100, 200, 300])
        tracker = connect()
        tracker.publish(series, [0, 1, 2])
        assert tracker.published(series) == {0, 1, 2}

    def test_results_may_come_one_at_a_time(self, connect: Connect, tmp_path: Path) -> None:
        """A growing series keeps what it had, and holds nothing that was not published."""
        series = make_series(tmp_path, [100, 200, 300])
        tracker = connect()
        for seq in range(3):
            grown = replace(series, results=series.results[: seq + 1])
            tracker.publish(grown, [seq])
            assert tracker.published(series) == set(range(seq + 1))

    def test_the_order_of_steps_does_not_matter(self, connect: Connect, tmp_path: Path) -> None:
        """Results of earlier steps may come later, and a gap may be filled."""
        series = make_series(tmp_path, [300, 100, 400, 200])
        tracker = connect()
        for missing in ([0], [2], [1, 3]):
            tracker.publish(series, missing)
        assert tracker.published(series) == {0, 1, 2, 3}

    def test_a_later_result_of_a_step_is_taken(self, connect: Connect, tmp_path: Path) -> None:
        """A step that was evaluated again is published again."""
        series = make_series(tmp_path, [100, 200, 100])
        tracker = connect()
        tracker.publish(replace(series, results=series.results[:2]), [0, 1])
        assert 2 not in tracker.published(series)
        tracker.publish(series, [2])
        assert tracker.published(series) == {0, 1, 2}

    def test_publishing_again_is_harmless(self, connect: Connect, tmp_path: Path) -> None:
        """The same call may be repeated, also by a daemon that was restarted."""
        series = make_series(tmp_path, [100, 200])
        connect().publish(series, [0, 1])
        connect().publish(series, [0, 1])
        assert connect().published(series) == {0, 1}

    def test_what_was_replaced_takes_nothing_back(self, connect: Connect, tmp_path: Path) -> None:
        """The earlier result of a step, published once more, leaves the later one where it is."""
        series = make_series(tmp_path, [100, 200, 100])
        connect().publish(series, [0, 1, 2])
        connect().publish(series, [0])
        assert connect().published(series) == {0, 1, 2}

    def test_a_restart_forgets_nothing(self, connect: Connect, tmp_path: Path) -> None:
        """A new tracker of the same target reads what the old one published, and goes on."""
        series = make_series(tmp_path, [100, 200])
        connect().publish(replace(series, results=series.results[:1]), [0])
        assert connect().published(series) == {0}
        connect().publish(series, [1])
        assert connect().published(series) == {0, 1}

    def test_series_do_not_mix(self, connect: Connect, tmp_path: Path) -> None:
        """Two protocols of one run are two curves at two places."""
        one = make_series(tmp_path, [100, 200])
        other = make_series(
            tmp_path, [100, 200], name="clipwatch-other", protocol=make_protocol(seed=1)
        )
        tracker = connect()
        tracker.publish(one, [0, 1])
        assert tracker.published(other) == frozenset()
        tracker.publish(other, [1])
        assert tracker.published(one) == {0, 1}
        assert tracker.published(other) == {1}
        assert tracker.where(one) != tracker.where(other)

    def test_images_may_be_gone(self, connect: Connect, tmp_path: Path) -> None:
        """Numbers are published also when the images were removed or never kept."""
        series = make_series(tmp_path, [100, 200])
        bare = make_series(tmp_path, [100], name="bare", images=False)
        shutil.rmtree(series.images)
        tracker = connect()
        tracker.publish(series, [0, 1])
        tracker.publish(bare, [0])
        assert tracker.published(series) == {0, 1}
        assert tracker.published(bare) == {0}

    def test_a_series_may_gain_what_earlier_results_lack(
        self, connect: Connect, tmp_path: Path
    ) -> None:
        """Intervals, categories, scorers, differences and advice may begin amid a series."""
        bare = make_series(tmp_path, [100, 200, 300, 250])
        full = with_everything(bare)
        connect().publish(replace(bare, results=bare.results[:1]), [0])
        mixed = replace(full, results=(*bare.results[:1], *full.results[1:]))
        tracker = connect()
        assert tracker.published(mixed) == {0}
        for seq in (1, 2, 3):
            grown = replace(mixed, results=mixed.results[: seq + 1])
            tracker.publish(grown, [seq])
            assert connect().published(grown) == set(range(seq + 1))

    def test_what_is_cleared_may_be_published_again(self, connect: Connect, tmp_path: Path) -> None:
        """A tracker that can write all anew has nothing of the series then, and all of others."""
        series, other = (make_series(tmp_path, [100, 300], name=it) for it in ("one", "two"))
        other = replace(other, protocol=make_protocol(seed=1), digest=make_protocol(seed=1).digest)
        tracker = connect()
        for each in (series, other):
            tracker.publish(each, [0, 1])
        if not isinstance(tracker, Clearing):
            return
        try:
            tracker.clear(series)
        except TrackerRefused:  # which says why, as it may not be possible everywhere
            return
        assert connect().published(series) == frozenset()
        assert connect().published(other) == {0, 1}
        connect().publish(series, [1])
        assert connect().published(series) == {1}

    def test_what_another_log_brought_is_told(self, connect: Connect, tmp_path: Path) -> None:
        """A tracker that can tell names what is in the curve and not among the results."""
        series = make_series(tmp_path, [100, 200, 300])
        connect().publish(series, [0, 1, 2])
        older = replace(series, results=series.results[:1])
        tracker = connect()
        if isinstance(tracker, Surveying):
            assert tracker.published(older) == {0}
            assert set(tracker.more(older)) == {it.evaluation for it in series.results[1:]}
            assert tracker.published(series) == {0, 1, 2}
            assert not tracker.more(series)

    def test_results_that_were_scored_earlier_may_come_later(
        self, connect: Connect, tmp_path: Path
    ) -> None:
        """As by an import: they are added to what is there, which counts as before."""
        series = make_series(tmp_path, [200, 300, 100])
        earlier = replace(series.results[2], finished=START - timedelta(days=1))
        series = replace(series, results=(*series.results[:2], earlier))
        connect().publish(replace(series, results=series.results[:2]), [0, 1])
        before = connect().where(series)
        assert connect().published(series) == {0, 1}
        connect().publish(series, [2])
        assert connect().published(series) == {0, 1, 2}
        assert connect().where(series) == before

    def test_where_is_stable(self, connect: Connect, tmp_path: Path) -> None:
        """The place told before the first publication is the place told after it."""
        series = make_series(tmp_path, [100])
        before = connect().where(series)
        connect().publish(series, [0])
        assert connect().where(series) == before

    def test_the_destination_is_stable(self, connect: Connect, tmp_path: Path) -> None:
        """Told on one line before anything was published; neither that nor a restart changes it."""
        series = make_series(tmp_path, [100])
        before, files = connect().destination(), sorted(tmp_path.rglob("*"))
        assert before.isprintable()
        assert connect().destination() == before
        assert sorted(tmp_path.rglob("*")) == files
        tracker = connect()
        tracker.publish(series, [0])
        assert tracker.published(series) == {0}
        assert tracker.destination() == before
        assert connect().destination() == before
