"""Filters by label, by load and by header: which endpoints may serve this request at all?"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import reduce
from typing import ClassVar, Literal

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch
from inferencesched.request import Request

__all__ = [
    "ByLabel",
    "Condition",
    "HeaderBasedTestingFilter",
    "LabelSelectorFilter",
    "Requirement",
    "UtilizationFilter",
]


@attrs.frozen
class Requirement:
    """One of a Kubernetes LabelSelector's ``matchExpressions``.

    Args:
        key: the label.
        operator: ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``.
        values: for the first two, at least one.
    """

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if (self.operator in {"In", "NotIn"}) != bool(self.values):
            need = "at least one value" if self.operator in {"In", "NotIn"} else "no values"
            raise ValueError(f"operator {self.operator} takes {need}, got {list(self.values)}")

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether these labels meet the requirement; ``NotIn`` holds where the label is absent."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator == "In")

    def __str__(self) -> str:
        values = f" ({', '.join(self.values)})" if self.values else ""
        return f"{self.key} {self.operator}{values}"


def _pairs(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(dict(labels).items()))


@attrs.frozen
class LabelSelectorFilter:
    """Keep the endpoints whose labels match a Kubernetes LabelSelector; the parameters *are* the selector.

    Args:
        match_labels: label values that must be equal, all of them.
        match_expressions: further requirements, all of them.

    Formula: every requirement holds; an empty selector keeps everything.
    Unknown: a label that is absent is absent.
    Source: Endpoint Picker ``label-selector-filter``; Kubernetes ``metav1.LabelSelector``.
    """

    type: ClassVar[str] = "label-selector-filter"

    match_labels: Mapping[str, str] = attrs.field(factory=dict, eq=_pairs, hash=False)
    match_expressions: tuple[Requirement, ...] = ()

    @property
    def why(self) -> str:
        """The selector in words."""
        parts = [f"{key} = {value}" for key, value in self.match_labels.items()]
        return " and ".join([*parts, *map(str, self.match_expressions)]) or "empty selector"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints match."""
        return endpoints.static(("label-selector", self), self._matches)

    def _matches(self, endpoints: tuple[Endpoint, ...]) -> BoolArray:
        return np.array([self._holds(endpoint.labels) for endpoint in endpoints], np.bool_)

    def _holds(self, labels: Mapping[str, str]) -> bool:
        equal = all(labels.get(key) == value for key, value in self.match_labels.items())
        return equal and all(requirement.holds(labels) for requirement in self.match_expressions)


@attrs.frozen
class ByLabel:
    """Keep the endpoints on which one label has one of some values (deprecated: write ``label-selector-filter``).

    Args:
        label: the label.
        valid_values: the values that are kept; an empty string stands for the label's absence too.
        allows_no_label: keep the endpoints without the label.

    Formula: value in validValues, or label absent and allowsNoLabel.
    Unknown: a label that is absent is absent.
    Source: Endpoint Picker ``by-label``.
    """

    type: ClassVar[str] = "by-label"

    label: str = attrs.field(validator=attrs.validators.min_len(1))
    valid_values: tuple[str, ...] = ()
    allows_no_label: bool = False

    def __attrs_post_init__(self) -> None:
        if not self.valid_values and not self.allows_no_label:
            raise ValueError("expected validValues, or allowsNoLabel: true; this would keep nothing")

    @property
    def why(self) -> str:
        """The condition in words."""
        absent = " or absent" if self.allows_no_label else ""
        return f"{self.label} in ({', '.join(self.valid_values)}){absent}"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints have such a value."""
        return endpoints.static(("by-label", self), self._matches)

    def _matches(self, endpoints: tuple[Endpoint, ...]) -> BoolArray:
        accepted = {*self.valid_values, *([None] if self.allows_no_label or "" in self.valid_values else [])}
        return np.array([endpoint.labels.get(self.label) in accepted for endpoint in endpoints], np.bool_)


@attrs.frozen
class HeaderBasedTestingFilter:
    """Keep the endpoints that a header of the request names: for conformance tests, and nothing else.

    Whoever can send the header chooses the server. Do not configure it where clients are not trusted.

    Formula: header ``test-epp-endpoint-selection``, a comma list of ``IP`` or ``IP:port``; one endpoint for each IP,
        the first named. No header, or a blank one, keeps nothing.
    Unknown: an address that nobody has is passed over.
    Source: Endpoint Picker ``header-based-testing-filter``. There the order of the header is the order of fallbacks; a
        mask has none, so the picker decides.
    """

    type: ClassVar[str] = "header-based-testing-filter"
    relative: ClassVar[bool] = True
    header: ClassVar[str] = "test-epp-endpoint-selection"
    why: ClassVar[str] = "named by the header test-epp-endpoint-selection"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints are named."""
        places = [_host_and_port(endpoint.address) for endpoint in endpoints.endpoints]
        keep, taken = np.zeros(len(endpoints), np.bool_), set[str]()
        for named in filter(None, (part.strip() for part in request.headers.get(self.header, "").split(","))):
            host, port = _host_and_port(named)
            found = [row for row, place in enumerate(places) if place[0] == host and port in {"", place[1]}]
            if found and host not in taken:
                keep[found[-1]] = True
                taken.add(host)
        return keep


def _host_and_port(address: str) -> tuple[str, str]:
    """Split ``10.0.0.1:8000``, ``[::1]:8000``, ``::1``: an IPv6 address without brackets has no port."""
    if "]:" in address or address.count(":") == 1:
        host, _, port = address.rpartition(":")
        return host.strip("[]"), port
    return address.strip("[]"), ""


_COLUMN_OF_METRIC = {
    "active-requests": "in_flight_requests",
    "running-requests": "running_requests",
    "waiting-queue": "waiting_requests",
    "kv-cache-utilization": "kv_cache_utilization",
}


@attrs.frozen
class Condition:
    """One limit of a utilization filter.

    Args:
        metric: ``active-requests`` (in flight, by the ledger), ``running-requests``, ``waiting-queue`` or
            ``kv-cache-utilization``.
        max_value: the largest value that is still kept; at most 1 for ``kv-cache-utilization``.
    """

    metric: Literal["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"]
    max_value: float = attrs.field(validator=attrs.validators.ge(0))

    @max_value.validator
    def _share_is_a_share(self, _: object, value: float) -> None:
        if self.metric == "kv-cache-utilization" and value > 1:
            raise ValueError(f"expected a number ≤ 1 for kv-cache-utilization, got {value:g}")

    @property
    def column(self) -> str:
        """The column that the metric is read from."""
        return _COLUMN_OF_METRIC[self.metric]


@attrs.frozen
class UtilizationFilter:
    """Keep the endpoints on which every metric is at or below its limit.

    Args:
        conditions: at least one.
        fallback_on_empty: keep everything when nothing would be kept.
        in_flight_load_producer_name: accepted for compatibility; the ledger is the only producer of these counts.

    Formula: every metric ≤ maxValue.
    Unknown: kept, since it is not known to be above the limit (scorers will not take it for idle).
    Source: Endpoint Picker ``utilization-filter``; upstream reads unknown as 0, which keeps it too.
    """

    type: ClassVar[str] = "utilization-filter"
    transient: ClassVar[bool] = True

    conditions: tuple[Condition, ...] = attrs.field(validator=attrs.validators.min_len(1))
    fallback_on_empty: bool = False
    in_flight_load_producer_name: str | None = attrs.field(
        default=None, metadata={"parameter": "inFlightLoadProducerName"}
    )

    @property
    def consumes(self) -> tuple[str, ...]:
        """The columns its conditions read."""
        return tuple(condition.column for condition in self.conditions)

    @property
    def relative(self) -> bool:
        """Whether keeping an endpoint may depend on the others."""
        return self.fallback_on_empty

    @property
    def why(self) -> str:
        """The conditions in words."""
        return " and ".join(f"{condition.column} ≤ {condition.max_value:g}" for condition in self.conditions)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints are within every limit."""
        above = (endpoints[condition.column] > condition.max_value for condition in self.conditions)
        over: BoolArray = reduce(operator.or_, above)
        return np.ones(len(endpoints), np.bool_) if self.fallback_on_empty and over.all() else ~over
