"""Passive health: what the outcomes of real requests say about an endpoint.

A server that fails at once looks idle: its requests never stay, so every load scorer sends it more. What is needed is
not a better load figure but to stop asking:

    healthy ──errors in a row, share of errors, or slow──▶ ejected ──time──▶ half-open ──probe succeeds──▶ healthy
                                                              ▲                  │
                                                              └──probe fails─────┘   twice as long as last time

Only failures of the server count. A client that goes away (``cancelled``) or a host that lost track (``reaped``) says
nothing. And a fleet is not to be taken apart by its own doctor: never more than a share of it is ejected, and where
most of what a request could use is ejected, everything is used (*panic*), since then the fault is likely elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.builtin.instances import instances
from inferencesched.decision import Decision
from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch
from inferencesched.interfaces import Observer
from inferencesched.request import Request

__all__ = ["OutlierEjectionFilter"]

_SMOOTHING = 0.2
"""Weight of the newest TTFT in the running mean: the last ten requests make up nine tenths of it."""


@attrs.define(eq=False)
class _Health:
    """What is known of one endpoint instance."""

    name: str
    requests: float = 0.0
    errors: float = 0.0
    counted: float = 0.0  # when the two above were last decayed
    errors_in_a_row: int = 0
    ttft: float = math.nan
    first_tokens: int = 0
    placed: dict[str, float] = attrs.field(factory=dict)  # requests without a first token → when they were placed
    ejected_until: float | None = None
    reason: str = ""
    ejections: int = 0
    restored: float = -math.inf
    probe: str | None = None

    def may_be_probed(self, now: float) -> bool:
        return self.ejected_until is not None and self.ejected_until <= now and self.probe is None

    def count(self, *, error: bool, window: float, now: float) -> None:
        fade = 0.5 ** ((now - self.counted) / window)
        self.requests = self.requests * fade + 1
        self.errors = self.errors * fade + error
        self.errors_in_a_row = self.errors_in_a_row + 1 if error else 0
        self.counted = now

    def restore(self, now: float) -> None:
        self.requests = self.errors = 0.0
        self.errors_in_a_row = self.first_tokens = 0
        self.ttft, self.restored = math.nan, now
        self.ejected_until = self.probe = None


_SHARE = [attrs.validators.ge(0.0), attrs.validators.le(1.0)]


@attrs.define(eq=False)
class OutlierEjectionFilter(Observer):
    """Keep requests away from endpoints that fail, or that are far slower than the others, until a probe succeeds.

    An ejected endpoint comes back half-open: it may be picked again, for one request at a time, and the first one that
    ends tells whether it is well. State: a few numbers an endpoint, and its requests that await a first token.

    Args:
        consecutive_errors: errors in a row that eject.
        error_share: share of errors that ejects, of at least `min_requests` requests.
        min_requests: requests it takes to judge a share of errors, and first tokens to judge a TTFT.
        window_seconds: half-life of the request counts.
        latency_factor: mean TTFT, in medians of the other endpoints' means, that ejects; 0 is off.
        latency_floor_seconds: a mean TTFT below that never ejects.
        base_ejection_seconds: how long the first ejection lasts; each one that follows, twice as long as the last.
        max_ejection_seconds: how long an ejection lasts at most; who was well that long starts again from the base.
        max_ejected_share: of the fleet; beyond it nobody is ejected, rounded down.
        panic_share: where fewer of the candidates than that are left, all are kept.

    Formula: see the figure above; errors are outcomes ``error`` and moves to a fallback.
    Unknown: an endpoint without enough requests is healthy.
    Source: ours; after Envoy's outlier detection and panic threshold.
    """

    type: ClassVar[str] = "outlier-ejection-filter"
    relative: ClassVar[bool] = True
    why: ClassVar[str] = "not ejected for errors or latency"

    consecutive_errors: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    error_share: float = attrs.field(default=0.5, validator=[attrs.validators.gt(0.0), attrs.validators.le(1.0)])
    min_requests: int = attrs.field(default=20, validator=attrs.validators.ge(1))
    window_seconds: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    latency_factor: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    latency_floor_seconds: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    base_ejection_seconds: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    max_ejection_seconds: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    max_ejected_share: float = attrs.field(default=0.5, validator=_SHARE)
    panic_share: float = attrs.field(default=0.5, validator=_SHARE)
    _fleet: dict[int, _Health] = attrs.field(init=False, repr=False, factory=dict)
    _ejected: dict[int, _Health] = attrs.field(init=False, repr=False, factory=dict)
    _now: float = attrs.field(init=False, repr=False, default=0.0)

    @property
    def ejected(self) -> Mapping[str, str]:
        """The endpoints that are ejected or half-open, and why."""
        return {health.name: health.reason for health in self._ejected.values()}

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return who is healthy or half-open; everything in a panic. O(1) while nobody is ejected."""
        everything = np.ones(len(endpoints), np.bool_)
        if not self._ejected:
            return everything
        out = [instance for instance, health in self._ejected.items() if not health.may_be_probed(endpoints.now)]
        well: BoolArray = ~np.isin(instances(endpoints), out)
        left = np.count_nonzero(well)
        return everything if left == 0 or left < self.panic_share * len(endpoints) else well

    # --- what happens ----------------------------------------------------------------------------------------------

    def endpoint_added(self, endpoint: Endpoint, *, now: float) -> None:
        """Take a new instance for healthy, whatever its predecessor was."""
        self._fleet[endpoint.instance] = _Health(endpoint.name, counted=now)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Forget the instance; who is ejected beyond the cap of a smaller fleet comes back, the first due first."""
        self._fleet.pop(endpoint.instance, None)
        self._ejected.pop(endpoint.instance, None)
        while len(self._ejected) > self._cap:
            first = min(self._ejected, key=lambda instance: self._ejected[instance].ejected_until or 0.0)
            self._ejected.pop(first).restore(now)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Note the placement; on a half-open endpoint it is the probe."""
        self._place(request.id, (lease.endpoint for lease in decision.leases), now=now)

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        """Count an error of `origin`: it did not answer."""
        self.finished(request.id, origin, "error", now=now)
        self._place(request.id, (decision.endpoint,), now=now)

    def first_token(self, request_id: str, endpoint: Endpoint, *, now: float) -> None:
        """Note how long it took."""
        health = self._fleet.get(endpoint.instance)
        placed = None if health is None else health.placed.pop(request_id, None)
        if health is None or placed is None:
            return
        took = now - placed
        health.ttft = took if health.first_tokens == 0 else health.ttft + _SMOOTHING * (took - health.ttft)
        health.first_tokens += 1
        if health.ejected_until is None and health.first_tokens % self.min_requests == 0:
            self._compare(endpoint.instance, health, now=now)

    def finished(self, request_id: str, endpoint: Endpoint, outcome: str, *, now: float) -> None:
        """Count the outcome, or judge the probe by it."""
        self._now = now
        health = self._fleet.get(endpoint.instance)
        if health is None:
            return
        health.placed.pop(request_id, None)
        if health.ejected_until is not None:
            self._judge(endpoint.instance, health, request_id, outcome, now=now)
        elif outcome in {"success", "error"}:
            health.count(error=outcome == "error", window=self.window_seconds, now=now)
            if outcome == "error":
                self._consider(endpoint.instance, health, now=now)

    # --- memory ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Mapping[str, Any]:
        """Return who is ejected, why, for how much longer, and how often it was."""
        return {
            "ejected": {
                health.name: {
                    "remaining_s": max(0.0, (health.ejected_until or 0.0) - self._now),
                    "ejections": health.ejections,
                    "reason": health.reason,
                }
                for health in self._ejected.values()
            }
        }

    def restore(self, state: Mapping[str, Any], endpoints: Mapping[str, Endpoint], /, *, now: float) -> None:
        """Eject them again, as far as they are present."""
        for name, was in state.get("ejected", {}).items():
            health = self._fleet.get(endpoints[name].instance) if name in endpoints else None
            if health is not None:
                health.ejections = was["ejections"] - 1
                health.restored = now
                self._eject(endpoints[name].instance, health, was["reason"], now=now)
                if health.ejected_until is not None:
                    health.ejected_until = now + was["remaining_s"]

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _cap(self) -> int:
        return int(self.max_ejected_share * len(self._fleet))

    def _place(self, request_id: str, endpoints: Iterable[Endpoint], *, now: float) -> None:
        self._now = now
        for endpoint in endpoints:
            health = self._fleet.get(endpoint.instance)
            if health is not None:
                health.placed[request_id] = now
                if health.may_be_probed(now):
                    health.probe = request_id

    def _consider(self, instance: int, health: _Health, *, now: float) -> None:
        if health.errors_in_a_row >= self.consecutive_errors:
            self._eject(instance, health, f"{health.errors_in_a_row} errors in a row", now=now)
        elif health.requests >= self.min_requests and health.errors >= self.error_share * health.requests:
            self._eject(instance, health, f"{health.errors / health.requests:.0%} of its requests failed", now=now)

    def _compare(self, instance: int, health: _Health, *, now: float) -> None:
        others = [
            other.ttft
            for other in self._fleet.values()
            if other is not health and other.first_tokens >= self.min_requests and other.ejected_until is None
        ]
        if not others or not self.latency_factor or health.ttft < self.latency_floor_seconds:
            return
        usual = float(np.median(others))
        if health.ttft > self.latency_factor * usual:
            reason = f"first token after {health.ttft:.2f} s on average, elsewhere after {usual:.2f} s"
            self._eject(instance, health, reason, now=now)

    def _judge(self, instance: int, health: _Health, request_id: str, outcome: str, *, now: float) -> None:
        if health.probe != request_id:
            return
        health.probe = None
        if outcome == "success":
            del self._ejected[instance]
            health.restore(now)
        elif outcome == "error":
            self._eject(instance, health, health.reason, now=now)

    def _eject(self, instance: int, health: _Health, reason: str, *, now: float) -> None:
        if instance not in self._ejected and len(self._ejected) >= self._cap:
            return
        if now - health.restored > self.max_ejection_seconds and health.ejected_until is None:
            health.ejections = 0
        seconds = min(self.max_ejection_seconds, self.base_ejection_seconds * 2.0**health.ejections)
        health.ejections += 1
        health.ejected_until, health.reason = now + seconds, reason
        self._ejected[instance] = health
