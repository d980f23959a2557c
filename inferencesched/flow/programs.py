"""Fairness between programs: whoever was served least lately goes next, counted in tokens that answers really took.

A *program* is a flow: an agent's workflow or a tenant, many requests long. What is known of it outlives its queue and
is shared by all bands, unlike the memory of the policies in `inferencesched.flow.fairness`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar, Literal

import attrs

from inferencesched.interfaces import Observer

__all__ = ["ProgramAwareFairness"]

_OUTPUT_WEIGHT = 2.0
"""What a token of the answer counts beside one of the prompt (upstream)."""

_MOST = 65_536
"""Programs remembered; beyond that, the one that has been idle for longest is forgotten."""


def _not_negative(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"'{attribute.name}' must be >= 0: {value!r}")


@attrs.define(eq=False)
class ProgramAwareFairness(Observer):
    """The program with the least attained service, and among equals the one whose first request has waited longest.

    Service is what `usage_reported` says: hosts that report no usage leave every program at 0, and only waiting counts.
    It remembers the programs that were served within `evictionTtlSeconds`, 65,536 of them at most.

    Args:
        strategy: how programs are compared; there is one.
        eviction_ttl_seconds: a program of which nothing has ended for so long is forgotten; 0 for never.
        eviction_sweep_seconds: accepted for compatibility: it is forgotten on time here, not at the next sweep.
        las_weight_service: weight of having been served little.
        las_weight_head_wait: weight of waiting long.
        las_half_life_seconds: in what time service counts half; 0 for never.

    Formula: lasWeightService × (1 − norm(service)) + lasWeightHeadWait × norm(wait), the greatest goes next; norm maps
        the range over the programs that wait to [0, 1], and equals to 0.5. service = Σ (prompt + 2 × output tokens) ×
        2^(−age / lasHalfLifeSeconds). The wait is told by the rank of the program's first request: exact with
        ``fcfs-ordering-policy``; with another order, what that order puts first has waited longest.
    Unknown: a program that was never served has service 0; a rank without end counts as the last that has one.
    Source: Endpoint Picker ``program-aware-fairness`` (Alpha); equal scores go by rank here, anyhow there. Its metrics
        are left to observers.
    """

    type: ClassVar[str] = "program-aware-fairness"

    strategy: Literal["las"] = "las"
    eviction_ttl_seconds: float = attrs.field(default=3600.0, validator=_not_negative)
    eviction_sweep_seconds: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    las_weight_service: float = attrs.field(default=0.8, validator=_not_negative)
    las_weight_head_wait: float = attrs.field(default=0.2, validator=_not_negative)
    las_half_life_seconds: float = attrs.field(default=60.0, validator=_not_negative)
    _attained: OrderedDict[str, tuple[float, float]] = attrs.field(factory=OrderedDict, init=False, repr=False)
    """Program → its service and when it was that; whoever was served last stands last."""

    def usage_reported(
        self, request_id: str, flow: str, prompt_tokens: float, output_tokens: float, *, now: float
    ) -> None:
        """Add what an answer took to its program's service, and forget programs that have long been idle."""
        attained = self.service(flow, now=now) + prompt_tokens + _OUTPUT_WEIGHT * output_tokens
        self._attained[flow] = attained, now
        self._attained.move_to_end(flow)
        while len(self._attained) > _MOST or self._is_over(next(iter(self._attained.values()))[1], now):
            self._attained.popitem(last=False)

    def service(self, flow: str, *, now: float) -> float:
        """Return a program's service as of `now`, in tokens."""
        attained, since = self._attained.get(flow, (0.0, now))
        if not self.las_half_life_seconds:
            return attained
        return attained * math.exp2(min(0.0, since - now) / self.las_half_life_seconds)

    def turns(self) -> _LeastServed:
        """Return the memory of a band: who waits in it."""
        return _LeastServed(self)

    def _is_over(self, since: float, now: float) -> bool:
        return now - since > self.eviction_ttl_seconds > 0

    @property
    def latest(self) -> float:
        """When service was last added. All of it decays alike, so a later comparison would come out the same."""
        return next(reversed(self._attained.values()))[1] if self._attained else 0.0


class _LeastServed:
    """The fronts of all flows. `next` O(flows that wait), the rest O(1)."""

    def __init__(self, policy: ProgramAwareFairness) -> None:
        self._policy = policy
        self._heads: dict[str, tuple[float, int]] = {}

    def ready(self, flow: str, head: tuple[float, int], /) -> None:
        self._heads[flow] = head

    def idle(self, flow: str, /) -> None:
        self._heads.pop(flow, None)

    def next(self) -> str:
        policy, heads = self._policy, self._heads
        latest = policy.latest
        served = _normed([policy.service(flow, now=latest) for flow in heads])
        last = max((rank for rank, _ in heads.values() if rank < math.inf), default=0.0)
        ahead = _normed([-min(rank, last) for rank, _ in heads.values()])
        scores = [
            policy.las_weight_service * (1.0 - service) + policy.las_weight_head_wait * wait
            for service, wait in zip(served, ahead, strict=True)
        ]
        return min(zip(scores, heads.items(), strict=True), key=lambda each: (-each[0], each[1][1]))[1][0]

    def served(self, flow: str, tokens: float, /) -> None:
        pass  # what it takes is known when it has ended


def _normed(values: Sequence[float]) -> list[float]:
    """Map the range of the values to [0, 1]; equals to 0.5."""
    least, most = min(values), max(values)
    return [0.5 if most == least else (value - least) / (most - least) for value in values]
