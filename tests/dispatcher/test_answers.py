"""What is refused, and how: without flow control, and field bugs F."""

import random
from typing import Any

import pytest

from inferencesched import Profile, Scheduler
from inferencesched.dispatcher import Dispatcher
from inferencesched.events import Assigned, Rejected
from inferencesched.flow.detectors import ConcurrencyDetector
from inferencesched.flow.settings import BandSettings, LegacyAdmission
from tests.dispatcher.small import create, dispatcher_of, events, flow, ids, rejection, submit

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
