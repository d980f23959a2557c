"""The queue of a pool: limits to the request and to the byte, order between bands, and how long anybody waits."""

import math
import random
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched import Assigned, Dispatcher, EndpointBatch, Profile, Registry, Request, Scheduler
from inferencesched.events import Ticket
from inferencesched.flow import (
    BandSettings,
    ConcurrencyDetector,
    FlowController,
    GlobalStrictFairnessPolicy,
    RoundRobinFairnessPolicy,
    Saturation,
    Settings,
    TokenWeightedFairnessPolicy,
    Tuning,
    Waiting,
)
from inferencesched.flow.patience import Patience
from inferencesched.flow.saturation import Gauge
from inferencesched.interfaces import FairnessPolicy


def pool(level: float) -> Saturation:
    """A reading of that level."""
    batch = EndpointBatch.build(["e"], {"in_flight_requests": [level]})
    report = Gauge(ConcurrencyDetector(max_concurrency=1)).read(batch)
    assert report is not None
    return report


FREE, FULL = pool(0.0), pool(1.0)


def controller_of(**options: Any) -> FlowController:
    controller = FlowController(Settings(**options))
    controller.patience.watch(has_endpoints=True, now=0.0)
    return controller


def waiting(number: int, priority: int = 0, *, now: float = 0.0, size: int = 1, **about: Any) -> Waiting:
    return Waiting(Request(f"r{number}", priority=priority, **about), number, now, size, flow="f")


def fill(controller: FlowController, *priorities: int, now: float = 0.0, size: int = 1) -> list[Waiting]:
    added = [waiting(number, priority, now=now, size=size) for number, priority in enumerate(priorities)]
    for each in added:
        controller.add(each, now=now)
    return added


# --- limits ---


@pytest.mark.parametrize(
    "limits",
    [
        {"bands": {0: BandSettings(max_requests=3)}},
        {"bands": {0: BandSettings(max_bytes=30)}},
        {"max_requests": 3},
        {"max_bytes": 30},
    ],
    ids=["band requests", "band bytes", "all requests", "all bytes"],
)
def test_exactly_at_a_limit_fits_and_one_more_does_not(limits: dict[str, Any]) -> None:
    controller = controller_of(**limits)
    fill(controller, 0, 0, size=10)

    assert controller.room(waiting(2, size=10)) == ()
    controller.add(waiting(2, size=10), now=0.0)
    assert controller.room(waiting(3, size=10)) is None


def test_displacing_takes_as_many_as_are_needed_and_none_if_that_is_not_enough() -> None:
    """The youngest of the lowest band first; bytes and requests are both looked at."""
    controller = controller_of(max_bytes=40, tuning=Tuning(displace=True))
    a, b, c, d = fill(controller, -2, -1, -1, 5, size=10)

    assert controller.room(waiting(9, 0, size=10)) == (a,)
    assert controller.room(waiting(9, 0, size=30)) == (a, c, b)
    assert controller.room(waiting(9, 0, size=31)) is None
    assert controller.room(waiting(9, 9, size=40)) == (a, c, b, d)


def test_a_band_that_nobody_waits_in_holds_nobody_back() -> None:
    """Upstream stops at the ceiling of an empty band."""
    controller = controller_of(limits=Upside())
    fill(controller, 0)

    assert controller.next(pool(0.5), now=0.0) is not None


class Upside:
    """Gives the urgent band no room at all."""

    def ceilings(self, saturation: float, priorities: Any, /) -> list[float]:
        return [0.0 if priority > 0 else 1.0 for priority in priorities]


def test_e1_a_configured_band_outlives_every_idle_time() -> None:
    """Bands made on demand make way when there are too many; those that were configured stay."""
    controller = controller_of(bands={0: BandSettings(), 5: BandSettings()}, tuning=Tuning(max_bands=3))
    for priority in range(10, 20):
        controller.band_for(priority)

    assert [band.priority for band in controller.bands] == [19, 5, 0]


def test_e3_what_holds_when_nothing_is_said() -> None:
    """Priority 0, 5000 requests and 1 GB a band, a minute to live, no limit over all bands."""
    flow = Settings()

    assert Request("r").priority == 0
    assert (flow.band(0).max_requests, flow.band(0).max_bytes) == (5_000, 1_000_000_000)
    assert (flow.ttl_of(0), flow.no_endpoint_ttl_of(0)) == (60.0, 60.0)
    assert (flow.max_requests, flow.max_bytes) == (None, None)


def test_new_settings_keep_whoever_waits_and_the_time_that_has_passed() -> None:
    controller = controller_of(ttl=60.0)
    fill(controller, 0, 5, -1)

    controller.reconfigure(Settings(ttl=30.0, max_requests=1, bands={5: BandSettings(max_requests=0)}))

    assert (len(controller), controller.next_expiry()) == (3, 30.0)
    assert controller.room(waiting(9)) is None
    assert [w.request.priority for w in iter(lambda: controller.next(FREE, now=1.0), None)] == [5, 0, -1]


# --- cost ---


class Counted(float):
    """A rank that counts how often it is compared."""

    comparisons = 0

    def __lt__(self, other: Any) -> bool:
        Counted.comparisons += 1
        return float.__lt__(self, other)


class CountingOrder:
    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        return Counted(hash(request.id) % 1000)


@pytest.mark.parametrize("queued", [1_000, 10_000])
def test_the_cost_of_a_request_grows_with_the_logarithm_of_the_queue(queued: int) -> None:
    """In and out: fewer than 8 comparisons for each doubling."""
    band = BandSettings(max_requests=queued, ordering=CountingOrder())
    controller = controller_of(bands={0: band})
    Counted.comparisons = 0

    for number in range(queued):
        controller.add(waiting(number), now=0.0)
    while controller.next(FREE, now=0.0) is not None:
        pass

    assert Counted.comparisons / queued < 8 * math.log2(queued)


def calls_to(work: Callable[[], object]) -> int:
    """How many functions are called, Python's and C's."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def busy(queued: int, fairness: FairnessPolicy) -> tuple[Dispatcher, list[Ticket]]:
    """A dispatcher with that many queued in 100 flows and 3 bands, and what fills the pool."""
    band = BandSettings(max_requests=10**6, max_bytes=10**12, fairness=fairness)
    settings = Settings(bands=dict.fromkeys((10, 0, -10), band), detector=ConcurrencyDetector(max_concurrency=4))
    scheduler = Scheduler(Profile(picker=Registry().create("round-robin-picker")), rng=random.Random(1))
    dispatcher = Dispatcher(scheduler, flow=settings)
    for i in range(4):
        dispatcher.add_endpoint(f"e{i}", now=-100.0)
    for i in range(queued + 16):
        dispatcher.submit(Request(f"r{i}", flow=f"f{i % 100}", priority=(10, 0, -10)[i % 3]), now=0.0)
    running = []
    while (event := dispatcher.next_event()) is not None:
        running.append(event.ticket)
    assert (dispatcher.queued, len(running)) == (queued, 16)
    return dispatcher, running


def turnover(dispatcher: Dispatcher, running: list[Ticket], rounds: int) -> None:
    """One ends, the next is placed, another comes."""
    for number in range(rounds):
        dispatcher.finish(running.pop(0), now=1.0)
        event = dispatcher.next_event()
        assert isinstance(event, Assigned)
        running.append(event.ticket)
        assert dispatcher.next_event() is None
        dispatcher.next_timer()
        dispatcher.submit(Request(f"new-{number}", flow=f"f{number % 100}", priority=0), now=1.0)


@pytest.mark.parametrize(
    "fairness",
    [GlobalStrictFairnessPolicy(), RoundRobinFairnessPolicy(), TokenWeightedFairnessPolicy()],
    ids=lambda policy: policy.type,
)
def test_a_request_costs_as_many_calls_behind_twenty_thousand_as_behind_one(fairness: FairnessPolicy) -> None:
    """End, place, ask for the timer, queue: within three calls of each other, and fewer than 380 of them."""
    costs = []
    for queued in (1_000, 20_000):
        subject = busy(queued, fairness)
        turnover(*subject, 20)
        costs.append(calls_to(partial(turnover, *subject, 200)) / 200)

    assert abs(costs[1] - costs[0]) < 3
    assert max(costs) < 380


def test_gaps_are_cleaned_up_before_they_are_most_of_a_queue() -> None:
    """Ten thousand come and are cancelled behind one that stays, whose flow holds on to next to nothing."""
    controller = controller_of()
    controller.add(waiting(0), now=0.0)
    for number in range(1, 10_000):
        controller.add(newcomer := waiting(number), now=0.0)
        controller.remove(newcomer)

    (band,) = controller.bands
    assert band.flows == {"f": 1}
    assert len(band._flows["f"]._heap) < 32


# --- time ---


def test_each_second_is_charged_to_one_budget() -> None:
    patience, early = Patience(), waiting(0)
    patience.watch(has_endpoints=False, now=0.0)
    assert patience.over_at(early, ttl=10.0, no_endpoint_ttl=100.0) == 100.0

    patience.watch(has_endpoints=True, now=40.0)
    assert patience.over_at(early, ttl=10.0, no_endpoint_ttl=100.0) == 50.0
    patience.watch(has_endpoints=False, now=44.0)
    assert patience.over_at(early, ttl=10.0, no_endpoint_ttl=100.0) == 104.0
    patience.watch(has_endpoints=True, now=60.0)
    assert patience.over_at(early, ttl=10.0, no_endpoint_ttl=100.0) == 66.0


# --- everything at once ---


class Queue(RuleBasedStateMachine):
    """Arrivals, departures, removals and a pool that fills and empties, against a plain list.

    With `turns` None the order between bands is strict; else it is strict but for aged bands, and those keep the bound
    that `Tuning` promises.
    """

    turns: int | None = None

    def __init__(self) -> None:
        super().__init__()
        tuning = Tuning(strict=self.turns is None, age_after_seconds=5.0, age_turns=self.turns or 1, displace=True)
        self.controller = controller_of(max_requests=12, max_bytes=50, ttl=0.0, tuning=tuning)
        self.model: list[Waiting] = []
        self.now = 0.0
        self.number = 0
        self.passed_over: dict[int, int] = {}  # band → placements since it became aged without being served
        self.most_aged = 1

    @rule(priority=st.integers(-2, 2), size=st.integers(0, 30))
    def arrive(self, priority: int, size: int) -> None:
        self.number += 1
        newcomer = waiting(self.number, priority, now=self.now, size=size)
        leaving = self.controller.room(newcomer)
        if leaving is None:
            return
        for each in leaving:
            assert each.priority < priority
            self.controller.remove(each)
            self.model.remove(each)
        self.controller.add(newcomer, now=self.now)
        self.model.append(newcomer)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        gone = data.draw(st.sampled_from(self.model))
        self.controller.remove(gone)
        self.model.remove(gone)

    @rule(seconds=st.sampled_from((0.0, 1.0, 6.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def find_it_full(self) -> None:
        assert self.controller.next(FULL, now=self.now) is None

    @rule(count=st.integers(1, 6))
    def place(self, count: int) -> None:
        for _ in range(count):
            aged = {w.priority for w in self.model if self.now - w.arrived >= 5.0}
            taken = self.controller.next(FREE, now=self.now)
            assert (taken is None) == (not self.model)
            if taken is None:
                return
            self.controller.placed()
            band = [w for w in self.model if w.priority == taken.priority]
            assert taken is min(band, key=lambda w: w.number), "first come, first served in a band"
            is_top = taken.priority == max(w.priority for w in self.model)
            assert is_top or (self.turns is not None and taken.priority in aged)
            self.model.remove(taken)
            self.most_aged = max(self.most_aged, len(aged))
            self.passed_over = {p: self.passed_over.get(p, 0) + 1 for p in aged if p != taken.priority}

    @invariant()
    def the_books_balance(self) -> None:
        assert len(self.controller) == len(self.model) <= 12
        assert self.controller.size_bytes == sum(w.size_bytes for w in self.model) <= 50
        assert set(self.controller) == set(self.model)

    @invariant()
    def nobody_aged_is_passed_over_for_longer_than_promised(self) -> None:
        if self.turns is not None:
            assert all(times <= self.turns * self.most_aged for times in self.passed_over.values()), self.passed_over


class Ageing(Queue):
    """The same, with every third placement for the aged."""

    turns = 3


TestStrict = Queue.TestCase
TestAgeing = Ageing.TestCase
TestStrict.settings = TestAgeing.settings = settings(max_examples=50, stateful_step_count=40)
