"""The dispatcher: submissions in, events out; what a host writes around it, retries and configuration."""

from typing import Any

import pytest

from inferencesched import Decision, LifecycleError, Observer, Rejection, Request
from inferencesched.events import Assigned, Rejected
from inferencesched.flow.settings import BandSettings, Settings
from tests.dispatcher.small import dispatcher_of, events, flow, ids, rejection, submit

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
