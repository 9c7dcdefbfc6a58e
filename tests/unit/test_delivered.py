"""Each series is owed to each destination until it is there; nothing is brought twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from clipwatch.delivery.channels import channels
from clipwatch.domain.delivered import (
    Destination,
    addressed,
    advice_id,
    may_try,
    owed,
    parked,
    received,
)
from clipwatch.domain.events import (
    AdviceGiven,
    AdviceNotSent,
    AdviceSent,
    DestinationChanged,
    EvaluationCompleted,
    EvaluationStarted,
    Event,
    ProtocolDefined,
    Published,
    PublishFailed,
    RunStarted,
    SettingsChanged,
)
from clipwatch.domain.fold import evolve
from clipwatch.domain.kinds import ReceiverKind
from clipwatch.domain.state import Run, State
from clipwatch.results import view
from clipwatch.results.told import as_json
from clipwatch.settings import Advice
from clipwatch.statistics import Summary
from protocols import PROTOCOL as HOW

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
TRACKERS = ("tensorboard", "wandb")
PROTOCOLS = ("aaaaaaaa", "bbbbbbbb", "cccccccc")
A, B = PROTOCOLS[:2]
STARTED = RunStarted("/out", A, TRACKERS, {}, "0")
CLIP = Summary(0.3, 0.1, 0.4, 0.05, 4)


def id_of(step: int, protocol: str) -> str:
    return f"checkpoint-{step}/d/{protocol}"


def scored(step: int, protocol: str) -> list[Event]:
    """Return how a result comes, with advice."""
    id_ = id_of(step, protocol)
    return [
        EvaluationStarted(id_, f"checkpoint-{step}", step, "d", protocol, {}),
        EvaluationCompleted(id_, {"": CLIP}),
        AdviceGiven(id_, step, "low", "look at it"),
    ]


def under(protocol: str, names: Sequence[str] = TRACKERS) -> SettingsChanged:
    return SettingsChanged(protocol, tuple(names), {"seed": protocol}, "0")


def goes_to(place: str, name: str = "wandb") -> DestinationChanged:
    return DestinationChanged("tracker", name, place)


def shown(place: str, protocol: str, *steps: int) -> Published:
    ids = tuple(id_of(step, protocol) for step in steps)
    return Published("wandb", ids, f"{place}/{protocol}", place, protocol)


def fold(*events: Event) -> Run:
    """Return the run after these events."""
    state: State = {}
    for event in (STARTED, *(ProtocolDefined(it, HOW) for it in PROTOCOLS), *events):
        state = evolve(state, [(RUN, event, NOW)])
    return state[RUN]


def test_a_result_of_earlier_settings_is_owed_until_it_is_shown() -> None:
    """The present protocol's comes first; both wait for nothing but their own read-back."""
    run = fold(goes_to("x"), *scored(1, A), under(B), *scored(2, B))
    first, second = (id_of(1, A),), (id_of(2, B),)
    assert list(owed(run, "tracker", "wandb").items()) == [(B, second), (A, first)]
    run = fold(goes_to("x"), *scored(1, A), under(B), *scored(2, B), shown("x", B, 2))
    assert owed(run, "tracker", "wandb") == {A: first}
    run = fold(goes_to("x"), *scored(1, A), under(B), *scored(2, B), shown("x", A, 1))
    assert owed(run, "tracker", "wandb") == {B: second}


def test_a_changed_destination_is_owed_everything() -> None:
    """What was shown at another place does not count, and is read again where it was before."""
    events = [goes_to("x"), *scored(1, A), shown("x", A, 1)]
    everything = {A: (id_of(1, A),)}
    assert owed(fold(*events), "tracker", "wandb") == {}
    assert owed(fold(*events, goes_to("y")), "tracker", "wandb") == everything
    moved = [*events, goes_to("y"), shown("y", A, 1)]
    assert owed(fold(*moved), "tracker", "wandb") == {}
    assert owed(fold(*moved, goes_to("x")), "tracker", "wandb") == everything


def test_what_comes_late_counts_only_for_its_own_destination() -> None:
    """An attempt that ends after the settings have changed says nothing of the new place."""
    events = [goes_to("x"), *scored(1, A), goes_to("y")]
    failed = PublishFailed("wandb", "no key", 1, None, "x", A)
    run = fold(*events, shown("x", A, 1), failed)
    assert owed(run, "tracker", "wandb") == {A: (id_of(1, A),)}
    assert may_try(run, "tracker", "wandb", A, NOW)


def test_a_series_that_fails_stops_no_other() -> None:
    """Refused for one protocol, a tracker may be brought the other; only both make it wait."""
    refused = [PublishFailed("wandb", "in the way", 1, None, "x", it) for it in (A, B)]
    events = [goes_to("x"), *scored(1, A), under(B), *scored(2, B)]
    run = fold(*events, refused[0])
    assert not may_try(run, "tracker", "wandb", A, NOW)
    assert may_try(run, "tracker", "wandb", B, NOW)
    assert not parked(run, "wandb")
    assert parked(fold(*events, *refused), "wandb")
    assert not parked(fold(*events, *refused, under(B)), "wandb")


def test_status_says_what_is_owed_of_earlier_settings() -> None:
    """With the reason; a tracker that is no longer named is owed nothing."""
    failed = PublishFailed("wandb", "error 503", 1, NOW, "x", A)
    events = [goes_to("x"), *scored(1, A), *scored(2, A), failed]
    later: list[Event] = [under(B), replace(failed, attempt=2)]
    told = "of earlier settings not shown there"
    assert f"wandb: 2 results {told}: error 503" in view.problems(fold(*events, *later))
    assert not any(told in line for line in view.problems(fold(*events)))
    assert as_json({RUN: fold(*events, *later)}, NOW, {})["runs"][0]["owed"]["wandb"] == 2
    unnamed = fold(*events, under(B, ["tensorboard"]))
    assert not any("wandb" in line for line in view.problems(unnamed))


SILENT = Advice(
    *(None, None, 0, {}, 0), webhook="", apprise=(), every_checkpoint=False, pictures=False
)


def place(**addresses: object) -> str:
    """Return the destination of the only channel."""
    (channel,) = channels(replace(SILENT, **addresses)).values()  # type: ignore[arg-type]
    return channel.destination()


def test_a_channels_destination_tells_addresses_apart_and_no_secret() -> None:
    """Another host, token, user or addressee is another one; another password is not."""
    hook = place(webhook="https://hooks.example.org/services/T0KEN")
    assert hook == place(webhook="https://hooks.example.org/services/T0KEN")
    others = ("https://hooks.example.org/services/0THER", "https://example.org/services/T0KEN")
    assert len({hook, *(place(webhook=it) for it in others)}) == 3
    mail = place(apprise=("mailto://me:s3cret@example.org?to=you@example.org",))
    assert mail == place(apprise=("mailto://me:changed@example.org?to=you@example.org",))
    for other in (
        ("mailto://she:s3cret@example.org?to=you@example.org",),
        ("mailto://me:s3cret@example.org?to=her@example.org",),
        ("mailto://me:s3cret@example.org?to=you@example.org", "json://localhost"),
    ):
        assert place(apprise=other) != mail
    assert not any(word in hook + mail for word in ("T0KEN", "s3cret", "example", "you"))


# Whatever happens, in whatever order -------------------------------------------------------------


@dataclass
class World:
    """A log, and what really is at each place: who publishes reads back first, who sends cannot."""

    log: list[Event] = field(default_factory=lambda: [STARTED])
    state: State = field(default_factory=lambda: evolve({}, [(RUN, STARTED, NOW)]))
    tried: set[tuple[str, str]] = field(default_factory=set)
    protocol: str = A
    now: datetime = NOW
    settings: dict[str, str] = field(default_factory=lambda: {"wandb": "x", "webhook": "x"})
    there: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    steps: int = 0

    def record(self, *events: Event) -> None:
        """Write down and fold."""
        self.log += events
        self.state = evolve(self.state, [(RUN, event, self.now) for event in events])

    @property
    def run(self) -> Run:
        """Return the run as the log has it."""
        return self.state[RUN]

    def score(self) -> None:
        """Score one more checkpoint."""
        self.steps += 1
        self.record(*scored(self.steps, self.protocol))

    def switch(self, protocol: str) -> None:
        """Go over to other settings."""
        self.protocol = protocol
        known = [] if protocol in self.run.protocols else [ProtocolDefined(protocol, HOW)]
        self.record(*known, under(protocol, ["wandb"]))
        self.tried.clear()

    def restart(self) -> None:
        """Fold the log anew, at once; everything has a new chance."""
        self.state = evolve({}, [(RUN, event, self.now) for event in self.log])
        self.tried.clear()

    def attempt(self, kind: ReceiverKind, name: str, end: str) -> bool:
        """Bring the next series that may be tried; return whether there was one."""
        to = Destination(kind, name, self.settings[name])
        self.record(*addressed(self.run, to))
        for protocol, lacking in owed(self.run, kind, name).items():
            fresh = (name, protocol) not in self.tried
            if fresh or may_try(self.run, kind, name, protocol, self.now):
                self.tried.add((name, protocol))
                self._bring(to, protocol, lacking, end)
                return True
        return False

    def _bring(self, to: Destination, protocol: str, lacking: Sequence[str], end: str) -> None:
        there = self.there.setdefault((to.name, to.place), [])
        attempt = received(self.run, to.kind, to.name).trial(protocol).attempt + 1
        again = None if end == "refused" else self.now + timedelta(seconds=30)
        if end in ("refused", "unavailable"):
            failed = PublishFailed if to.kind == "tracker" else AdviceNotSent
            self.record(failed(to.name, end, attempt, again, to.place, protocol))
        elif to.kind == "channel":
            there += lacking
            self.record(AdviceSent(to.name, tuple(lacking), to.place, protocol))
        else:
            series = self.run.scored[protocol]
            there += [id_ for id_ in series if id_ not in there]  # by its own word
            if end == "told":
                self.record(Published(to.name, tuple(series), "w", to.place, protocol))
            else:  # killed before it was written down
                self.restart()


actions = st.one_of(
    st.just(("score",)),
    st.tuples(st.just("switch"), st.sampled_from(PROTOCOLS)),
    st.tuples(st.just("move"), st.sampled_from(["wandb", "webhook"]), st.sampled_from("xyz")),
    st.tuples(
        st.just("attempt"),
        st.sampled_from(["wandb", "webhook"]),
        st.sampled_from(["told", "told", "told", "killed", "refused", "unavailable"]),
    ),
    st.just(("restart",)),
    st.just(("wait",)),
)
KINDS: dict[str, ReceiverKind] = {"wandb": "tracker", "webhook": "channel"}


@given(st.lists(actions, min_size=5, max_size=40))
def test_in_the_end_everything_is_everywhere_once(done: list[tuple[str, ...]]) -> None:
    """Whatever the order of scores, settings, places, failures, kills and restarts."""
    world = World()
    world.record(ProtocolDefined(A, HOW))
    for action in done:
        match action:
            case ("score",):
                world.score()
            case ("switch", protocol):
                world.switch(protocol)
            case ("move", name, where):
                world.settings[name] = where
            case ("attempt", name, end):
                world.attempt(KINDS[name], name, end)
            case ("restart",):
                world.restart()
            case _:
                world.now += timedelta(seconds=31)
    world.restart()
    for name, kind in KINDS.items():
        while world.attempt(kind, name, "told"):
            pass
        assert owed(world.run, kind, name) == {}
    everything = {id_ for series in world.run.scored.values() for id_ in series}
    advice = {advice_id(it) for it in world.run.advice}
    for name, all_ in (("wandb", everything), ("webhook", advice)):
        assert set(world.there.get((name, world.settings[name]), [])) == all_
    for there in world.there.values():
        assert len(there) == len(set(there))
