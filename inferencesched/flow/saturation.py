"""Saturation: one number for the pool, from what a detector says of each endpoint.

The mean over the endpoints whose load is known; 0 when none is, because unknown is not full; *unavailable* (None, and
not 1.0) when there are no endpoints. Where prefill and decode run on different servers, the fuller of the two stages
counts: the idle one must not hide the other. A server that has just joined counts little at first and fully after
`slow_start` seconds, so that its emptiness does not invite more than it can take while it warms up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray, readonly
from inferencesched.interfaces import SaturationDetector
from inferencesched.values import value

__all__ = ["Gauge", "Saturation"]

_ROLE_LABEL = "llm-d.ai/role"
_BOTH = ("prefill-decode", "both", "encode-prefill-decode")
_STAGES: Mapping[str, frozenset[str | None]] = MappingProxyType(
    {"prefill": frozenset({"prefill", "encode-prefill", *_BOTH}), "decode": frozenset({"decode", None, *_BOTH})}
)
"""Which roles work on which stage (upstream's table); those that only encode count for neither."""


@value(eq=False)
class Saturation:
    """How full the pool was at one instant, and what made it so.

    Attributes:
        level: 1.0 is the set-point; more is oversubscribed.
        stages: the level of each stage that has endpoints.
        endpoints: who was looked at, with the facts that were read then. What is in flight may have changed since:
            `load` says what came of it.
        load: the load of each of them; NaN is unknown.
        weights: how much each of them counts, less than 1 during its slow start.
    """

    level: float
    stages: Mapping[str, float]
    endpoints: EndpointBatch
    load: FloatArray
    weights: FloatArray

    @property
    def unknown(self) -> int:
        """How many endpoints the detector knows nothing of: never measured, or only long ago."""
        return int(np.isnan(self.load).sum())

    @property
    def contributions(self) -> dict[str, float | None]:
        """The load of each endpoint by name; None is unknown."""
        loads = self.load.tolist()
        return {n: None if math.isnan(x) else x for n, x in zip(self.endpoints.names, loads, strict=True)}


class Gauge:
    """Reads one detector over a pool that changes.

    Args:
        detector: says how full each endpoint is.
        slow_start: seconds until a new endpoint counts fully; 0 for at once.

    Complexity: O(endpoints), array operations.
    """

    def __init__(self, detector: SaturationDetector, *, slow_start: float = 0.0) -> None:
        self.detector = detector
        self._slow_start = slow_start
        self._joined: dict[int, float] = {}  # endpoint instance → when
        self._settled_at = -math.inf
        self._endpoints: EndpointBatch | None = None  # the ones that are weighed
        self._masks: NDArray[np.bool_] | None = None
        self._weights: FloatArray = np.zeros(0)
        self._stages: tuple[_Stage, ...] = ()
        self._names: tuple[str, ...] = ()

    def joined(self, endpoint: Endpoint, *, now: float) -> None:
        """A server joined the pool; heard of again, it is no newer."""
        if endpoint.instance not in self._joined:
            self._joined[endpoint.instance] = now
            self._settled_at = max(self._settled_at, now + self._slow_start)

    def left(self, endpoint: Endpoint) -> None:
        """A server left the pool."""
        self._joined.pop(endpoint.instance, None)

    def settled(self, *, now: float) -> bool:
        """Return whether no endpoint is in its slow start any more."""
        return now >= self._settled_at

    def read(
        self, endpoints: EndpointBatch, ask: Callable[[EndpointBatch], FloatArray | None] | None = None
    ) -> Saturation | None:
        """Return how full the pool is; None when it has no endpoints.

        Args:
            ask: asks the detector, and survives it; None, or an array of another shape, knows nothing.
        """
        n = len(endpoints)
        if n == 0:
            return None
        load = (ask or self.detector.load)(endpoints)
        if load is None or load.shape != (n,):
            load = np.full(n, np.nan)
        return self.sum_up(endpoints, load)

    def sum_up(self, endpoints: EndpointBatch, load: FloatArray) -> Saturation:
        """Return how full the pool is when its endpoints are as full as `load` says."""
        if endpoints is not self._endpoints:
            self._weigh(endpoints)
        means = [stage.mean(load) for stage in self._stages]
        stages = MappingProxyType(dict(zip(self._names, means, strict=False)))
        return Saturation(max(means), stages, endpoints, load, self._weights)

    def _weigh(self, endpoints: EndpointBatch) -> None:
        """Work out how much each endpoint counts for which stage; a pool that works on neither is one by itself."""
        masks = endpoints.static(("stages", _ROLE_LABEL), _masks)
        settled = self.settled(now=endpoints.now)
        if masks is self._masks and settled:
            self._endpoints = endpoints
            return
        self._endpoints, self._masks = endpoints, masks if settled else None
        self._weights = readonly(np.ones(len(endpoints)) if settled else self._warmth(endpoints))
        found = [(name, mask) for name, mask in zip(_STAGES, masks.T, strict=True) if mask.any()]
        self._names = tuple(name for name, _ in found)
        everybody = np.ones(len(endpoints), np.bool_)
        self._stages = tuple(_Stage(mask, self._weights) for mask in [mask for _, mask in found] or [everybody])

    def _warmth(self, endpoints: EndpointBatch) -> FloatArray:
        ages = [endpoints.now - self._joined.get(e.instance, -np.inf) for e in endpoints.endpoints]
        return np.clip(np.array(ages) / self._slow_start, 0.0, 1.0)


class _Stage:
    """The endpoints that work on a stage, and how much each of them counts."""

    __slots__ = ("_mask", "_shares", "_weights", "_whole")

    def __init__(self, mask: NDArray[np.bool_], weights: FloatArray) -> None:
        self._mask = mask
        self._weights = weights
        shares = weights * mask
        self._shares = shares if shares.any() else mask.astype(np.float64)
        self._whole = float(np.ones(len(mask)) @ self._shares)  # added up as `mean` does: a full pool is at 1.0 exactly

    def mean(self, load: FloatArray) -> float:
        """Return the weighted mean of what is known; the plain one when everything known has just joined; else 0."""
        mean = float(load @ self._shares) / self._whole
        return self._mean_of_known(load) if math.isnan(mean) else mean

    def _mean_of_known(self, load: FloatArray) -> float:
        known = self._mask & ~np.isnan(load)
        load, weights = load[known], self._weights[known]
        whole = weights.sum()
        if whole > 0:
            return float(load @ weights / whole)
        return float(load.mean()) if load.size else 0.0


def _masks(endpoints: tuple[Endpoint, ...]) -> NDArray[np.bool_]:
    roles = [endpoint.labels.get(_ROLE_LABEL) for endpoint in endpoints]
    return np.array([[role in stage for stage in _STAGES.values()] for role in roles], np.bool_)
