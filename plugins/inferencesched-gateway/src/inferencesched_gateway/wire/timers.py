"""Deadlines for many connections with one timer of the loop.

Connections move their deadlines with every piece of data, nearly always to a later time, and deadlines are nearly
never reached. So a deadline that moves later is just an attribute: the connection stays in the slot of its earlier
one, and when that slot comes up it is put where it belongs by then. Slots are 50 ms wide; the loop is asked to wake
us for the first one that is not empty, and for none if there is none.

Complexity: moving a deadline O(1); per connection and timeout period one visit.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from typing import Protocol

__all__ = ["Timed", "Timers"]

_SLOT = 0.05
_NEVER = math.inf


class Timed(Protocol):
    """What has a deadline. Both numbers begin as ``math.inf`` and are `Timers`' to change."""

    deadline: float
    slot: float

    def expired(self, now: float) -> None:
        """The deadline has passed. Called once for each time that one is set."""


class Timers:
    """Deadlines on the clock of a loop, in its seconds."""

    __slots__ = ("_handle", "_heap", "_loop", "_slots", "_wake")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[float, set[Timed]] = {}
        self._heap: list[float] = []
        self._handle: asyncio.TimerHandle | None = None
        self._wake = _NEVER

    def set(self, timed: Timed, deadline: float) -> None:
        """Give a new deadline; ``math.inf`` for none."""
        timed.deadline = deadline
        if deadline < timed.slot:
            self._place(timed)

    def discard(self, timed: Timed) -> None:
        """Forget it, as soon as it is over: slots would keep it alive."""
        timed.deadline = _NEVER
        slot, timed.slot = timed.slot, _NEVER
        if slot != _NEVER:
            self._slots[slot].discard(timed)

    def close(self) -> None:
        """Tell nobody anything any more."""
        for timed in [each for slot in self._slots.values() for each in slot]:
            self.discard(timed)
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._wake = None, _NEVER
        self._slots.clear()
        self._heap.clear()

    def _place(self, timed: Timed) -> None:
        if timed.slot != _NEVER:
            self._slots[timed.slot].discard(timed)
        slot = (timed.deadline // _SLOT + 1) * _SLOT
        timed.slot = slot
        members = self._slots.get(slot)
        if members is None:
            members = self._slots[slot] = set()
            heapq.heappush(self._heap, slot)
            if slot < self._wake:
                self._schedule()
        members.add(timed)

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._wake = None, _NEVER
        if self._heap:
            self._wake = self._heap[0]
            self._handle = self._loop.call_at(self._wake, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        while self._heap and self._heap[0] <= now:
            for timed in self._slots.pop(heapq.heappop(self._heap)):
                timed.slot = _NEVER
                if timed.deadline > now:
                    if timed.deadline != _NEVER:
                        self._place(timed)
                    continue
                timed.deadline = _NEVER
                self._tell(timed, now)
        self._schedule()

    def _tell(self, timed: Timed, now: float) -> None:
        try:
            timed.expired(now)
        except Exception as error:  # noqa: BLE001 - one that fails must not stop the clock of the others
            self._loop.call_exception_handler({"message": "a deadline's handler failed", "exception": error})
