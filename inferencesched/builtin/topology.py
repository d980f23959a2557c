"""Near is better: how close an endpoint is to the one that an earlier stage of the same request picked.

Prefill and decode exchange a KV cache; on one host that is NVLink, across zones it is money. How near two endpoints are
is told by their labels. The *peer* is the pick of the first profile that found one for this request: the decode
endpoint where decode runs first, the prefill endpoint where prefill does.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray
from inferencesched.request import Request

__all__ = ["TopologyAffinityFilter", "TopologyAffinityScorer", "TopologyExtractor"]

_LEVELS = ("host", "rack", "zone", "region")
_APART = len(_LEVELS)
_SCORES = np.array([1.00, 0.20, 0.05, 0.02, 0.0])
"""By tightest common level; the last for endpoints that have none in common."""


@attrs.frozen
class TopologyExtractor:
    """Say which labels tell where an endpoint stands; an empty name leaves that level out.

    Args:
        hostname: the label for the host.
        rack: the label for the rack.
        zone: the label for the zone.
        region: the label for the region.

    Source: Endpoint Picker ``topology-extractor``; upstream looks at the pod where the host's label is missing, here
        the source of endpoints has to set it.
    """

    type: ClassVar[str] = "topology-extractor"

    hostname: str = "kubernetes.io/hostname"
    rack: str = "topology.kubernetes.io/rack"
    zone: str = "topology.kubernetes.io/zone"
    region: str = "topology.kubernetes.io/region"

    def distance(self, peer: Endpoint, endpoints: EndpointBatch) -> NDArray[np.intp]:
        """Return the tightest level each endpoint shares with `peer`: 0 is the host, 4 is none."""
        levels = np.full(len(endpoints), _APART, np.intp)
        labels = (self.hostname, self.rack, self.zone, self.region)
        for level in reversed(range(_APART)):
            place = peer.labels.get(labels[level])
            if place:
                levels[endpoints.labels(labels[level]) == place] = level
        return levels


def _peer(request: Request) -> Endpoint | None:
    picked = request.attributes.get("picked") or {}
    return next(iter(picked.values()), None)


_WELL_KNOWN = TopologyExtractor()


def _is_extractor(_: object, __: object, value: object) -> None:
    if value is not None and not isinstance(value, TopologyExtractor):
        raise ValueError(f"expected the name of a topology-extractor, got a {getattr(value, 'type', value)}")


@attrs.frozen
class TopologyAffinityFilter:
    """Keep the endpoints that are near enough to the peer.

    Args:
        min_affinity: the widest level that is near enough.
        topology_producer_name: the ``topology-extractor`` that knows the labels; the well-known ones by default.

    Formula: tightest common level (host < rack < zone < region) ≤ minAffinity; if none is, everything. No peer:
        everything.
    Unknown: a label that is missing or empty matches nothing.
    Source: Endpoint Picker ``topology-affinity-filter``. Upstream shows no peer to the encode stage.
    """

    type: ClassVar[str] = "topology-affinity-filter"
    relative: ClassVar[bool] = True

    min_affinity: Literal["host", "rack", "zone", "region"] = "host"
    topology_producer_name: Any = attrs.field(
        default=None, validator=_is_extractor, metadata={"plugin_ref": "topology-extractor"}
    )

    @property
    def why(self) -> str:
        """The condition in words."""
        return f"same {self.min_affinity} as the endpoint of the earlier stage, or nearer"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints are near enough, or everything."""
        peer = _peer(request)
        if peer is None:
            return np.ones(len(endpoints), np.bool_)
        where = self.topology_producer_name or _WELL_KNOWN
        near: BoolArray = where.distance(peer, endpoints) <= _LEVELS.index(self.min_affinity)
        return near if near.any() else np.ones(len(endpoints), np.bool_)


@attrs.frozen
class TopologyAffinityScorer:
    """Prefer endpoints near the peer.

    Args:
        topology_producer_name: the ``topology-extractor`` that knows the labels; the well-known ones by default.

    Formula: same host → 1.00, rack → 0.20, zone → 0.05, region → 0.02, nothing in common or no peer → 0.
    Unknown: a label that is missing or empty matches nothing.
    Source: Endpoint Picker ``topology-affinity-scorer`` (Affinity).
    """

    type: ClassVar[str] = "topology-affinity-scorer"

    topology_producer_name: Any = attrs.field(
        default=None, validator=_is_extractor, metadata={"plugin_ref": "topology-extractor"}
    )

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return a score by the tightest common level."""
        peer = _peer(request)
        if peer is None:
            return np.zeros(len(endpoints))
        where = self.topology_producer_name or _WELL_KNOWN
        scores: FloatArray = _SCORES[where.distance(peer, endpoints)]
        return scores
