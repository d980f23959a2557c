"""Staying where the cache is, and where the labels say: affinity by prefix and by request header."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import numpy as np
import xxhash

from inferencesched.endpoints import BoolArray, EndpointBatch, FloatArray
from inferencesched.extremes import smallest
from inferencesched.request import Request

__all__ = ["HeaderLabelAffinityScorer", "PrefixCacheAffinityFilter"]

_SHARE = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.le(1.0))


@attrs.frozen
class PrefixCacheAffinityFilter:
    """Keep only the endpoints that hold the prompt's prefix, unless waiting for them costs more than it saves.

    Filters have no dice: whether a request explores is decided by a hash of its id (and of the threshold, so that two
    such filters in one profile do not always explore together). The same request explores each time or never.

    Args:
        affinity_threshold: the matched share of the prompt from which an endpoint counts as holding it; ≤ 0 is off.
        exploration_probability: share of the requests for which the filter steps aside.
        max_ttft_penalty_ms: how much later the first token may come from a holder than from any other; 0 is for ever.
        ttft_source: from what is known of an endpoint the time to first token is told.
        peak_prefill_throughput: tokens per second, for ``prefillThroughput``.
        prefix_match_info_producer_name: accepted for compatibility; the columns come from the profile's producer.
        latency_prediction_info_producer_name: likewise.
        in_flight_load_producer_name: accepted for compatibility; the ledger is the only producer of these counts.

    Formula: holders = matched / total ≥ affinityThreshold. Everything is kept if there are no holders, or if
        best TTFT of the holders − best TTFT of the others > maxTTFTPenaltyMs; else the holders are. TTFT =
        in_flight_tokens / peakPrefillThroughput, or predicted_ttft.
    Unknown: no match is known, so it is no holder; a TTFT that is not known is taken for infinite.
    Source: Endpoint Picker ``prefix-cache-affinity-filter``; upstream reads a load that is not known as 0.
    """

    type: ClassVar[str] = "prefix-cache-affinity-filter"
    relative: ClassVar[bool] = True

    affinity_threshold: float = attrs.field(default=0.80, validator=attrs.validators.le(1.0))
    exploration_probability: float = attrs.field(default=0.0, validator=_SHARE)
    max_ttft_penalty_ms: float = attrs.field(
        default=18_000.0, validator=attrs.validators.ge(0), metadata={"parameter": "maxTTFTPenaltyMs"}
    )
    ttft_source: Literal["prefillThroughput", "latencyPredictor"] = "prefillThroughput"
    peak_prefill_throughput: float = attrs.field(default=15_928.0)
    prefix_match_info_producer_name: str | None = None
    latency_prediction_info_producer_name: str | None = None
    in_flight_load_producer_name: str | None = None

    @peak_prefill_throughput.validator
    def _throughput_is_positive(self, _: object, value: float) -> None:
        if self.max_ttft_penalty_ms > 0 and self.ttft_source == "prefillThroughput" and value <= 0:
            raise ValueError(f"expected a number > 0 where ttftSource is prefillThroughput, got {value:g}")

    @property
    def consumes(self) -> tuple[str, ...]:
        """The columns it reads: no load where the penalty is off."""
        prefix = ("prefix_matched_tokens", "prefix_total_tokens")
        if self.max_ttft_penalty_ms == 0:
            return prefix
        return (*prefix, "in_flight_tokens" if self.ttft_source == "prefillThroughput" else "predicted_ttft")

    @property
    def why(self) -> str:
        """The condition in words."""
        limit = f" within {self.max_ttft_penalty_ms:g} ms" if self.max_ttft_penalty_ms else ""
        return f"prefix matched ≥ {self.affinity_threshold:g}{limit}"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return the holders, or everything."""
        everything = np.ones(len(endpoints), np.bool_)
        if len(endpoints) <= 1 or self.affinity_threshold <= 0 or self._explores(request):
            return everything
        matched, total = endpoints["prefix_matched_tokens"], endpoints["prefix_total_tokens"]
        holds: BoolArray = (total > 0) & (matched >= self.affinity_threshold * total)
        if not holds.any() or holds.all() or self._too_late(holds, endpoints):
            return everything
        return holds

    def _explores(self, request: Request) -> bool:
        if self.exploration_probability == 0:
            return False
        seed = int(self.affinity_threshold * 1_000_000)
        digest = xxhash.xxh3_64_intdigest(request.id.encode("utf-8", "surrogatepass"), seed)
        return digest < self.exploration_probability * 2**64

    def _too_late(self, holds: BoolArray, endpoints: EndpointBatch) -> bool:
        if self.max_ttft_penalty_ms == 0:
            return False
        if self.ttft_source == "prefillThroughput":
            ttft = endpoints["in_flight_tokens"] / self.peak_prefill_throughput
        else:
            ttft = endpoints["predicted_ttft"]
        ttft = np.where(np.isnan(ttft), np.inf, ttft)
        # Written as a sum, since infinity minus infinity is no number.
        return smallest(ttft[holds]) > smallest(ttft[~holds]) + self.max_ttft_penalty_ms / 1000


@attrs.frozen
class HeaderLabelAffinityScorer:
    """Prefer the endpoints whose label has the value of a request header.

    Args:
        header_name: the header.
        label_key: the label.

    Formula: header present, not empty and equal to the label → 1; else 0.
    Unknown: an endpoint without the label scores 0.
    Source: Endpoint Picker ``header-label-affinity-scorer`` (Affinity).
    """

    type: ClassVar[str] = "header-label-affinity-scorer"

    header_name: str = attrs.field(validator=attrs.validators.min_len(1))
    label_key: str = attrs.field(validator=attrs.validators.min_len(1))

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return 1 where header and label agree."""
        wanted = request.headers.get(self.header_name.lower())
        if not wanted:
            return np.zeros(len(endpoints))
        agrees: BoolArray = endpoints.labels(self.label_key) == wanted
        return agrees.astype(np.float64)
