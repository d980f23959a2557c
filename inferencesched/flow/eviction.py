"""Cooperative eviction: which placed requests are asked to make room for more urgent ones that wait.

An eviction filter says whom it may ask, an eviction order who of them goes first. It is a closed loop: a few are asked
at a time, only for the sake of somebody more urgent, and nobody else until each of them has ended (or `TIMEOUT` is
over) and the pool has had a moment to show the effect.

Semantics and numbers are the Endpoint Picker's (`enableEviction`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import attrs
from sortedcontainers import SortedDict, SortedList

from inferencesched.flow.guarding import Guard, unguarded
from inferencesched.interfaces import EvictionFilter, EvictionOrderingPolicy
from inferencesched.request import Request

__all__ = ["TIMEOUT", "Evictor", "PriorityThenTimeEvictionOrderPolicy", "SheddableEvictionFilter"]

AT_ONCE = 2
"""Requests asked at a time, at most (upstream: MaxRevocationsPerDecision)."""

TIMEOUT = 10.0
"""Seconds after which nobody waits any longer for one that was asked (upstream)."""

COOLING = 0.5
"""Seconds that the pool is given to show the effect (upstream: ConfirmationGrace)."""


@attrs.frozen
class SheddableEvictionFilter:
    """Only requests of a priority below 0 may be evicted.

    Formula: priority < 0.
    Unknown: nothing can be.
    Source: Endpoint Picker ``sheddable-eviction-filter``, which is in force there without being declared, and here too.
    """

    type: ClassVar[str] = "sheddable-eviction-filter"

    def is_evictable(self, request: Request, /) -> bool:
        """Return whether its priority is below 0."""
        return request.priority < 0


@attrs.frozen
class PriorityThenTimeEvictionOrderPolicy:
    """The lowest priority goes first, and among equals the one placed last, which has lost least.

    Formula: the priority; equals by the time of their placement, the latest first.
    Unknown: nothing can be.
    Source: Endpoint Picker ``priority-then-time-eviction-order-policy``, in force without being declared.
    """

    type: ClassVar[str] = "priority-then-time-eviction-order-policy"

    def regret(self, request: Request, placed: float, /) -> float:
        """Return its priority."""
        return float(request.priority)


class Evictor:
    """Remembers what may be evicted, and what was asked.

    Args:
        candidates: says which requests may be asked.
        order: says which of them goes first.
        guard: asks them, and survives them; a request about which they fail is not asked.

    Complexity: `placed`, `ended` O(log n); `choose` O(priorities below that of the request that waits).
    """

    def __init__(self, candidates: EvictionFilter, order: EvictionOrderingPolicy, guard: Guard = unguarded) -> None:
        self.candidates = candidates
        self.order = order
        self._guard = guard
        self._evictable: SortedDict = SortedDict()  # priority → (regret, −number), sorted: the first goes first
        self._entries: dict[int, tuple[int, float]] = {}  # number → priority and regret, of those that may be asked
        self._asked: dict[int, float] = {}  # number → when it was asked
        self._cooling_until = -math.inf
        self.asked_total = 0
        self.timed_out_total = 0

    def placed(self, number: int, request: Request, *, now: float) -> None:
        """A request has a place now; numbers grow with time."""
        if not self._ask("eviction-filter", self.candidates, self.candidates.is_evictable, request):
            return
        regret = self._ask("eviction-ordering-policy", self.order, self.order.regret, request, now)
        if isinstance(regret, float | int):
            self._evictable.setdefault(request.priority, SortedList()).add((regret, -number))
            self._entries[number] = request.priority, regret

    def ended(self, number: int, *, now: float) -> None:
        """A placed request is over."""
        self._remove(number)
        if self._asked.pop(number, None) is not None:
            self._cooling_until = now + COOLING

    def choose(self, *, level: float, ceiling: float, in_flight: int, priority: int, now: float) -> list[int]:
        """Return the numbers of the requests to ask now, for the sake of one of that priority; they count as asked.

        Args:
            level: how full the pool is.
            ceiling: how full it may be for the one that waits.
            in_flight: requests placed, each of which is taken for an equal part of the level.
        """
        for number in [number for number, asked in self._asked.items() if now - asked >= TIMEOUT]:
            del self._asked[number]
            self.timed_out_total += 1
        if self._asked or now < self._cooling_until or not ceiling > 0 or level < ceiling or not in_flight:
            return []
        wanted = max(1, min(AT_ONCE, math.ceil((level - ceiling) * in_flight / level)))
        chosen: list[int] = []
        while len(chosen) < wanted and (fronts := [own[0] for own in self._below(priority)]):
            chosen.append(-min(fronts)[1])
            self._remove(chosen[-1])
        self._asked.update(dict.fromkeys(chosen, now))
        self.asked_total += len(chosen)
        return chosen

    def next_timer(self, *, now: float) -> float | None:
        """Return when there may be somebody to ask again, if nothing happens; None when only an ending can tell."""
        if self._asked:
            return min(self._asked.values()) + TIMEOUT
        return self._cooling_until if now < self._cooling_until else None

    def _below(self, priority: int) -> Iterator[SortedList]:
        return (self._evictable[each] for each in self._evictable.irange(maximum=priority, inclusive=(True, False)))

    def _remove(self, number: int) -> None:
        entry = self._entries.pop(number, None)
        if entry is None:
            return
        priority, regret = entry
        own = self._evictable[priority]
        own.remove((regret, -number))
        if not own:
            del self._evictable[priority]

    def _ask(self, role: str, policy: object, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._guard(getattr(policy, "type", type(policy).__name__), role, function, *arguments)
