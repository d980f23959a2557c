"""Work: prefix and load in one unit, so that neither has to be weighed against the other by feeling."""

from __future__ import annotations

from math import isnan
from typing import ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.extremes import smallest
from inferencesched.request import Request

__all__ = ["ExpectedWorkScorer"]


@attrs.frozen
class ExpectedWorkScorer:
    """Prefer the endpoint where the least work stands before the end of this request's prefill.

    Work is counted in tokens of prefill: what is reserved by requests in flight, what this request would add (its
    prompt less what is cached there), and a share for each request in flight, since decoding takes its part of every
    step. A prefix hit is worth exactly the tokens it saves, so affinity gives way as soon as waiting costs more.

    Args:
        request_tokens: what each request in flight counts as, in tokens of prefill.
        scale_tokens: the work at which the score is one half.

    Formula: 1 / (1 + w / scaleTokens) with w = in_flight_tokens + uncached_request_tokens + requestTokens ·
        in_flight_requests.
    Unknown: work in flight unknown → 0.5; work of this request unknown → 0.
    Source: ours; the cost form that NVIDIA Dynamo's router and SMG use (uncached prefill + active load), as a score.
        1,024 tokens for a request: decoding 350 tokens slows its neighbours by about as much as prefill of that length
        does, by the engine model of `inferencesched.sim.hardware`.
    """

    type: ClassVar[str] = "expected-work-scorer"
    # Prefixes are read on the way, by the producer of uncached_request_tokens: optional there, wanted here.
    consumes: ClassVar[tuple[str, ...]] = (
        "in_flight_tokens",
        "in_flight_requests",
        "uncached_request_tokens",
        "prefix_matched_tokens",
    )

    request_tokens: float = attrs.field(default=1024.0, validator=attrs.validators.ge(0))
    scale_tokens: float = attrs.field(default=16_384.0, validator=attrs.validators.gt(0))

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the score of each endpoint's work."""
        load = endpoints["in_flight_requests"] * self.request_tokens
        load += endpoints["in_flight_tokens"]
        own = endpoints["uncached_request_tokens"]
        scores = self._of(load + own)
        if smallest(scores) > 0:  # unknown compares false
            return scores
        scores = self._of(load + np.where(np.isnan(own), 0.0, own))
        return np.where(np.isnan(scores), 0.5, scores)

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        """Return the same as a list."""
        scale, each = self.scale_tokens, self.request_tokens
        rows = zip(
            endpoints.numbers("in_flight_requests"),
            endpoints.numbers("in_flight_tokens"),
            endpoints.numbers("uncached_request_tokens"),
            strict=True,
        )
        scores = [
            scale / (requests * each + tokens + (0.0 if isnan(own) else own) + scale) for requests, tokens, own in rows
        ]
        return [0.5 if isnan(score) else score for score in scores]

    def _of(self, work: FloatArray) -> FloatArray:
        work += self.scale_tokens
        return np.divide(self.scale_tokens, work, out=work)
