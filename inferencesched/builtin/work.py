"""Work: prefix and load in one unit, so that neither has to be weighed against the other by feeling.

What stands before a request's first token is prefill: of those that were placed before it, and of itself. A request
that decodes takes its part of every step too, and how much that is depends on how long answers really are; so the
scorer here learns that from the usage of answers. In the engine model of `inferencesched.sim.hardware` a token that is
decoded takes as much of a step as three tokens of prefill do where its context has 1,600 tokens (H100) to 3,150 (A100):
what is read of the cache (131,072 bytes a token of context) and 6 or 18 µs for the sequence, against the arithmetic for
one token more. 350 tokens, a usual answer of a chat, make 1,024; no answer counts for more, since the decoding of one
that is longer is spread over more steps than this request's own prefill will wait for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import isnan
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray
from inferencesched.extremes import smallest
from inferencesched.interfaces import Observer
from inferencesched.request import Request

__all__ = ["ExpectedWorkScorer"]


_SMOOTHING = 1 / 64
"""Weight of one request in the running means: half of what they knew is forgotten within 44."""


@attrs.define
class _Mean:
    """A running mean; a plain one until there are enough."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += max(_SMOOTHING, 1 / self.count) * (value - self.value)


@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class ExpectedWorkScorer(Observer):
    """Prefer the endpoint where the least work stands before the end of this request's prefill.

    Work is counted in tokens of prefill: what is reserved by requests in flight, what this request would add (its
    prompt less what is cached there), and a share for each request in flight, since decoding takes its part of every
    step. What it would add also holds up those in flight beside it, so on a busy endpoint it counts twice. A prefix hit
    is worth the tokens it saves, and affinity gives way as soon as waiting costs more.

    The share of a request follows how long answers are: from the usage that hosts report (`Dispatcher.report_usage`),
    and from the limits that clients set. Memory: two running means, of answers and of limits, over whatever this
    scheduler places: requests in flight are counted by endpoint and not by model, and so is what they take.

    Args:
        request_tokens: what each request in flight counts as, in tokens of prefill: at most, and as long as nothing is
            known of answers.
        output_token_cost: what a token of an answer counts as, in tokens of prefill.
        busy_requests: requests in flight on an endpoint from which on what this request adds counts twice there; with
            fewer, their share of that.
        scale_tokens: the work at which the score is one half.

    Formula: 1 / (1 + w / scaleTokens) with w = in_flight_tokens + each · (in_flight_requests + waiting_requests) +
        uncached_request_tokens · (1 + min(1, in_flight_requests / busyRequests)); each = min(mean output tokens ·
        outputTokenCost, mean of min(max_output_tokens · outputTokenCost, requestTokens)), an answer having at least one
        token.
    Unknown: work in flight unknown → 0.5; work of this request or waiting requests unknown → 0; no answer or no limit
        known → requestTokens in its place.
    Source: ours; the cost form that NVIDIA Dynamo's router and SMG use (uncached prefill + active load), as a score.
        1,024 tokens for a request: decoding 350 tokens takes about as much of an engine's steps as prefill of that
        length does, by the engine model of `inferencesched.sim.hardware`. What waits in an engine is counted in case
        others placed it, or the engine is full. Twice, and eight, are measured (docs/performance/policies.md).
    """

    type: ClassVar[str] = "expected-work-scorer"
    # Prefixes are read on the way, by the producer of uncached_request_tokens: optional there, wanted here.
    consumes: ClassVar[tuple[str, ...]] = (
        "in_flight_tokens",
        "in_flight_requests",
        "waiting_requests",
        "uncached_request_tokens",
        "prefix_matched_tokens",
    )

    request_tokens: float = attrs.field(default=1024.0, validator=attrs.validators.ge(0))
    output_token_cost: float = attrs.field(default=3.0, validator=attrs.validators.ge(0))
    busy_requests: float = attrs.field(default=8.0, validator=attrs.validators.gt(0))
    scale_tokens: float = attrs.field(default=16_384.0, validator=attrs.validators.gt(0))
    _outputs: _Mean = attrs.field(init=False, repr=False, factory=_Mean)  # tokens of an answer
    _limits: _Mean = attrs.field(init=False, repr=False)  # tokens of work that a client allows
    _each: float = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._limits = _Mean(self.request_tokens)
        self._each = self.request_tokens

    @property
    def request_work(self) -> float:
        """What a request in flight counts as now, in tokens of prefill."""
        return self._each

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the score of each endpoint's work."""
        waiting, own = endpoints["waiting_requests"], endpoints["uncached_request_tokens"]
        scores = self._of(endpoints, waiting, own)
        if smallest(scores) > 0:  # unknown compares false
            return scores
        scores = self._of(endpoints, np.where(np.isnan(waiting), 0.0, waiting), np.where(np.isnan(own), 0.0, own))
        return np.where(np.isnan(scores), 0.5, scores)

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        """Return the same as a list."""
        scale, each, busy = self.scale_tokens, self._each, self.busy_requests
        rows = zip(
            endpoints.numbers("in_flight_requests"),
            endpoints.numbers("in_flight_tokens"),
            endpoints.numbers("waiting_requests"),
            endpoints.numbers("uncached_request_tokens"),
            strict=True,
        )
        scores = [
            scale
            / (
                (requests if isnan(waiting) else requests + waiting) * each
                + tokens
                + (0.0 if isnan(own) else own * (1.0 + (requests / busy if requests < busy else 1.0)))
                + scale
            )
            for requests, tokens, waiting, own in rows
        ]
        return [0.5 if isnan(score) else score for score in scores]

    def _of(self, endpoints: EndpointBatch, waiting: FloatArray, own: FloatArray) -> FloatArray:
        requests = endpoints["in_flight_requests"]
        added: FloatArray = np.minimum(requests, self.busy_requests)
        added *= 1.0 / self.busy_requests
        added += 1.0
        added *= own
        work: FloatArray = requests + waiting
        work *= self._each
        work += endpoints["in_flight_tokens"]
        work += added
        work += self.scale_tokens
        return np.divide(self.scale_tokens, work, out=work)

    # --- what happens ----------------------------------------------------------------------------------------------

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Note how long its client lets the answer become."""
        limit = request.max_output_tokens
        if limit is None and self._limits.value == self.request_tokens:
            self._limits.count += 1  # none of them had one lately: the mean stays what it is
            return
        allowed = math.inf if limit is None else max(limit, 1) * self.output_token_cost
        self._limits.add(min(allowed, self.request_tokens))
        self._weigh()

    def usage_reported(
        self, request_id: str, flow: str, prompt_tokens: float, output_tokens: float, *, now: float
    ) -> None:
        """Note how long an answer was; one without tokens is what a host reports that does not know."""
        if output_tokens > 0:
            self._outputs.add(output_tokens)
            self._weigh()

    # --- memory ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Mapping[str, Any]:
        """Return both means."""
        return {"outputs": attrs.asdict(self._outputs), "limits": attrs.asdict(self._limits)}

    def restore(self, state: Mapping[str, Any], endpoints: Mapping[str, Endpoint], /, *, now: float) -> None:
        """Take them back."""
        self._outputs, self._limits = _Mean(**state["outputs"]), _Mean(**state["limits"])
        self._weigh()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _weigh(self) -> None:
        self._each = min(self._limits.value, self.request_tokens)  # a predecessor may have allowed more
        if self._outputs.count:
            self._each = min(self._each, self._outputs.value * self.output_token_cost)
