"""Images, audio and video: who has encoded them before?"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar

import attrs
import numpy as np

from inferencesched.builtin.instances import instances
from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray
from inferencesched.interfaces import Observer
from inferencesched.request import Request

__all__ = ["MmEmbeddingsCacheProducer", "MmEmbeddingsCacheScorer"]

_MB_PER_ITEM = 2
"""Upstream's estimate of one item's embeddings."""


def _megabytes_or_default(given: int) -> int:
    return given if given > 0 else 4096


@attrs.define(eq=False)
class MmEmbeddingsCacheProducer(Observer):
    """Say how many of a request's media each endpoint has probably in its encoder cache.

    An item is known by the digest of its content (`Request.media`). Memory: `cache_size_in_mb_per_server` / 2 digests
    an endpoint, the least recently sent go first; an endpoint that goes takes its own along.

    Args:
        cache_size_in_mb_per_server: the size of an encoder cache, at 2 MiB an item; ≤ 0 is the default.
        cache_size_in_mb: another spelling, used by upstream's own sample; holds where it is given.

    Formula: matched = different digests of the request that were sent to the endpoint, of those still remembered.
    Unknown: a request without media gets no columns; an item without a digest (``b""``) matches nothing.
    Source: Endpoint Picker ``mm-embeddings-cache-producer``; upstream also credits the endpoints that were only named
        as fallbacks.
    """

    type: ClassVar[str] = "mm-embeddings-cache-producer"
    produces: ClassVar[tuple[str, ...]] = ("encoder_cache_matched_items", "encoder_cache_request_items")

    cache_size_in_mb_per_server: int = attrs.field(
        default=4096, converter=_megabytes_or_default, metadata={"parameter": "cacheSizeInMBPerServer"}
    )
    cache_size_in_mb: int | None = attrs.field(default=None, metadata={"parameter": "cacheSizeInMB"})
    _cached: dict[int, OrderedDict[bytes, None]] = attrs.field(init=False, repr=False, factory=dict)
    _holders: dict[bytes, set[int]] = attrs.field(init=False, repr=False, factory=dict)

    @property
    def capacity(self) -> int:
        """Items remembered per endpoint."""
        megabytes = self.cache_size_in_mb_per_server if self.cache_size_in_mb is None else self.cache_size_in_mb
        return max(1, _megabytes_or_default(megabytes) // _MB_PER_ITEM)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return the counts. O(media × endpoints)."""
        items = set(request.media)
        if not items:
            return {}
        rows = instances(endpoints)
        matched = np.zeros(len(rows))
        for holders in filter(None, map(self._holders.get, items - {b""})):
            matched += np.isin(rows, list(holders))
        return {
            "encoder_cache_matched_items": matched,
            "encoder_cache_request_items": np.full(len(rows), float(len(items))),
        }

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Learn that the endpoint is about to encode the request's media."""
        self._learn(request, decision.endpoint)

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        """Learn it of the endpoint that the request moved to."""
        self._learn(request, decision.endpoint)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Forget the endpoint's items."""
        for item in self._cached.pop(endpoint.instance, ()):
            self._drop(item, endpoint.instance)

    def _learn(self, request: Request, endpoint: Endpoint) -> None:
        items = dict.fromkeys(item for item in request.media if item)
        if not items:
            return
        cached = self._cached.setdefault(endpoint.instance, OrderedDict())
        for item in items:
            cached[item] = None
            cached.move_to_end(item)
            self._holders.setdefault(item, set()).add(endpoint.instance)
        while len(cached) > self.capacity:
            self._drop(cached.popitem(last=False)[0], endpoint.instance)

    def _drop(self, item: bytes, instance: int) -> None:
        holders = self._holders[item]
        holders.discard(instance)
        if not holders:
            del self._holders[item]


@attrs.frozen
class MmEmbeddingsCacheScorer:
    """Prefer endpoints that have encoded more of the request's media before.

    Args:
        producer_name: accepted for compatibility; the columns come from the profile's producer.

    Formula: matched items / items of the request.
    Unknown: 0, as is a request without media.
    Source: Endpoint Picker ``mm-embeddings-cache-scorer`` (Affinity).
    """

    type: ClassVar[str] = "mm-embeddings-cache-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("encoder_cache_matched_items", "encoder_cache_request_items")

    producer_name: str | None = None

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the matched share."""
        matched, items = endpoints["encoder_cache_matched_items"], endpoints["encoder_cache_request_items"]
        known = (items > 0) & (matched >= 0)  # unknown compares false
        share: FloatArray = np.divide(np.minimum(matched, items), items, out=np.zeros(len(endpoints)), where=known)
        return share
