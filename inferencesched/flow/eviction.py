"""Cooperative eviction: which placed requests are asked to make room for more urgent ones that wait.

Only requests of a priority below 0 are asked, the lowest priority first and among equals the one placed last, which has
lost least. It is a closed loop: a few are asked at a time, and nobody else until each of them has ended (or `TIMEOUT`
is over) and the pool has had a moment to show the effect.

Semantics and numbers are the Endpoint Picker's (`enableEviction`); its filter and ordering are fixed there too.
"""

from __future__ import annotations

import math

from sortedcontainers import SortedList

__all__ = ["TIMEOUT", "Evictor"]

AT_ONCE = 2
"""Requests asked at a time, at most (upstream: MaxRevocationsPerDecision)."""

TIMEOUT = 10.0
"""Seconds after which nobody waits any longer for one that was asked (upstream)."""

COOLING = 0.5
"""Seconds that the pool is given to show the effect (upstream: ConfirmationGrace)."""


class Evictor:
    """Remembers what may be evicted, and what was asked.

    Complexity: `placed`, `ended` O(log n); `choose` O(1).
    """

    def __init__(self) -> None:
        self._evictable: SortedList = SortedList()  # (priority, −number): the first goes first
        self._asked: dict[int, float] = {}  # number → when it was asked
        self._cooling_until = -math.inf
        self.asked_total = 0
        self.timed_out_total = 0

    def placed(self, number: int, priority: int) -> None:
        """A request has a place now."""
        if priority < 0:
            self._evictable.add((priority, -number))

    def ended(self, number: int, priority: int, *, now: float) -> None:
        """A placed request is over."""
        if priority < 0:
            self._evictable.discard((priority, -number))
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
        while self._evictable and len(chosen) < wanted and self._evictable[0][0] < priority:
            chosen.append(-self._evictable.pop(0)[1])
        self._asked.update(dict.fromkeys(chosen, now))
        self.asked_total += len(chosen)
        return chosen

    def next_timer(self, *, now: float) -> float | None:
        """Return when there may be somebody to ask again, if nothing happens; None when only an ending can tell."""
        if self._asked:
            return min(self._asked.values()) + TIMEOUT
        return self._cooling_until if now < self._cooling_until else None
