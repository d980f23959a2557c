"""One priority band: its flows, whose turn it is, and how much is queued.

A flow exists while something of it is queued: it is created by its first request and gone with its last, so idle flows
cost nothing and there are never more flows than requests.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator

from inferencesched.flow.guarding import Guard, unguarded
from inferencesched.flow.queue import FlowQueue
from inferencesched.flow.settings import BandSettings
from inferencesched.flow.waiting import Waiting, tokens_of
from inferencesched.interfaces import Turns

__all__ = ["Band"]

_NUMBER = (float, int)


class Band:
    """The requests of one priority.

    A policy that fails is done without: requests then go in the order of arrival.

    Args:
        priority: its priority.
        settings: its limits and policies.
        guard: calls the policies.
        ttl: seconds that its requests may wait while there are endpoints.
        no_endpoint_ttl: seconds that they may wait while there are none.

    Attributes:
        arrivals: what is queued, by number, in the order of arrival; to look at.
        size_bytes: the size of what is queued.
        let_by: the number of the placement with which it was last let by, as an aged band.

    Complexity: `add`, `take`, `remove` O(log n) with the policies that are built in.
    """

    def __init__(
        self,
        priority: int,
        settings: BandSettings,
        guard: Guard = unguarded,
        *,
        ttl: float = math.inf,
        no_endpoint_ttl: float = math.inf,
    ) -> None:
        self.priority = priority
        self.settings = settings
        self.ttl = ttl
        self.no_endpoint_ttl = no_endpoint_ttl
        self.size_bytes = 0
        self.let_by = 0
        self._guard = guard
        self._fairness, self._ordering = _name(settings.fairness), _name(settings.ordering)
        self._flows: dict[str, FlowQueue] = {}
        self.arrivals: OrderedDict[int, Waiting] = OrderedDict()
        self._turns: Turns = settings.fairness.turns()

    def __len__(self) -> int:
        return len(self.arrivals)

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate over the requests in the order of arrival."""
        return iter(self.arrivals.values())

    @property
    def flows(self) -> dict[str, int]:
        """How many requests each flow has queued."""
        return {flow: len(queue) for flow, queue in self._flows.items()}

    @property
    def oldest(self) -> Waiting:
        """The request that has waited longest."""
        return next(iter(self.arrivals.values()))

    @property
    def youngest_first(self) -> Iterator[Waiting]:
        """The requests from the last that arrived to the first."""
        return reversed(self.arrivals.values())

    def add(self, waiting: Waiting, *, expires: float) -> None:
        """Queue a request.

        Args:
            expires: when it will be given up, for orders that look at it.
        """
        ordering = self.settings.ordering
        rank = self._guard(self._ordering, "ordering-policy", ordering.rank, waiting.request, waiting.arrived, expires)
        waiting.rank = rank if isinstance(rank, _NUMBER) and not math.isnan(rank) else waiting.arrived
        self.arrivals[waiting.number] = waiting
        self.size_bytes += waiting.size_bytes
        queue = self._flows.get(waiting.flow)
        if queue is None:
            queue = self._flows[waiting.flow] = FlowQueue(self.arrivals)
        if queue.add(waiting):
            self._guard(self._fairness, "fairness-policy", self._turns.ready, waiting.flow, queue.head)

    def take(self) -> Waiting:
        """Remove and return the request whose turn it is."""
        turns = self._turns
        flow = self._guard(self._fairness, "fairness-policy", turns.next)
        if not isinstance(flow, str) or flow not in self._flows:
            flow = self.oldest.flow
        waiting = self._flows[flow].first
        self._guard(self._fairness, "fairness-policy", turns.served, flow, tokens_of(waiting.request))
        self.remove(waiting)
        return waiting

    def remove(self, waiting: Waiting) -> None:
        """Remove a request, wherever it stands."""
        flow = waiting.flow
        queue = self._flows[flow]
        del self.arrivals[waiting.number]
        self.size_bytes -= waiting.size_bytes
        was_first = queue.remove(waiting.number)
        if not self.arrivals:
            self._flows.clear()
            self._turns = self.settings.fairness.turns()
        elif not queue:
            del self._flows[flow]
            self._guard(self._fairness, "fairness-policy", self._turns.idle, flow)
        elif was_first:
            self._guard(self._fairness, "fairness-policy", self._turns.ready, flow, queue.head)


def _name(policy: object) -> str:
    return getattr(policy, "type", type(policy).__name__)
