"""What flow control can be told: limits, bands, times to live and policies. Values only.

Everything the Endpoint Picker can be told has its name and default here; what is ours stands in `Tuning`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import attrs

from inferencesched.flow.detectors import UtilizationDetector
from inferencesched.flow.eviction import PriorityThenTimeEvictionOrderPolicy, SheddableEvictionFilter
from inferencesched.flow.fairness import GlobalStrictFairnessPolicy
from inferencesched.flow.limits import StaticUsageLimitPolicy
from inferencesched.flow.ordering import FcfsOrderingPolicy
from inferencesched.interfaces import (
    EvictionFilter,
    EvictionOrderingPolicy,
    FairnessPolicy,
    OrderingPolicy,
    SaturationDetector,
    UsageLimitPolicy,
)

__all__ = ["BandSettings", "LegacyAdmission", "Settings", "Tuning"]


@attrs.frozen
class BandSettings:
    """One priority band.

    Attributes:
        max_requests: how many may be queued in it.
        max_bytes: how many bytes they may have together.
        fairness: which flow goes next.
        ordering: which request of the flow.
    """

    max_requests: int = attrs.field(default=5_000, validator=attrs.validators.ge(0))
    max_bytes: int = attrs.field(default=1_000_000_000, validator=attrs.validators.ge(0))
    fairness: FairnessPolicy = attrs.field(factory=GlobalStrictFairnessPolicy)
    ordering: OrderingPolicy = attrs.field(factory=FcfsOrderingPolicy)


@attrs.frozen
class Tuning:
    """What can be said of flow control beyond what the Endpoint Picker knows; active by being declared.

    Which band goes next is decided here too: the most urgent one, while nobody has waited long. A band whose oldest
    request has waited `age_after_seconds` is *aged*: every `age_turns`-th request that is placed comes from an aged
    band, if there is one, and aged bands take turns. The bound: once a band is aged, at most age_turns × (number of
    aged bands) placements pass until it is served; a request with q others before it in its band waits for at most
    (q + 1) times as many.

    Args:
        strict: never let a lower band go before a higher one; it may then wait until its time to live ends.
        age_after_seconds: how long the oldest request of a band waits before the band is aged.
        age_turns: of how many placements one goes to an aged band.
        hysteresis: by what share of its ceiling saturation must fall below it before a closed band opens again; left
            out, what the saturation detector holds right.
        slow_start_seconds: how long a new endpoint takes to count fully in the pool's saturation.
        displace: let a request that finds the queue full take the room of the youngest requests of lower bands.
        band_ttl_seconds: time to live by priority; the shortest of this, the configuration's and the client's holds.
        max_bands: how many bands there may be; a request of a further priority goes to the nearest band below its own.

    Formula: an aged band may go first when at least age_turns − 1 requests were placed since one last did.
    Unknown: nothing can be.
    Source: ours.
    """

    type: ClassVar[str] = "flow-control-tuning"

    strict: bool = False
    age_after_seconds: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    age_turns: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    hysteresis: float | None = attrs.field(
        default=None, validator=attrs.validators.optional([attrs.validators.ge(0), attrs.validators.lt(1)])
    )
    slow_start_seconds: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    displace: bool = False
    band_ttl_seconds: Mapping[str, float] = attrs.field(factory=dict, hash=False)
    max_bands: int = attrs.field(default=64, validator=attrs.validators.ge(1))

    def __attrs_post_init__(self) -> None:
        for priority, ttl in self.band_ttl_seconds.items():
            if not str(priority).removeprefix("-").isdecimal() or not ttl > 0:
                raise ValueError(f"bandTtlSeconds: expected a priority and seconds > 0, got {priority!r}: {ttl!r}")

    def lets_by(self, waited: float, since: int, /) -> bool:
        """Return whether an aged band goes first."""
        return not self.strict and since >= self.age_turns - 1 and waited >= self.age_after_seconds

    def ttl(self, priority: int) -> float:
        """Return the time to live of one band; infinity where none is given."""
        return self.band_ttl_seconds.get(str(priority), math.inf)


@attrs.frozen
class Settings:
    """Flow control as it is in force.

    Attributes:
        bands: those that always exist, by priority.
        default_band: what holds for any other.
        default_negative_band: what holds for any other below 0; None for `default_band`.
        max_requests: how many may be queued in all bands together; None for no limit.
        max_bytes: how many bytes they may have together; None for no limit.
        ttl: seconds a request may wait while there are endpoints; 0 for ever.
        no_endpoint_ttl: seconds it may wait while there are none; None for the same as `ttl`, 0 for ever.
        limits: how full the pool may be for each band.
        detector: how full each endpoint is.
        evict: ask placed requests to make room for more urgent ones.
        eviction_filter: which of them may be asked.
        eviction_order: which of those goes first.
        tuning: what is ours.
    """

    bands: Mapping[int, BandSettings] = attrs.field(factory=lambda: MappingProxyType({0: BandSettings()}))
    default_band: BandSettings = attrs.field(factory=BandSettings)
    default_negative_band: BandSettings | None = None
    max_requests: int | None = None
    max_bytes: int | None = None
    ttl: float = attrs.field(default=60.0, validator=attrs.validators.ge(0))
    no_endpoint_ttl: float | None = attrs.field(default=None)
    limits: UsageLimitPolicy = attrs.field(factory=StaticUsageLimitPolicy)
    detector: SaturationDetector = attrs.field(factory=UtilizationDetector)
    evict: bool = False
    eviction_filter: EvictionFilter = attrs.field(factory=SheddableEvictionFilter)
    eviction_order: EvictionOrderingPolicy = attrs.field(factory=PriorityThenTimeEvictionOrderPolicy)
    tuning: Tuning = attrs.field(factory=Tuning)

    def band(self, priority: int) -> BandSettings:
        """Return what holds for that priority."""
        if priority in self.bands:
            return self.bands[priority]
        negative = self.default_negative_band
        return self.default_band if priority >= 0 or negative is None else negative

    def ttl_of(self, priority: int) -> float:
        """Return how long a request of that band may wait while there are endpoints; infinity for ever."""
        return min(self.ttl or math.inf, self.tuning.ttl(priority))

    def no_endpoint_ttl_of(self, priority: int) -> float:
        """Return how long it may wait while there are none; infinity for ever."""
        ttl = self.ttl if self.no_endpoint_ttl is None else self.no_endpoint_ttl
        return min(ttl or math.inf, self.tuning.ttl(priority))


@attrs.frozen
class LegacyAdmission:
    """No flow control: nothing is queued, and only priorities below 0 are shed, while the pool is saturated.

    Attributes:
        detector: how full each endpoint is.
    """

    detector: SaturationDetector = attrs.field(factory=UtilizationDetector)
