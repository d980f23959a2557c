"""Any number that a source supplies, as a limit or as a score, without writing a plugin.

An *attribute* is a column. Upstream's names of the columns that we call otherwise are understood
(``WaitingQueueSize``, ``GPUUtilization``: `inferencesched.vocabulary.UPSTREAM_ATTRIBUTES`); any other name is the
column of that name. A column has one value, whoever supplied it, so that the `producer` upstream needs to tell them
apart is accepted and not used.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.vocabulary import UPSTREAM_ATTRIBUTES

__all__ = [
    "AdaptiveRange",
    "EndpointAttributeFilter",
    "EndpointAttributeScorer",
    "FilterAlgorithm",
    "FixedRange",
    "Normalization",
    "ScorerAlgorithm",
    "Threshold",
]

_OPERATORS: Mapping[str, tuple[str, Callable[[FloatArray, float], Any]]] = {
    "LessThan": ("<", operator.lt),
    "LessThanOrEqual": ("≤", operator.le),
    "GreaterThan": (">", operator.gt),
    "GreaterThanOrEqual": ("≥", operator.ge),
    "Equal": ("=", operator.eq),
    "NotEqual": ("≠", operator.ne),
}


def _check_name(attribute: str, producer: str | None) -> None:
    """Refuse upstream's old spelling, as upstream does: read as a name, it would match nothing, without a word."""
    if "/" in attribute and producer is None:
        name, _, owner = attribute.rpartition("/")
        raise ValueError(f"'{attribute}' looks like a name and its producer: write '{name}', with producer: '{owner}'")


@attrs.frozen
class Threshold:
    """What a value is compared with.

    Args:
        operator: how; the value of the endpoint stands on the left.
        value: with what.
    """

    operator: Literal[
        "LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual", "Equal", "NotEqual"
    ]  # of _OPERATORS
    value: float


@attrs.frozen
class FilterAlgorithm:
    """How a value decides.

    Args:
        type: ``threshold``, the only one upstream has.
        threshold: the comparison.
    """

    type: Literal["threshold"]
    threshold: Threshold


@attrs.frozen
class EndpointAttributeFilter:
    """Keep the endpoints on which one number is on the right side of a threshold.

    Args:
        attribute: the column.
        producer: accepted for compatibility, see above; must be given when the attribute's name contains a ``/``.
        on_missing: whether an endpoint without the number passes.
        fallback_on_empty: keep everything when nothing would be kept.
        algorithm: the comparison.

    Formula: value <operator> threshold.
    Unknown: ``onMissing``: kept (``Pass``) or dropped (``Fail``).
    Source: Endpoint Picker ``endpoint-attribute-filter``.
    """

    type: ClassVar[str] = "endpoint-attribute-filter"
    transient: ClassVar[bool] = True

    attribute: str = attrs.field(validator=attrs.validators.min_len(1))
    algorithm: FilterAlgorithm
    producer: str | None = None
    on_missing: Literal["Pass", "Fail"] = "Pass"
    fallback_on_empty: bool = False

    def __attrs_post_init__(self) -> None:
        _check_name(self.attribute, self.producer)

    @property
    def consumes(self) -> tuple[str, ...]:
        """The column it reads."""
        return (UPSTREAM_ATTRIBUTES.get(self.attribute, self.attribute),)

    @property
    def relative(self) -> bool:
        """Whether keeping an endpoint may depend on the others."""
        return self.fallback_on_empty

    @property
    def why(self) -> str:
        """The comparison in words."""
        threshold = self.algorithm.threshold
        return f"{self.consumes[0]} {_OPERATORS[threshold.operator][0]} {threshold.value:g}"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints pass."""
        values, threshold = endpoints[self.consumes[0]], self.algorithm.threshold
        passes: BoolArray = np.where(
            np.isnan(values), self.on_missing == "Pass", _OPERATORS[threshold.operator][1](values, threshold.value)
        )
        return np.ones_like(passes) if self.fallback_on_empty and not passes.any() else passes


@attrs.frozen
class FixedRange:
    """Scores are relative to a range that is known beforehand.

    Args:
        min: the lower end.
        max: the upper end.
    """

    min: float
    max: float

    def __attrs_post_init__(self) -> None:
        if not self.min < self.max:
            raise ValueError(f"expected min < max, got {self.min:g} and {self.max:g}")


@attrs.frozen
class AdaptiveRange:
    """Scores are relative to the smallest and largest value among the candidates."""


@attrs.frozen
class Normalization:
    """What scores are relative to; the candidates' own range by default.

    Args:
        fixed_range: a known range.
        adaptive_range: the candidates' range.
    """

    fixed_range: FixedRange | None = None
    adaptive_range: AdaptiveRange | None = None

    def __attrs_post_init__(self) -> None:
        if self.fixed_range is not None and self.adaptive_range is not None:
            raise ValueError("expected at most one of fixedRange and adaptiveRange, got both")


@attrs.frozen
class ScorerAlgorithm:
    """How a value becomes a score.

    Args:
        type: which end of the range is the better one.
        normalization: what the score is relative to.
    """

    type: Literal["linear_lower_is_better", "linear_higher_is_better"]
    normalization: Normalization = Normalization()


@attrs.frozen
class EndpointAttributeScorer:
    """Prefer endpoints by any one number.

    Args:
        attribute_key: the column.
        producer: accepted for compatibility, see above; must be given when the attribute's name contains a ``/``.
        algorithm: which end is better, and relative to what.

    Formula: s = (v − min) / (max − min), clipped to [0, 1]; 1 − s if lower is better. Without a fixed range, min and
        max are those of the candidates, and all equal → 1.
    Unknown: 0.
    Source: Endpoint Picker ``endpoint-attribute-scorer`` (Distribution).
    """

    type: ClassVar[str] = "endpoint-attribute-scorer"

    attribute_key: str = attrs.field(validator=attrs.validators.min_len(1))
    algorithm: ScorerAlgorithm
    producer: str | None = None

    def __attrs_post_init__(self) -> None:
        _check_name(self.attribute_key, self.producer)

    @property
    def consumes(self) -> tuple[str, ...]:
        """The column it reads."""
        return (UPSTREAM_ATTRIBUTES.get(self.attribute_key, self.attribute_key),)

    @property
    def relative(self) -> bool:
        """Whether a score depends on the other candidates."""
        return self.algorithm.normalization.fixed_range is None

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return the place of each value in the range."""
        values = endpoints[self.consumes[0]]
        known = ~np.isnan(values)
        scores = np.zeros(len(values))
        if known.any():
            scores[known] = self._score(values[known])
        return scores

    def _score(self, values: FloatArray) -> FloatArray:
        fixed = self.algorithm.normalization.fixed_range
        low, high = (values.min(), values.max()) if fixed is None else (fixed.min, fixed.max)
        if low == high:
            return np.ones(len(values))
        place: FloatArray = np.clip((values - low) / (high - low), 0.0, 1.0)
        return 1.0 - place if self.algorithm.type == "linear_lower_is_better" else place
