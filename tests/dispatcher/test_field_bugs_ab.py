"""Field bugs A and B through the dispatcher: counts that leak, and load that herds."""

import random
from collections import Counter
from typing import Any

import pytest

from inferencesched import LifecycleError, Profile, Request, Scheduler
from inferencesched.dispatcher import Dispatcher
from inferencesched.events import Assigned
from inferencesched.flow.settings import Settings
from tests.dispatcher.small import create, dispatcher_of, events, flow, ids, submit

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
