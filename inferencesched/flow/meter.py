"""Meter: how full the pool is now, looked at anew only where it may have changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferencesched.endpoints import EndpointBatch
from inferencesched.flow.bands import Guard, unguarded
from inferencesched.flow.saturation import Gauge, Saturation
from inferencesched.interfaces import SaturationDetector

__all__ = ["Meter"]

_RAMP_STEPS = 20
"""Looks at a pool in slow start, while somebody waits for it: each finds it a twentieth emptier."""


class Meter:
    """Keeps the last reading of a detector for as long as it holds.

    A reading is outdated by new facts and by a change of the fleet; by placements and their endings, if the detector
    counts what is in flight; and by time, if it says that its facts grow stale, or while a new endpoint warms up.

    Args:
        detector: says how full each endpoint is.
        slow_start: seconds until a new endpoint counts fully.
        guard: calls the detector, and survives it.

    Attributes:
        last: the last reading; None without endpoints.
        looks_total: how often the detector was asked.

    Complexity: `read` O(1) while the last reading holds, else O(endpoints).
    """

    def __init__(self, detector: SaturationDetector, *, slow_start: float = 0.0, guard: Guard = unguarded) -> None:
        self.gauge = Gauge(detector, slow_start=slow_start)
        self.last: Saturation | None = None
        self.looks_total = 0
        self._guard = guard
        self._slow_start = slow_start
        self._fresh_for: float | None = getattr(detector, "fresh_for", None)
        self._counts = any(name.startswith("in_flight_") for name in getattr(detector, "consumes", ()))
        self._holds = False
        self._look: float | None = None  # when time alone may change the last reading

    def facts_changed(self) -> None:
        """Facts, or the fleet, are not what they were."""
        self._holds = False

    def load_changed(self) -> None:
        """Something was placed, or has ended."""
        if self._counts:
            self._holds = False

    def read(self, candidates: Callable[..., EndpointBatch], *, now: float) -> Saturation | None:
        """Return how full the pool is; `candidates` is asked for it only if the last reading no longer holds."""
        if not self._holds or (self._look is not None and now >= self._look):
            self.last = self.read_these(candidates(now=now))
            self._holds, self._look = True, self._next_look(now)
        return self.last

    def read_these(self, endpoints: EndpointBatch) -> Saturation | None:
        """Return how full some endpoints are."""
        self.looks_total += 1
        return self.gauge.read(endpoints, self._ask)

    def next_look(self) -> float | None:
        """Return when the reading may change by the mere passing of time; None for never."""
        return self._look if self._holds else None

    def _next_look(self, now: float) -> float | None:
        waits = [] if self._fresh_for is None else [self._fresh_for]
        if not self.gauge.settled(now=now):
            waits.append(self._slow_start / _RAMP_STEPS)
        return now + min(waits) if waits and self.last is not None else None

    def _ask(self, endpoints: EndpointBatch) -> Any:
        detector = self.gauge.detector
        name = getattr(detector, "type", type(detector).__name__)
        return self._guard(name, "saturation-detector", detector.load, endpoints)
