"""Meter: how full the pool is now, looked at anew only where it may have changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferencesched.decision import Lease
from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.flow.guarding import Guard, unguarded
from inferencesched.flow.saturation import Gauge, Saturation
from inferencesched.interfaces import SaturationDetector

__all__ = ["Count", "Meter"]

Count = Callable[[Endpoint], tuple[float, float]]
"""Returns the requests and the tokens in flight on an endpoint."""

_RAMP_STEPS = 20
"""Looks at a pool in slow start, while somebody waits for it: each finds it a twentieth emptier."""


class Meter:
    """Keeps the last reading of a detector for as long as it holds.

    A reading is outdated by new facts and by a change of the fleet; by placements and their endings, if the detector
    counts what is in flight; and by time, if it says that its facts grow stale, or while a new endpoint warms up.

    Where a detector can tell the load of one endpoint from its counters (`load_of`), a placement changes the reading by
    that endpoint alone. The result is the same to the last bit as that of a new reading: only loads are kept, and they
    are added up anew.

    Args:
        detector: says how full each endpoint is.
        slow_start: seconds until a new endpoint counts fully.
        guard: calls the detector, and survives it.
        count: what is in flight, for a detector with `load_of`; None: such a detector is asked about all.

    Attributes:
        last: the last reading; None without endpoints.
        looks_total: how often the detector was asked about the whole pool.

    Complexity: `read` O(1) while the last reading holds, O(endpoints) array operations otherwise; the detector is asked
    about all endpoints, or about those that changed.
    """

    def __init__(
        self,
        detector: SaturationDetector,
        *,
        slow_start: float = 0.0,
        guard: Guard = unguarded,
        count: Count | None = None,
    ) -> None:
        self.gauge = Gauge(detector, slow_start=slow_start)
        self.last: Saturation | None = None
        self.looks_total = 0
        self._guard = guard
        self._name = getattr(detector, "type", type(detector).__name__)
        self._slow_start = slow_start
        self._fresh_for: float | None = getattr(detector, "fresh_for", None)
        self._counts = any(name.startswith("in_flight_") for name in getattr(detector, "consumes", ()))
        self._load_of = None if count is None else getattr(detector, "load_of", None)
        self._count = count
        self._holds = False
        self._look: float | None = None  # when time alone may change the last reading
        self._rows: dict[int, int] = {}  # endpoint instance → its place in the last reading
        self._changed: dict[int, Endpoint] = {}  # those whose counters are not what they were then, by instance

    def facts_changed(self) -> None:
        """Facts, or the fleet, are not what they were."""
        self._holds = False

    def load_changed(self, *leases: Lease) -> None:
        """These leases were taken, or are given back, in whole or in part."""
        if self._load_of is not None:
            for lease in leases:
                self._changed[lease.endpoint.instance] = lease.endpoint
        elif self._counts:
            self._holds = False

    def read(self, candidates: Callable[..., EndpointBatch], *, now: float) -> Saturation | None:
        """Return how full the pool is; `candidates` is asked for it only if the last reading no longer holds."""
        if not self._holds or (self._look is not None and now >= self._look) or not self._is_brought_up_to_date():
            self.last = self.read_these(candidates(now=now))
            self._holds, self._look = True, self._next_look(now)
            self._changed.clear()
            self._rows = {}
        return self.last

    def read_these(self, endpoints: EndpointBatch) -> Saturation | None:
        """Return how full some endpoints are."""
        self.looks_total += 1
        return self.gauge.read(endpoints, self._ask)

    def next_look(self) -> float | None:
        """Return when the reading may change by the mere passing of time; None for never."""
        return self._look if self._holds else None

    def _is_brought_up_to_date(self) -> bool:
        """Bring what placements have changed into the last reading; return False if it has to be made anew."""
        if not self._changed or self.last is None:
            return True
        assert self._count is not None
        batch, load = self.last.endpoints, self.last.load.copy()
        if not self._rows:
            self._rows = {endpoint.instance: row for row, endpoint in enumerate(batch.endpoints)}
        for instance, endpoint in self._changed.items():
            row = self._rows.get(instance)
            if row is None:
                continue  # it has left, and what was on it with it
            value = self._guard(self._name, "saturation-detector", self._load_of, *self._count(endpoint))
            if not isinstance(value, float | int):
                return False
            load[row] = value
        self._changed.clear()
        self.last = self.gauge.sum_up(batch, load)
        return True

    def _next_look(self, now: float) -> float | None:
        waits = [] if self._fresh_for is None else [self._fresh_for]
        if not self.gauge.settled(now=now):
            waits.append(self._slow_start / _RAMP_STEPS)
        return now + min(waits) if waits and self.last is not None else None

    def _ask(self, endpoints: EndpointBatch) -> Any:
        return self._guard(self._name, "saturation-detector", self.gauge.detector.load, endpoints)
