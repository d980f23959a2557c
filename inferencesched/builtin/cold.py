"""Where to put a prompt that nobody has cached: its cache entries will grow there."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import attrs
import numpy as np

from inferencesched.builtin.instances import instances
from inferencesched.decision import Decision
from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray
from inferencesched.interfaces import Observer
from inferencesched.request import Request

__all__ = ["NoHitLruScorer"]

_PREFILL = "prefill"
"""The profile that upstream knows by this name: its pick gets the prompt's cache entries too."""


def _size_or_default(given: int) -> int:
    return given if given > 0 else 1024


@attrs.define(eq=False)
class NoHitLruScorer(Observer):
    """Spread prompts that no candidate has cached: the endpoint whose last such prompt is longest ago comes first.

    Args:
        lru_size: endpoints remembered; ≤ 0 is the default.
        prefix_match_info_producer_name: accepted for compatibility; the columns come from the profile's producer.
        prefix_plugin_type: accepted and not used, as upstream does.
        prefix_plugin_name: likewise.

    Formula: some candidate has a match → 0.5 everywhere. Else, of n endpoints, 1 − r / (n − 1), not below 0: r counts
        the candidates that never had such a prompt, in their order, and then goes on with the place among all endpoints
        remembered, the oldest first. A single endpoint scores 1.
    Unknown: no match is known, so it is none.
    Source: Endpoint Picker ``no-hit-lru-scorer`` (Distribution).
    """

    type: ClassVar[str] = "no-hit-lru-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens",)
    relative: ClassVar[bool] = True

    lru_size: int = attrs.field(default=1024, converter=_size_or_default)
    prefix_match_info_producer_name: str | None = None
    prefix_plugin_type: str | None = None
    prefix_plugin_name: str | None = None
    _used: OrderedDict[int, None] = attrs.field(init=False, repr=False, factory=OrderedDict)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return a rank by last cold prompt, or neutral. O(endpoints + endpoints remembered) for a cold prompt."""
        if not _cold(endpoints):
            return np.full(len(endpoints), 0.5)
        if len(endpoints) == 1:
            return np.ones(1)
        places = {instance: place for place, instance in enumerate(self._used)}
        place = np.array([places.get(instance, -1) for instance in instances(endpoints).tolist()])
        never: BoolArray = place < 0
        rank = np.where(never, np.cumsum(never) - 1, np.count_nonzero(never) + place)
        scores: FloatArray = np.maximum(0.0, 1.0 - rank / (len(endpoints) - 1))
        return scores

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Note who got a cold prompt."""
        if not _cold(decision.passes[decision.primary].kept):
            return
        for lease in decision.leases:
            if lease.stage in {decision.primary, _PREFILL}:
                self._used[lease.endpoint.instance] = None
                self._used.move_to_end(lease.endpoint.instance)
        while len(self._used) > self.lru_size:
            self._used.popitem(last=False)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Forget the endpoint."""
        self._used.pop(endpoint.instance, None)


def _cold(endpoints: EndpointBatch) -> bool:
    return not (endpoints["prefix_matched_tokens"] > 0).any()
