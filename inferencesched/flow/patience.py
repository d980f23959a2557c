"""How long a request may wait: one budget while there are endpoints, another while there are none.

Each second of waiting is charged to the budget that fits the pool at that moment, and to no other. So a request that
was held for a pool to wake up has its whole budget left for the queue; and since no budget ever starts again, a pool
that comes and goes cannot hold anybody for longer than both budgets together. The client's deadline is absolute and
can only shorten. (Upstream starts the budget in force anew whenever the pool flips.)
"""

from __future__ import annotations

from inferencesched.flow.waiting import Waiting

__all__ = ["Patience"]


class Patience:
    """The clocks that run while the pool has endpoints, and while it has none.

    Complexity: O(1) a call.
    """

    def __init__(self) -> None:
        self.has_endpoints = False
        self._with = 0.0  # seconds with endpoints until `_since`
        self._since = 0.0

    def watch(self, *, has_endpoints: bool, now: float) -> None:
        """Say how the pool is from now on."""
        self._with = self.reading(now=now)
        self._since = max(now, self._since)
        self.has_endpoints = has_endpoints

    def reading(self, *, now: float) -> float:
        """Return for how many seconds the pool has had endpoints."""
        return self._with + max(0.0, now - self._since) if self.has_endpoints else self._with

    def over_at(self, waiting: Waiting, ttl: float, no_endpoint_ttl: float) -> float:
        """Return when the request will have waited long enough, if the pool stays as it is; infinity for never."""
        if self.has_endpoints:
            over = self._since + ttl - (self._with - waiting.with_endpoints)
        else:
            over = waiting.arrived + no_endpoint_ttl + (self._with - waiting.with_endpoints)
        deadline = waiting.request.deadline
        return over if deadline is None else min(over, deadline)
