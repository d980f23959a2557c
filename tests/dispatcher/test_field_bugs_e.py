"""Field bugs E: queues, priorities, time and shutdown."""

import weakref
from collections import Counter

from inferencesched import Profile, Request
from inferencesched.events import Assigned, Evicted, Rejected
from inferencesched.flow.limits import PriorityHoldbackPolicy
from inferencesched.flow.settings import BandSettings, Settings
from tests.dispatcher.small import create, dispatcher_of, events, flow, ids, rejection, submit


def test_e2_a_priority_nobody_configured_gets_a_band() -> None:
    """From the template, and at the limit of bands the nearest one below."""
    dispatcher = dispatcher_of(flow(tuning={"max_bands": 2}))
    submit(dispatcher, "busy")
    ids(dispatcher)
    submit(dispatcher, "a", priority=7)
    submit(dispatcher, "b", priority=9)
    submit(dispatcher, "c", priority=-3)

    assert dispatcher.controller is not None
    assert {band.priority: len(band) for band in dispatcher.controller.bands} == {7: 2, 0: 1}


def test_e4_under_sustained_urgent_load_every_other_request_goes_within_the_bound() -> None:
    """One urgent request arrives for each that ends; ten others wait: each goes after its place × age_turns at most."""
    dispatcher = dispatcher_of(flow(tuning={"age_after_seconds": 2.0, "age_turns": 4}))
    submit(dispatcher, "busy")
    waiting = submit(dispatcher, *(f"low{i}" for i in range(10)), priority=-5)
    order, now = ids(dispatcher), 2.0
    submit(dispatcher, "u-0", "u-1", "u-2", now=now, priority=10)

    for i in range(100):
        now += 0.01
        submit(dispatcher, f"u{i}", now=now, priority=10)
        dispatcher.finish(order[-1], now=now)
        order += ids(dispatcher)

    for place, ticket in enumerate(waiting):
        assert order.index(ticket.request_id) <= (place + 1) * 4, order


def test_strict_bands_let_nobody_by() -> None:
    dispatcher = dispatcher_of(flow(ttl=0.0, tuning={"strict": True}))
    submit(dispatcher, "busy", "u-0")
    submit(dispatcher, "low", priority=-5)
    order = ids(dispatcher)

    for i in range(1, 50):
        submit(dispatcher, f"u-{i}", now=float(i))
        dispatcher.finish(order[-1], now=float(i))
        order += ids(dispatcher)

    assert "low" not in order


def test_e6_the_client_can_only_shorten() -> None:
    """The end of its patience is the least of the client's deadline, the band's and the global time to live."""
    tuning = {"band_ttl_seconds": {"1": 20.0}}
    dispatcher = dispatcher_of(flow(ttl=60.0, tuning=tuning))
    submit(dispatcher, "busy")
    ids(dispatcher)
    for name, priority, deadline in (("short", 0, 10.0), ("long", 0, 1e9), ("band", 1, 1e9), ("both", 1, 15.0)):
        submit(dispatcher, name, priority=priority, deadline=deadline)

    ends: dict[str, float] = {}
    while dispatcher.queued and (now := dispatcher.next_timer()) is not None:
        dispatcher.handle_timer(now=now)
        ends |= {event.request_id: now for event in events(dispatcher)}

    assert ends == {"short": 10.0, "both": 15.0, "band": 20.0, "long": 60.0}


def test_a_request_that_comes_after_its_deadline_is_answered_at_once() -> None:
    dispatcher = dispatcher_of()

    submit(dispatcher, "late", now=5.0, deadline=4.0)

    assert rejection(dispatcher).rejection.reason == "rejected-ttl-expired"


def test_e7_a_cancelled_request_leaves_no_residue() -> None:
    """Lengths, bytes, flows, ids, timers: as if it had never come."""
    dispatcher = dispatcher_of(lease_ttl=1e6)
    submit(dispatcher, "busy")
    ids(dispatcher)
    for i in range(20):
        submit(dispatcher, f"r{i}", flow=f"f{i}", size_bytes=100, deadline=30.0)

    for i in range(20):
        assert dispatcher.cancel(f"r{i}", now=1.0)

    assert dispatcher.controller is not None
    assert (dispatcher.queued, dispatcher.controller.size_bytes, dispatcher.next_timer()) == (0, 0, 1e6)
    assert [band.flows for band in dispatcher.controller.bands] == [{}]
    assert events(dispatcher) == []


def test_e8_byte_limits_hold_and_bodies_are_let_go() -> None:
    """A body that is refused, expired or cancelled is referred to by nobody."""
    band = BandSettings(max_bytes=1000)
    dispatcher = dispatcher_of(flow(bands={0: band}, max_bytes=1500, ttl=5.0))
    submit(dispatcher, "busy")
    ids(dispatcher)
    bodies = []
    for name, size in (("fits", 900), ("too much", 101), ("exactly", 100)):
        request = Request(name, prompt="x" * size)
        bodies.append(weakref.ref(request))
        dispatcher.submit(request, now=0.0)
        del request

    refused = rejection(dispatcher)
    dispatcher.cancel("fits", now=1.0)
    dispatcher.handle_timer(now=5.0)
    events(dispatcher)

    assert (refused.request_id, refused.rejection.http_status) == ("too much", 429)
    assert [body() for body in bodies] == [None, None, None]


def test_e11_and_32_a_pool_without_endpoints_is_a_waiting_room_with_a_budget_of_its_own() -> None:
    dispatcher = dispatcher_of(flow(ttl=10.0, no_endpoint_ttl=300.0), endpoints=0)
    assert dispatcher.saturation is None
    submit(dispatcher, "early")
    assert (ids(dispatcher), dispatcher.next_timer()) == ([], 300.0)

    dispatcher.add_endpoint("e0", now=200.0)

    assert ids(dispatcher) == ["early"]


def test_an_empty_pool_that_stays_empty_is_503() -> None:
    dispatcher = dispatcher_of(flow(ttl=10.0, no_endpoint_ttl=300.0), endpoints=0)
    submit(dispatcher, "r")

    dispatcher.handle_timer(now=300.0)

    event = rejection(dispatcher)
    assert (event.rejection.http_status, event.rejection.reason) == (503, "rejected-no-endpoints")
    assert event.position is None


def test_a_pool_that_comes_and_goes_does_not_restart_anybodys_time() -> None:
    """Ten seconds with endpoints and twenty without, however they are cut up."""
    dispatcher = dispatcher_of(flow(ttl=10.0, no_endpoint_ttl=20.0), endpoints=1)
    submit(dispatcher, "busy", "waits")
    ids(dispatcher)
    for start in (3.0, 9.0, 15.0):  # six seconds without; three with, each time
        dispatcher.remove_endpoint("e0", now=start)
        dispatcher.add_endpoint("e0", now=start + 3.0)
        submit(dispatcher, f"busy{start}", now=start + 3.0, priority=5)
        assert len(ids(dispatcher)) == 1
        dispatcher.handle_timer(now=start + 3.0)

    assert dispatcher.next_timer() == 3.0 * 3 + 10.0


def test_e14_saturation_ends_when_the_load_does() -> None:
    """By the endings, where they are counted; by the facts growing stale, where nobody reports any more."""
    counted = dispatcher_of(flow(1))
    submit(counted, "r")
    ids(counted)
    assert counted.saturation is not None
    assert counted.saturation.level == 1.0
    counted.finish("r", now=1.0)
    assert counted.saturation.level == 0.0

    measured = dispatcher_of(Settings())
    measured.update("e0", {"waiting_requests": 50.0}, now=1.0)
    submit(measured, "waits", now=1.0)
    assert ids(measured) == []
    placed: list[str] = []
    while not placed and (timer := measured.next_timer()) is not None and timer < 2.0:
        measured.handle_timer(now=timer)
        placed = ids(measured)
    assert placed == ["waits"]


def test_e15_an_empty_band_and_a_saturated_subset_hold_nobody_back() -> None:
    """Upstream tests an empty band's ceiling too; and a request whose subset is full is answered, not waited for."""
    full = Profile(filters=[create("concurrency-detector", {"maxConcurrency": 1})], picker=create("max-score-picker"))
    dispatcher = dispatcher_of(flow(10), endpoints=2, profile=full)
    dispatcher.submit(Request("busy"), now=0.0, subset=["e0"])
    dispatcher.submit(Request("stuck", priority=5), now=0.0, subset=["e0"])
    dispatcher.submit(Request("free"), now=0.0, subset=["e1"])

    busy, stuck, free = events(dispatcher)

    assert (type(busy), type(stuck), type(free)) == (Assigned, Rejected, Assigned)
    assert isinstance(stuck, Rejected)
    assert stuck.rejection.http_status == 429
    assert "concurrency-detector" in stuck.rejection.message


def test_being_held_back_is_counted() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "busy", "waits")
    ids(dispatcher)

    assert dispatcher.controller is not None
    assert dispatcher.controller.held_back_total > 0


def test_e16_fresh_flow_names_do_not_earn_a_principal_more() -> None:
    """One of two tenants names a new flow with every request; both are served as many."""
    dispatcher = dispatcher_of(
        flow(bands={0: BandSettings(fairness=create("token-weighted-fairness-policy"))}, ttl=0.0)
    )
    submit(dispatcher, "busy")
    order = ids(dispatcher)
    for i in range(30):
        submit(dispatcher, f"honest-{i}", flow="fair", attributes={"principal": "honest"})
        submit(dispatcher, f"greedy-{i}", flow=f"fresh-{i}", attributes={"principal": "greedy"})

    for _ in range(30):
        dispatcher.finish(order[-1], now=1.0)
        order += ids(dispatcher)

    served = Counter(name.split("-")[0] for name in order[1:])
    assert abs(served["honest"] - served["greedy"]) <= 1


def test_e17_shutdown_ends_every_queued_request_once_and_lets_the_placed_finish() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "placed", *(f"q{i}" for i in range(50)))
    ids(dispatcher)

    dispatcher.drain(now=1.0)
    dispatcher.drain(now=1.0)
    submit(dispatcher, "new", now=1.0)

    told = events(dispatcher)
    assert Counter(event.request_id for event in told) == {**{f"q{i}": 1 for i in range(50)}, "new": 1}
    assert {e.rejection.reason for e in told if isinstance(e, Rejected)} == {"rejected-shutting-down"}
    assert not dispatcher.drained
    dispatcher.finish("placed", now=2.0)
    assert dispatcher.drained


def test_a_drain_with_grace_goes_on_placing_for_that_long() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "a", "b", "c")
    ids(dispatcher)

    dispatcher.drain(now=0.0, grace=5.0)
    dispatcher.finish("a", now=4.0)
    assert ids(dispatcher) == ["b"]
    assert dispatcher.next_timer() == 5.0
    dispatcher.handle_timer(now=5.0)

    assert rejection(dispatcher).request_id == "c"


def test_a_full_queue_can_make_room_for_the_urgent() -> None:
    """The youngest of the lowest band goes; the most urgent finds room, its equals do not."""
    dispatcher = dispatcher_of(flow(max_requests=2, tuning={"displace": True}))
    submit(dispatcher, "busy")
    ids(dispatcher)
    submit(dispatcher, "old", "young", priority=-1)

    submit(dispatcher, "urgent", priority=1)
    displaced = rejection(dispatcher)
    submit(dispatcher, "batch", priority=-1)
    refused = rejection(dispatcher)

    assert (displaced.request_id, displaced.rejection.reason) == ("young", "evicted-priority")
    assert (refused.request_id, refused.rejection.reason) == ("batch", "rejected-saturated")


def test_priority_holdback_keeps_room_for_the_urgent() -> None:
    settings = flow(4, limits=PriorityHoldbackPolicy(0.5), bands={10: BandSettings(), -1: BandSettings()})
    dispatcher = dispatcher_of(settings)

    submit(dispatcher, "b1", "b2", "b3", priority=-1)
    submit(dispatcher, "u1", "u2", "u3", priority=10)

    assert ids(dispatcher) == ["b1", "b2", "u1", "u2"]


def test_eviction_asks_the_least_urgent_that_was_placed_last() -> None:
    """Only below 0, only for somebody more urgent; it holds its place until its host ends it."""
    dispatcher = dispatcher_of(flow(3, evict=True))
    submit(dispatcher, "usual")
    submit(dispatcher, "batch-1", "batch-2", priority=-1)
    ids(dispatcher)

    submit(dispatcher, "urgent", now=1.0, priority=5)
    (asked,) = events(dispatcher)

    assert isinstance(asked, Evicted)
    assert (asked.request_id, asked.rejection.http_status, asked.rejection.reason) == ("batch-2", 429, "evicted")
    assert dispatcher.finish(asked.ticket, now=1.1, outcome="cancelled")
    assert ids(dispatcher) == ["urgent"]
