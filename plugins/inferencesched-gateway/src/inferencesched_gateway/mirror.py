"""Mirror: a copy of a request for another pool. Its answer is read to its end and thrown away; its failure is nobody's.

A copy is placed like any request of its own pool, as sheddable work: it is the first to go when that pool is full, and
how many copies are under way at once is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from inferencesched import Decision, Rejection
from inferencesched.events import Ticket
from inferencesched_gateway.headers import DESTINATION, to_engine
from inferencesched_gateway.pool import Pool
from inferencesched_gateway.wire import Call, ResponseHead, UpstreamError

if TYPE_CHECKING:
    from inferencesched_gateway.gateway import Gateway
    from inferencesched_gateway.relay import Plan

__all__ = ["MirrorStats", "Mirrors"]


@attrs.define
class MirrorStats:
    """What became of copies.

    Attributes:
        sent: that were answered completely.
        failed: that were not.
        dropped: that were never sent: no room, or too many under way.
    """

    sent: int = 0
    failed: int = 0
    dropped: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return plain JSON values."""
        return attrs.asdict(self)


class Mirrors:
    """Sends copies.

    Args:
        gateway: whose client is used.
        most: how many copies may be under way; further ones are dropped and counted.
    """

    def __init__(self, gateway: Gateway, *, most: int = 1000) -> None:
        self.stats = MirrorStats()
        self.under_way: set[_Copy] = set()
        self._gateway = gateway
        self._most = most

    def send(self, plan: Plan, pool: Pool) -> None:
        """Send a copy of `plan` to `pool`, later than everything that is being done now."""
        if len(self.under_way) >= self._most:
            self.stats.dropped += 1
            return
        copy = _Copy(self, self._gateway, plan, pool)
        self.under_way.add(copy)
        self._gateway.later(copy.start)


class _Copy:
    """One copy under way."""

    __slots__ = ("_call", "_gateway", "_mirrors", "_plan", "_pool", "_status", "_ticket")

    def __init__(self, mirrors: Mirrors, gateway: Gateway, plan: Plan, pool: Pool) -> None:
        self._mirrors = mirrors
        self._gateway = gateway
        self._plan = plan
        self._pool = pool
        self._ticket: Ticket | None = None
        self._call: Call | None = None
        self._status = 0

    def start(self) -> None:
        """Ask for a place."""
        request = attrs.evolve(self._plan.request, priority=min(self._plan.request.priority, -1))
        self._pool.submit(request, self)

    def assigned(self, ticket: Ticket, decision: Decision) -> None:
        """Send it there."""
        self._ticket = ticket
        plan = self._plan
        ours = [(DESTINATION, decision.address.encode()), plan.id_header]
        told, owned = decision.headers, decision.owned_headers
        headers = to_engine(plan.heading.received, ours, is_read=True, told=told, owned=owned)
        origin = self._gateway.origin(decision)
        self._call = self._gateway.client.send(origin, plan.heading.method, plan.target, headers, plan.body, self)

    def rejected(self, rejection: Rejection) -> None:
        """Do without."""
        self._mirrors.stats.dropped += 1
        self._mirrors.under_way.discard(self)

    def evicted(self, rejection: Rejection) -> None:
        """Make room."""
        if self._call is not None:
            self._call.cancel()
        self._over("cancelled")

    def head(self, head: ResponseHead) -> None:
        """Remember whether it went well."""
        self._status = head.status

    def data(self, chunk: bytes) -> None:
        """Throw it away."""

    def end(self) -> None:
        """The answer is complete."""
        self._over("success" if self._status < 500 else "error")

    def failed(self, error: UpstreamError) -> None:
        """Whatever it was, the client does not see it."""
        self._over("error")

    def _over(self, outcome: str) -> None:
        if self._ticket is None:
            return
        self._pool.finish(self._ticket, outcome)
        self._ticket = None
        self._mirrors.under_way.discard(self)
        if outcome == "success":
            self._mirrors.stats.sent += 1
        else:
            self._mirrors.stats.failed += 1
