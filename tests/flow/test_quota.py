"""Quotas: what is reserved, settled and given back agrees with a naive model, and zero is not taken for absent.

The tests named after a letter and a number are behaviours that other projects got wrong. The arithmetic is exact: times
are multiples of 1/8 s, and rates and amounts whole numbers with few bits.
"""

import gc
import math
import weakref
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched import Request
from inferencesched.flow.quota import Bucket, Charge, Exceeded, Limits, MemoryStore, Quota, Reservation

TEN_A_SECOND = Limits(tokens_per_minute=600)


def reserved(quota: Quota, principal: str = "p", *, tokens: float = 1, now: float = 0.0) -> Reservation:
    answer = quota.reserve(principal, tokens=tokens, now=now)
    assert isinstance(answer, Reservation), answer
    return answer


def exceeded(quota: Quota, principal: str = "p", *, tokens: float = 1, now: float = 0.0) -> Exceeded:
    answer = quota.reserve(principal, tokens=tokens, now=now)
    assert isinstance(answer, Exceeded), answer
    return answer


# --- zero, absent, too large ---


@pytest.mark.parametrize("limits", [Limits(0), Limits(tokens_per_minute=0), Limits(0, 0), Limits(5, 0), Limits(0, 600)])
def test_e10_a_limit_of_zero_blocks(limits: Limits) -> None:
    """Now, after any time, and even a request of no tokens; the client is told not to come back."""
    quota = Quota({"p": limits})

    for now, tokens in ((0.0, 1), (1e9, 1), (1e9, 0)):
        refusal = exceeded(quota, tokens=tokens, now=now)

        assert refusal.retry_after is None
        assert "blocked" in refusal.message


def test_e10_a_rate_of_zero_is_a_budget_that_is_not_renewed() -> None:
    """What is spent is spent; what is given back can be spent again."""
    quota = Quota({"p": Limits(tokens_per_minute=0, token_burst=100)})
    first = reserved(quota, tokens=60)

    assert exceeded(quota, tokens=60, now=1e9).retry_after is None
    quota.refund(first, now=1e9)
    reserved(quota, tokens=60, now=2e9)
    assert exceeded(quota, tokens=60, now=3e9).retry_after is None
    reserved(quota, tokens=40, now=3e9)


def test_absent_is_unlimited_and_leaves_no_trace() -> None:
    store = MemoryStore()
    quota = Quota(store=store)

    for _ in range(1000):
        quota.settle(reserved(quota, tokens=1e12), tokens=2e12, now=0.0)

    assert len(store) == 0


def test_a_request_larger_than_the_burst_is_told_not_to_come_back() -> None:
    refusal = exceeded(Quota(default=TEN_A_SECOND), tokens=601)

    assert (refusal.limit, refusal.retry_after) == ("tokens_per_minute", None)
    assert "601" in refusal.message
    assert "600" in refusal.message


@pytest.mark.parametrize(
    ("requests_per_second", "burst", "admitted"), [(0.5, None, 1), (5, None, 5), (5, 2, 2), (0.5, 3, 3)]
)
def test_requests_at_once_are_those_of_a_second_unless_a_burst_is_given(
    requests_per_second: float, burst: float | None, admitted: int
) -> None:
    quota = Quota(default=Limits(requests_per_second, request_burst=burst))

    for _ in range(admitted):
        reserved(quota)

    refusal = exceeded(quota)
    assert (refusal.limit, refusal.retry_after) == ("requests_per_second", 1 / requests_per_second)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"requests_per_second": -1}, "requests_per_second"),
        ({"tokens_per_minute": math.nan}, "tokens_per_minute"),
        ({"tokens_per_minute": math.inf}, "tokens_per_minute"),
        ({"request_burst": 5}, "request_burst"),
        ({"token_burst": 5}, "token_burst"),
    ],
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Limits(**wrong)


@pytest.mark.parametrize("tokens", [-1.0, math.nan, math.inf])
def test_amounts_that_mean_nothing_are_refused(tokens: float) -> None:
    """A negative estimate or usage would be a gift."""
    quota = Quota(default=TEN_A_SECOND)
    reservation = reserved(quota)

    with pytest.raises(ValueError, match="tokens"):
        quota.reserve("p", tokens=tokens, now=0.0)
    with pytest.raises(ValueError, match="tokens"):
        quota.settle(reservation, tokens=tokens, now=0.0)


# --- reserve, settle, refund ---


def test_concurrent_requests_cannot_pass_together_what_one_by_one_would_not() -> None:
    """The estimate counts before anything is used: a burst of calls does not slip under the limit."""
    quota = Quota(default=TEN_A_SECOND)

    answers = [quota.reserve("p", tokens=100, now=0.0) for _ in range(50)]

    assert sum(isinstance(answer, Reservation) for answer in answers) == 6


def test_usage_below_the_estimate_is_given_back_and_above_it_is_charged() -> None:
    quota = Quota(default=TEN_A_SECOND)

    quota.settle(reserved(quota, tokens=500), tokens=100, now=0.0)
    reserved(quota, tokens=500)
    quota = Quota(default=TEN_A_SECOND)
    quota.settle(reserved(quota, tokens=100), tokens=700, now=0.0)  # 100 above the bucket's size

    assert exceeded(quota, tokens=1).retry_after == pytest.approx(10.1)


def test_a_failed_request_costs_neither_tokens_nor_a_request() -> None:
    quota = Quota(default=Limits(1, 600))

    assert quota.refund(reserved(quota, tokens=600), now=0.0)

    reserved(quota, tokens=600)


@pytest.mark.parametrize("second", ["settle", "refund"])
@pytest.mark.parametrize("first", ["settle", "refund"])
def test_a_reservation_ends_once(first: str, second: str) -> None:
    """Success and disconnect may both be reported: the first counts, the second changes nothing."""
    store = MemoryStore()
    quota = Quota(default=TEN_A_SECOND, store=store)
    reservation = reserved(quota, tokens=500)

    def end(how: str) -> bool:
        if how == "refund":
            return quota.refund(reservation, now=0.0)
        return quota.settle(reservation, tokens=300, now=0.0)

    assert end(first)
    assert not end(second)
    assert isinstance(quota.reserve("p", tokens=600, now=0.0), Reservation) == (first == "refund")


def test_what_is_given_back_late_does_not_add_up_to_more_than_the_burst() -> None:
    """The bucket has drained in the meantime: the refund finds nothing left to take back."""
    quota = Quota(default=TEN_A_SECOND)
    reservation = reserved(quota, tokens=600)

    quota.refund(reservation, now=60.0)

    reserved(quota, tokens=600, now=60.0)
    exceeded(quota, tokens=1, now=60.0)


def test_of_two_limits_the_answer_names_the_one_to_wait_for_longest_and_nothing_is_taken() -> None:
    quota = Quota(default=Limits(2, 600))
    reserved(quota, tokens=600)

    refusals = [exceeded(quota, tokens=100) for _ in range(5)]

    assert {(refusal.limit, refusal.retry_after) for refusal in refusals} == {("tokens_per_minute", 10.0)}
    reserved(quota, tokens=100, now=10.0)


def test_principals_do_not_share() -> None:
    quota = Quota({"small": Limits(tokens_per_minute=60)}, default=TEN_A_SECOND)
    reserved(quota, "small", tokens=60)

    exceeded(quota, "small")
    reserved(quota, "other", tokens=600)


def test_new_limits_apply_to_the_level_that_is_there() -> None:
    """Raising a limit helps at once, lowering it makes who spent more wait; nobody starts from empty."""
    quota = Quota({"p": TEN_A_SECOND})
    reserved(quota, tokens=600)

    quota.limits = {"p": Limits(tokens_per_minute=1200)}
    reserved(quota, tokens=600)
    quota.limits = {"p": Limits(tokens_per_minute=60)}

    assert exceeded(quota, tokens=60).retry_after == 1200.0


def test_a_settled_reservation_is_not_kept() -> None:
    """Nor is one that got lost: it stays charged, and that is all."""
    quota = Quota(default=TEN_A_SECOND)
    settled, lost = reserved(quota), reserved(quota)
    kept = weakref.ref(settled), weakref.ref(lost)
    quota.settle(settled, tokens=1, now=0.0)

    del settled, lost
    gc.collect()

    assert [reference() for reference in kept] == [None, None]


def test_a_refusal_is_a_429_with_its_reason() -> None:
    """One that time heals says when, at least a second ahead; one that it does not says so."""
    quota = Quota({"blocked": Limits(0)}, default=Limits(10))
    for _ in range(10):
        reserved(quota)

    soon = exceeded(quota).rejection(Request("r-1", "m", "secret"), generation=3, now=5.0)
    never = exceeded(quota, "blocked").rejection(Request("r-2"), generation=3, now=5.0)

    assert (soon.http_status, soon.reason, soon.transient) == (429, "rejected-quota", True)
    assert soon.retry_after is not None
    assert 1.0 <= soon.retry_after <= 1.5
    assert (never.http_status, never.reason, never.transient, never.retry_after) == (429, "rejected-quota", False, None)
    assert (soon.request_id, soon.model, soon.generation, soon.now) == ("r-1", "m", 3, 5.0)
    assert "secret" not in str(soon)


@given(
    tokens_per_minute=st.floats(1, 1e9),
    first=st.floats(0, 1),
    second=st.floats(0, 1),
    start=st.floats(0, 1e7),
)
def test_who_waits_as_long_as_told_gets_in(tokens_per_minute: float, first: float, second: float, start: float) -> None:
    """Whatever the clock's rounding: a client that obeys Retry-After is not refused again."""
    quota = Quota(default=Limits(tokens_per_minute=tokens_per_minute))
    reserved(quota, tokens=first * tokens_per_minute, now=start)
    answer = quota.reserve("p", tokens=second * tokens_per_minute, now=start)

    if isinstance(answer, Exceeded):
        assert answer.retry_after is not None
        reserved(quota, tokens=second * tokens_per_minute, now=start + answer.retry_after)


# --- the store's bound ---


def test_the_store_remembers_only_who_has_something_to_drain() -> None:
    store = MemoryStore()
    quota = Quota(default=TEN_A_SECOND, store=store)
    for i in range(100):
        reserved(quota, f"p{i}", tokens=10)
    assert len(store) == 100

    reserved(quota, "later", tokens=10, now=1.0)

    assert len(store) == 1
    assert store.forgotten_early_total == 0


def test_at_its_limit_the_store_forgets_who_is_nearest_to_empty_and_counts_it() -> None:
    """Fresh names on every request cannot fill the memory, nor push out who has spent much."""
    store = MemoryStore(max_principals=3)
    quota = Quota({"heavy": Limits(tokens_per_minute=0, token_burst=10)}, default=TEN_A_SECOND, store=store)
    reserved(quota, "heavy", tokens=10)
    for i in range(1000):
        reserved(quota, f"fresh-{i}", tokens=10 + i % 7)
        assert len(store) <= 3

    exceeded(quota, "heavy", tokens=1)
    assert store.forgotten_early_total == 998


def test_a_store_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_principals"):
        MemoryStore(max_principals=0)


def test_time_that_stands_still_or_goes_back_drains_nothing() -> None:
    store, bucket = MemoryStore(), Bucket("b", 10.0, 100.0)

    assert store.take("p", [Charge(bucket, 100.0)], now=50.0) == [0.0]

    assert store.take("p", [Charge(bucket, 10.0)], now=40.0) == [1.0]


# --- against a naive model ---

_RATES = st.sampled_from((None, 0, 60, 240, 960))
_AMOUNTS = st.sampled_from((0, 1, 8, 60, 100, 300))


@attrs.define
class Purse:
    """A bucket the other way round: what is left, refilled before every look. Knows one principal and one limit."""

    rate: float
    size: float
    left: float
    at: float = 0.0

    def refill(self, now: float) -> None:
        self.left = min(self.left + self.rate * (now - self.at), self.size)
        self.at = now

    def add(self, amount: float) -> None:
        self.left = min(self.left + amount, self.size)


class QuotaMachine(RuleBasedStateMachine):
    """Principals reserve, settle, refund, do both or neither, while time passes; every answer is the naive one."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = MemoryStore()
        self.quota = Quota(store=self.store)
        self.purses: dict[tuple[str, str], Purse] = {}
        self.reservations: list[Reservation] = []

    def purse(self, principal: str, bucket: Bucket | None) -> Purse | None:
        if bucket is None:
            return None
        purse = self.purses.setdefault((principal, bucket.name), Purse(bucket.rate, bucket.size, bucket.size))
        purse.refill(self.now)
        return purse

    def of(self, principal: str) -> tuple[Purse | None, Purse | None]:
        limits = self.quota.limits.get(principal, self.quota.default)
        return self.purse(principal, limits.requests), self.purse(principal, limits.tokens)

    @precondition(lambda self: len(self.quota.limits) < 3)
    @rule(requests=st.sampled_from((None, 0, 0.5, 4)), tokens=_RATES, burst=st.sampled_from((None, 0, 100)))
    def sign_up(self, requests: float | None, tokens: float | None, burst: float | None) -> None:
        """A principal gets limits."""
        limits = Limits(requests, tokens, token_burst=None if tokens is None else burst)
        self.quota.limits = {**self.quota.limits, f"p{len(self.quota.limits)}": limits}

    @rule(principal=st.sampled_from(("p0", "p1", "p2")), tokens=_AMOUNTS)
    def reserve(self, principal: str, tokens: float) -> None:
        """Ask for a request and some tokens."""
        if principal not in self.quota.limits:
            return
        answer = self.quota.reserve(principal, tokens=tokens, now=self.now)
        wanted = [(p, amount) for p, amount in zip(self.of(principal), (1, tokens), strict=True) if p is not None]
        fits = all(purse.left >= amount and purse.size > 0 for purse, amount in wanted)
        assert isinstance(answer, Reservation) == fits
        if isinstance(answer, Exceeded):
            never = any(not p.size or a > p.size or (not p.rate and a > p.left) for p, a in wanted)
            waits = [(a - p.left) / p.rate for p, a in wanted if p.rate and a > p.left]
            assert answer.retry_after == (None if never else max(waits))
            return
        for purse, amount in wanted:
            purse.left -= amount
        self.reservations.append(answer)

    @precondition(lambda self: self.reservations)
    @rule(data=st.data(), used=_AMOUNTS)
    def settle(self, data: Any, used: float) -> None:
        """Say what one used, perhaps for the second time."""
        reservation = data.draw(st.sampled_from(self.reservations))
        was_open = reservation.is_open
        assert self.quota.settle(reservation, tokens=used, now=self.now) == was_open
        _, purse = self.of(reservation.principal)
        if was_open and purse is not None:
            purse.add(reservation.tokens - used)

    @precondition(lambda self: self.reservations)
    @rule(data=st.data())
    def refund(self, data: Any) -> None:
        """Give one back, perhaps after it was settled."""
        reservation = data.draw(st.sampled_from(self.reservations))
        was_open = reservation.is_open
        assert self.quota.refund(reservation, now=self.now) == was_open
        for purse, amount in zip(self.of(reservation.principal), (1, reservation.tokens), strict=True):
            if was_open and purse is not None:
                purse.add(amount)

    @rule(eighths=st.integers(1, 1000))
    def wait(self, eighths: int) -> None:
        """Let time pass."""
        self.now += eighths / 8

    @invariant()
    def nobody_is_forgotten_early(self) -> None:
        """There is room for all."""
        assert self.store.forgotten_early_total == 0
        assert len(self.store) <= len(self.quota.limits)


TestQuotaMachine = QuotaMachine.TestCase
TestQuotaMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
