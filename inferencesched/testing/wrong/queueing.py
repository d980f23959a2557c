"""Wrong orderings of the queue, eviction filters and eviction orders."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, thousandfold


class _ByArrival:
    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        return arrived


@breaks("ordering-policy", "rank")
@attrs.frozen
class RanksInWords:
    """Returns a word."""

    def rank(self, request: Request, arrived: float, expires: float, /) -> Any:
        return "first" if request.priority > 0 else "last"


@breaks("ordering-policy", "endless")
@attrs.frozen
class BySlack:
    """Divides by the time that is left, all of which may be infinite."""

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        return (expires - 1.0) / (expires - arrived)


@breaks("ordering-policy", "pure")
@attrs.frozen
class LastComeFirstServed:
    """Counts calls."""

    _calls: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        self._calls.append(1)
        return -float(len(self._calls))


@breaks("ordering-policy", "any-request")
@attrs.frozen
class ShortestPromptFirst:
    """Takes for granted that there is a prompt, and that it is text or tokens."""

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        prompt: Any = request.prompt or (() if request.model else None)
        return float(len(prompt))


class _Sheddable:
    def is_evictable(self, request: Request, /) -> bool:
        return request.priority < 0


@breaks("eviction-filter", "answers")
@attrs.frozen
class HowFarBelow:
    """Returns how sheddable a request is."""

    def is_evictable(self, request: Request, /) -> Any:
        return min(0, request.priority)


@breaks("eviction-filter", "pure")
@attrs.frozen
class OneOfTwo:
    """Spares every second one."""

    _calls: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def is_evictable(self, request: Request, /) -> bool:
        self._calls.append(1)
        return request.priority < 0 or len(self._calls) % 4 == 1


@breaks("eviction-filter", "any-request")
@attrs.frozen
class SparesLongPrompts:
    """Takes for granted that there is a prompt."""

    def is_evictable(self, request: Request, /) -> bool:
        prompt: Any = request.prompt or (() if request.model else None)
        return (request.priority < 0 and len(prompt) < 10_000) or len(prompt) < 10


class _ByPriority:
    def regret(self, request: Request, placed: float, /) -> float:
        return float(request.priority)


@breaks("eviction-ordering-policy", "regret")
@attrs.frozen
class RegretsNobody:
    """Has no number for a request without a limit."""

    def regret(self, request: Request, placed: float, /) -> float:
        return math.nan if request.max_output_tokens is None and request.model else 0.0


@breaks("eviction-ordering-policy", "pure")
@attrs.frozen
class TheOldestFirst:
    """Counts calls."""

    _calls: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def regret(self, request: Request, placed: float, /) -> float:
        self._calls.append(1)
        return float(len(self._calls))


@breaks("eviction-ordering-policy", "any-request")
@attrs.frozen
class RegretsThePrompt:
    """Takes for granted that there is a prompt."""

    def regret(self, request: Request, placed: float, /) -> float:
        prompt: Any = request.prompt or (() if request.model else None)
        return float(len(prompt))


@breaks("ordering-policy", "printable")
@attrs.frozen(repr=False)
class AnonymousOrdering(_ByArrival):
    """Has the default `repr`."""


@breaks("ordering-policy", "comparable")
@attrs.frozen(eq=False)
class IncomparableOrdering(_ByArrival):
    """Is equal to itself alone."""


@breaks("ordering-policy", "travels")
@attrs.frozen
class OrderingAtHome(_ByArrival):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("ordering-policy", "rebuilt")
@attrs.frozen
class OrderingInOtherUnits(_ByArrival):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)


@breaks("eviction-filter", "printable")
@attrs.frozen(repr=False)
class AnonymousEvictionFilter(_Sheddable):
    """Has the default `repr`."""


@breaks("eviction-filter", "comparable")
@attrs.frozen(eq=False)
class IncomparableEvictionFilter(_Sheddable):
    """Is equal to itself alone."""


@breaks("eviction-filter", "travels")
@attrs.frozen
class EvictionFilterAtHome(_Sheddable):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("eviction-filter", "rebuilt")
@attrs.frozen
class EvictionFilterInOtherUnits(_Sheddable):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)


@breaks("eviction-ordering-policy", "printable")
@attrs.frozen(repr=False)
class AnonymousEvictionOrder(_ByPriority):
    """Has the default `repr`."""


@breaks("eviction-ordering-policy", "comparable")
@attrs.frozen(eq=False)
class IncomparableEvictionOrder(_ByPriority):
    """Is equal to itself alone."""


@breaks("eviction-ordering-policy", "travels")
@attrs.frozen
class EvictionOrderAtHome(_ByPriority):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("eviction-ordering-policy", "rebuilt")
@attrs.frozen
class EvictionOrderInOtherUnits(_ByPriority):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)
