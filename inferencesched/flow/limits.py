"""Usage-limit policies: how full may the pool be for each band?

A band waits while saturation is at or above its ceiling. Types, parameters and formulas are the Endpoint Picker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import attrs

__all__ = ["PriorityHoldbackPolicy", "SoftReflectiveCeilingPolicy", "StaticUsageLimitPolicy"]


@attrs.frozen
class StaticUsageLimitPolicy:
    """One ceiling for every band.

    Args:
        threshold: the ceiling.

    Formula: threshold.
    Unknown: unknown saturation is not full.
    Source: Endpoint Picker ``static-usage-limit-policy``, its default.
    """

    type: ClassVar[str] = "static-usage-limit-policy"

    threshold: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        """Return the threshold for each band."""
        return (self.threshold,) * len(priorities)


@attrs.frozen
class PriorityHoldbackPolicy:
    """Keep room for urgent work: the lower the band, the sooner it waits.

    Args:
        shape: how ceilings fall from the highest band to the lowest.
        domain: by the bands' order (rank), or by the distance of their priorities (value).
        min_ceiling: the lowest band's ceiling.
        max_ceiling: the highest band's ceiling.

    Formula: rank: max − i·(max − min) / (n − 1), i-th of n bands; value: min + (max − min)·(p − p_min) / (p_max −
        p_min). One band, or equal priorities: max.
    Unknown: unknown saturation is not full.
    Source: Endpoint Picker ``priority-holdback-policy`` (Alpha).
    """

    type: ClassVar[str] = "priority-holdback-policy"

    min_ceiling: float = attrs.field(validator=[attrs.validators.ge(0), attrs.validators.lt(1)])
    max_ceiling: float = attrs.field(default=1.0, validator=[attrs.validators.gt(0), attrs.validators.le(1)])
    shape: Literal["linear"] = "linear"
    domain: Literal["rank", "value"] = "rank"

    def __attrs_post_init__(self) -> None:
        if not self.min_ceiling < self.max_ceiling:
            raise ValueError(f"minCeiling {self.min_ceiling:g} must be below maxCeiling {self.max_ceiling:g}")

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        """Return the ceilings, highest band first."""
        places: Sequence[float] = range(len(priorities)) if self.domain == "rank" else [-p for p in priorities]
        width = places[-1] - places[0]
        if not width:
            return (self.max_ceiling,) * len(priorities)
        slope = (self.max_ceiling - self.min_ceiling) / width
        return [self.max_ceiling - (place - places[0]) * slope for place in places]


@attrs.define
class SoftReflectiveCeilingPolicy:
    """Let lower bands through ever more rarely as the pool fills up.

    Formula: the highest band: 1. The i-th of n: 1 while saturation < r = 1 − i·saturation / (n − 1); 0 when saturation
        ≥ 1; else 1 in every p-th look and 0 in the others, p = max(1, round(saturation / (1 − saturation))).
    Unknown: unknown saturation is not full.
    Source: Endpoint Picker ``soft-reflective-ceiling-policy`` (Alpha). Looks are counted while 0.5 ≤ saturation < 1.
    """

    type: ClassVar[str] = "soft-reflective-ceiling-policy"

    _looks: int = attrs.field(default=0, init=False, eq=False, repr=False)

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        """Return the ceilings, highest band first."""
        if 0.5 <= saturation < 1:
            self._looks += 1
        n = len(priorities)
        return [1.0 if i == 0 or self._opens(saturation, 1 - i * saturation / (n - 1)) else 0.0 for i in range(n)]

    def _opens(self, saturation: float, reflected: float) -> bool:
        if saturation < reflected:
            return True
        return saturation < 1 and self._looks % max(1, round(saturation / (1 - saturation + 1e-9))) == 0
