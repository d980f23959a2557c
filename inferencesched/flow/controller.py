"""FlowController: the queue of a whole pool. Who may come in, who goes next, and who has waited too long.

    Which band?     the most urgent that has something queued; now and then one that has waited long (`Tuning`)
    Which flow?     its fairness policy says
    Which request?  its ordering policy says

It holds requests and gives them back; what becomes of them is the caller's business. It knows how full the pool is from
what it is told and nothing else of it.

One thing differs from the Endpoint Picker: a band with nothing queued holds nobody back. One that has something queued
and whose gate is closed does hold back those below it, as there: their requests would take the room it waits for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from sortedcontainers import SortedDict, SortedList

from inferencesched.flow.bands import Band
from inferencesched.flow.gates import Gates
from inferencesched.flow.guarding import Guard, unguarded
from inferencesched.flow.patience import Patience
from inferencesched.flow.saturation import Saturation
from inferencesched.flow.settings import Settings
from inferencesched.flow.waiting import Waiting

__all__ = ["FlowController"]


class FlowController:
    """Queues requests in bands and flows.

    Args:
        settings: limits, bands and policies.
        guard: calls the policies, and survives them.

    Attributes:
        held_back_total: how often nothing went because the most urgent band that waits may not send.

    Complexity: `add`, `next`, `remove` O(log n + bands); `room` O(displaced).
    """

    def __init__(self, settings: Settings, guard: Guard = unguarded) -> None:
        self.settings = settings
        self.patience = Patience()
        self.held_back_total = 0
        self._guard = guard
        self._bands: SortedDict = SortedDict()  # −priority → Band: the most urgent first
        self._order: tuple[Band, ...] = ()  # the same
        self._priorities: tuple[int, ...] = ()  # theirs
        self._deadlines: SortedList = SortedList()  # (deadline, number, waiting) of those whose client has one
        self._queued = 0
        self._bytes = 0
        self._placed = 0
        self._let_by_at = 0  # the number of the placement with which a band was last let by
        self.gates = self._new_gates()
        for priority in settings.bands:
            self._open(priority)

    def __len__(self) -> int:
        """Return the number of requests queued."""
        return self._queued

    def __iter__(self) -> Iterator[Waiting]:
        """Iterate over all queued requests: by band, then by arrival."""
        return (waiting for band in self._order for waiting in band)

    @property
    def size_bytes(self) -> int:
        """The size of everything queued."""
        return self._bytes

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands, the most urgent first."""
        return self._order

    def ahead_of(self, priority: int) -> int:
        """Return how many requests are queued in that band and above."""
        return sum(len(band) for band in self._order if band.priority >= priority)

    # --- coming in -------------------------------------------------------------------------------------------------

    def room(self, waiting: Waiting) -> tuple[Waiting, ...] | None:
        """Return who must leave so that the request fits: nobody, the youngest of lower bands, or None: it cannot fit.

        Displacing helps against the limits of all bands together; a band's own are its own business.
        """
        band = self.band_for(waiting.request.priority)
        limits, size = band.settings, waiting.size_bytes
        if len(band) + 1 > limits.max_requests or band.size_bytes + size > limits.max_bytes:
            return None
        most, largest = self.settings.max_requests, self.settings.max_bytes
        count = 0 if most is None else self._queued + 1 - most
        size = 0 if largest is None else self._bytes + size - largest
        if count <= 0 and size <= 0:
            return ()
        return self._displaced(band.priority, count, size) if self.settings.tuning.displace else None

    def add(self, waiting: Waiting, *, now: float) -> None:
        """Queue a request that `room` found room for (or that was queued before: a reload refuses nobody)."""
        band = self.band_for(waiting.request.priority)
        waiting.with_endpoints = self.patience.reading(now=now)
        self._enter(band, waiting)

    def band_for(self, priority: int) -> Band:
        """Return the band of that priority, made on demand; at the limit, the nearest one below, or the lowest."""
        band: Band | None = self._bands.get(-priority)
        if band is not None:
            return band
        if len(self._bands) >= self.settings.tuning.max_bands:
            self._collect()
        if len(self._bands) < self.settings.tuning.max_bands:
            return self._open(priority)
        place = min(self._bands.bisect_left(-priority), len(self._bands) - 1)
        nearest: Band = self._bands.peekitem(place)[1]
        return nearest

    # --- going out -------------------------------------------------------------------------------------------------

    def lets_through(self, priority: int, saturation: Saturation | None) -> bool:
        """Return whether a request of that priority may go straight through: nobody waits, and its gate is open."""
        if self._queued:
            return False
        band = self.band_for(priority)
        self.gates.look(saturation, self._priorities)
        return self.gates.is_open(band.priority)

    def next(self, saturation: Saturation | None, *, now: float) -> Waiting | None:
        """Remove and return the request that goes next; None while none may."""
        if not self._queued:
            return None
        self.gates.look(saturation, self._priorities)
        band = self._next_band(now)
        if band is None:
            self.held_back_total += 1
            return None
        waiting = band.take()
        self._gone(waiting)
        return waiting

    def placed(self) -> None:
        """Count a request that found a place, whether or not it was queued before."""
        self._placed += 1

    def remove(self, waiting: Waiting) -> None:
        """Take a queued request out."""
        self._bands[-waiting.priority].remove(waiting)
        self._gone(waiting)

    # --- waiting too long --------------------------------------------------------------------------------------------

    def expires_at(self, waiting: Waiting) -> float:
        """Return when a request will have waited long enough; infinity for never."""
        return self._expiry(waiting, self._bands[-waiting.priority])

    def next_expiry(self) -> float | None:
        """Return when the next request will have waited long enough; None for never. O(bands)."""
        first: float = self._deadlines[0][0] if self._deadlines else math.inf
        for band in self._order:
            if band.arrivals:
                first = min(first, self._expiry(band.oldest, band))
        return None if first == math.inf else first

    def expire(self, *, now: float) -> list[Waiting]:
        """Remove and return the requests that have waited long enough."""
        over = []
        for band in self._order:
            while band and self._expiry(band.oldest, band) <= now:
                over.append(band.oldest)
                self.remove(band.oldest)
        while self._deadlines and self._deadlines[0][0] <= now:
            over.append(self._deadlines[0][2])
            self.remove(over[-1])
        return over

    # --- configuration -----------------------------------------------------------------------------------------------

    def reconfigure(self, settings: Settings) -> None:
        """Put other settings in force; whoever is queued stays queued, and no time that has passed is given back."""
        queued = sorted(self, key=lambda waiting: waiting.number)
        self.settings = settings
        self._bands.clear()
        self._deadlines.clear()
        self._queued = self._bytes = 0
        self.gates = self._new_gates()
        for priority in settings.bands:
            self._open(priority)
        for waiting in queued:
            self._enter(self.band_for(waiting.request.priority), waiting)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _next_band(self, now: float) -> Band | None:
        """Return the band that goes next, None while none may."""
        if not self.gates.is_open(self._priorities[0]):
            return None  # no room, not even for the most urgent
        first = let_by = None
        is_top = True
        for band in self._order:
            if not band.arrivals:
                continue
            if is_top and self.gates.is_open(band.priority):
                first = band
            elif self._is_let_by(band, now) and (let_by is None or band.let_by < let_by.let_by):
                let_by = band
            is_top = False
        if let_by is None:
            return first
        let_by.let_by = self._let_by_at = self._placed + 1
        return let_by

    def _expiry(self, waiting: Waiting, band: Band) -> float:
        return self.patience.over_at(waiting, band.ttl, band.no_endpoint_ttl)

    def _is_let_by(self, band: Band, now: float) -> bool:
        return self.settings.tuning.lets_by(now - band.oldest.arrived, self._placed - self._let_by_at)

    def _displaced(self, priority: int, count: int, size: int) -> tuple[Waiting, ...] | None:
        found: list[Waiting] = []
        for band in reversed(self._order):
            if band.priority >= priority:
                return None
            for waiting in band.youngest_first:
                found.append(waiting)
                count -= 1
                size -= waiting.size_bytes
                if count <= 0 and size <= 0:
                    return tuple(found)
        return None

    def _enter(self, band: Band, waiting: Waiting) -> None:
        waiting.priority = band.priority
        band.add(waiting, expires=self._expiry(waiting, band))
        self._queued += 1
        self._bytes += waiting.size_bytes
        if waiting.request.deadline is not None:
            self._deadlines.add((waiting.request.deadline, waiting.number, waiting))

    def _gone(self, waiting: Waiting) -> None:
        self._queued -= 1
        self._bytes -= waiting.size_bytes
        if waiting.request.deadline is not None:
            self._deadlines.remove((waiting.request.deadline, waiting.number, waiting))

    def _open(self, priority: int) -> Band:
        settings = self.settings
        band = self._bands[-priority] = Band(
            priority,
            settings.band(priority),
            self._guard,
            ttl=settings.ttl_of(priority),
            no_endpoint_ttl=settings.no_endpoint_ttl_of(priority),
        )
        self._line_up()
        return band

    def _collect(self) -> None:
        """Close the bands that nobody configured and nobody waits in."""
        for band in self._order:
            if not band and band.priority not in self.settings.bands:
                del self._bands[-band.priority]
        self._line_up()

    def _line_up(self) -> None:
        self._order = tuple(self._bands.values())
        self._priorities = tuple(band.priority for band in self._order)

    def _new_gates(self) -> Gates:
        limits, detector = self.settings.limits, self.settings.detector
        name = getattr(limits, "type", type(limits).__name__)
        hysteresis = self.settings.tuning.hysteresis
        return Gates(
            lambda level, priorities: self._guard(name, "usage-limit-policy", limits.ceilings, level, priorities),
            hysteresis=getattr(detector, "hysteresis", 0.0) if hysteresis is None else hysteresis,
        )
