"""Wrong fairness policies."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from inferencesched.interfaces import Turns
from inferencesched.testing.wrong.enlisted import breaks, thousandfold


class _ByArrival(Turns):
    """Sound: whoever's first request came first."""

    def __init__(self) -> None:
        self.heads: dict[str, tuple[float, int]] = {}

    def ready(self, flow: str, head: tuple[float, int], /) -> None:
        self.heads[flow] = head

    def idle(self, flow: str, /) -> None:
        self.heads.pop(flow, None)

    def next(self) -> str:
        return min(self.heads, key=self.heads.__getitem__)

    def served(self, flow: str, tokens: float, /) -> None:
        pass


class _Sound:
    def turns(self) -> Turns:
        return _ByArrival()


class _NeverIdle(_ByArrival):
    def idle(self, flow: str, /) -> None:
        if len(self.heads) > 2:
            super().idle(flow)


@breaks("fairness-policy", "ready")
@attrs.frozen
class KeepsAFew:
    """Leaves the last two flows on its list when they go idle."""

    def turns(self) -> Turns:
        return _NeverIdle()


class _Moving(_ByArrival):
    def __init__(self) -> None:
        super().__init__()
        self.place = 0

    def next(self) -> str:
        self.place += 1
        return sorted(self.heads)[self.place % len(self.heads)]


@breaks("fairness-policy", "asking")
@attrs.frozen
class MovesOnWhenAsked:
    """Moves its cursor when it is asked, and not when somebody is served."""

    def turns(self) -> Turns:
        return _Moving()


class _InTurn(_ByArrival):
    def __init__(self, last: list[str]) -> None:
        super().__init__()
        self.last = last

    def next(self) -> str:
        flows = sorted(self.heads)
        return next((flow for flow in flows if self.last and flow > self.last[0]), flows[0])

    def served(self, flow: str, tokens: float, /) -> None:
        self.last[:] = [flow]


@breaks("fairness-policy", "apart")
@attrs.frozen
class OneCursorForAll:
    """Keeps its memory in the policy, so that bands share it."""

    _last: list[str] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def turns(self) -> Turns:
        return _InTurn(self._last)


class _ByName(_ByArrival):
    def next(self) -> str:
        return min(self.heads)


@breaks("fairness-policy", "progress")
@attrs.frozen
class Alphabetical:
    """Serves the first in the alphabet as long as it has anything."""

    def turns(self) -> Turns:
        return _ByName()


class _Remembering(_ByArrival):
    def __init__(self) -> None:
        super().__init__()
        self.tokens: dict[str, float] = {}

    def served(self, flow: str, tokens: float, /) -> None:
        self.tokens[flow] = self.tokens.get(flow, 0.0) + tokens

    def idle(self, flow: str, /) -> None:
        super().idle(flow)
        self.tokens.setdefault(flow, 0.0)


@breaks("fairness-policy", "forgets")
@attrs.frozen
class KeepsBooks:
    """Remembers what every flow was ever served."""

    def turns(self) -> Turns:
        return _Remembering()


@breaks("fairness-policy", "printable")
@attrs.frozen(repr=False)
class AnonymousFairness(_Sound):
    """Has the default `repr`."""


@breaks("fairness-policy", "comparable")
@attrs.frozen(eq=False)
class IncomparableFairness(_Sound):
    """Is equal to itself alone."""


@breaks("fairness-policy", "travels")
@attrs.frozen
class FairnessAtHome(_Sound):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("fairness-policy", "rebuilt")
@attrs.frozen
class FairnessInOtherUnits(_Sound):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)
