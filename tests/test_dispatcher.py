"""The dispatcher: submissions in, events out, everything that can go wrong between them; each ends exactly once."""

import random
import weakref
from collections import Counter
from typing import Any

import pytest

from inferencesched import Decision, LifecycleError, Observer, Profile, Registry, Rejection, Request, Scheduler
from inferencesched.dispatcher import Dispatcher
from inferencesched.events import Assigned, Event, Evicted, Rejected, Ticket
from inferencesched.flow.detectors import ConcurrencyDetector
from inferencesched.flow.limits import PriorityHoldbackPolicy
from inferencesched.flow.settings import BandSettings, LegacyAdmission, Settings, Tuning

create = Registry().create


def flow(limit: int = 1, **options: Any) -> Settings:
    """Settings under which each endpoint takes `limit` requests, known at once and exactly."""
    tuning = Tuning(**{"slow_start_seconds": 0.0, **options.pop("tuning", {})})
    return Settings(detector=ConcurrencyDetector(max_concurrency=limit), tuning=tuning, **options)


def dispatcher_of(
    settings: Settings | LegacyAdmission | None = None,
    endpoints: int = 1,
    *,
    profile: Profile | None = None,
    **options: Any,
) -> Dispatcher:
    profile = profile or Profile(scorers=[(create("active-request-scorer"), 1.0)], picker=create("max-score-picker"))
    scheduler = Scheduler(profile, rng=random.Random(1), **options)
    dispatcher = Dispatcher(scheduler, flow=settings or flow())
    for i in range(endpoints):
        dispatcher.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
    return dispatcher


def events(dispatcher: Dispatcher) -> list[Event]:
    found = []
    while (event := dispatcher.next_event()) is not None:
        found.append(event)
    return found


def ids(dispatcher: Dispatcher) -> list[str]:
    """The ids of the requests that are placed now; anything else is an error."""
    found = events(dispatcher)
    assert all(isinstance(event, Assigned) for event in found), found
    return [event.request_id for event in found]


def rejection(dispatcher: Dispatcher) -> Rejected:
    (event,) = events(dispatcher)
    assert isinstance(event, Rejected)
    return event


def submit(dispatcher: Dispatcher, *names: str, now: float = 0.0, **about: Any) -> list[Ticket]:
    return [dispatcher.submit(Request(name, **about), now=now) for name in names]


# --- a host ---


def test_the_hosts_loop_of_the_design_page() -> None:
    """Submit, match events, wake at the timer: what a host has to write, and all of it."""
    dispatcher = dispatcher_of()
    log: list[tuple[Any, ...]] = []

    def drain() -> None:
        while (event := dispatcher.next_event()) is not None:
            match event:
                case Assigned(request_id, decision):
                    log.append((request_id, decision.endpoint.address))
                case Rejected(request_id, why):
                    log.append((request_id, why.http_status, why.retry_after))

    dispatcher.submit(Request("r-1"), now=0.0)
    dispatcher.submit(Request("r-2"), now=0.0)
    drain()
    assert dispatcher.next_timer() == 60.0
    dispatcher.handle_timer(now=60.0)
    drain()

    assert log == [("r-1", "10.0.0.0:8000"), ("r-2", 429, pytest.approx(1.5, abs=120))]


def test_room_is_given_to_whoever_waits() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "first", "second", "third")
    assert ids(dispatcher) == ["first"]

    dispatcher.finish("first", now=2.0)

    (event,) = events(dispatcher)
    assert isinstance(event, Assigned)
    assert (event.request_id, event.waited) == ("second", 2.0)
    assert dispatcher.queued == 1


def test_the_urgent_go_first_and_the_sheddable_last() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "busy")
    for name, priority in (("batch", -1), ("usual", 0), ("urgent", 10), ("batch-2", -1), ("urgent-2", 10)):
        submit(dispatcher, name, priority=priority)
    order = ids(dispatcher)

    while dispatcher.in_flight:
        dispatcher.finish(order[-1], now=1.0)
        order += ids(dispatcher)

    assert order == ["busy", "urgent", "urgent-2", "usual", "batch", "batch-2"]


def test_an_expired_request_is_rejected_and_never_placed() -> None:
    """Even when the host's timer is late and room has appeared."""
    dispatcher = dispatcher_of(flow(ttl=5.0))
    submit(dispatcher, "busy", "late")
    ids(dispatcher)

    dispatcher.finish("busy", now=7.0)

    event = rejection(dispatcher)
    assert (event.request_id, event.rejection.http_status) == ("late", 429)
    assert event.rejection.reason == "rejected-ttl-expired"
    assert event.waited == 7.0


def test_a_request_that_waited_before_its_assignment_was_read_can_still_be_cancelled() -> None:
    """The host never hears of it, and nothing stays reserved."""
    dispatcher = dispatcher_of()
    (ticket,) = submit(dispatcher, "r")

    assert dispatcher.cancel(ticket, now=0.0)

    assert events(dispatcher) == []
    assert len(dispatcher.scheduler.ledger) == 0


def test_the_same_calls_give_the_same_events() -> None:
    def run() -> list[str]:
        dispatcher = dispatcher_of(flow(2), endpoints=3)
        seen: list[str] = []
        for i in range(50):
            submit(dispatcher, f"r{i}", now=i * 0.1, priority=i % 3 - 1, flow=f"f{i % 4}")
            placed = [event for event in events(dispatcher) if isinstance(event, Assigned)]
            seen += [f"{event.request_id} {event.decision.explain()}" for event in placed]
            if i % 3 == 0 and seen:
                dispatcher.finish(seen[-1].split()[0], now=i * 0.1)
        return seen

    assert run() == run()


# --- A: the ledger, through the dispatcher ---


@pytest.mark.parametrize("moment", ["queued", "before dispatch", "mid-prefill", "mid-stream", "after the last byte"])
def test_a1_a_disconnect_at_any_moment_gives_everything_back(moment: str) -> None:
    dispatcher = dispatcher_of()
    if moment == "queued":
        submit(dispatcher, "busy")
    (ticket,) = submit(dispatcher, "r")
    before = len(dispatcher.scheduler.ledger) - (moment != "queued")
    if moment != "before dispatch":
        events(dispatcher)
    if moment in {"mid-stream", "after the last byte"}:
        dispatcher.first_token(ticket, now=1.0)
    if moment == "after the last byte":
        dispatcher.finish(ticket, now=2.0)

    dispatcher.cancel(ticket, now=3.0)

    assert len(dispatcher.scheduler.ledger) == before
    assert dispatcher.queued == 0
    assert dispatcher.scheduler.ledger.audit().balanced


def test_a2_whoever_ends_it_second_changes_nothing() -> None:
    dispatcher = dispatcher_of()
    (ticket,) = submit(dispatcher, "r")
    events(dispatcher)

    ends = [dispatcher.finish(ticket, now=1.0), dispatcher.cancel(ticket, now=1.0), dispatcher.finish("r", now=1.0)]

    assert ends == [True, False, False]
    assert dispatcher.scheduler.ledger.underflow_total == 0
    assert dispatcher.retry(ticket, now=1.0) is None
    assert not dispatcher.first_token(ticket, now=1.0)


def test_a3_a_server_that_comes_back_starts_at_zero() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "old")
    ids(dispatcher)

    dispatcher.remove_endpoint("e0", now=1.0)
    again = dispatcher.add_endpoint("e0", "10.0.0.0:8000", now=2.0)
    submit(dispatcher, "new", now=2.0)
    assert ids(dispatcher) == ["new"]
    dispatcher.finish("old", now=3.0)

    assert dispatcher.scheduler.ledger.requests(again) == 1
    assert dispatcher.scheduler.ledger.audit().balanced


def test_a4_a_crash_with_100_in_flight_frees_exactly_those() -> None:
    dispatcher = dispatcher_of(flow(100), endpoints=2)
    submit(dispatcher, *(f"r{i}" for i in range(200)))
    ids(dispatcher)

    dispatcher.remove_endpoint("e0", now=1.0)

    assert len(dispatcher.scheduler.ledger) == 100
    for i in range(200):
        assert dispatcher.finish(f"r{i}", now=2.0)
    assert (dispatcher.in_flight, len(dispatcher.scheduler.ledger)) == (0, 0)


def test_a5_and_a6_what_was_reaped_is_not_ended_again() -> None:
    dispatcher = dispatcher_of(lease_ttl=30.0)
    (ticket,) = submit(dispatcher, "lost")
    ids(dispatcher)
    assert dispatcher.next_timer() == 30.0

    dispatcher.handle_timer(now=30.0)

    assert dispatcher.in_flight == 0
    assert not dispatcher.finish(ticket, now=31.0)
    assert dispatcher.scheduler.ledger.underflow_total == 0


def test_a_request_on_a_server_that_left_is_forgotten_if_nobody_ever_ends_it() -> None:
    """Its lease went with the server; the dispatcher's own entry goes after the same time as a lease would."""
    dispatcher = dispatcher_of(lease_ttl=30.0)
    submit(dispatcher, "orphan")
    ids(dispatcher)

    dispatcher.remove_endpoint("e0", now=5.0)
    assert (dispatcher.in_flight, dispatcher.next_timer()) == (1, 35.0)
    dispatcher.handle_timer(now=35.0)

    assert (dispatcher.in_flight, dispatcher.next_timer()) == (0, None)


def test_a7_facts_and_reloads_leave_live_counts_alone() -> None:
    dispatcher = dispatcher_of(flow(5))
    submit(dispatcher, "r")
    ids(dispatcher)

    dispatcher.update("e0", {"waiting_requests": 0.0, "running_requests": 0.0}, now=1.0)
    dispatcher.add_endpoint("e0", "10.0.0.0:8000", now=1.0)

    assert dispatcher.scheduler.ledger.requests(dispatcher.scheduler.table["e0"]) == 1


@pytest.mark.parametrize("prompt", [None, "text", b"audio", (1, 2, 3)], ids=repr)
def test_a8_every_kind_of_request_takes_and_gives_back_a_lease(prompt: Any) -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "r", model="whatever", prompt=prompt)
    ids(dispatcher)

    assert len(dispatcher.scheduler.ledger) == 1
    dispatcher.finish("r", now=1.0)
    assert len(dispatcher.scheduler.ledger) == 0


def test_a9_and_a13_the_next_decision_sees_what_is_in_flight_and_what_has_ended() -> None:
    """With one request per server, every pick goes to the free one, for as long as it goes on."""
    dispatcher = dispatcher_of(flow(1), endpoints=2)
    submit(dispatcher, "long")
    (long,) = events(dispatcher)
    assert isinstance(long, Assigned)

    for i in range(50):
        submit(dispatcher, f"r{i}", now=float(i))
        (event,) = events(dispatcher)
        assert isinstance(event, Assigned)
        assert event.decision.endpoint != long.decision.endpoint
        dispatcher.finish(event.ticket, now=i + 0.5)


def test_a10_prefill_is_given_back_at_the_first_token() -> None:
    profile = Profile(
        producers=[create("token-producer"), create("inflight-load-producer")], picker=create("max-score-picker")
    )
    dispatcher = dispatcher_of(flow(5), profile=profile)
    submit(dispatcher, "r", prompt_tokens=100)
    ids(dispatcher)
    endpoint = dispatcher.scheduler.table["e0"]
    assert dispatcher.scheduler.ledger.tokens(endpoint) == 100

    assert dispatcher.first_token("r", now=1.0)

    assert dispatcher.scheduler.ledger.tokens(endpoint) == 0
    assert dispatcher.scheduler.ledger.requests(endpoint) == 1


def test_a11_one_request_object_submitted_twice_is_two_submissions() -> None:
    dispatcher, request = dispatcher_of(flow(5)), Request("r")

    first, second = dispatcher.submit(request, now=0.0), dispatcher.submit(request, now=0.0)

    assert ids(dispatcher) == ["r", "r"]
    assert dispatcher.finish(first, now=1.0)
    assert dispatcher.finish(second, now=1.0)


def test_a12_two_streams_with_one_id_share_nothing() -> None:
    """One is placed and one waits; a call by id says that it cannot choose, a call by ticket does not have to."""
    dispatcher = dispatcher_of()
    placed, waits = submit(dispatcher, "same", "same")
    ids(dispatcher)

    with pytest.raises(LifecycleError, match="2 live submissions have the id 'same'; say which by its ticket"):
        dispatcher.cancel("same", now=1.0)
    assert dispatcher.cancel(waits, now=1.0)

    assert (dispatcher.queued, dispatcher.in_flight) == (0, 1)
    assert dispatcher.finish("same", now=2.0)
    assert not dispatcher.finish(placed, now=2.0)


def test_a_ticket_of_another_dispatcher_means_nothing_here() -> None:
    dispatcher, other = dispatcher_of(), dispatcher_of()
    submit(dispatcher, "r")
    (stranger,) = submit(other, "r")
    ids(dispatcher)

    assert not dispatcher.finish(stranger, now=1.0)
    assert dispatcher.in_flight == 1


def test_a14_a_band_that_is_gone_is_gone_once() -> None:
    """Displaced, expired and cancelled at one instant: counts stay those of what is really there."""
    dispatcher = dispatcher_of(flow(max_requests=2, ttl=5.0, tuning={"displace": True}))
    submit(dispatcher, "busy")
    ids(dispatcher)
    low, _ = submit(dispatcher, "low", "low-2", priority=-1, size_bytes=10)
    submit(dispatcher, "high", priority=1, size_bytes=1)

    dispatcher.cancel(low, now=5.0)
    dispatcher.handle_timer(now=5.0)

    assert dispatcher.controller is not None
    assert (len(dispatcher.controller), dispatcher.controller.size_bytes) == (0, 0)
    assert Counter(e.request_id for e in events(dispatcher)) == {"low-2": 1, "high": 1}


# --- retry ---


def test_f10_before_the_first_byte_a_request_moves_and_its_lease_with_it() -> None:
    dispatcher = dispatcher_of(flow(5), endpoints=3)
    ticket = dispatcher.submit(Request("r"), now=0.0, n=3)
    (event,) = events(dispatcher)
    assert isinstance(event, Assigned)

    tried = [event.decision.endpoint.name]
    while (decision := dispatcher.retry(ticket, now=1.0)) is not None:
        tried.append(decision.endpoint.name)
        assert dispatcher.scheduler.ledger.requests(decision.endpoint) == 1
        assert len(dispatcher.scheduler.ledger) == 1

    assert sorted(tried) == ["e0", "e1", "e2"]
    assert (dispatcher.in_flight, len(dispatcher.scheduler.ledger)) == (0, 0)


def test_after_the_first_token_nothing_moves() -> None:
    dispatcher = dispatcher_of(flow(5), endpoints=2)
    ticket = dispatcher.submit(Request("r"), now=0.0, n=2)
    ids(dispatcher)
    dispatcher.first_token(ticket, now=1.0)

    with pytest.raises(LifecycleError, match="streaming cannot move"):
        dispatcher.retry(ticket, now=2.0)


def test_a_request_can_leave_a_server_that_has_left() -> None:
    """The crash is often known before the connection fails: the lease is gone, the fallbacks are not."""
    dispatcher = dispatcher_of(flow(5), endpoints=3)
    ticket = dispatcher.submit(Request("r"), now=0.0, n=3)
    (event,) = events(dispatcher)
    assert isinstance(event, Assigned)
    dispatcher.remove_endpoint(event.decision.endpoint.name, now=1.0)

    moved = dispatcher.retry(ticket, now=1.0)

    assert moved is not None
    assert moved.endpoint.name != event.decision.endpoint.name
    assert len(dispatcher.scheduler.ledger) == 1
    assert dispatcher.finish(ticket, now=2.0)


def test_what_is_queued_can_be_cancelled_and_nothing_else() -> None:
    dispatcher = dispatcher_of()
    submit(dispatcher, "busy", "waits")
    ids(dispatcher)

    for call in (dispatcher.finish, dispatcher.retry, dispatcher.first_token, dispatcher.touch):
        with pytest.raises(LifecycleError, match="'waits' is still queued; only cancel can end it"):
            call("waits", now=1.0)


# --- B: balance, through the dispatcher ---


def test_b1_and_b2_a_burst_between_two_scrapes_spreads() -> None:
    """64 submissions in one tick, metrics frozen: every server gets its eighth."""
    dispatcher = dispatcher_of(Settings(), endpoints=8)
    for i in range(8):
        dispatcher.update(f"e{i}", {"waiting_requests": 0.0, "kv_cache_utilization": 0.1}, now=0.0)

    submit(dispatcher, *(f"r{i}" for i in range(64)))

    picks = Counter(e.decision.endpoint.name for e in events(dispatcher) if isinstance(e, Assigned))
    assert set(picks.values()) == {8}


def test_b3_dispatchers_that_know_nothing_of_each_other_do_not_herd() -> None:
    """16 of them, 20 picks each, 8 servers: the busiest has at most 1.5 × the mean."""
    picks: Counter[str] = Counter()
    for seed in range(16):
        profile = Profile(scorers=[(create("active-request-scorer"), 1.0)], picker=create("max-score-picker"))
        dispatcher = Dispatcher(Scheduler(profile, rng=random.Random(seed)))
        for i in range(8):
            dispatcher.add_endpoint(f"e{i}", now=0.0)
        submit(dispatcher, *(f"r{i}" for i in range(20)))
        picks.update(e.decision.endpoint.name for e in events(dispatcher) if isinstance(e, Assigned))

    assert max(picks.values()) <= 1.5 * 320 / 8, picks


# --- E: queues ---


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


# --- without flow control ---


def test_legacy_admission_sheds_below_zero_and_nobody_else() -> None:
    dispatcher = dispatcher_of(LegacyAdmission(ConcurrencyDetector(max_concurrency=1)))

    for name, priority in (("first", 0), ("batch", -1), ("usual", 0), ("urgent", 9)):
        submit(dispatcher, name, priority=priority)

    told = events(dispatcher)
    assert [e.request_id for e in told if isinstance(e, Assigned)] == ["first", "usual", "urgent"]
    (shed,) = (e for e in told if isinstance(e, Rejected))
    assert (shed.request_id, shed.rejection.http_status) == ("batch", 429)
    assert shed.rejection.message == "system saturated, sheddable request dropped"
    assert dispatcher.next_timer() == dispatcher.scheduler.next_timer()


def test_legacy_admission_without_endpoints_is_503_for_everybody() -> None:
    """Upstream answers 429 to the sheddable, although there is nothing to contend for."""
    dispatcher = dispatcher_of(LegacyAdmission(), endpoints=0)

    submit(dispatcher, "batch", priority=-1)
    submit(dispatcher, "usual")

    assert [e.rejection.http_status for e in events(dispatcher) if isinstance(e, Rejected)] == [503, 503]


# --- F: answers ---


def test_f2_filters_that_leave_nobody_are_named() -> None:
    nobody = create("label-selector-filter", {"matchLabels": {"zone": "b"}})
    dispatcher = dispatcher_of(profile=Profile(filters=[nobody], picker=create("max-score-picker")))

    submit(dispatcher, "r")

    event = rejection(dispatcher)
    assert (event.rejection.http_status, event.rejection.reason) == (503, "rejected-no-endpoints")
    assert "1 removed by label-selector-filter (zone = b)" in event.rejection.message


def test_f4_waits_grow_with_the_queue_and_come_from_the_measured_rate() -> None:
    """Two requests a second leave; whoever finds a hundred before him is told some fifty seconds, and not by chance."""
    dispatcher = dispatcher_of(flow(bands={0: BandSettings(max_requests=100)}))
    submit(dispatcher, "r", *(f"q{i}" for i in range(60)))
    order = ids(dispatcher)
    for i in range(60):
        dispatcher.finish(order[-1], now=0.5 * i)
        order += ids(dispatcher)
    submit(dispatcher, *(f"x{i}" for i in range(101)), now=30.0)

    event = rejection(dispatcher)

    assert event.position == 100
    assert event.eta == pytest.approx(50, rel=0.1)
    assert event.eta is not None
    assert event.rejection.retry_after is not None
    assert event.eta <= event.rejection.retry_after <= 1.5 * event.eta


def test_f1_our_own_fault_is_500_and_claims_no_overload() -> None:
    class Broken(Scheduler):
        def candidates(self, **_: Any) -> Any:
            raise KeyError("secret prompt")

    profile = Profile(picker=create("max-score-picker"))
    dispatcher = Dispatcher(Broken(profile, rng=random.Random(1)), flow=LegacyAdmission())

    submit(dispatcher, "r")

    why = rejection(dispatcher).rejection
    assert (why.http_status, why.reason, why.retry_after, why.transient) == (500, "", None, False)
    assert "secret" not in str(why)


# --- plugins, observers, configuration ---


class Recorder(Observer):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def queued(self, request: Request, priority: int, flow: str, *, now: float) -> None:
        self.told.append(("queued", request.id, priority, flow))

    def dequeued(self, request: Request, priority: int, flow: str, waited: float, outcome: str, *, now: float) -> None:
        self.told.append(("dequeued", request.id, waited, outcome))

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self.told.append(("assigned", request.id))

    def rejected(self, request: Request, rejection: Rejection, *, now: float) -> None:
        self.told.append(("rejected", request.id, rejection.http_status))

    def finished(self, request_id: str, endpoint: Any, outcome: str, *, now: float) -> None:
        self.told.append(("finished", request_id, outcome))


def test_observers_are_told_of_every_transition() -> None:
    recorder = Recorder()
    dispatcher = dispatcher_of(flow(ttl=5.0), observers=[recorder])
    submit(dispatcher, "a", "b", "c", "d", flow="f")
    ids(dispatcher)
    dispatcher.cancel("d", now=1.0)
    dispatcher.finish("a", now=2.0)
    ids(dispatcher)
    dispatcher.handle_timer(now=5.0)

    assert recorder.told == [
        ("assigned", "a"),
        ("queued", "b", 0, "f"),
        ("queued", "c", 0, "f"),
        ("queued", "d", 0, "f"),
        ("dequeued", "d", 1.0, "cancelled"),
        ("rejected", "d", 499),
        ("finished", "a", "success"),
        ("assigned", "b"),
        ("dequeued", "b", 2.0, "placed"),
        ("dequeued", "c", 5.0, "rejected"),
        ("rejected", "c", 429),
    ]


class Nonsense:
    """Takes every role of the queue and fails in each."""

    def turns(self) -> "Nonsense":
        return self

    def fail(self, *_: Any) -> Any:
        raise ValueError("nonsense")

    ready = idle = next = served = rank = ceilings = load = fail


def test_policies_that_fail_are_done_without() -> None:
    """Fairness, ordering, limits and detector all raise: requests go in the order of arrival, and none is lost."""
    broken: Any = Nonsense()
    band = BandSettings(fairness=broken, ordering=broken)
    dispatcher = dispatcher_of(Settings(bands={0: band}, limits=broken, detector=broken), endpoints=0)
    submit(dispatcher, *(f"r{i}" for i in range(10)))

    dispatcher.add_endpoint("e0", now=1.0)

    assert ids(dispatcher) == [f"r{i}" for i in range(10)]
    assert dispatcher.scheduler.faults["Nonsense"] > 0
