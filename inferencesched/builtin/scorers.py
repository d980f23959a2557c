"""Scorers: how good is each endpoint for this request? Ten lines each, all of one shape.

Types, parameters, defaults and formulas are the Endpoint Picker's (llm-d-router, ``plugins/scheduling/scorer``).
We differ in one thing, on purpose: a fact that was never measured is *unknown* to us, where upstream reads zero and so
takes a server that has just started, or whose metrics are broken, for an idle one. What unknown scores is said in each
docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray, constant
from inferencesched.extremes import largest, smallest
from inferencesched.request import Request

__all__ = [
    "ActiveRequestScorer",
    "KvCacheUtilizationScorer",
    "LoadAwareScorer",
    "LoraAffinityScorer",
    "PrefixCacheScorer",
    "QueueScorer",
    "RunningRequestsSizeScorer",
    "TokenLoadScorer",
]

NEUTRAL = 0.5
"""The score of an unknown fact: better than the worst that is known, worse than the best."""


_QUEUE_THRESHOLD = 4_194_304
"""Tokens: upstream's default, 4 Mi."""


def _at_least_zero(given: int) -> int:
    return max(0, given)


def _share_or_one(given: float) -> float:
    return given if 0 <= given <= 1 else 1.0


def _positive_or_default(given: int) -> int:
    return given if given > 0 else _QUEUE_THRESHOLD


def _fewest_is_best(counts: FloatArray) -> FloatArray:
    """Return ``(max − x) / (max − min)`` over the known counts; 1 if those are all equal; unknown is neutral."""
    most, least = largest(counts), smallest(counts)
    if math.isnan(most):  # something is unknown
        return _of_known(counts, _fewest_is_best)
    if most == least:
        return np.ones(len(counts))
    scores: FloatArray = most - counts
    scores /= most - least
    return scores


def _of_known(values: FloatArray, score: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return ``score`` of the known values, and neutral for the unknown ones."""
    scores = constant(NEUTRAL, len(values))
    known = (~np.isnan(values)).nonzero()[0]
    if known.size:
        scores[known] = score(values[known])
    return scores


def _free_share(used: FloatArray) -> FloatArray:
    """Return ``1 − used``, clipped to [0, 1]; unknown is neutral."""
    free: FloatArray = 1.0 - used
    if smallest(free) >= 0.0 and largest(free) <= 1.0:  # NaN compares false
        return free
    return _of_known(used, lambda known: np.clip(1.0 - known, 0.0, 1.0))


def _fewest_of_few(counts: list[float]) -> list[float]:
    """Return what `_fewest_is_best` returns, as lists."""
    known = [count for count in counts if not math.isnan(count)]
    most, least = max(known, default=0.0), min(known, default=0.0)
    if most == least:
        return [NEUTRAL if math.isnan(count) else 1.0 for count in counts]
    spread = most - least
    return [NEUTRAL if math.isnan(count) else (most - count) / spread for count in counts]


def _free_of_few(used: list[float]) -> list[float]:
    """Return what `_free_share` returns, as lists."""
    return [NEUTRAL if math.isnan(share) else min(max(1.0 - share, 0.0), 1.0) for share in used]


@attrs.frozen
class QueueScorer:
    """Prefer endpoints with fewer requests waiting in the engine.

    The spread of the candidates is stretched to [0, 1]: depths 100 and 101 score 1 and 0. That is upstream's formula;
    where magnitude should count, use ``load-aware-scorer`` or ``active-request-scorer``.

    Formula: (max − q) / (max − min) over the candidates, q = waiting_requests; all equal → 1.
    Unknown: 0.5; the minimum and maximum are those of the known ones.
    Source: Endpoint Picker ``queue-scorer`` (category Distribution); upstream reads unknown as 0, an empty queue.
    """

    type: ClassVar[str] = "queue-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)
    relative: ClassVar[bool] = True

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the min-max score of the queue depths."""
        return _fewest_is_best(endpoints["waiting_requests"])

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        """Return the same as a list."""
        return _fewest_of_few(endpoints.numbers("waiting_requests"))


@attrs.frozen
class RunningRequestsSizeScorer:
    """Prefer endpoints with fewer requests in the engine's current batch.

    Formula: (max − r) / (max − min) over the candidates, r = running_requests; all equal → 1.
    Unknown: 0.5; the minimum and maximum are those of the known ones.
    Source: Endpoint Picker ``running-requests-size-scorer`` (Distribution); upstream reads unknown as 0.
    """

    type: ClassVar[str] = "running-requests-size-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("running_requests",)
    relative: ClassVar[bool] = True

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the min-max score of the batch sizes."""
        return _fewest_is_best(endpoints["running_requests"])

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        """Return the same as a list."""
        return _fewest_of_few(endpoints.numbers("running_requests"))


@attrs.frozen
class KvCacheUtilizationScorer:
    """Prefer endpoints with more free KV cache.

    Formula: 1 − kv_cache_utilization, clipped to [0, 1].
    Unknown: 0.5.
    Source: Endpoint Picker ``kv-cache-utilization-scorer`` (Distribution); upstream reads unknown as 0, an empty cache.
    """

    type: ClassVar[str] = "kv-cache-utilization-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("kv_cache_utilization",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the free share of each cache."""
        return _free_share(endpoints["kv_cache_utilization"])

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        """Return the same as a list."""
        return _free_of_few(endpoints.numbers("kv_cache_utilization"))


def _threshold_or_default(given: int) -> int:
    return given if given > 0 else 128


@attrs.frozen
class LoadAwareScorer:
    """Prefer endpoints with fewer requests waiting in the engine, by how many and not by who has the fewest.

    Args:
        threshold: the queue depth that scores 0; ≤ 0 is the default.

    Formula: 0.5 · (1 − min(q, T) / T), q = waiting_requests and T = threshold: never above 0.5.
    Unknown: 0.25, half of the best.
    Source: Endpoint Picker ``load-aware-scorer`` (Distribution); upstream reads unknown as 0, an empty queue.
    """

    type: ClassVar[str] = "load-aware-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    threshold: int = attrs.field(default=128, converter=_threshold_or_default)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return half the free share of each queue."""
        return 0.5 * _free_share(endpoints["waiting_requests"] / self.threshold)


@attrs.frozen
class LoraAffinityScorer:
    """Prefer endpoints that already run the request's LoRA adapter, then those with room to load it.

    The adapter looked for is ``request.adapter``, or else the model's name (adapters are served as models).

    Formula: active → 1.0; else |active| + |waiting| < max_active_adapters → 0.8; else waiting → 0.6; else 0.0.
    Unknown: an endpoint that reports no adapters has none; one that reports no maximum has no known room.
    Source: Endpoint Picker ``lora-affinity-scorer`` (Affinity); the check for room comes before the one for waiting.
    """

    type: ClassVar[str] = "lora-affinity-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("active_adapters", "waiting_adapters", "max_active_adapters")

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the tier of each endpoint."""
        loaded = np.nan_to_num(endpoints["active_adapters"]) + np.nan_to_num(endpoints["waiting_adapters"])
        has_room = loaded < endpoints["max_active_adapters"]  # an unknown maximum compares false
        waiting = endpoints.contains("waiting_adapters", request.lora)
        active = endpoints.contains("active_adapters", request.lora)
        return np.where(active, 1.0, np.where(has_room, 0.8, np.where(waiting, 0.6, 0.0)))


@attrs.frozen
class ActiveRequestScorer:
    """Prefer endpoints with fewer requests in flight, as this scheduler counts them: no scrape, no delay.

    Args:
        idle_threshold: at most this many in flight counts as idle; below 0 is 0.
        max_busy_score: the score that the least busy of the non-idle can come near; outside [0, 1] is 1.
        request_timeout: accepted and ignored, as upstream does (deprecated there).
        in_flight_load_producer_name: accepted for compatibility; the ledger is the only producer of these counts.

    Formula: count ≤ idleThreshold → 1; else (max − count) / max · maxBusyScore, max over the candidates.
    Unknown: 0.5.
    Source: Endpoint Picker ``active-request-scorer`` (Distribution).
    """

    type: ClassVar[str] = "active-request-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("in_flight_requests",)
    relative: ClassVar[bool] = True

    idle_threshold: int = attrs.field(default=0, converter=_at_least_zero)
    max_busy_score: float = attrs.field(default=1.0, converter=_share_or_one)
    request_timeout: str | None = None
    in_flight_load_producer_name: str | None = attrs.field(
        default=None, metadata={"parameter": "inFlightLoadProducerName"}
    )

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return how far each endpoint is below the busiest."""
        return self._below_busiest(endpoints["in_flight_requests"])

    def _below_busiest(self, counts: FloatArray) -> FloatArray:
        most = largest(counts)
        if math.isnan(most):  # something is unknown
            return _of_known(counts, self._below_busiest)
        if most <= self.idle_threshold:
            return np.ones(len(counts))
        scores: FloatArray = most - counts
        scores *= self.max_busy_score / most
        if self.idle_threshold > 0 or self.max_busy_score < 1:
            scores[counts <= self.idle_threshold] = 1.0
        return scores


@attrs.frozen
class TokenLoadScorer:
    """Prefer endpoints with fewer tokens of work in flight, this request's own uncached tokens included.

    Args:
        queue_threshold_tokens: tokens at which an endpoint is full; ≤ 0 is the default.
        in_flight_load_producer_name: accepted for compatibility; the ledger is the only producer of these counts.

    Formula: 1 − min(t, T) / T with t = in_flight_tokens + uncached_request_tokens and T = queueThresholdTokens.
    Unknown: tokens in flight unknown → 0.5; work of this request unknown → 0.
    Source: Endpoint Picker ``token-load-scorer`` (Distribution).
    """

    type: ClassVar[str] = "token-load-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("in_flight_tokens", "uncached_request_tokens")

    queue_threshold_tokens: int = attrs.field(default=_QUEUE_THRESHOLD, converter=_positive_or_default)
    in_flight_load_producer_name: str | None = attrs.field(
        default=None, metadata={"parameter": "inFlightLoadProducerName"}
    )

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the free share of each endpoint's token budget."""
        tokens = endpoints["in_flight_tokens"]
        if "uncached_request_tokens" in endpoints:
            own = endpoints["uncached_request_tokens"]
            tokens = tokens + np.where(np.isnan(own), 0.0, own)
        return _free_share(tokens / self.queue_threshold_tokens)


@attrs.frozen
class PrefixCacheScorer:
    """Prefer endpoints that hold more of the prompt's prefix in their KV cache.

    Args:
        match_length_weight: share of the score that goes by the length of the match, not by its ratio.
        match_length_scale_tokens: the match length that scores full marks there.
        prefix_match_info_producer_name: accepted for compatibility; the columns come from the profile's producer.

    Formula: w·L + (1 − w)·R; R = matched / total; L = min(1, matched / matchLengthScaleTokens)²; total 0 → 0.
    Unknown: 0, no match is known.
    Source: Endpoint Picker ``prefix-cache-scorer`` (Affinity). On its own it sends everything that shares one block to
        one endpoint: put load scorers beside it.
    """

    type: ClassVar[str] = "prefix-cache-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens")

    match_length_weight: float = attrs.field(
        default=0.0, validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)]
    )
    match_length_scale_tokens: int = attrs.field(default=8192)
    prefix_match_info_producer_name: str | None = None

    @match_length_scale_tokens.validator
    def _scale_is_positive(self, _: object, value: int) -> None:
        if self.match_length_weight > 0 and value <= 0:
            raise ValueError(f"expected an integer > 0 when matchLengthWeight > 0, got {value}")

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the matched share, and the matched length if it is weighed in."""
        matched, total = endpoints["prefix_matched_tokens"], endpoints["prefix_total_tokens"]
        if smallest(total) > 0 and smallest(matched) >= 0:  # unknown compares false
            ratio: FloatArray = matched / total
        else:
            known = (total > 0) & (matched >= 0)
            ratio = np.divide(matched, total, out=np.zeros(len(endpoints)), where=known)
            matched = np.where(known, matched, 0.0)
        if self.match_length_weight == 0:
            return ratio
        length = np.minimum(1.0, matched / self.match_length_scale_tokens) ** 2
        return self.match_length_weight * length + (1.0 - self.match_length_weight) * ratio

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        """Return the same as a list."""
        return [
            self._of(held, of) if of > 0 and held >= 0 else 0.0  # unknown compares false
            for held, of in zip(
                endpoints.numbers("prefix_matched_tokens"), endpoints.numbers("prefix_total_tokens"), strict=True
            )
        ]

    def _of(self, matched: float, total: float) -> float:
        weight, ratio = self.match_length_weight, matched / total
        if weight == 0:
            return ratio
        return weight * min(1.0, matched / self.match_length_scale_tokens) ** 2 + (1.0 - weight) * ratio
