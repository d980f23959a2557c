"""Gates: whether a band may send requests to endpoints, now that the pool is so full.

A gate closes when saturation reaches the band's ceiling and opens again only some way below it: a signal that trembles
at its threshold then does not open and close the gate with every tremor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inferencesched.flow.saturation import Saturation

__all__ = ["Gates"]

_Ceilings = Callable[[float, Sequence[int]], Sequence[float] | None]


class Gates:
    """One gate per band.

    Args:
        ceilings: the usage-limit policy's answer; None, or one of the wrong length, closes nothing below 1.0.
        hysteresis: share of its ceiling by which saturation must fall below it for a gate to open again.

    Complexity: O(bands) for a new look; O(1) otherwise.
    """

    def __init__(self, ceilings: _Ceilings, *, hysteresis: float) -> None:
        self._ceilings = ceilings
        self._hysteresis = hysteresis
        self._saturation: Saturation | None = None
        self._priorities: tuple[int, ...] | None = None
        self._in_force: Sequence[float] = ()
        self._closed: set[int] = set()
        self.closings_total = 0

    def look(self, saturation: Saturation | None, priorities: tuple[int, ...]) -> None:
        """Take note of how full the pool is; `priorities` are all bands, the most urgent first."""
        if saturation is self._saturation and priorities is self._priorities:
            return
        self._saturation, self._priorities = saturation, priorities
        if saturation is None:
            return
        level, closed, opens_below = saturation.level, self._closed, 1.0 - self._hysteresis
        ceilings = self._ceilings(level, priorities)
        if ceilings is None or len(ceilings) != len(priorities):
            ceilings = (1.0,) * len(priorities)
        self._in_force, self._closed = ceilings, set()
        for priority, ceiling in zip(priorities, ceilings, strict=True):
            if level >= ceiling:
                self._closed.add(priority)
                self.closings_total += priority not in closed
            elif priority in closed and level >= ceiling * opens_below:
                self._closed.add(priority)

    def ceiling_of(self, priority: int) -> float:
        """Return the ceiling of a band as of the last look; 0 for one that was not looked at."""
        return next((c for p, c in zip(self._priorities or (), self._in_force, strict=False) if p == priority), 0.0)

    def is_open(self, priority: int) -> bool:
        """Return whether the band may send; none may while there are no endpoints."""
        return self._saturation is not None and priority not in self._closed
