"""Quotas: requests a second and tokens a minute for each principal, reserved before the work and settled after it.

How many tokens a request will take is known when it has ended, which is too late to refuse it. So an estimate is taken
at admission, put right when usage is known, and given back if there was none:

    reserve ──▶ Reservation ──▶ settle (usage)     the difference is charged or given back
           └──▶ Exceeded    └─▶ refund (failure)   everything is given back; only the first ending counts

Each limit is a bucket: what was taken raises its level, time drains it at the limit's rate, and what would raise it
above its size is refused, with the time until it would fit. An absent limit is unlimited. Zero is never taken for
absent: a limit of 0 blocks, and a rate of 0 with a burst is a budget that is spent once.

Usage above the estimate is charged in full, above the bucket's size if need be; the principal pays by waiting. A retry
of a placement is covered by the reservation it has. A reservation that gets lost stays charged at its estimate.

Levels live in a `Store`. `MemoryStore` counts in this process: with several replicas, each grants the whole limit. What
holds across replicas is a store that they share. No clock and no principals' names here: both are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import attrs
from sortedcontainers import SortedList

from inferencesched.decision import Rejection
from inferencesched.flow.retry import retry_after
from inferencesched.request import Request

__all__ = ["Bucket", "Charge", "Exceeded", "Limits", "MemoryStore", "Quota", "Reservation", "Store"]

_ROUNDING = 1e-9  # of a bucket's size: waiting as long as we said must be enough, whatever the clock's last bits are


def _is_amount(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be a finite number ≥ 0, got {value!r}")


@attrs.frozen
class Limits:
    """What one principal may use. None is unlimited, 0 is nothing.

    Attributes:
        requests_per_second: admitted, in the long run.
        tokens_per_minute: prompt and answer together, in the long run.
        request_burst: requests admitted at once after a pause; by default what a second brings, at least 1.
        token_burst: tokens at once after a pause, and so the largest request; by default what a minute brings.

    >>> Limits(tokens_per_minute=0, token_burst=5_000)  # five thousand tokens, once
    Limits(requests_per_second=None, tokens_per_minute=0, request_burst=None, token_burst=5000)
    """

    requests_per_second: float | None = attrs.field(default=None, validator=_is_amount)
    tokens_per_minute: float | None = attrs.field(default=None, validator=_is_amount)
    request_burst: float | None = attrs.field(default=None, validator=_is_amount, kw_only=True)
    token_burst: float | None = attrs.field(default=None, validator=_is_amount, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.request_burst is not None and self.requests_per_second is None:
            raise ValueError("request_burst limits nothing without requests_per_second")
        if self.token_burst is not None and self.tokens_per_minute is None:
            raise ValueError("token_burst limits nothing without tokens_per_minute")

    @property
    def requests(self) -> Bucket | None:
        """The bucket for requests; None when they are unlimited."""
        if (rate := self.requests_per_second) is None:
            return None
        size = self.request_burst if self.request_burst is not None else max(rate, 1.0) if rate else 0.0
        return Bucket("requests_per_second", rate, size)

    @property
    def tokens(self) -> Bucket | None:
        """The bucket for tokens; None when they are unlimited."""
        if (rate := self.tokens_per_minute) is None:
            return None
        return Bucket("tokens_per_minute", rate / 60.0, self.token_burst if self.token_burst is not None else rate)


@attrs.frozen
class Bucket:
    """One limit as stores see it: a level that drains at `rate` a second and must not be raised above `size`."""

    name: str
    rate: float
    size: float


@attrs.frozen
class Charge:
    """An amount for one bucket of a principal; negative to give back."""

    bucket: Bucket
    amount: float


class Store(Protocol):
    """Where levels live. A shared one makes each call atomic; a bucket that nobody has charged is empty."""

    def take(self, principal: str, charges: Sequence[Charge], *, now: float) -> Sequence[float]:
        """Charge everything or nothing.

        Returns:
            For each charge, the seconds until it would fit; infinite if never. All 0: it was charged.
        """
        ...

    def adjust(self, principal: str, charges: Sequence[Charge], *, now: float) -> None:
        """Charge without asking, above a bucket's size if need be; giving back makes none less than empty."""
        ...


@attrs.define(eq=False)
class Reservation:
    """What was charged for one request. It knows itself whether it has ended, so nobody has to remember lost ones.

    Attributes:
        principal: who was charged.
        requests: charged to the request limit: 1, or 0 where there is none.
        tokens: charged to the token limit, 0 where there is none.
        is_open: neither settled nor refunded yet.
    """

    principal: str
    requests: float
    tokens: float
    is_open: bool = True


@attrs.frozen
class Exceeded:
    """A request that does not fit, and when it would.

    Attributes:
        principal: whose limit it is.
        limit: which one: ``requests_per_second`` or ``tokens_per_minute``; of two, the one to wait for longest.
        retry_after: seconds until it would fit if nobody else took anything; None if no amount of waiting helps: the
            principal is blocked, or the request is larger than a burst.
        message: one sentence with the numbers.
    """

    principal: str
    limit: str
    retry_after: float | None
    message: str

    def rejection(self, request: Request, *, generation: int, now: float) -> Rejection:
        """Return what to answer: 429 ``rejected-quota``, the wait with jitter as in every refusal."""
        return Rejection(
            request.id,
            request.model,
            "rejected-quota",
            429,
            transient=self.retry_after is not None,
            message=self.message,
            retry_after=None if self.retry_after is None else retry_after(self.retry_after, request.id),
            generation=generation,
            now=now,
        )


class Quota:
    """Reserves, settles and refunds against the limits of each principal.

    Args:
        limits: by principal, from an authenticated attribute of the request; replace it to change limits, levels stay.
        default: for principals that are not in `limits`.
        store: where levels live.

    >>> quota = Quota({"acme": Limits(tokens_per_minute=6_000)})
    >>> reserved = quota.reserve("acme", tokens=5_000, now=0.0)
    >>> quota.reserve("acme", tokens=2_000, now=0.0).retry_after
    10.0
    >>> quota.settle(reserved, tokens=4_000, now=0.0)
    True
    >>> quota.reserve("acme", tokens=2_000, now=0.0).is_open
    True
    """

    def __init__(
        self,
        limits: Mapping[str, Limits] = MappingProxyType({}),
        *,
        default: Limits = Limits(),
        store: Store | None = None,
    ) -> None:
        self.limits = limits
        self.default = default
        self.store: Store = MemoryStore() if store is None else store

    def reserve(self, principal: str, *, tokens: float, now: float) -> Reservation | Exceeded:
        """Charge one request and the tokens it is expected to take, or say when that would fit."""
        if not 0 <= tokens < math.inf:
            raise ValueError(f"tokens must be a finite number ≥ 0, got {tokens!r}")
        limits = self.limits.get(principal, self.default)
        charges = [
            Charge(bucket, amount)
            for bucket, amount in ((limits.requests, 1.0), (limits.tokens, float(tokens)))
            if bucket is not None
        ]
        waits = self.store.take(principal, charges, now=now) if charges else ()
        if any(waits):
            wait, charge = max(zip(waits, charges, strict=True), key=lambda each: each[0])
            return _exceeded(principal, charge, wait)
        requests = 1.0 if limits.requests is not None else 0.0
        return Reservation(principal, requests, float(tokens) if limits.tokens is not None else 0.0)

    def settle(self, reservation: Reservation, *, tokens: float, now: float) -> bool:
        """Replace the estimate by what was used, which may be more. Returns whether this call ended the reservation."""
        if not 0 <= tokens < math.inf:
            raise ValueError(f"tokens must be a finite number ≥ 0, got {tokens!r}")
        return self._end(reservation, 0.0, tokens - reservation.tokens, now=now)

    def refund(self, reservation: Reservation, *, now: float) -> bool:
        """Give everything back: the request was never served. Returns whether this call ended the reservation."""
        return self._end(reservation, -reservation.requests, -reservation.tokens, now=now)

    def _end(self, reservation: Reservation, requests: float, tokens: float, *, now: float) -> bool:
        if not reservation.is_open:
            return False
        reservation.is_open = False
        limits = self.limits.get(reservation.principal, self.default)  # those of today: a reload may have changed them
        charges = [
            Charge(bucket, amount)
            for bucket, amount in ((limits.requests, requests), (limits.tokens, tokens))
            if bucket is not None and amount
        ]
        if charges:
            self.store.adjust(reservation.principal, charges, now=now)
        return True


def _exceeded(principal: str, charge: Charge, wait: float) -> Exceeded:
    bucket = charge.bucket
    if not bucket.size:
        why = "is blocked"
    elif charge.amount > bucket.size:
        why = f"asks for {charge.amount:g} at once, and may have {bucket.size:g}"
    elif math.isinf(wait):
        why = f"has spent its budget of {bucket.size:g}, which is not renewed"
    else:
        why = f"has used up its quota for now; it has room again in {wait:.3g} s"
    return Exceeded(principal, bucket.name, None if math.isinf(wait) else wait, f"'{principal}' {why} ({bucket.name})")


@attrs.frozen
class _Level:
    """How full a bucket was, when, and how fast it has drained since."""

    amount: float
    at: float
    rate: float

    def amount_at(self, now: float) -> float:
        return max(self.amount - self.rate * max(now - self.at, 0.0), 0.0)

    @property
    def empty_at(self) -> float:
        if not self.amount:
            return self.at
        return self.at + self.amount / self.rate if self.rate else math.inf


class MemoryStore:
    """Levels in this process.

    A principal whose buckets are empty is forgotten, since that is what a new one looks like. At `max_principals` the
    one whose buckets would be empty soonest is forgotten early, and counted: it gets the rest of them for nothing.

    Args:
        max_principals: how many are remembered at most.

    Attributes:
        forgotten_early_total: principals that were forgotten before their buckets were empty.

    Complexity: O(log principals) for each call.
    """

    def __init__(self, *, max_principals: int = 100_000) -> None:
        if max_principals < 1:
            raise ValueError(f"max_principals must be at least 1, got {max_principals}")
        self.max_principals = max_principals
        self.forgotten_early_total = 0
        self._levels: dict[str, Mapping[str, _Level]] = {}
        self._by_empty_at: SortedList[tuple[float, str]] = SortedList()

    def __len__(self) -> int:
        """Return how many principals are remembered."""
        return len(self._levels)

    def take(self, principal: str, charges: Sequence[Charge], *, now: float) -> Sequence[float]:
        """Charge everything or nothing (see `Store`)."""
        levels = self._levels.get(principal, {})
        waits = [_wait(levels.get(charge.bucket.name), charge, now) for charge in charges]
        if not any(waits):
            self.adjust(principal, charges, now=now)
        return waits

    def adjust(self, principal: str, charges: Sequence[Charge], *, now: float) -> None:
        """Charge without asking (see `Store`)."""
        levels = dict(self._forget(principal))
        for charge in charges:
            bucket, level = charge.bucket, levels.get(charge.bucket.name)
            amount = charge.amount + (level.amount_at(now) if level is not None else 0.0)
            levels[bucket.name] = _Level(max(amount, 0.0), now, bucket.rate)
        self._remember(principal, levels, now=now)

    def _forget(self, principal: str) -> Mapping[str, _Level]:
        levels = self._levels.pop(principal, {})
        if levels:
            self._by_empty_at.remove((_empty_at(levels), principal))
        return levels

    def _remember(self, principal: str, levels: Mapping[str, _Level], *, now: float) -> None:
        self._levels[principal] = levels
        self._by_empty_at.add((_empty_at(levels), principal))
        while len(self._levels) > self.max_principals or self._by_empty_at[0][0] <= now:
            empty_at, soonest = self._by_empty_at.pop(0)
            del self._levels[soonest]
            self.forgotten_early_total += empty_at > now
            if not self._levels:
                return


def _empty_at(levels: Mapping[str, _Level]) -> float:
    return max(level.empty_at for level in levels.values())


def _wait(level: _Level | None, charge: Charge, now: float) -> float:
    """Return the seconds until a charge fits."""
    bucket = charge.bucket
    if not bucket.size:
        return math.inf  # blocked, even for a request that asks for nothing
    before = level.amount_at(now) if level is not None else 0.0
    excess = before + charge.amount - bucket.size
    if excess <= bucket.size * _ROUNDING:
        return 0.0
    if charge.amount > bucket.size or not bucket.rate:
        return math.inf
    return excess / bucket.rate
