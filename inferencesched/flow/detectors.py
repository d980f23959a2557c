"""Saturation detectors: how full is each endpoint? 1.0 is as much as it should have.

Types, parameters and golden figures are the Endpoint Picker's. Two things differ, on purpose. An endpoint whose metrics
are missing or stale is *unknown* and left out of the mean, where upstream counts it as full: a fleet of fresh servers
looked saturated there, and so did one whose scrapes were slow. And no endpoints is not "full" but "unavailable", which
is the business of `inferencesched.flow.saturation`.

As upstream's do, each is a scheduling filter besides.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.units import duration

__all__ = ["CombinedDetector", "ConcurrencyDetector", "UtilizationDetector"]

_ABOVE_ZERO = attrs.validators.gt(0)


def _positive_duration(_: object, __: object, value: str) -> None:
    if not duration(value) > 0:
        raise ValueError(f"expected a duration > 0, got {value!r}")


@attrs.frozen
class UtilizationDetector:
    """Fullness by what the engines report: their queues and KV caches.

    As a filter it drops stale and full endpoints, and none if that would leave none.

    Args:
        queue_depth_threshold: waiting requests at which an endpoint is full.
        kv_cache_util_threshold: KV-cache utilization at which it is.
        metrics_staleness_threshold: metrics older than this say nothing (a Go duration).
        headroom: share by which the filter lets an endpoint exceed the thresholds.

    Formula: load = max(waiting_requests / queueDepthThreshold, kv_cache_utilization / kvCacheUtilThreshold).
    Unknown: a fact that is missing or stale is left out; with neither, the endpoint's load is unknown.
    Source: Endpoint Picker ``utilization-detector``, its default; upstream counts unknown as 1.
    """

    type: ClassVar[str] = "utilization-detector"
    relative: ClassVar[bool] = True
    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests", "kv_cache_utilization")
    transient: ClassVar[bool] = True
    hysteresis: ClassVar[float] = 0.05
    """A twentieth: more than one request in an engine's queue of five moves the mean of a small pool, less than two."""

    queue_depth_threshold: int = attrs.field(default=5, validator=_ABOVE_ZERO)
    kv_cache_util_threshold: float = attrs.field(
        default=0.8, validator=[attrs.validators.gt(0), attrs.validators.le(1)]
    )
    metrics_staleness_threshold: str = attrs.field(default="200ms", validator=_positive_duration)
    headroom: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    fresh_for: float = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "fresh_for", duration(self.metrics_staleness_threshold))

    @property
    def why(self) -> str:
        """The condition in words."""
        queue, cache = self.queue_depth_threshold, self.kv_cache_util_threshold
        return (
            f"waiting requests < {queue}, KV cache < {cache:g}, metrics at most {self.metrics_staleness_threshold} old"
        )

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the greater of the two utilizations."""
        queue = self._fresh("waiting_requests", endpoints) / self.queue_depth_threshold
        cache = self._fresh("kv_cache_utilization", endpoints) / self.kv_cache_util_threshold
        load: FloatArray = np.fmax(queue, cache)
        return load

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints have room by fresh metrics; all of them if that would be none."""
        load = self.load(endpoints)
        free: BoolArray = load < 1.0 + self.headroom
        return free if free.any() else np.ones(len(endpoints), np.bool_)

    def _fresh(self, column: str, endpoints: EndpointBatch) -> FloatArray:
        values, age = endpoints[column], endpoints.age(column)
        stale = age > self.fresh_for
        return np.where(stale, np.nan, values) if stale.any() else values


@attrs.frozen
class ConcurrencyDetector:
    """Fullness by what this scheduler has in flight: exact, at once, and blind to what others send.

    As a filter it drops endpoints at their limit, and may leave none.

    Args:
        max_concurrency: requests in flight at which an endpoint is full.
        headroom: share by which the filter lets an endpoint exceed its limit.
        concurrency_mode: what is counted: requests, tokens, or the fuller of both.
        max_token_concurrency: tokens in flight at which it is full.
        in_flight_load_producer_name: accepted for compatibility; the ledger always knows.

    Formula: load = in_flight_requests / maxConcurrency, in_flight_tokens / maxTokenConcurrency, or the greater of them.
    Unknown: nothing is; the ledger knows every endpoint.
    Source: Endpoint Picker ``concurrency-detector``.
    """

    type: ClassVar[str] = "concurrency-detector"
    consumes: ClassVar[tuple[str, ...]] = ("in_flight_requests", "in_flight_tokens")
    transient: ClassVar[bool] = True

    max_concurrency: int = attrs.field(default=100, validator=_ABOVE_ZERO)
    headroom: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))
    concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests"
    max_token_concurrency: int = attrs.field(default=1_000_000, validator=_ABOVE_ZERO)
    in_flight_load_producer_name: str | None = None

    @property
    def why(self) -> str:
        """The condition in words."""
        requests, tokens = f"requests in flight < {self.max_concurrency}", f"tokens < {self.max_token_concurrency}"
        return {"requests": requests, "tokens": tokens}.get(self.concurrency_mode, f"{requests} and {tokens}")

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the ratio of what is in flight to the limit."""
        return self._ratio(endpoints, self.max_concurrency, self.max_token_concurrency)

    def load_of(self, requests: float, tokens: float, /) -> float:
        """Return the ratio of one endpoint."""
        if self.concurrency_mode == "requests":
            return requests / self.max_concurrency
        by_tokens = tokens / self.max_token_concurrency
        return by_tokens if self.concurrency_mode == "tokens" else max(requests / self.max_concurrency, by_tokens)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints are below their limits, headroom included."""
        most = int(self.max_concurrency * (1 + self.headroom)), int(self.max_token_concurrency * (1 + self.headroom))
        full: BoolArray = self._ratio(endpoints, *most) >= 1.0
        return ~full

    def _ratio(self, endpoints: EndpointBatch, requests: int, tokens: int) -> FloatArray:
        if self.concurrency_mode == "requests":
            return endpoints["in_flight_requests"] / requests
        by_tokens: FloatArray = endpoints["in_flight_tokens"] / tokens
        if self.concurrency_mode == "tokens":
            return by_tokens
        both: FloatArray = np.fmax(endpoints["in_flight_requests"] / requests, by_tokens)
        return both


def _detects(_: object, __: object, value: Any) -> None:
    if value is not None and not callable(getattr(value, "load", None)):
        raise ValueError(f"expected a saturation detector, got {value!r}")


_REPORTED, _COUNTED = UtilizationDetector(), ConcurrencyDetector()


@attrs.frozen
class CombinedDetector:
    """Fullness by the engines' reports and by what is in flight here, whichever is greater.

    What is in flight is known at once and stops a burst between two scrapes; the reports bring in what others send, and
    requests that turned out heavier than most.

    Args:
        reported: the detector for the engines' reports; a ``utilization-detector`` by default.
        counted: the detector for what is in flight; a ``concurrency-detector`` by default.

    Formula: load = max(load by reported, load by counted).
    Unknown: where one of them does not know, the other decides.
    Source: ours.
    """

    type: ClassVar[str] = "combined-detector"
    hysteresis: ClassVar[float] = UtilizationDetector.hysteresis

    reported: Any = attrs.field(default=None, validator=_detects, metadata={"plugin_ref": "utilization-detector"})
    counted: Any = attrs.field(default=None, validator=_detects, metadata={"plugin_ref": "concurrency-detector"})

    @property
    def consumes(self) -> tuple[str, ...]:
        """What either of them reads."""
        return tuple(name for detector in self._both for name in getattr(detector, "consumes", ()))

    @property
    def fresh_for(self) -> float | None:
        """Seconds until what either of them reads may have grown stale."""
        spans = (getattr(detector, "fresh_for", None) for detector in self._both)
        return min((span for span in spans if span is not None), default=None)

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the greater of the two loads."""
        reported, counted = self._both
        load: FloatArray = np.fmax(reported.load(endpoints), counted.load(endpoints))
        return load

    @property
    def _both(self) -> tuple[Any, Any]:
        return self.reported or _REPORTED, self.counted or _COUNTED
