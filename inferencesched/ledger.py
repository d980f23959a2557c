"""The ledger: who is working on what, reserved at the pick and given back exactly once.

The commonest serious bug of this field is not a bad policy but a wrong count: an in-flight counter that leaks on a
disconnect, is decremented twice, or comes back at −1 after a restart, and turns a sound policy into a hot spot. So the
counting stands alone here, small enough to be proved:

* Reserving returns a `Lease`. It is tied to the endpoint *instance*; a server that is removed and comes back under the
  same name starts from zero, and late releases of its predecessor's leases touch nothing.
* A lease is *open* until the first of: release, removal of its endpoint, reaper. Whatever comes after finds it closed
  and changes nothing; it is counted in `underflow_total`, because a plain counter would have gone below its truth.
* Prefill tokens are given back at the first token of the answer, output tokens and the request at the end.
* A lease that nobody touched for `ttl` seconds is reaped: the backstop for a host that lost track.
* ``audit()`` recomputes every counter from the open leases and compares: ``sum(counters) == open leases``.

Counters are arrays by slot, one slot per endpoint instance, so that a pass reads them as columns. They are changed as
Python's arrays and read through numpy's view of the same memory, each of which is the faster at its task. The ledger
knows neither requests nor policies, and no clock: `now` is given.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.decision import Lease
from inferencesched.endpoints import FEW, Endpoint, FloatArray, Numbers, readonly
from inferencesched.errors import LifecycleError

__all__ = ["Audit", "Ledger"]


@attrs.define(eq=False)
class _Open:
    """The state of an open lease: its slot, when it was last heard of, and what of it is still reserved."""

    slot: int
    touched: float
    prefill_tokens: float
    output_tokens: float
    started: bool = False

    @property
    def tokens(self) -> float:
        return self.prefill_tokens + self.output_tokens


@attrs.frozen(eq=False)
class _Aligned:
    """Some endpoints, the slot of each, and the counters of all slots as numpy sees them."""

    endpoints: tuple[Endpoint, ...]
    slots: list[int]
    are_first: bool  # those slots are the first ones, in their order, as in a pool that nobody has left
    rows: NDArray[np.intp]
    requests: FloatArray
    tokens: FloatArray


@attrs.frozen
class Audit:
    """The result of `Ledger.audit`.

    Attributes:
        open_leases: leases not yet released.
        requests: the counters' sum; equals `open_leases` when the books balance.
        tokens: the tokens' sum.
        problems: one sentence for each counter that is not what its leases say; empty when the books balance.
    """

    open_leases: int
    requests: int
    tokens: float
    problems: tuple[str, ...]

    @property
    def balanced(self) -> bool:
        """Whether every counter equals the sum of its open leases, and none is below zero."""
        return not self.problems


class Ledger:
    """Counts requests and tokens in flight per endpoint instance.

    Args:
        ttl: seconds without a sign of life after which a lease is reaped. Must exceed the longest silence of a live
            request; hosts that stream call `touch` (or nothing at all, with a `ttl` above their longest answer).

    Attributes:
        reserved_total: leases ever opened.
        released_total: leases closed by `release`.
        reaped_total: leases closed by the reaper.
        removed_total: leases closed because their endpoint was removed.
        underflow_total: attempts to close what was not open.

    Complexity: `reserve`, `first_token`, `touch`, `release` O(1); `remove` and `audit` O(open leases); `columns` O(n).
    """

    def __init__(self, *, ttl: float = 600.0) -> None:
        if not ttl > 0:
            raise ValueError(f"ttl must be > 0 seconds, got {ttl!r}")
        self._ttl = ttl
        self._slots: dict[int, int] = {}  # endpoint instance → slot
        self._free: list[int] = []
        self._requests = array("d")  # slot → requests in flight
        self._tokens = array("d")  # slot → tokens reserved
        # Ordered by last touch, oldest first: the reaper looks at the front only.
        self._open: OrderedDict[Lease, _Open] = OrderedDict()
        self._aligned: _Aligned | None = None  # what the last `columns` was asked for
        self.reserved_total = 0
        self.released_total = 0
        self.reaped_total = 0
        self.removed_total = 0
        self.underflow_total = 0

    def __len__(self) -> int:
        """Return the number of open leases."""
        return len(self._open)

    def __contains__(self, lease: object) -> bool:
        """Return whether `lease` is open here."""
        return lease in self._open

    @property
    def ttl(self) -> float:
        """Seconds without a sign of life after which a lease is reaped."""
        return self._ttl

    def add(self, endpoint: Endpoint) -> None:
        """Open an account for an endpoint instance, at zero. Again for the same instance: nothing happens."""
        if endpoint.instance in self._slots:
            return
        if not self._free:
            size = len(self._requests)
            more = max(8, size)
            self._free.extend(reversed(range(size, size + more)))
            self._requests = self._requests + array("d", bytes(8 * more))  # new arrays: views of the old may be about
            self._tokens = self._tokens + array("d", bytes(8 * more))
        self._slots[endpoint.instance] = self._free.pop()
        self._aligned = None

    def remove(self, endpoint: Endpoint) -> tuple[Lease, ...]:
        """Close an instance's account and return the leases that were open on it; again: nothing happens."""
        slot = self._slots.pop(endpoint.instance, None)
        if slot is None:
            return ()
        orphans = tuple(lease for lease, state in self._open.items() if state.slot == slot)
        for lease in orphans:
            del self._open[lease]
        self.removed_total += len(orphans)
        self._requests[slot] = self._tokens[slot] = 0.0
        self._free.append(slot)
        self._aligned = None
        return orphans

    def reserve(
        self,
        request_id: str,
        endpoint: Endpoint,
        *,
        stage: str = "",
        prefill_tokens: float = 0.0,
        output_tokens: float = 0.0,
        now: float,
    ) -> Lease:
        """Count a request and its tokens on `endpoint`, from this call on.

        Raises:
            LifecycleError: the endpoint instance has no account (never added, or removed).
            ValueError: tokens are negative, NaN or infinite.
        """
        slot = self._slots.get(endpoint.instance)
        if slot is None:
            raise LifecycleError(f"endpoint '{endpoint.name}' (instance {endpoint.instance}) is not in the ledger")
        tokens = prefill_tokens + output_tokens
        if not 0 <= tokens < math.inf or prefill_tokens < 0 or output_tokens < 0:
            raise ValueError(f"tokens must be finite and ≥ 0, got {prefill_tokens!r} and {output_tokens!r}")
        lease = Lease(request_id, endpoint, stage, prefill_tokens, output_tokens)
        # A lease is equal to itself alone: two streams with one request id have a lease each.
        self._open[lease] = _Open(slot, now, prefill_tokens, output_tokens)
        self._requests[slot] += 1.0
        self._tokens[slot] += tokens
        self.reserved_total += 1
        return lease

    def touch(self, lease: Lease, *, now: float) -> bool:
        """Note a sign of life: the reaper's count starts anew. Return whether the lease is open."""
        state = self._open.get(lease)
        if state is None:
            return False
        state.touched = now
        self._open.move_to_end(lease)
        return True

    def first_token(self, lease: Lease, *, now: float) -> bool:
        """Give back the prefill tokens: the prompt has been processed. Return whether this was the first time."""
        state = self._open.get(lease)
        if state is None:
            return False
        state.touched = now
        self._open.move_to_end(lease)
        if state.started:
            return False
        self._tokens[state.slot] = max(0.0, self._tokens[state.slot] - state.prefill_tokens)
        state.prefill_tokens, state.started = 0.0, True
        return True

    def release(self, lease: Lease) -> bool:
        """Give back everything that is still reserved. Return whether the lease was open.

        Safe to call from every path that may end a request; only the first call counts.
        """
        if not self._close(lease):
            self.underflow_total += 1
            return False
        self.released_total += 1
        return True

    def next_timer(self) -> float | None:
        """Return when the oldest lease is due for the reaper, or None."""
        for oldest in self._open.values():
            return oldest.touched + self._ttl
        return None

    def reap(self, *, now: float) -> tuple[Lease, ...]:
        """Close and return the leases not heard of for `ttl` seconds. O(reaped)."""
        reaped = []
        while (due := self.next_timer()) is not None and due <= now:
            lease = next(iter(self._open))
            self._close(lease)
            reaped.append(lease)
        self.reaped_total += len(reaped)
        return tuple(reaped)

    def requests(self, endpoint: Endpoint) -> int:
        """Return the requests in flight on an endpoint instance; 0 if it has no account."""
        slot = self._slots.get(endpoint.instance)
        return 0 if slot is None else int(self._requests[slot])

    def tokens(self, endpoint: Endpoint) -> float:
        """Return the tokens in flight on an endpoint instance; 0 if it has no account."""
        slot = self._slots.get(endpoint.instance)
        return 0.0 if slot is None else self._tokens[slot]

    def columns(self, endpoints: tuple[Endpoint, ...]) -> dict[str, Numbers]:
        """Return `in_flight_requests` and `in_flight_tokens` in the order of `endpoints`, as they are now.

        Lists for few endpoints, read-only arrays for more.

        Raises:
            LifecycleError: one of them has no account.
        """
        if self._aligned is None or self._aligned.endpoints is not endpoints:
            try:
                slots = [self._slots[endpoint.instance] for endpoint in endpoints]
            except KeyError as missing:
                raise LifecycleError(f"endpoint instance {missing} is not in the ledger") from None
            rows = np.array(slots, np.intp)
            seen = np.frombuffer(self._requests), np.frombuffer(self._tokens)
            are_first = slots == list(range(len(slots)))
            self._aligned = _Aligned(endpoints, slots, are_first, rows, *seen)
        aligned = self._aligned
        if len(endpoints) <= FEW:
            requests, tokens = self._requests, self._tokens
            if aligned.are_first:
                count = len(endpoints)
                return {
                    "in_flight_requests": requests[:count].tolist(),
                    "in_flight_tokens": tokens[:count].tolist(),
                }
            return {
                "in_flight_requests": [requests[slot] for slot in aligned.slots],
                "in_flight_tokens": [tokens[slot] for slot in aligned.slots],
            }
        return {
            "in_flight_requests": readonly(aligned.requests[aligned.rows]),
            "in_flight_tokens": readonly(aligned.tokens[aligned.rows]),
        }

    def audit(self) -> Audit:
        """Recompute every counter from the open leases and compare."""
        requests, tokens = [0.0] * len(self._requests), [0.0] * len(self._tokens)
        for state in self._open.values():
            requests[state.slot] += 1
            tokens[state.slot] += state.tokens
        names = {slot: f"instance {instance}" for instance, slot in self._slots.items()}
        problems = []
        for slot in range(len(self._requests)):
            name = names.get(slot, f"free slot {slot}")
            if self._requests[slot] != requests[slot]:
                problems.append(f"{name}: {self._requests[slot]:g} requests counted, {requests[slot]:g} leases open")
            if not math.isclose(self._tokens[slot], tokens[slot], rel_tol=1e-9, abs_tol=1e-6):
                problems.append(f"{name}: {self._tokens[slot]:g} tokens counted, {tokens[slot]:g} reserved")
            if self._requests[slot] < 0 or self._tokens[slot] < 0:
                problems.append(f"{name}: below zero")
        return Audit(len(self._open), int(sum(self._requests)), sum(self._tokens, 0.0), tuple(problems))

    def _close(self, lease: Lease) -> bool:
        state = self._open.pop(lease, None)
        if state is None:
            return False
        slot = state.slot
        requests = self._requests[slot] = self._requests[slot] - 1.0
        # With no request left there are no tokens: what rounding left over in the sum goes with the last lease.
        left = self._tokens[slot] - state.tokens if requests > 0 else 0.0
        self._tokens[slot] = max(0.0, left)
        return True
