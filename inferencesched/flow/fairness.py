"""Fairness policies: which flow of a band goes next?

A policy is a value; what it remembers of one band is its `Turns`. A band that runs empty forgets: fairness is a promise
between flows that wait at the same time, and whoever used the pool while nobody waited owes nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import ClassVar

import attrs
from sortedcontainers import SortedList, SortedSet

__all__ = ["GlobalStrictFairnessPolicy", "RoundRobinFairnessPolicy", "TokenWeightedFairnessPolicy"]

_FEW = 16
"""Outdated fronts that are not worth a clean-up."""


@attrs.frozen
class GlobalStrictFairnessPolicy:
    """No fairness between flows: the request that the band's ordering policy puts first, whoever sent it.

    Formula: the smallest rank over the fronts of all flows.
    Unknown: nothing can be.
    Source: Endpoint Picker ``global-strict-fairness-policy``, its default.
    """

    type: ClassVar[str] = "global-strict-fairness-policy"

    def turns(self) -> _Strict:
        """Return the memory of a band."""
        return _Strict()


class _Strict:
    """The fronts of all flows as a heap; a front that a flow no longer has is passed over. O(log flows), amortised."""

    def __init__(self) -> None:
        self._heads: dict[str, tuple[float, int]] = {}
        self._order: list[tuple[tuple[float, int], str]] = []

    def ready(self, flow: str, head: tuple[float, int], /) -> None:
        self._heads[flow] = head
        heappush(self._order, (head, flow))
        if len(self._order) > 2 * len(self._heads) + _FEW:
            self._order = [(head, flow) for flow, head in self._heads.items()]
            heapify(self._order)

    def idle(self, flow: str, /) -> None:
        self._heads.pop(flow, None)

    def next(self) -> str:
        order, heads = self._order, self._heads
        while heads.get(order[0][1]) != order[0][0]:
            heappop(order)
        return order[0][1]

    def served(self, flow: str, tokens: float, /) -> None:
        pass


@attrs.frozen
class RoundRobinFairnessPolicy:
    """One request from each flow in turn.

    Between two turns of a flow that waits all the time every other flow has at most one.

    Formula: the next flow after the one served last, by name.
    Unknown: nothing can be.
    Source: Endpoint Picker ``round-robin-fairness-policy``.
    """

    type: ClassVar[str] = "round-robin-fairness-policy"

    def turns(self) -> _RoundRobin:
        """Return the memory of a band."""
        return _RoundRobin()


class _RoundRobin:
    """The ready flows by name, and the one served last. O(log flows) a call."""

    def __init__(self) -> None:
        self._ready: SortedSet = SortedSet()
        self._last: str | None = None

    def ready(self, flow: str, head: tuple[float, int], /) -> None:
        self._ready.add(flow)

    def idle(self, flow: str, /) -> None:
        self._ready.discard(flow)

    def next(self) -> str:
        place = 0 if self._last is None else self._ready.bisect_right(self._last)
        flow: str = self._ready[place % len(self._ready)]
        return flow

    def served(self, flow: str, tokens: float, /) -> None:
        self._last = flow


@attrs.frozen
class TokenWeightedFairnessPolicy:
    """Share by work, not by requests: flows get tokens in proportion to their weights.

    Each flow carries a tag, the tokens it was served divided by its weight, and the least served goes next. A flow that
    comes new, or comes back, starts where the band as a whole stands: it is owed nothing for the time it did not wait,
    and what it owes is not forgotten while others wait.

    The bound: while two flows both wait, the tokens each is served, divided by its weight, differ by no more than the
    largest request of each of them and the largest in the band, each divided by its flow's weight; however long they
    wait and however the requests are cut.

    Args:
        weights: weight by flow.
        default_weight: weight of a flow that is not listed.

    Formula: start = max(flow's last finish, band's clock, but no more than the largest start of a ready flow); finish =
        start + tokens / weight; the smallest start goes next, of equals the one that stood there first. The clock is
        at least the start of what is served, and moves by tokens / (sum of the ready weights).
    Unknown: tokens are the prompt's and what the answer may have at most; see ``Waiting``.
    Source: ours. Start-time fair queueing (Goyal, Vin, Cheng 1996) with the clock of WF²Q+ (Bennett, Zhang 1997), so
        that a stream of new names cannot hold the clock still.
    """

    type: ClassVar[str] = "token-weighted-fairness-policy"

    weights: Mapping[str, float] = attrs.field(factory=dict, hash=False)
    default_weight: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))

    def __attrs_post_init__(self) -> None:
        wrong = [flow for flow, weight in self.weights.items() if not 0 < weight < float("inf")]
        if wrong:
            raise ValueError(f"weights must be finite and > 0, that of '{wrong[0]}' is {self.weights[wrong[0]]!r}")

    def turns(self) -> _ByTokens:
        """Return the memory of a band."""
        return _ByTokens(self.weights, self.default_weight)


class _ByTokens:
    """Start tags of the ready flows, sorted, and debts of the others. O(log flows) a call, amortised."""

    def __init__(self, weights: Mapping[str, float], default_weight: float) -> None:
        self._weights = weights
        self._default = default_weight
        self._clock = 0.0
        self._ready_weight = 0.0
        self._starts: dict[str, float] = {}  # of the ready flows
        self._order: SortedList = SortedList()  # (start, entry, flow) of the ready flows
        self._entries: dict[str, int] = {}  # of the ready flows; equals go in the order of these
        self._entered = 0
        self._debts: dict[str, float] = {}  # last finish of flows that are idle, where it is ahead of the clock
        self._purge_at = 64

    def _weight(self, flow: str) -> float:
        return self._weights.get(flow, self._default)

    def ready(self, flow: str, head: tuple[float, int], /) -> None:
        if flow not in self._starts:
            here = min(self._clock, self._order[-1][0]) if self._order else self._clock
            self._enter(flow, max(here, self._debts.pop(flow, 0.0)))
            self._ready_weight += self._weight(flow)

    def idle(self, flow: str, /) -> None:
        if flow not in self._starts:
            return
        start = self._starts.pop(flow)
        self._order.remove((start, self._entries.pop(flow), flow))
        self._ready_weight = self._ready_weight - self._weight(flow) if self._starts else 0.0
        if start > self._clock:
            self._debts[flow] = start
            self._purge()

    def next(self) -> str:
        flow: str = self._order[0][2]
        return flow

    def served(self, flow: str, tokens: float, /) -> None:
        start = self._starts[flow]
        self._clock = max(self._clock, start) + tokens / max(self._ready_weight, self._weight(flow))
        self._order.remove((start, self._entries[flow], flow))
        self._enter(flow, start + tokens / self._weight(flow))

    def _enter(self, flow: str, start: float) -> None:
        self._entered += 1
        self._starts[flow], self._entries[flow] = start, self._entered
        self._order.add((start, self._entered, flow))

    def _purge(self) -> None:
        """Forget debts that the clock has overtaken, each time their number has doubled."""
        if len(self._debts) >= self._purge_at:
            self._debts = {flow: finish for flow, finish in self._debts.items() if finish > self._clock}
            self._purge_at = max(64, 2 * len(self._debts))
