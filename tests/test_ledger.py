"""The ledger: every way a placement can end gives back exactly what was reserved, once."""

import math
import random

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched import Endpoint, Lease, LifecycleError
from inferencesched.ledger import Ledger

A = Endpoint("a", instance=1)
A_AGAIN = Endpoint("a", instance=2)
B = Endpoint("b", instance=3)


def ledger_of(*endpoints: Endpoint, ttl: float = 600.0) -> Ledger:
    ledger = Ledger(ttl=ttl)
    for endpoint in endpoints:
        ledger.add(endpoint)
    return ledger


@pytest.mark.parametrize("moment", ["before dispatch", "mid-prefill", "mid-stream", "after the last byte"])
def test_a1_a_disconnect_at_any_moment_returns_the_counters(moment: str) -> None:
    """Wherever the client leaves, requests and tokens return to their prior values."""
    ledger = ledger_of(A)
    ledger.reserve("earlier", A, prefill_tokens=5, now=0.0)
    lease = ledger.reserve("r", A, prefill_tokens=100, output_tokens=50, now=0.0)
    if moment in {"mid-stream", "after the last byte"}:
        ledger.first_token(lease, now=1.0)
    if moment == "after the last byte":
        ledger.release(lease)

    ledger.release(lease)

    assert (ledger.requests(A), ledger.tokens(A)) == (1, 5.0)
    assert ledger.audit().balanced


@pytest.mark.parametrize("first", ["release", "reap", "remove"])
@pytest.mark.parametrize("second", ["release", "reap", "remove", "first_token"])
def test_a2_any_pair_of_endings_counts_once(first: str, second: str) -> None:
    """Whichever two paths end a placement, the counter changes once."""
    ledger = ledger_of(A, B, ttl=10.0)
    lease = ledger.reserve("r", A, prefill_tokens=7, now=0.0)
    other = ledger.reserve("other", B, now=100.0)

    for way in (first, second):
        match way:
            case "release":
                ledger.release(lease)
            case "reap":
                ledger.reap(now=20.0)
            case "remove":
                ledger.remove(A)
            case _:
                ledger.first_token(lease, now=21.0)

    assert ledger.requests(A) == 0
    assert other in ledger
    assert ledger.audit().balanced


def test_a3_late_releases_hit_the_old_instance_only() -> None:
    """An endpoint that is removed and comes back under its name starts at zero and stays there."""
    ledger = ledger_of(A)
    old = [ledger.reserve(f"r{i}", A, prefill_tokens=10, now=0.0) for i in range(3)]
    ledger.remove(A)
    ledger.add(A_AGAIN)
    ledger.reserve("new", A_AGAIN, prefill_tokens=1, now=1.0)

    for lease in old:
        assert not ledger.release(lease)

    assert (ledger.requests(A_AGAIN), ledger.tokens(A_AGAIN)) == (1, 1.0)
    assert ledger.audit().balanced


def test_a4_a_crash_with_a_hundred_leases_frees_them_and_no_others() -> None:
    """Removing an endpoint closes its leases; the others' stay."""
    ledger = ledger_of(A, B)
    for i in range(100):
        ledger.reserve(f"r{i}", A, prefill_tokens=10, now=0.0)
    ledger.reserve("other", B, prefill_tokens=3, now=0.0)

    assert len(ledger.remove(A)) == 100

    audit = ledger.audit()
    assert (audit.open_leases, audit.requests, audit.tokens, audit.balanced) == (1, 1, 3.0, True)


def test_a5_no_counter_goes_below_zero_and_the_attempt_is_counted() -> None:
    """Releasing what is not open changes nothing but `underflow_total`."""
    ledger = ledger_of(A)
    lease = ledger.reserve("r", A, prefill_tokens=7, now=0.0)

    answers = [ledger.release(lease) for _ in range(3)]

    assert answers == [True, False, False]
    assert ledger.underflow_total == 2
    assert (ledger.requests(A), ledger.tokens(A)) == (0, 0.0)


def test_a6_a_reaped_counter_does_not_come_back_negative() -> None:
    """A completion after the reaper finds nothing to take away."""
    ledger = ledger_of(A, ttl=10.0)
    lease = ledger.reserve("r", A, now=0.0)
    assert ledger.reap(now=10.0) == (lease,)

    ledger.release(lease)

    assert ledger.requests(A) == 0
    assert ledger.audit().balanced


def test_a10_prefill_tokens_are_given_back_at_the_first_token() -> None:
    """Prefill ends with the first output, not with the stream; a second first token takes nothing."""
    ledger = ledger_of(A)
    lease = ledger.reserve("r", A, prefill_tokens=100, output_tokens=40, now=0.0)

    assert ledger.first_token(lease, now=1.0)
    assert not ledger.first_token(lease, now=2.0)

    assert (ledger.requests(A), ledger.tokens(A)) == (1, 40.0)


def test_a12_two_streams_with_one_request_id_have_a_lease_each() -> None:
    """Ending one leaves the other's reservation."""
    ledger = ledger_of(A)
    one = ledger.reserve("same", A, prefill_tokens=5, now=0.0)
    two = ledger.reserve("same", A, prefill_tokens=5, now=0.0)

    ledger.release(one)

    assert two in ledger
    assert one not in ledger
    assert (ledger.requests(A), ledger.tokens(A)) == (1, 5.0)


def test_a13_the_count_does_not_grow_over_a_long_run_of_one_at_a_time() -> None:
    """Ten thousand requests, never more than one at once: the counter is 0 or 1 throughout."""
    ledger = ledger_of(A)
    seen = set()
    for i in range(10_000):
        lease = ledger.reserve(f"r{i}", A, prefill_tokens=0.1, now=float(i))
        seen.add(ledger.requests(A))
        ledger.release(lease)

    assert seen == {1}
    assert (ledger.requests(A), ledger.tokens(A)) == (0, 0.0)


def test_a14_removing_an_account_deducts_once_even_with_a_stale_handle() -> None:
    """A second removal, or a release through a handle kept from before, deducts nothing."""
    ledger = ledger_of(A, B)
    stale = ledger.reserve("r", A, prefill_tokens=10, now=0.0)
    ledger.reserve("other", B, prefill_tokens=3, now=0.0)

    assert ledger.remove(A) == (stale,)
    assert ledger.remove(A) == ()
    ledger.release(stale)

    assert (ledger.audit().requests, ledger.audit().tokens) == (1, 3.0)


def test_a_freed_slot_starts_at_zero_for_the_next_endpoint() -> None:
    """Slots are used again, counts are not."""
    ledger = ledger_of(A)
    ledger.reserve("r", A, prefill_tokens=9, now=0.0)
    ledger.remove(A)
    ledger.add(B)

    assert ledger.columns((B,))["in_flight_requests"] == [0.0]
    assert ledger.columns((B,))["in_flight_tokens"] == [0.0]


def test_a_touch_keeps_the_reaper_away() -> None:
    """The reaper's count starts with the last sign of life; the timer follows the oldest."""
    ledger = ledger_of(A, ttl=10.0)
    quiet = ledger.reserve("quiet", A, now=0.0)
    alive = ledger.reserve("alive", A, now=1.0)
    ledger.touch(alive, now=9.0)

    assert ledger.next_timer() == 10.0
    assert ledger.reap(now=9.99) == ()
    assert ledger.reap(now=12.0) == (quiet,)
    assert ledger.next_timer() == 19.0
    assert alive in ledger


def test_an_empty_ledger_has_no_timer() -> None:
    """There is nothing to wake up for."""
    assert ledger_of(A).next_timer() is None


@pytest.mark.parametrize("tokens", [-1.0, math.nan, math.inf])
def test_tokens_that_would_poison_a_counter_are_refused(tokens: float) -> None:
    """Negative, NaN and infinite reservations are errors of the caller."""
    ledger = ledger_of(A)

    with pytest.raises(ValueError, match="finite and ≥ 0"):
        ledger.reserve("r", A, prefill_tokens=tokens, now=0.0)

    assert ledger.audit().balanced
    assert len(ledger) == 0


def test_reserving_on_a_removed_instance_is_an_error() -> None:
    """A pick and its reservation belong together; a removed endpoint takes none."""
    ledger = ledger_of(A)
    ledger.remove(A)

    with pytest.raises(LifecycleError, match="endpoint 'a' \\(instance 1\\) is not in the ledger"):
        ledger.reserve("r", A, now=0.0)
    with pytest.raises(LifecycleError, match="1"):
        ledger.columns((A,))


def test_audit_finds_a_counter_that_was_tampered_with() -> None:
    """The audit bites: it names the instance and both numbers."""
    ledger = ledger_of(A)
    ledger.reserve("r", A, prefill_tokens=5, now=0.0)
    ledger._requests[ledger._slots[1]] = -1.0

    audit = ledger.audit()

    assert not audit.balanced
    assert audit.problems == ("instance 1: -1 requests counted, 1 leases open", "instance 1: below zero")


class LedgerMachine(RuleBasedStateMachine):
    """A15: after any sequence of pick, release, cancel, retry, remove and add, the counters equal the open leases."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(ttl=50.0)
        self.instances = 0
        self.present: list[Endpoint] = []
        self.open: dict[Lease, tuple[float, bool]] = {}  # when last heard of, whether its first token came
        self.closed: list[Lease] = []
        self.now = 0.0

    @rule(name=st.sampled_from("abc"))
    def add(self, name: str) -> None:
        self.instances += 1
        endpoint = Endpoint(name, instance=self.instances)
        self.present.append(endpoint)
        self.ledger.add(endpoint)

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(self.present))
        self.present.remove(endpoint)
        orphans = self.ledger.remove(endpoint)
        assert set(orphans) == {lease for lease in self.open if lease.endpoint == endpoint}
        self._close(*orphans)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), prefill=st.integers(0, 10_000), output=st.integers(0, 10_000))
    def pick(self, data: st.DataObject, prefill: int, output: int) -> None:
        endpoint = data.draw(st.sampled_from(self.present))
        lease = self.ledger.reserve("id", endpoint, prefill_tokens=prefill, output_tokens=output, now=self.now)
        self.open[lease] = (self.now, False)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(list(self.open)))
        assert self.ledger.first_token(lease, now=self.now) is not self.open[lease][1]
        self.open[lease] = (self.now, True)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(list(self.open)))
        assert self.ledger.release(lease)
        self._close(lease)

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def release_late(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.closed))
        before = self.ledger.underflow_total
        assert not self.ledger.release(lease)
        assert self.ledger.underflow_total == before + 1

    @rule(seconds=st.integers(0, 60))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        due = {lease for lease, (heard, _) in self.open.items() if heard + 50.0 <= self.now}
        reaped = self.ledger.reap(now=self.now)
        assert set(reaped) == due
        self._close(*reaped)

    def _close(self, *leases: Lease) -> None:
        for lease in leases:
            del self.open[lease]
            self.closed.append(lease)

    @invariant()
    def books_balance(self) -> None:
        audit = self.ledger.audit()
        assert audit.balanced, audit.problems
        assert audit.requests == audit.open_leases == len(self.open)
        for endpoint in self.present:
            own = {lease: started for lease, (_, started) in self.open.items() if lease.endpoint == endpoint}
            assert self.ledger.requests(endpoint) == len(own)
            tokens = sum(
                lease.output_tokens + (0 if started else lease.prefill_tokens) for lease, started in own.items()
            )
            assert self.ledger.tokens(endpoint) == tokens

    @invariant()
    def every_lease_is_accounted_for(self) -> None:
        ledger = self.ledger
        ended = ledger.released_total + ledger.reaped_total + ledger.removed_total
        assert ledger.reserved_total == ended + len(ledger)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_memory_stays_flat_over_churn() -> None:
    """Endpoints and leases that came and went leave nothing behind."""
    ledger, rng = Ledger(), random.Random(1)
    for i in range(1, 2001):
        endpoint = Endpoint("e", instance=i)
        ledger.add(endpoint)
        leases = [ledger.reserve("r", endpoint, now=0.0) for _ in range(rng.randrange(4))]
        for lease in leases[:2]:
            ledger.release(lease)
        ledger.remove(endpoint)

    assert len(ledger) == 0
    assert len(ledger._slots) == 0
    assert len(ledger._requests) == 8


def test_few_endpoints_are_counted_alike_in_whatever_order_they_came_and_went() -> None:
    """In the order of their slots or in another, as lists or, for more of them, as arrays."""
    endpoints = [Endpoint(f"e{i}", instance=i + 1) for i in range(20)]
    ledger = ledger_of(*endpoints)
    for i, endpoint in enumerate(endpoints):
        for _ in range(i):
            ledger.reserve("r", endpoint, prefill_tokens=2.0, now=0.0)

    for chosen in (endpoints[:4], endpoints[3::-1], endpoints[2:9], endpoints[:1], endpoints):
        columns = ledger.columns(tuple(chosen))
        requests = [ledger.requests(endpoint) for endpoint in chosen]
        assert list(columns["in_flight_requests"]) == requests
        assert list(columns["in_flight_tokens"]) == [2.0 * count for count in requests]
