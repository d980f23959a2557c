"""Time that passes when it is told to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

__all__ = ["Timed", "VirtualClock"]


class Timed(Protocol):
    """A machine with timers: a Scheduler, a Dispatcher."""

    def next_timer(self) -> float | None:
        """Return when it next has something to do, or None."""
        ...

    def handle_timer(self, *, now: float) -> None:
        """Do it."""
        ...


class VirtualClock:
    """A clock for tests: `now` stands still until `advance` or `run_until` moves it.

    >>> clock = VirtualClock()
    >>> clock.advance(1.5)
    1.5
    >>> clock.now
    1.5
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the time: a VirtualClock can stand wherever ``time.monotonic`` does."""
        return self._now

    @property
    def now(self) -> float:
        """The time in seconds."""
        return self._now

    def advance(self, seconds: float) -> float:
        """Let time pass; return the new time.

        Raises:
            ValueError: `seconds` is negative or no number.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"expected seconds ≥ 0, got {seconds!r}")
        self._now += seconds
        return self._now

    def run_until(self, end: float, machines: Iterable[Timed]) -> list[float]:
        """Let time pass up to `end`, and every machine handle each of its timers on time.

        Returns:
            When timers were handled.

        Raises:
            AssertionError: a machine, having handled its timer, asks for the same time again.
        """
        machines, handled = list(machines), list[float]()
        while True:
            due = {each: timer for each in machines if (timer := each.next_timer()) is not None and timer <= end}
            if not due:
                self._now = max(self._now, end)
                return handled
            machine = min(due, key=due.__getitem__)
            self._now = max(self._now, due[machine])
            machine.handle_timer(now=self._now)
            handled.append(self._now)
            again = machine.next_timer()
            assert again is None or again > due[machine], f"{machine!r} keeps asking for {again}"
