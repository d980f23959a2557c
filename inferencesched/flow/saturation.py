"""Saturation: one number for the pool, from what a detector says of each endpoint.

The mean over the endpoints whose load is known; 0 when none is, because unknown is not full; *unavailable* (None, and
not 1.0) when there are no endpoints. Where prefill and decode run on different servers, the fuller of the two stages
counts: the idle one must not hide the other. A server that has just joined counts little at first and fully after
`slow_start` seconds, so that its emptiness does not invite more than it can take while it warms up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray, readonly
from inferencesched.interfaces import SaturationDetector

__all__ = ["Gauge", "Saturation"]

_ROLE_LABEL = "llm-d.ai/role"
_BOTH = ("prefill-decode", "both", "encode-prefill-decode")
_STAGES: Mapping[str, frozenset[str | None]] = MappingProxyType(
    {"prefill": frozenset({"prefill", "encode-prefill", *_BOTH}), "decode": frozenset({"decode", None, *_BOTH})}
)
"""Which roles work on which stage (upstream's table); those that only encode count for neither."""


@attrs.frozen(eq=False)
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
        self._masks: NDArray[np.bool_] | None = None  # those that `_stages` was made from
        self._stages: tuple[_Stage, ...] = ()
        self._fully: FloatArray = np.ones(0)  # the weights of a pool where each counts fully

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
        masks = endpoints.static(("stages", _ROLE_LABEL), _masks)
        if masks is not self._masks:
            self._masks, self._stages, self._fully = masks, tuple(_stages(masks)), readonly(np.ones(len(load)))
        weights = self._weights(endpoints)
        total = float(np.add.reduce(load))
        if weights is self._fully and not math.isnan(total):  # everybody is known
            stages = {stage.name: stage.mean(load, total) for stage in self._stages}
            level = max(stages.values()) if stages else total / len(load)
        else:
            stages = {stage.name: _mean(load[stage.mask], weights[stage.mask]) for stage in self._stages}
            level = max(stages.values()) if stages else _mean(load, weights)
        return Saturation(level, MappingProxyType(stages), endpoints, load, weights)

    def _weights(self, endpoints: EndpointBatch) -> FloatArray:
        if self.settled(now=endpoints.now):
            return self._fully
        ages = [endpoints.now - self._joined.get(e.instance, -np.inf) for e in endpoints.endpoints]
        return np.clip(np.array(ages) / self._slow_start, 0.0, 1.0)


@attrs.frozen(eq=False)
class _Stage:
    """A stage that has endpoints: which of the pool's they are, and how many."""

    name: str
    mask: NDArray[np.bool_]
    size: int

    def mean(self, load: FloatArray, total: float) -> float:
        """Return the mean load of the stage; `total` is the sum over the whole pool."""
        return (total if self.size == len(load) else float(np.add.reduce(load[self.mask]))) / self.size


def _masks(endpoints: tuple[Endpoint, ...]) -> NDArray[np.bool_]:
    roles = [endpoint.labels.get(_ROLE_LABEL) for endpoint in endpoints]
    return np.array([[role in stage for stage in _STAGES.values()] for role in roles], np.bool_)


def _stages(masks: NDArray[np.bool_]) -> Iterator[_Stage]:
    for name, mask in zip(_STAGES, masks.T, strict=True):
        if mask.any():
            yield _Stage(name, mask, int(mask.sum()))


def _mean(load: FloatArray, weights: FloatArray) -> float:
    """Return the weighted mean of what is known; the plain one when everything known has just joined; else 0."""
    known = ~np.isnan(load)
    load, weights = load[known], weights[known]
    whole = weights.sum()
    if whole > 0:
        return float((load * weights).sum() / whole)
    return float(load.mean()) if load.size else 0.0
