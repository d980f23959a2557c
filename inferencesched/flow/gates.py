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
        self._seen: tuple[Saturation | None, tuple[int, ...]] | None = None
        self._closed: set[int] = set()
        self.ceiling_of: dict[int, float] = {}
        self.closings_total = 0

    def look(self, saturation: Saturation | None, priorities: tuple[int, ...]) -> None:
        """Take note of how full the pool is; `priorities` are all bands, the most urgent first."""
        if self._seen is not None and self._seen[0] is saturation and self._seen[1] is priorities:
            return
        self._seen = saturation, priorities
        if saturation is None:
            return
        ceilings = self._ceilings(saturation.level, priorities)
        if ceilings is None or len(ceilings) != len(priorities):
            ceilings = (1.0,) * len(priorities)
        self.ceiling_of = dict(zip(priorities, ceilings, strict=True))
        level, opens_below = saturation.level, 1.0 - self._hysteresis
        shut = {
            priority
            for priority, ceiling in self.ceiling_of.items()
            if level >= ceiling or (priority in self._closed and level >= ceiling * opens_below)
        }
        self.closings_total += len(shut - self._closed)
        self._closed = shut

    def is_open(self, priority: int) -> bool:
        """Return whether the band may send; none may while there are no endpoints."""
        return self._seen is not None and self._seen[0] is not None and priority not in self._closed
